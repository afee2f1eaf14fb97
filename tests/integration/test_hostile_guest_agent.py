"""A QEMU guest whose agent is hostile: its host gets a MachineError within the deadline, and reads a bounded number of
bytes."""

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperv_ops import Heartbeat, MachineError, Trouble
from hyperv_ops.qemu.guest_agent import OUTPUT_BYTES_MAX, GuestAgent
from hyperv_ops.qemu.qmp import ANSWER_BYTES_MAX
from tests.fakes.hostile_guest_agent import Answer, hostile_guest, line

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="QEMU machines run on Linux"),
]
EVENT = line({"event": "A", "data": {"text": "x" * 1000}, "timestamp": {"seconds": 1, "microseconds": 0}})


def answering(value: bytes) -> Answer:
    """A guest agent whose answer to each request has this value, in JSON."""

    def answer(request: dict[str, Any]) -> Iterator[bytes]:
        yield b'{"return": ' + value + b', "id": "' + request["id"].encode() + b'"}\n'

    return answer


def events(_request: dict[str, Any]) -> Iterator[bytes]:
    yield from itertools.repeat(EVENT)


def endless_line(_request: dict[str, Any]) -> Iterator[bytes]:
    yield b'{"return": "'
    yield from itertools.repeat(b"x" * 65536)


def agent(folder: Path) -> GuestAgent:
    return GuestAgent("vm-1", folder / "guest", folder / "heard")


@pytest.mark.parametrize("flood", [events, endless_line])
def test_flood_instead_of_heartbeat_is_cut_off(tmp_path: Path, flood: Answer) -> None:
    """It has no heartbeat; events are not kept, and the connection ends before the deadline of the ping."""
    began = time.monotonic()
    with hostile_guest(tmp_path / "guest", flood) as guest:
        assert agent(tmp_path).heartbeat(ask=True) is Heartbeat.NONE

    assert time.monotonic() - began < 2.5
    assert guest.sent_bytes < 4 * ANSWER_BYTES_MAX


@pytest.mark.parametrize(
    "value",
    [
        rb'{"exited": true, "out-data": "\udc80"}',
        rb'{"exited": true, "out-data": "\ud800\udfff\udc00"}',
        b'{"exited": true, "out-data": "%%%"}',
        b'{"exited": true, "exitcode": 1e400}',
        b'{"exited": true, "exitcode": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'"\xff"',
        b"null",
        b"{",
    ],
    ids=["surrogate", "surrogates", "base64", "infinity", "digits", "depth", "bytes", "null", "incomplete"],
)
def test_nonsense_is_a_machine_error(tmp_path: Path, value: bytes) -> None:
    """In one line that can be printed."""
    with hostile_guest(tmp_path / "guest", answering(value)), pytest.raises(MachineError) as error:
        agent(tmp_path).run("/bin/true", [], 5)

    assert error.value.trouble is Trouble.UNKNOWN_OUTCOME
    assert str(error.value).isprintable()


def test_surrogates_in_output_are_a_machine_error(tmp_path: Path) -> None:
    """The program has begun; its output is not Base64."""

    def answer(request: dict[str, Any]) -> Iterator[bytes]:
        begun = request["execute"] == "guest-exec"
        yield from answering(b'{"pid": 1}' if begun else rb'{"exited": true, "out-data": "\udc80"}')(request)

    with hostile_guest(tmp_path / "guest", answer), pytest.raises(MachineError, match="makes no sense"):
        agent(tmp_path).run("/bin/true", [], 5)


def test_error_text_of_guest_is_one_line(tmp_path: Path) -> None:
    """With control characters and surrogates in it."""

    def answer(request: dict[str, Any]) -> Iterator[bytes]:
        error = rb'{"class": "GenericError", "desc": "a\nb\u001b[31m\udc80"}'
        yield b'{"error": ' + error + b', "id": "' + request["id"].encode() + b'"}\n'

    with (
        hostile_guest(tmp_path / "guest", answer),
        pytest.raises(MachineError, match="its guest agent says: a b") as got,
    ):
        agent(tmp_path).run("/bin/true", [], 5)

    assert str(got.value).isprintable()


def test_large_output_is_read(tmp_path: Path) -> None:
    """The output of a program may be larger than any other answer."""
    output = b"QUFB" * (OUTPUT_BYTES_MAX // 8)

    def answer(request: dict[str, Any]) -> Iterator[bytes]:
        begun = request["execute"] == "guest-exec"
        yield from answering(
            b'{"pid": 1}' if begun else b'{"exited": true, "exitcode": 0, "out-data": "' + output + b'"}'
        )(request)

    with hostile_guest(tmp_path / "guest", answer):
        ran = agent(tmp_path).run("/bin/true", [], 5)

    assert (ran.exit_code, len(ran.output)) == (0, len(output) * 3 // 4)
