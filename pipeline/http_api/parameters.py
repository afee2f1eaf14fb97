"""The parameters of requests: their form, decoding, and their description in OpenAPI. What does not fit is a 400."""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request

from inbox_agent.protocol.layout import Setting
from pipeline.core.runs import GENERATION_MAX
from pipeline.core.workers import WORKER_NAME
from pipeline.http_api.problems import bad_input

WAIT_S_MAX = 30.0
PAGE_MAX = 1000  #: items of a page
WHAT_CHARS_MAX = 1000
KEY_CHARS_MAX = 200
_AFTER_MAX = 2**53 - 1
_WHOLE = re.compile(r"-?[0-9]{1,16}", re.ASCII)
_DECIMAL = re.compile(r"[0-9][0-9.eE+-]{0,31}", re.ASCII)
_ATTEMPT, _FILE = re.compile("^[a-z0-9-]{1,64}$", re.ASCII), re.compile("^[a-z0-9][a-z0-9._-]{0,63}$", re.ASCII)
_KEY = re.compile(rf"[!-~]{{1,{KEY_CHARS_MAX}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as OpenAPI describes it."""

    name: str
    place: str  #: `path`, `query` or `header`
    about: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    is_required: bool = False
    is_json: bool = False  #: the text is JSON of this schema


def whole(minimum: int, maximum: int, default: int | None = None) -> dict[str, Any]:
    """The schema of an integer."""
    schema: dict[str, Any] = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return schema if default is None else {**schema, "default": default}


NUMBER = Parameter("number", "path", "The number of the generation.", whole(1, GENERATION_MAX), is_required=True)
NAME = Parameter(
    "name",
    "path",
    "The genome's file name, percent-encoded UTF-8.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^/]+$"},
    is_required=True,
)
ATTEMPT = Parameter(
    "attempt", "path", "The id of an attempt.", {"type": "string", "pattern": _ATTEMPT.pattern}, is_required=True
)
FILE = Parameter(
    "file",
    "path",
    "The name of an artifact.",
    {"type": "string", "pattern": _FILE.pattern},
    is_required=True,
)
WORKER = Parameter(
    "worker",
    "path",
    "The worker's name.",
    {"type": "string", "pattern": f"^{WORKER_NAME.pattern}$"},
    is_required=True,
)
AFTER = Parameter("after", "query", "`next` of the page before.", whole(0, _AFTER_MAX, 0))
EVENTS_AFTER = Parameter(
    "after", "query", "`next` of the page before; negative: the last ones.", whole(-1, _AFTER_MAX, 0)
)
LIMIT = Parameter("limit", "query", "How many at most.", whole(1, PAGE_MAX, 100))
SETTLED_LIMIT = Parameter("limit", "query", "How many at most.", whole(1, PAGE_MAX, PAGE_MAX))
WAIT_S = Parameter(
    "wait_s",
    "query",
    "How long to wait for the first one.",
    {"type": "number", "minimum": 0, "maximum": WAIT_S_MAX, "default": 0},
)
WHAT = Parameter(
    "what",
    "query",
    "A genome, an attempt or a worker.",
    {"type": "string", "minLength": 1, "maxLength": WHAT_CHARS_MAX},
    is_required=True,
)
GENERATION = Parameter("generation", "query", "The generation; without it the latest one.", whole(1, GENERATION_MAX))
KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The same key opens the same generation again. Needed if the body has no number.",
    {"type": "string", "pattern": f"^[!-~]{{1,{KEY_CHARS_MAX}}}$"},
)
DIGEST = Parameter(
    "Content-Digest",
    "header",
    "The SHA-256 of the body as in RFC 9530. A body with another one is refused.",
    {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"},
)
PARAMS = Parameter(
    "Genome-Params",
    "header",
    "The genome's params, a JSON object of texts, numbers and booleans.",
    {"type": "object", "additionalProperties": {"type": ["string", "integer", "number", "boolean"]}},
    is_json=True,
)
LAST_EVENT = Parameter(
    "Last-Event-ID", "header", "Of server-sent events: the last one that was received.", whole(0, _AFTER_MAX)
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "An ETag that is known: 304 if it is still that.", {"type": "string"}
)


class Arguments:
    """The parameters that a request has. Reading one that does not fit raises Problem."""

    def __init__(self, request: Request, known: tuple[Parameter, ...]) -> None:
        self._request, self._query = request, dict(request.query_params)
        self._known = {each.name for each in known if each.place == "query"}

    def refuse_unknown(self) -> None:
        """Raises Problem: there is a parameter that the request does not take, e.g. a token, or one twice."""
        for name in self._query.keys() - self._known:
            raise bad_input(f"parameter {name[:64]!r}: there is none of that name here")
        if len(self._query) != len(self._request.query_params.multi_items()):
            raise bad_input("a parameter is given twice; give it once")

    def whole(self, parameter: Parameter) -> int:
        """An integer, or its default."""
        text = self._text(parameter)
        if text is None:
            return int(parameter.schema["default"])
        return _whole(text, parameter)

    def optional_whole(self, parameter: Parameter) -> int | None:
        """An integer; None: it is not given."""
        text = self._text(parameter)
        return None if text is None else _whole(text, parameter)

    def seconds(self, parameter: Parameter) -> float:
        """A number of seconds, or its default."""
        text, most = self._text(parameter), parameter.schema["maximum"]
        if text is None:
            return float(parameter.schema["default"])
        try:
            value = float(text) if _DECIMAL.fullmatch(text) else math.nan
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise bad_input(f"{parameter.name}={text[:64]}: expected a number of seconds from 0 to {most:g}")
        return value

    def text(self, parameter: Parameter) -> str:
        """A text."""
        text, most = self._text(parameter), parameter.schema["maxLength"]
        if not text or len(text) > most:
            raise bad_input(f"{parameter.name}: expected a text of 1 to {most} characters")
        return text

    def key(self) -> str:
        """The idempotency key; empty if there is none."""
        text = self._text(KEY)
        if text is not None and not _KEY.fullmatch(text):
            raise bad_input(f"{KEY.name}: expected 1 to {KEY_CHARS_MAX} visible ASCII characters")
        return text or ""

    def sha256(self) -> str:
        """The SHA-256 that the body is to have, in hexadecimal; empty: it is not said."""
        text = self._text(DIGEST)
        if text is None:
            return ""
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name == "sha-256" and len(value) > 2 and value[0] == value[-1] == ":":
                try:
                    digest = base64.b64decode(value[1:-1], validate=True)
                except binascii.Error:
                    break
                if len(digest) == 32:
                    return digest.hex()
        raise bad_input(f"{DIGEST.name}: expected sha-256=:…: with the SHA-256 in base64")

    def params(self) -> dict[str, Setting]:
        """The params of a genome."""
        text = self._text(PARAMS)
        if text is None:
            return {}
        try:
            return msgspec.json.decode(text.encode("latin-1"), type=dict[str, Setting])
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise bad_input(f"{PARAMS.name}: expected a JSON object of texts, numbers and booleans: {error}") from error

    def number(self) -> int:
        """The generation in the path."""
        return _whole(self._request.path_params[NUMBER.name], NUMBER)

    def name(self) -> str:
        """The genome's name in the path."""
        raw = self._request.path_params[NAME.name]
        try:
            return unquote_to_bytes(raw).decode()
        except UnicodeDecodeError as error:
            raise bad_input(f"the name {raw[:64]}: expected percent-encoded UTF-8") from error

    def attempt(self) -> str:
        """The id of an attempt in the path."""
        if not _ATTEMPT.fullmatch(text := str(self._request.path_params[ATTEMPT.name])):
            raise bad_input(f"{text[:64]}: expected the id of an attempt")
        return text

    def file(self) -> str:
        """The name of an artifact in the path."""
        if not _FILE.fullmatch(text := str(self._request.path_params[FILE.name])):
            raise bad_input(f"{text[:64]}: expected the name of an artifact, of lower-case letters, digits and ._-")
        return text

    def worker(self) -> str:
        """The worker's name in the path."""
        name = str(self._request.path_params[WORKER.name])
        if not WORKER_NAME.fullmatch(name):
            raise bad_input(f"the worker {name[:64]}: letters, digits, - and _ only, at most 63")
        return name

    def _text(self, parameter: Parameter) -> str | None:
        if parameter.place == "query":
            return self._query.get(parameter.name)
        values = self._request.headers.getlist(parameter.name)
        if len(values) > 1:
            raise bad_input(f"{parameter.name}: given twice; give it once")
        return values[0] if values else None


def _whole(text: str, parameter: Parameter) -> int:
    least, most = parameter.schema["minimum"], parameter.schema["maximum"]
    if not _WHOLE.fullmatch(text) or not least <= (value := int(text)) <= most:
        raise bad_input(f"{parameter.name}={text[:64]}: expected a whole number from {least} to {most}")
    return value
