"""Readers of a share's records: the newest `host.json` is the owner, or its damage is reported with its epoch."""

import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileInvalid, FileMissing, FileRefused
from inbox_agent.protocol.layout import EvaluatorRecord, LayoutError, UnknownLayout, encode
from inbox_agent.protocol.readers import DamagedOwner, newest_epoch, read_evaluator, read_heartbeat, read_owner
from tests.fakes.memory_files import MemoryFiles
from tests.harness import records


@pytest.fixture
def files() -> MemoryFiles:
    files = MemoryFiles()
    files.make_folders()
    return files


def test_highest_epoch_is_the_owner(files: MemoryFiles) -> None:
    """By number, not by name; other names in the folder have no epoch."""
    files.publish("inbox/10.host.json", encode(records.host(epoch=10)))
    names = ["9.host.json", "10.host.json", "x.start.json"]

    assert newest_epoch(names) == 10
    assert read_owner(files, names) == records.host(epoch=10)


def test_share_without_host_record_has_no_owner(files: MemoryFiles) -> None:
    assert newest_epoch(["x.start.json"]) == 0
    assert read_owner(files, ["x.start.json"]) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (None, FileMissing),
        (b"", LayoutError),
        (b'{"layout": 99}', UnknownLayout),
        (bytes(70_000), FileInvalid),
        (encode(records.host(epoch=3)), LayoutError),
    ],
    ids=["missing", "empty", "other layout", "too large", "other epoch"],
)
def test_damaged_owner_keeps_its_epoch(files: MemoryFiles, data: bytes | None, error: type[Exception]) -> None:
    """An older valid record does not count."""
    files.publish("inbox/1.host.json", encode(records.host()))
    if data is not None:
        files.publish("inbox/2.host.json", data)

    owner = read_owner(files, ["1.host.json", "2.host.json"])

    assert isinstance(owner, DamagedOwner)
    assert (owner.epoch, type(owner.error)) == (2, error)


def test_refused_record_is_not_damaged(files: MemoryFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be whole; the share must be asked again."""

    def refuse(_path: str, _bytes_max: int) -> bytes:
        raise FileRefused("inbox/1.host.json")

    monkeypatch.setattr(files, "read", refuse)
    with pytest.raises(FileRefused):
        read_owner(files, ["1.host.json"])


def test_missing_heartbeat_is_reported(files: MemoryFiles) -> None:
    with pytest.raises(FileMissing):
        read_heartbeat(files)
    files.replace("status/agent.json", encode(records.beat(counter=5)))
    assert read_heartbeat(files).counter == 5


def test_record_of_the_evaluator_is_read(files: MemoryFiles) -> None:
    """With the limit of all records."""
    record = EvaluatorRecord(evaluator="v1", target="game:play", files={"game.py": "0" * 16}, files_count=1)
    with pytest.raises(FileMissing):
        read_evaluator(files)
    files.replace("status/evaluator.json", encode(record))
    assert read_evaluator(files) == record
    files.replace("status/evaluator.json", encode(record) + b" " * layout.RECORD_BYTES_MAX)
    with pytest.raises(FileInvalid):
        read_evaluator(files)
