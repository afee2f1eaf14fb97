"""The lines of `results.jsonl`: what other programs read in them, and what is read back."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import RECORD_BYTES_MAX, ResultRecord
from pipeline.inspection.archived_result import ArchivedResult, read_archived_result
from pipeline.storage.result_lines import LINE_BYTES_MAX, ResultLine, encode_line, read_result_lines
from tests.harness import records
from tests.harness.records import attempt

RECORD = layout.encode(records.result(1))


def read(folder: Path, data: bytes) -> list[ResultLine]:
    path = folder / "results.jsonl"
    path.write_bytes(data)
    return list(read_result_lines(path))


def line_of(record: bytes) -> bytes:
    return encode_line(attempt(1), record, log=False, files=())


def test_other_programs_read_the_record_as_part_of_the_line() -> None:
    """A program that has a JSON parser needs nothing else."""
    line = encode_line(attempt(1), RECORD, log=True, files=["replay.bin"])

    assert (line.count(b"\n"), line.endswith(b"\n")) == (1, True)
    assert json.loads(line) == {
        "attempt": attempt(1),
        "log": True,
        "files": ["replay.bin"],
        "record": json.loads(RECORD),
    }


def test_record_is_read_back_as_it_was_judged(tmp_path: Path) -> None:
    """With all its fields, byte for byte once it is indented as an agent does it."""
    [line] = read(tmp_path, line_of(RECORD))

    assert msgspec.json.format(line.record, indent=2) + b"\n" == RECORD
    assert isinstance(read_archived_result(line.record), ArchivedResult)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(record=st.dictionaries(st.text(max_size=8), VALUES, max_size=5), indent=st.sampled_from([None, 1, "\t"]))
def test_any_record_of_any_agent_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any], indent: int | str | None
) -> None:
    """However it is written; the values are the same."""
    data = json.dumps(record, indent=indent, ensure_ascii=indent is None).replace("\n", "\r\n")

    [line] = read(tmp_path_factory.mktemp("lines"), line_of(data.encode()))

    assert json.loads(line.record) == record


@pytest.mark.parametrize(
    "number", ["1.50e+03", "-0.0", "123456789012345678901234567890", "0.1000000000000000055511151231257827", "1e400"]
)
def test_numbers_keep_their_digits(tmp_path: Path, number: str) -> None:
    """No parser rounds them on the way."""
    [line] = read(tmp_path, line_of(b'{ "x" : %s }' % number.encode()))

    assert line.record == b'{"x":%s}' % number.encode()


NO_UTF8 = RECORD.replace(b'"layout"', b'"\xff\xfe\x80": 1, "layout"')


@pytest.mark.parametrize("record", [NO_UTF8, b"no JSON", b"", b"1", b'"text"'])
def test_record_that_is_no_json_of_unicode_is_kept_in_a_string(tmp_path: Path, record: bytes) -> None:
    """The decoder of records skips unknown fields without looking at their bytes. The file stays JSON in UTF-8."""
    assert layout.decode(ResultRecord, NO_UTF8, "result")
    data = line_of(RECORD) + line_of(record) + line_of(RECORD)

    assert [type(orjson.loads(line)["record"]) for line in data.splitlines()] == [dict, str, dict]
    assert [line.record for line in read(tmp_path, data)][1] == record


@pytest.mark.parametrize("byte", [b"\0", b'"', b"\xff", b"x"])
def test_largest_record_fits_in_a_line(tmp_path: Path, byte: bytes) -> None:
    """Whatever its bytes are, with all its artifacts."""
    names = [f"{number:064d}" for number in range(layout.ARTIFACTS_MAX)]
    record = byte * RECORD_BYTES_MAX

    data = encode_line(attempt(1), record, log=True, files=names)

    assert len(data) < LINE_BYTES_MAX
    [line] = read(tmp_path, data)
    assert (line.record, line.files) == (record, names)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"not JSON",
        b"\xff",
        b"\0" * 100,
        line_of(RECORD)[:-2],
        line_of(RECORD)[:50] + line_of(RECORD)[:-1],
        line_of(RECORD)[:-1].replace(attempt(1).encode(), b"../../elsewhere", 1),
        line_of(RECORD)[:-1].replace(b'"record"', b'"other"'),
        line_of(RECORD)[:-1] + b"x",
        b'{"attempt":"%s","record":"\\ud800"}' % attempt(1).encode(),
        b'{"attempt":"%s","record":"\xe2\x82\xac"}' % attempt(1).encode(),
        b"[" * 100_000,
        b"x" * LINE_BYTES_MAX * 3,
    ],
    ids=range(15),
)
def test_damaged_line_is_told_apart(tmp_path: Path, damage: bytes) -> None:
    """By its number; the lines around it are read. No attempt of it becomes part of a path."""
    whole = line_of(RECORD)

    found = read(tmp_path, whole + damage + b"\n" + whole)

    assert [line.attempt for line in found] == [attempt(1), "", attempt(1)]
    assert [line.number for line in found] == [1, 2, 3]


def test_every_cut_of_a_line_is_damaged(tmp_path: Path) -> None:
    """No beginning of a line is a line, and neither is one whose end are zeros: so it needs no checksum."""
    line = line_of(RECORD)[:-1]
    cuts = [line[:size] for size in range(len(line))]
    zeroed = [cut.ljust(len(line), b"\0") for cut in cuts]

    found = read(tmp_path, b"".join(cut + b"\n" for cut in [*cuts, *zeroed]))

    assert {line.attempt for line in found} == {""}


def test_unknown_fields_of_a_line_are_ignored(tmp_path: Path) -> None:
    """A later version of this program may add some."""
    [line] = read(tmp_path, b'{"new":[1,2],' + line_of(RECORD)[1:])

    assert line.attempt == attempt(1)
