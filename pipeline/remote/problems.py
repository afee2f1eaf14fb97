"""What an answer of a server says is wrong, as an error of this package. No I/O.

Owns: which status is which error. The text of a server is foreign: it is cut and made printable.
"""

import msgspec
from msgspec import Struct

from inbox_agent.protocol.layout import clean
from pipeline.errors import ConflictError, GenomeError, InputError, NotFoundError, PipelineError, RemoteError

REASON_CHARS_MAX = 500  #: of what a server says
_OWN_TYPES = "urn:genome-pipeline:"


class RefusalText(Struct, frozen=True):
    """An answer of the type `application/problem+json`."""

    type: str = ""
    title: str = ""
    detail: str = ""


def said(text: str) -> str:
    """A text of a server, for a message."""
    return clean(text, REASON_CHARS_MAX)


def problem_of(status: int, body: bytes) -> str:
    """Why a server has refused a request, in one line."""
    problem = _decoded(body)
    return said(problem.detail or problem.title or f"status {status}")


def is_own_answer(body: bytes) -> bool:
    """Whether a server of this program refuses, and not a proxy before one that is away."""
    return _decoded(body).type.startswith(_OWN_TYPES)


def error_of(status: int, reason: str, url: object) -> PipelineError:
    """The error of a refused request to this server."""
    match status:
        case 400 | 415:
            return InputError(f"{url}: {reason}")
        case 401:
            return RemoteError(f"{url}: the token is missing, wrong or expired; give a token of this server")
        case 403:
            return RemoteError(f"{url}: the token does not allow it: {reason}; give a token of a wider scope")
        case 404:
            return NotFoundError(f"{url}: {reason}")
        case 409:
            return ConflictError(f"{url}: {reason}")
        case 413 | 422:
            return GenomeError(f"{url}: {reason}")
        case 501:
            return RemoteError(f"{url}: it only shows its project; start it with `pipeline serve --control`")
        case _ if 300 <= status < 400:
            return RemoteError(f"{url}: it sends elsewhere (status {status}), which is not followed; give that URL")
        case _:
            return RemoteError(f"{url}: {reason} (status {status}); see the log of the server")


def _decoded(body: bytes) -> RefusalText:
    try:
        return msgspec.json.decode(body, type=RefusalText)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return RefusalText()
