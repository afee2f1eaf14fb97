"""Reading what a child writes: log, progress and replies, in bounded memory."""

import os
import tracemalloc
from collections.abc import Iterator

import pytest

from inbox_agent.evaluation.output_reader import OutputReader, new_marker
from inbox_agent.protocol.layout import LOG_BYTES_MAX, PROGRESS_CHARS_MAX, RECORD_BYTES_MAX
from tests.harness.waiting import eventually

MARKER = new_marker()


class Child:
    """The writing end of a pipe, and a reader of its other end."""

    def __init__(self, marker: bytes = b"") -> None:
        read_end, self._write_end = os.pipe()
        self.output = OutputReader(os.fdopen(read_end, "rb"), marker)

    def writes(self, *pieces: bytes) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._write_end, view) :]

    def ends(self) -> bytes:
        """Closes the stream and returns the log once everything has been read."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
        while self.output.wait(5):
            pass
        assert self.output.ended
        return self.output.take_log()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.ends()


@pytest.fixture
def warm() -> Iterator[Child]:
    child = Child(MARKER)
    yield child
    child.ends()


def test_log_is_everything_written_once(child: Child) -> None:
    """All output, in order, once."""
    child.writes(b"one\n", b"two")

    assert child.ends() == b"one\ntwo"
    assert child.output.take_log() == b""


@pytest.mark.parametrize("piece", [b"x", b"0123456789abcdef\n", b"y" * 70_000])
def test_log_keeps_last_bytes(child: Child, piece: bytes) -> None:
    """However the output is split, the log has its last bytes."""
    written = piece * (3 * LOG_BYTES_MAX // len(piece) + 1)

    child.writes(written, b"the end")

    assert child.ends() == (written + b"the end")[-LOG_BYTES_MAX:]


FLOODS = {
    "letters": b"x",
    "half a marker": b"\x1e",
    "line ends": b"\n",
    "markers": MARKER,
    "marked lines": MARKER + b"\n",
    "progress": b"progress: ",
}


@pytest.mark.parametrize("filler", FLOODS.values(), ids=FLOODS)
def test_endless_line_uses_bounded_memory(warm: Child, filler: bytes) -> None:
    """2 MB without a newline, even of bytes that begin a reply marker, take less than 2 MB."""
    flood = filler * (1024 * 1024 // len(filler))
    tracemalloc.start()
    for _ in range(2):
        warm.writes(flood)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2 * 1024 * 1024
    assert len(warm.ends()) <= LOG_BYTES_MAX


def test_latest_progress_line_is_returned(child: Child) -> None:
    """Only complete lines that begin with the marker count; the latest one is returned."""
    child.writes(b"progress: 1\nnot progress: 2\nprogress: 3\r\nmore\nprogress: unfinish")
    assert eventually(lambda: child.output.progress == "3")

    child.writes(b"ed\n")
    assert eventually(lambda: child.output.progress == "unfinished")

    child.output.forget_progress()
    assert child.output.progress == ""


def test_progress_may_arrive_byte_by_byte(child: Child) -> None:
    """The boundaries of the pieces do not matter."""
    child.writes(b"x" * 100_000, b"progress: no\n")
    child.writes(*(bytes([byte]) for byte in "progress: Über ✓\n".encode()))

    assert eventually(lambda: child.output.progress == "Über ✓")


def test_progress_is_one_short_printable_line(child: Child) -> None:
    """Control characters and invalid UTF-8 are replaced, long lines are truncated."""
    child.writes(b"progress: \x1b[2J\xff" + b"x" * 100_000 + b"\n")

    assert eventually(lambda: child.output.progress)
    assert child.output.progress.startswith("[2J\ufffdxxx")
    assert len(child.output.progress) == PROGRESS_CHARS_MAX


def test_reply_carries_log_before_it(warm: Child) -> None:
    """Log, reply, log, reply: each log belongs to the reply after it, also without a newline in between."""
    warm.writes(b"first" + MARKER + b"{1}\nsecond\n" + MARKER + b"{2}\nthird")

    replies = [warm.output.wait(5), warm.output.wait(5)]

    assert [(reply.log, reply.body) for reply in replies if reply] == [(b"first", b"{1}"), (b"second\n", b"{2}")]
    assert warm.ends() == b"third"


def test_reply_may_arrive_byte_by_byte(warm: Child) -> None:
    """A marker or a reply may be split anywhere; an incomplete marker is part of the log."""
    almost = MARKER[:-2]
    warm.writes(*(bytes([byte]) for byte in b"a\x1eb" + almost + b"\n" + MARKER + b"{}\n"))

    reply = warm.output.wait(5)

    assert reply is not None
    assert (reply.log, reply.body) == (b"a\x1eb" + almost + b"\n", b"{}")


def test_largest_reply_is_accepted(warm: Child) -> None:
    """A reply of the size limit is returned; one byte more is no reply."""
    warm.writes(MARKER + b"x" * RECORD_BYTES_MAX + b"\n")
    reply = warm.output.wait(5)
    assert reply is not None
    assert len(reply.body) == RECORD_BYTES_MAX

    warm.writes(MARKER + b"x" * (RECORD_BYTES_MAX + 1) + b"\n", MARKER + b"{}\n")
    reply = warm.output.wait(5)
    assert reply is not None
    assert reply.body == b"{}"


def test_wait_respects_its_timeout(warm: Child) -> None:
    """Without a reply `wait` returns None and the stream is open; after its end it returns at once."""
    assert warm.output.wait(0) is None
    assert warm.output.wait(0.01) is None
    assert not warm.output.ended

    warm.ends()

    assert warm.output.wait(60) is None
    assert warm.output.ended


def test_reply_before_end_of_stream_is_returned(warm: Child) -> None:
    """A reply counts although the child ended after it."""
    warm.writes(b"bye" + MARKER + b"{}\n")
    os.close(warm._write_end)
    warm._write_end = -1

    assert warm.output.wait(5) is not None
    assert not warm.output.ended
    assert warm.output.wait(5) is None
    assert warm.output.ended
