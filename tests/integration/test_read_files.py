"""Files that were read are not read again by another start of the same command, unless they may have changed."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pipeline.core.model import GenomeFile
from pipeline.storage.read_files import STEADY_NS, ReadFiles
from pipeline.storage.snapshots import GenomeFiles, Snapshots

LONG_AGO_NS = 1_000_000_000_000_000_000
posix = pytest.mark.skipif(
    os.name != "posix", reason="Windows has no time of a file's last change that no program sets"
)


class Starts:
    """Starts of a host with two genomes. The clock of the host is ahead, so that files are old when they are read."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.path = root, root / "gen-0001", root / "read.json"
        self.folder.mkdir()
        self.rewrite("a", b"first")
        self.rewrite("b", b"second")

    def rewrite(self, name: str, data: bytes) -> None:
        """Writes a file in place; afterwards its last change is long ago."""
        (self.folder / name).write_bytes(data)
        os.utime(self.folder / name, ns=(LONG_AGO_NS, LONG_AGO_NS))

    def start(self, looked_at_ns: int | None = None) -> set[str]:
        """The files that a host reads at its start; the others it knows. What it takes is what the files have."""
        snapshots = Snapshots(self.root / "snapshots")
        files = GenomeFiles(snapshots, self.folder, 1000)
        look = files.look()
        looked_at_ns = looked_at_ns or self.later_ns()
        memory = ReadFiles(self.path, snapshots)
        known = memory.unchanged(1, look, files.bytes_max)
        genomes = snapshots.import_folder(self.folder, known=known)
        assert {genome.name: genome.sha256 for genome in genomes} == self.digests(look)
        for genome in genomes:
            assert snapshots.content(genome.sha256, genome.name) == (self.folder / genome.name).read_bytes()
        memory.remember(1, look, looked_at_ns, genomes)
        return look.keys() - known.keys()

    def later_ns(self) -> int:
        """A time when the last changes of all files are over for long."""
        look = GenomeFiles(Snapshots(self.root / "other"), self.folder, 1000).look()
        return max(stamp.changed_ns for stamp in look.values()) + 2 * STEADY_NS

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Of the files as they are."""
        files = GenomeFiles(Snapshots(self.root / "other"), self.folder, 1000)
        return {name: files.digest(name) for name in names}

    def snapshot(self, name: str) -> Path:
        """The snapshot of a file."""
        return Path(Snapshots(self.root / "snapshots").path(self.digests([name])[name]))


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    """After the first start, which has read both files."""
    starts = Starts(tmp_path)
    assert starts.start() == {"a", "b"}
    return starts


def test_files_that_were_read_are_known(starts: Starts) -> None:
    """Neither they nor their snapshots are read again."""
    assert starts.start() == set()
    assert starts.start() == set()


def test_new_file_is_read(starts: Starts) -> None:
    """The others are known."""
    starts.rewrite("c", b"third")
    assert starts.start() == {"c"}
    assert starts.start() == set()


def test_file_that_has_changed_is_read(starts: Starts) -> None:
    """Its size or its time of the last change is another one."""
    (starts.folder / "a").write_bytes(b"other")
    assert starts.start() == {"a"}


@posix
def test_edit_that_sets_back_the_time_is_noticed(starts: Starts) -> None:
    """Size, time of the content's last change and number are the same; the time of the last change of all is not."""
    starts.rewrite("a", b"FIRST")
    assert starts.start() == {"a"}


@posix
def test_copy_that_keeps_its_time_is_read(starts: Starts) -> None:
    """A restored backup has other numbers, whatever times it has."""
    shutil.copytree(starts.folder, starts.root / "backup")  # copies times
    shutil.rmtree(starts.folder)
    (starts.root / "backup").rename(starts.folder)
    assert starts.start() == {"a", "b"}


def test_file_that_has_just_changed_is_not_remembered(starts: Starts) -> None:
    """A second change at the same moment of the file system's clock would look the same."""
    starts.rewrite("a", b"other")
    changed_ns = starts.later_ns()
    os.utime(starts.folder / "a", ns=(changed_ns, changed_ns))
    for _ in range(2):
        assert "a" in starts.start(looked_at_ns=changed_ns + STEADY_NS // 2)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")], ids=["lost", "other size"])
def test_file_whose_snapshot_is_damaged_is_read(starts: Starts, damage: Callable[[Path], object]) -> None:
    """Its snapshot is taken again."""
    starts.snapshot("a").chmod(0o600)
    damage(starts.snapshot("a"))
    assert starts.start() == {"a"}
    assert starts.snapshot("a").read_bytes() == b"first"


def test_snapshot_with_other_bytes_is_never_played(starts: Starts) -> None:
    """Not even if it looks as it did: its bytes are compared when they are sent, and taken again from the file."""
    snapshot = starts.snapshot("a")
    info = snapshot.stat()
    snapshot.chmod(0o600)
    snapshot.write_bytes(b"FIRST")
    os.utime(snapshot, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert starts.start() == set()
    assert snapshot.read_bytes() == b"first"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"generation":1,"files":{"a":[]}}', b"[" * 100_000],
    ids=lambda data: data[:9].decode(),
)
def test_damaged_memory_is_no_memory(starts: Starts, content: bytes) -> None:
    """All files are read."""
    starts.path.write_bytes(content)
    assert starts.start() == {"a", "b"}


def test_memory_is_of_one_generation(starts: Starts) -> None:
    """Another one has files of the same names."""
    snapshots = Snapshots(starts.root / "snapshots")
    look = GenomeFiles(snapshots, starts.folder, 1000).look()
    memory = ReadFiles(starts.path, snapshots)
    assert set(memory.unchanged(1, look, 1000)) == {"a", "b"}
    assert memory.unchanged(2, look, 1000) == {}


def test_known_file_that_is_too_large_now_is_read(starts: Starts) -> None:
    """`genome_bytes_max` was lowered: reading it names it."""
    snapshots = Snapshots(starts.root / "snapshots")
    look = GenomeFiles(snapshots, starts.folder, 1000).look()
    assert set(ReadFiles(starts.path, snapshots).unchanged(1, look, 5)) == {"a"}


def test_genome_is_as_the_file_was_read(starts: Starts) -> None:
    """Name, suffix, size and digest."""
    snapshots = Snapshots(starts.root / "snapshots")
    look = GenomeFiles(snapshots, starts.folder, 1000).look()
    known = ReadFiles(starts.path, snapshots).unchanged(1, look, 1000)["a"]
    assert known == GenomeFile("a", "", 5, starts.digests(["a"])["a"])
