"""The lines of `results.jsonl`, one for each accepted result: the record as it was collected, and what else there is.

Owns: the form of a line. The record in it has every name, number and text byte for byte as it was judged, and not the
white space between them: so it is a part of the line's JSON, for other programs. A record with bytes in an unknown
field that are no UTF-8 would make the line unreadable for them: it is a string, whose characters are its bytes.

A line has no checksum. A cut-off one is no JSON: no beginning of an object is an object, and zeros are not allowed in
one. What is counted of a line is compared with the ledger, whose facts have checksums (`inspection.audit`).

An attempt that was archived by a host that was killed before it recorded it is archived again: its last line counts, of
which the facts were recorded. See: docs/reference/results.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson
from msgspec import Raw, Struct

from inbox_agent.protocol.layout import RECORD_BYTES_MAX, is_attempt
from pipeline.storage.line_file import read_lines

LINE_BYTES_MAX = 8 * RECORD_BYTES_MAX  #: a byte of a record takes up to six in a string; ids and names need 2 KiB


class _Line(Struct, frozen=True):
    attempt: str
    record: Raw
    log: bool = False
    files: list[str] = []


_decode = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """A line as it was read."""

    number: int  #: from 1
    offset: int  #: of its first byte in the file
    attempt: str  #: empty: the line is damaged, e.g. by a write that was cut off
    record: bytes = b""  #: as it was collected; the white space between its tokens may be missing
    log: bool = False  #: whether there is a log in `attempts/<attempt>/`
    files: Sequence[str] = ()  #: the names of its artifacts there


def encode_line(attempt: str, record: bytes, *, log: bool, files: Sequence[str]) -> bytes:
    """The line of a result, with its end."""
    return b'{"attempt":"%s","log":%s,"files":%s,"record":%s}\n' % (
        attempt.encode(),
        b"true" if log else b"false",
        orjson.dumps(files),
        _in_one_line(record),
    )


def _in_one_line(record: bytes) -> bytes:
    try:
        line = msgspec.json.format(record, indent=-1)
        if not line.isascii():
            line.decode()  # raises ValueError; what skips unknown fields does not look at their bytes
        if line.startswith(b"{"):
            return line
    except (ValueError, RecursionError):
        pass
    return orjson.dumps(record.decode("latin-1"))


def read_result_lines(path: Path) -> Iterator[ResultLine]:
    """The lines of a file, also the damaged ones, one after another. Raises OSError."""
    for line in read_lines(path, LINE_BYTES_MAX):
        try:
            found = _decode(line.content or b"")
            record = bytes(found.record)
            if record.startswith(b'"'):
                record = msgspec.json.decode(record, type=str).encode("latin-1")
        except (ValueError, RecursionError):
            found = None
        if found is None or not is_attempt(found.attempt):
            yield ResultLine(number=line.number, offset=line.offset, attempt="")
        else:
            yield ResultLine(
                number=line.number,
                offset=line.offset,
                attempt=found.attempt,
                record=record,
                log=found.log,
                files=found.files,
            )
