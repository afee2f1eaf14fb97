"""The protocol of a script call: PowerShell's command line, standard input and reply line.

Owns: what may be written where. The command line is one constant. Script, parameters and secrets travel in standard
input as JSON in Base64, which contains no quotes. The outcome is read from the one reply line, never from other text on
standard output or standard error.
"""

import base64
import functools
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson

from hyperv_ops.machines import MachineError, Trouble, one_line

#: The line with which a script loads the functions that it shares with others.
LOAD_COMMON = '. "$PSScriptRoot\\Common.ps1"'
_MARK = b"reply:"
_MALFORMED = (ValueError, TypeError, msgspec.DecodeError, RecursionError)  #: raised for any text that is no reply
REPLY_BYTES_MAX = 64 * 1024 * 1024

#: Source: [MS-PSRP], section 2.2.5.1 (primitive types): `_x000A_` is a line feed. PowerShell writes its error stream
#: in this form when standard error is redirected and the script came by -EncodedCommand.
_CLIXML = "#< CLIXML"
_CLIXML_ERROR = re.compile(r'<S S="Error">([^<]*)</S>')
_CLIXML_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """The output of a script."""

    value: Any  #: its JSON
    messages: tuple[str, ...] = ()  #: other lines of its standard output: `What if: …`


class Runner(Protocol):
    """Runs scripts on the hypervisor's host."""

    where: str  #: its name, for messages

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> ScriptReply:
        """Runs one of the package's scripts, named without its suffix.

        Raises:
            MachineError: it could not be run, refused, or did not end within `timeout_s`; UNKNOWN_OUTCOME if it may
                have done its work nevertheless.
        """

    def close(self) -> None:
        """Releases processes and connections that are kept between calls. A later `run` still works."""


class _Answer(msgspec.Struct, frozen=True):
    """The JSON of a reply line, as `bootstrap.ps1` writes it."""

    ok: bool
    value: str = ""
    id: str = ""
    message: str = ""
    last: bool = True  #: the process accepts no further job
    code_page: int = 0  #: of the other lines on standard output


def script_folder() -> Path:
    """The folder of the scripts, for people who run them manually."""
    return Path(__file__).parent / "scripts"


@functools.cache
def script_text(script: str) -> str:
    """The source of a script of this package, complete: a script that is sent as text has no folder to load from."""
    return _read(script).replace(LOAD_COMMON, _read("Common"))


def _read(script: str) -> str:
    return (script_folder() / f"{script}.ps1").read_text("utf-8-sig")


@functools.cache
def powershell_arguments() -> tuple[str, ...]:
    """The command line, after the name of the program: the same for every script."""
    code = "\n".join(line for line in script_text("bootstrap").splitlines() if not line.lstrip().startswith("#"))
    encoded = base64.b64encode(code.encode("utf-16-le")).decode()
    return ("-NoProfile", "-NonInteractive", "-EncodedCommand", encoded)


def pack_call(script: str, parameters: Mapping[str, object]) -> bytes:
    """One line of standard input: a job."""
    return _line(script_text(script), parameters)


def empty_job() -> bytes:
    """A job that does nothing but gets a reply."""
    return _line("", {})


def _line(code: str, parameters: Mapping[str, object]) -> bytes:
    return base64.b64encode(orjson.dumps({"script": code, "parameters": dict(parameters)})) + b"\r\n"


def takes_another_job(stdout: bytes) -> bool | None:
    """Whether the process with this output accepts another job; None if it has not replied yet."""
    for line in stdout.splitlines():
        if line.startswith(_MARK):
            try:
                return not _decode(line).last
            except _MALFORMED:
                return False
    return None


def unpack_reply(where: str, stdout: bytes, stderr: bytes) -> ScriptReply:
    """Reads the outcome of a job from the output of its process.

    Raises:
        MachineError: the script refused; UNKNOWN_OUTCOME if there is no reply.
    """
    other: list[bytes] = []
    for line in stdout.splitlines():
        if not line.startswith(_MARK):
            other.append(line)
            continue
        try:
            answer = _decode(line)
            if answer.ok:
                said = (_text(line, answer.code_page) for line in other)
                return ScriptReply(orjson.loads(answer.value or b"null"), tuple(filter(None, said)))
        except _MALFORMED as error:
            raise MachineError(where, f"an answer that makes no sense: {error}", Trouble.UNKNOWN_OUTCOME) from error
        raise MachineError(where, one_line(answer.message), _trouble(answer.id))
    words = one_line(_error_text(stderr)) or "nothing"
    raise MachineError(where, f"PowerShell ended without an answer; it wrote: {words}", Trouble.UNKNOWN_OUTCOME)


def _decode(line: bytes) -> _Answer:
    return msgspec.json.decode(base64.b64decode(line[len(_MARK) :].strip(), validate=True), type=_Answer)


def _text(line: bytes, code_page: int) -> str:
    try:
        return line.decode(f"cp{code_page}", "replace").strip()
    except LookupError:  # a code page that Python does not know
        return line.decode("utf-8", "replace").strip()


def _error_text(stderr: bytes) -> str:
    """The error stream as text. A damaged CLIXML is read as far as it goes: it is for a message only."""
    words = stderr.decode("utf-8", "replace")
    if _CLIXML not in words:
        return words
    plain, _, serialized = words.partition(_CLIXML)
    errors = "".join(html.unescape(error) for error in _CLIXML_ERROR.findall(serialized))
    return plain + _CLIXML_ESCAPE.sub(lambda code: chr(int(code[1], 16)), errors)


def _trouble(error_id: str) -> Trouble:
    """`NoSpace,New-FarmVM.ps1` → NO_SPACE. Source: about_Throw, FullyQualifiedErrorId."""
    name = error_id.partition(",")[0]
    return Trouble(name) if name in {trouble.value for trouble in Trouble} else Trouble.OTHER
