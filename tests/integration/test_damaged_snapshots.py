"""The host's snapshots cannot be reached through a share, and a damaged one is found before it is sent."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from inbox_agent.protocol.layout import Kind
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.core.requests import ShareAction
from pipeline.shares.share_client import ShareClient, ShareResponse
from pipeline.storage.snapshots import Snapshots
from tests.harness import records
from tests.harness.records import FARM, WORKER, attempt

SIZES = pytest.mark.parametrize("size", [100, 3 * 1024 * 1024], ids=["small", "large"])


class Publisher:
    """A host with one genome that it publishes in a share on this disk."""

    def __init__(self, folder: Path, size: int) -> None:
        self.data = os.urandom(size)
        self.file = folder / "genomes" / "a.bin"
        self.file.parent.mkdir()
        self.file.write_bytes(self.data)
        self.snapshots = Snapshots(folder / "state")
        (self.genome,) = self.snapshots.import_folder(self.file.parent)
        self.files = LocalFiles(folder / "share")
        self.files.root.mkdir()
        self.files.make_folders()
        self._client = ShareClient(WORKER, FARM, self.files, folder / "incoming", self.snapshots.content)

    @property
    def snapshot(self) -> Path:
        return Path(self.snapshots.path(self.genome.sha256))

    def publish(self, number: int) -> ShareResponse:
        start = records.start(number, self.data, genome_name=self.genome.name)
        return self._client.execute(ShareAction(WORKER, publish=(start,)))

    def sent(self, number: int) -> Path:
        return self.files.root / "inbox" / Kind.GENOME.of(attempt(number))


@pytest.fixture
def publisher(tmp_path: Path) -> Callable[[int], Publisher]:
    return lambda size: Publisher(tmp_path, size)


def overwrite(path: Path, data: bytes) -> None:
    """Changes a file in place, also one that is write-protected."""
    path.chmod(stat.S_IREAD | stat.S_IWRITE)
    with open(path, "r+b") as file:
        file.write(data)


@SIZES
def test_file_in_share_is_not_snapshot(publisher: Callable[[int], Publisher], size: int) -> None:
    """What an agent writes into its genome reaches neither the snapshot nor the next attempt."""
    host = publisher(size)
    assert host.publish(1).sent == {attempt(1): True}

    overwrite(host.sent(1), b"spoiled")

    assert host.publish(2).sent == {attempt(2): True}
    assert host.sent(2).read_bytes() == host.data
    assert host.snapshot.read_bytes() == host.data


@SIZES
@pytest.mark.parametrize("damage", ["changed", "short", "long", "empty", "missing"])
def test_damaged_snapshot_is_taken_again(publisher: Callable[[int], Publisher], size: int, damage: str) -> None:
    """The genome's file still has the bytes: the damage costs nothing, also after the snapshot was sent before."""
    host = publisher(size)
    assert host.publish(1).sent == {attempt(1): True}
    spoil(host.snapshot, damage)

    response = host.publish(2)

    assert (response.sent, response.error, response.fatal) == ({attempt(2): True}, "", "")
    assert host.sent(2).read_bytes() == host.snapshot.read_bytes() == host.data


@SIZES
@pytest.mark.parametrize("damage", ["changed", "short", "missing"])
@pytest.mark.parametrize("file", ["changed", "missing"])
def test_damaged_snapshot_without_file_stops_host(
    publisher: Callable[[int], Publisher], size: int, damage: str, file: str
) -> None:
    """The host names its own snapshot and the genome; the worker gets nothing and is not at fault."""
    host = publisher(size)
    spoil(host.file, file)
    spoil(host.snapshot, damage)

    response = host.publish(1)

    assert str(host.snapshot) in response.fatal
    assert "this host's snapshot of a.bin is damaged" in response.fatal
    assert (response.sent, response.error, response.write_problem) == ({}, "", None)
    assert host.files.names("inbox") == ["tmp"]


def test_file_put_back_repairs_snapshot(publisher: Callable[[int], Publisher]) -> None:
    """As the message asks."""
    host = publisher(100)
    spoil(host.file, "missing")
    spoil(host.snapshot, "changed")
    assert host.publish(1).fatal

    host.file.write_bytes(host.data)

    assert host.publish(2).sent == {attempt(2): True}


def spoil(path: Path, damage: str) -> None:
    if damage == "changed":
        overwrite(path, b"spoiled")
    elif damage == "missing":
        path.chmod(stat.S_IREAD | stat.S_IWRITE)
        path.unlink()
    else:
        size = path.stat().st_size
        path.chmod(stat.S_IREAD | stat.S_IWRITE)
        os.truncate(path, {"short": size - 1, "long": size + 1, "empty": 0}[damage])
