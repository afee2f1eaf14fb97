"""What a game writes: log, progress and the framed replies of its worker process, read from a pipe."""

import os
from collections.abc import Iterator

from inbox_agent.evaluation.output_reader import PROGRESS, OutputReader
from inbox_agent.protocol.layout import LOG_BYTES_MAX, PROGRESS_CHARS_MAX, RECORD_BYTES_MAX
from tests.fuzz.target import FuzzTarget

_MARKER = b"\x1e0123 "  # of the game's own, so that the fuzzer can write it


def _decode(data: bytes) -> None:
    reading, writing = os.pipe()
    reader = OutputReader(os.fdopen(reading, "rb"), _MARKER)
    with os.fdopen(writing, "wb") as stream:
        stream.write(data)
    while not reader.ended:
        reply = reader.wait(10.0)
        assert reply is not None or reader.ended
        if reply is not None:
            assert b"\n" not in reply.body
            assert len(reply.body) <= RECORD_BYTES_MAX
            assert len(reply.log) <= LOG_BYTES_MAX
    assert len(reader.take_log()) <= LOG_BYTES_MAX
    assert reader.progress.isprintable()
    assert len(reader.progress) <= PROGRESS_CHARS_MAX


def _seeds() -> Iterator[bytes]:
    reply = _MARKER + b'{"number": 1, "answer": {"fitness": 1.0}}\n'
    yield b"move 1\n" + PROGRESS + b"turn 3 of 9\nmove 2\n" + reply + b"after"
    yield reply * 3
    yield PROGRESS + b"\x1b[2J" + "größe\u202e".encode() * 99 + b"\n" + PROGRESS + b"\xff\n" + PROGRESS
    yield _MARKER[:3] + _MARKER + b"no end"
    yield _MARKER + b"x" * 15000
    yield b"\n\n" + _MARKER + b"\n"


TARGET = FuzzTarget(_decode, (), _seeds)
