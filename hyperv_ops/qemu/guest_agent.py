"""Operations inside of a QEMU guest, by QEMU's guest agent over a channel that needs no network.

Its answers are the machine's heartbeat. The time of the last answer is stored as a file's modification time, so that it
survives a restart of the host.
"""

import base64
import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from hyperv_ops.machines import Heartbeat, MachineError, Ran, Trouble, one_line
from hyperv_ops.qemu.qmp import ANSWER_BYTES_MAX, ASK_LIMIT_S, Command, Conversation, QmpConnection, Result

PING_LIMIT_S, SEND_LIMIT_S = 3.0, 60.0
LOST_AFTER_S = 15.0  #: without an answer; a busy guest may miss one or two
_POLL_S = 0.1
_SEND_PIECE_BYTES = 48 * 1024
OUTPUT_BYTES_MAX = 10 * 1024 * 1024  #: of a program, in Base64


Answer = TypeVar("Answer", bound=msgspec.Struct)


class _Begun(msgspec.Struct):
    """The answer to guest-exec."""

    pid: int


class _Status(msgspec.Struct, rename="kebab"):
    """The answer to guest-exec-status."""

    exited: bool
    exitcode: int | None = None
    signal: int = 1
    out_data: bytes = b""
    err_data: bytes = b""


class GuestAgent:
    """The guest agent of one machine. Any thread may call."""

    def __init__(self, name: str, socket: Path, last_answer: Path) -> None:
        """`last_answer`: a file whose modification time is the guest's last answer since power-on."""
        self._name, self._last_answer = name, last_answer
        self._connection = QmpConnection(name, socket, guest=True)

    def heartbeat(self, *, ask: bool) -> Heartbeat:
        """Whether the guest answered lately; with `ask` it is pinged first."""
        if ask:
            with contextlib.suppress(MachineError):
                self._run(lambda ask: ask("guest-ping"), PING_LIMIT_S)
        try:
            silent_s = time.time() - self._last_answer.stat().st_mtime
        except OSError:
            return Heartbeat.NONE
        return Heartbeat.OK if silent_s < LOST_AFTER_S else Heartbeat.LOST

    def forget(self) -> None:
        """Clears the last answer; called when the machine is switched on."""
        self._last_answer.unlink(missing_ok=True)

    def ask_to_shut_down(self, timeout_s: float) -> bool:
        """Sends a shutdown request; returns whether it was sent. Source: guest-shutdown, which has no answer."""
        try:
            self._run(lambda ask: ask("guest-shutdown", {"mode": "powerdown"}), min(PING_LIMIT_S, timeout_s))
        except MachineError as error:
            return error.trouble in (Trouble.TIMED_OUT, Trouble.UNKNOWN_OUTCOME)
        return True

    def run(self, program: str, arguments: Sequence[str], timeout_s: float, stdin: bytes = b"") -> Ran:
        """Runs a program as root. Raises MachineError. Source: guest-exec, guest-exec-status."""
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        arguments_json: dict[str, object] = {"path": program, "arg": list(arguments), "capture-output": True}
        if stdin:
            arguments_json["input-data"] = base64.b64encode(stdin).decode()
        # Starting takes no time: a guest that does not answer soon is down, however long the program may run.
        pid = self._ask(_Begun, "guest-exec", arguments_json).pid
        while True:
            now = self._ask(_Status, "guest-exec-status", {"pid": pid})
            if now.exited:
                code = now.exitcode if now.exitcode is not None else -now.signal
                return Ran(code, (now.out_data + now.err_data).decode("utf-8", "replace"))
            if pause.wait(_POLL_S) or time.monotonic() > deadline:
                raise MachineError(self._name, f"{program} did not end in {timeout_s:g} s", Trouble.TIMED_OUT)

    def send(self, data: bytes, destination: str) -> None:
        """Writes a file, and the folders above it. Raises MachineError. Source: guest-file-open, guest-file-write."""
        path = PurePosixPath("/", destination)
        self.run("/bin/mkdir", ["-p", str(path.parent)], SEND_LIMIT_S)

        async def write(ask: Command) -> None:
            handle = await ask("guest-file-open", {"path": str(path), "mode": "wb"})
            for at in range(0, len(data), _SEND_PIECE_BYTES):
                piece = base64.b64encode(data[at : at + _SEND_PIECE_BYTES]).decode()
                await ask("guest-file-write", {"handle": handle, "buf-b64": piece})
            await ask("guest-file-close", {"handle": handle})

        self._run(write, SEND_LIMIT_S)

    def _ask(self, kind: type[Answer], command: str, arguments: dict[str, object]) -> Answer:
        result = self._run(lambda ask: ask(command, arguments), ASK_LIMIT_S, OUTPUT_BYTES_MAX)
        try:
            return msgspec.convert(result, kind)
        except ValueError as error:  # of msgspec, or a lone surrogate
            reason = f"its guest agent's answer makes no sense: {one_line(str(error))}"
            raise MachineError(self._name, reason, Trouble.UNKNOWN_OUTCOME) from error

    def _run(self, conversation: Conversation[Result], timeout_s: float, bytes_max: int = ANSWER_BYTES_MAX) -> Result:
        result = self._connection.run(conversation, timeout_s, bytes_max=bytes_max)
        with contextlib.suppress(OSError):  # a full disk on this computer says nothing about the guest
            self._last_answer.touch()
        return result
