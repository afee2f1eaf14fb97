"""How a script gets to a PowerShell and its answer back: the command line, the standard input, the reply.

It decides what may stand where. The command line is one constant; script, parameters and secrets travel in standard
input as JSON in Base64, whose alphabet has no quotes; the answer is judged by its one reply line, never by what else is
on standard output or standard error.
"""

import base64
import binascii
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from hyperv_ops.machines import MachineError, Trouble, one_line

_MARK = b"reply:"
REPLY_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script wrote."""

    value: Any  #: its JSON
    said: tuple[str, ...] = ()  #: what PowerShell told people meanwhile: `What if: …`


class Runner(Protocol):
    """Runs scripts where the hypervisor is."""

    where: str  #: its name, for messages

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> Reply:
        """Runs one of the package's scripts, named without its suffix.

        Raises:
            MachineError: it could not be run, refused, or did not end within `timeout_s`; UNKNOWN_OUTCOME if it may
                have done its work all the same.
        """


def script_folder() -> Path:
    """Where the scripts are, for people who run them by hand."""
    return Path(__file__).parent / "scripts"


@functools.cache
def text(script: str) -> str:
    """The script, as it stands in this package."""
    return (script_folder() / f"{script}.ps1").read_text("utf-8-sig")


@functools.cache
def arguments() -> tuple[str, ...]:
    """The command line, after the name of the program: the same for every script."""
    code = "\n".join(line for line in text("bootstrap").splitlines() if not line.startswith("#"))
    encoded = base64.b64encode(code.encode("utf-16-le")).decode()
    return ("-NoProfile", "-NonInteractive", "-EncodedCommand", encoded)


def pack(script: str, parameters: Mapping[str, object]) -> bytes:
    """What goes into standard input."""
    job = orjson.dumps({"script": text(script), "parameters": dict(parameters)})
    return base64.b64encode(job) + b"\r\n"


def unpack(where: str, stdout: bytes, stderr: bytes) -> Reply:
    """What came back.

    Raises:
        MachineError: the script refused; UNKNOWN_OUTCOME if there is no reply.
    """
    said: list[str] = []
    for line in stdout.splitlines():
        if not line.startswith(_MARK):
            said.append(line.decode("utf-8", "replace").strip())
            continue
        try:
            reply = orjson.loads(base64.b64decode(line[len(_MARK) :].strip(), validate=True))
            if reply["ok"] is True:
                return Reply(orjson.loads(reply["value"] or b"null"), tuple(filter(None, said)))
            raise MachineError(where, one_line(str(reply["message"])), _trouble(str(reply["id"])))
        except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise MachineError(where, f"an answer that makes no sense: {error}", Trouble.UNKNOWN_OUTCOME) from error
    words = one_line(stderr.decode("utf-8", "replace")) or "nothing"
    raise MachineError(where, f"PowerShell ended without an answer; it said: {words}", Trouble.UNKNOWN_OUTCOME)


def _trouble(error_id: str) -> Trouble:
    """`NoSpace,New-FarmVM.ps1` → NO_SPACE. Source: about_Throw, FullyQualifiedErrorId."""
    name = error_id.partition(",")[0]
    return Trouble(name) if name in {trouble.value for trouble in Trouble} else Trouble.OTHER
