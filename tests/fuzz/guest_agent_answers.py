"""What a QEMU guest's agent answers: one line for each command."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from hyperv_ops import MachineError
from hyperv_ops.machines import Ran
from hyperv_ops.qemu import guest_agent
from hyperv_ops.qemu.guest_agent import GuestAgent
from tests.fuzz.line_server import LineServer
from tests.fuzz.target import FuzzTarget

_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-guest-")
_SERVER = LineServer(Path(_PLACE.name, "agent"))


def _decode(data: bytes) -> None:
    _SERVER.answer(data.split(b"\n"))
    agent = GuestAgent("vm-1", _SERVER.path, Path(_PLACE.name, "last-answer"))
    with patch.object(guest_agent, "ASK_LIMIT_S", 1.0):
        assert isinstance(agent.run("/bin/true", [], timeout_s=0.0), Ran)


def _seeds() -> Iterator[bytes]:
    synced = '{"return": NUMBER, "id": "ID"}'
    begun = '{"return": {"pid": 7}, "id": "ID"}'
    for status in (
        '{"exited": true, "exitcode": 0, "out-data": "eA==", "err-data": "/w=="}',
        '{"exited": true, "signal": 9}',
        '{"exited": false}',
        '{"exited": true, "out-data": "\\ud800"}',
        '{"exited": true, "exitcode": ' + "9" * 5000 + "}",
        '{"exited": true, "exitcode": 1e400}',
        "[" * 5000,
        '{"exited": 1}',
        "[]",
    ):
        yield "\n".join((synced, begun, synced, f'{{"return": {status}, "id": "ID"}}')).encode()
    yield b'{"return": 1, "id": "ID"}\n' * 3
    yield b'{"error": {"class": "CommandNotFound", "desc": "x"}, "id": "ID"}'
    yield b""


TARGET = FuzzTarget(_decode, (MachineError,), _seeds, needs_posix=True)
