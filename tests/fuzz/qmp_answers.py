"""What QEMU's monitor answers: a greeting, then one line for each command."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hyperv_ops import MachineError
from hyperv_ops.qemu.qmp import QmpConnection
from tests.fuzz.line_server import LineServer
from tests.fuzz.target import FuzzTarget

_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-qmp-")
_SERVER = LineServer(Path(_PLACE.name, "monitor"))


def _decode(data: bytes) -> None:
    _SERVER.answer(data.split(b"\n"), greets=True)
    QmpConnection("vm-1", _SERVER.path).ask("query-status", timeout_s=1.0)


def _seeds() -> Iterator[bytes]:
    greeting = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
    ready = '{"return": {}, "id": "ID"}'
    for answer in (
        '{"return": {"status": "running", "running": true}, "id": "ID"}',
        '{"error": {"class": "GenericError", "desc": "no \\u001b"}, "id": "ID"}',
        '{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}',
        '{"return": {}, "id": "other"}',
        '{"return": ' + "[" * 5000,
        '{"return": ' + "9" * 5000 + ', "id": "ID"}',
        "[]",
        "",
    ):
        yield "\n".join((json.dumps(greeting), ready, answer)).encode()
    yield b'{"QMP": {}}'
    yield b"\xff"


TARGET = FuzzTarget(_decode, (MachineError,), _seeds, needs_posix=True)
