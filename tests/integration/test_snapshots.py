"""Import: which files of a folder are genomes, how others are reported, and that a snapshot is a consistent copy."""

import hashlib
import os
import stat
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.layout import safe_suffix
from pipeline.errors import GenomeError, HostError
from pipeline.storage.snapshots import Snapshots
from tests.harness.other_user import allow_traversal, as_unprivileged_user

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a generation, with one valid genome."""
    folder = tmp_path / "gen-0007"
    folder.mkdir()
    (folder / "good.json").write_bytes(b"good")
    return folder


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "state" / "genomes")


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], list[Path]]:
    """Every file in the snapshots' folder, also staged ones."""
    return lambda: [path for path in (tmp_path / "state").rglob("*") if path.is_file()]


def complaint(snapshots: Snapshots, folder: Path, **limits: Any) -> str:
    """The error for the folder, without its path."""
    with pytest.raises(GenomeError) as error:
        snapshots.import_folder(folder, **limits)
    return str(error.value).replace(f"{folder}{os.sep}", "").replace(f"{folder}: ", "")


# -------------------------------------------------------------------------------------------------------- valid files


def test_genomes_are_imported_in_name_order(folder: Path, snapshots: Snapshots) -> None:
    """In the order of their names, each with its suffix, size and digest, and its bytes in the snapshot."""
    (folder / "a.NEAT").write_bytes(b"\x00\xff" * 5)
    (folder / "b").write_bytes(b"b")

    taken = snapshots.import_folder(folder)

    assert [(genome.name, genome.suffix, genome.size_bytes) for genome in taken] == [
        ("a.NEAT", ".neat", 10),
        ("b", "", 1),
        ("good.json", ".json", 4),
    ]
    for genome in taken:
        data = (folder / genome.name).read_bytes()
        assert genome.sha256 == hashlib.sha256(data).hexdigest()
        assert Path(snapshots.path(genome.sha256)).read_bytes() == data


NAMES = [
    "with space.bin",
    " leading and trailing ",
    "Grüße ✓ 基因 🎲.json",
    "con",
    "con.txt",
    "NUL",
    "trailing dot.",
    "semi;colon&'quote'%20#.bin",
    "-rf",
    "{genome}",
    "x" * 200,
    "x" * 196 + ".bin",
    "Good.JSON",
]


@posix
@pytest.mark.parametrize("name", NAMES)
def test_unusual_file_names_are_accepted(folder: Path, snapshots: Snapshots, name: str) -> None:
    """Spaces, other scripts, names that Windows reserves, long ones, ones that differ only in case: all are valid."""
    (folder / name).write_bytes(b"genome")

    taken = {genome.name: genome for genome in snapshots.import_folder(folder)}

    assert set(taken) == {name, "good.json"}
    assert taken[name].suffix == safe_suffix(name)


@posix
@pytest.mark.parametrize("name", ["Spielstand\u00a07.bin", "基因\u30007.bin", "2026-11-20 at 1.00\u202fPM.bin"])
def test_unicode_spaces_are_accepted(folder: Path, snapshots: Snapshots, name: str) -> None:
    """No-break, ideographic and narrow spaces come from keyboards and from macOS; they are no control characters."""
    (folder / name).write_bytes(b"genome")

    assert len(snapshots.import_folder(folder)) == 2


def test_hidden_and_system_files_are_ignored(folder: Path, snapshots: Snapshots) -> None:
    """Hidden files and thumbnails are not read."""
    for name in (".DS_Store", ".gitkeep", "Thumbs.db", "thumbs.DB", "desktop.ini"):
        (folder / name).write_bytes(b"")
    (folder / ".git").mkdir()

    assert [genome.name for genome in snapshots.import_folder(folder)] == ["good.json"]


def test_equal_genomes_share_one_snapshot(folder: Path, snapshots: Snapshots, kept: Callable[[], list[Path]]) -> None:
    """A copy under another name is another genome, and is on the disk once."""
    (folder / "same.json").write_bytes(b"good")

    taken = snapshots.import_folder(folder)

    assert [genome.name for genome in taken] == ["good.json", "same.json"]
    assert taken[0].sha256 == taken[1].sha256
    assert [path.name for path in kept()] == [taken[0].sha256]


def test_import_is_idempotent(folder: Path, snapshots: Snapshots) -> None:
    """A host that starts again finds the same genomes, and does not write the snapshot again."""
    first = snapshots.import_folder(folder)
    before = os.stat(snapshots.path(first[0].sha256))

    assert snapshots.import_folder(folder) == first
    after = os.stat(snapshots.path(first[0].sha256))
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_snapshot_is_independent_of_file(folder: Path, snapshots: Snapshots) -> None:
    """The imported bytes are evaluated, whatever happens to the folder."""
    [genome] = snapshots.import_folder(folder)
    (folder / "good.json").write_bytes(b"evil")

    assert Path(snapshots.path(genome.sha256)).read_bytes() == b"good"


@pytest.mark.parametrize("damage", [b"", b"goo", b"evil"])
def test_damaged_snapshot_is_rewritten(folder: Path, snapshots: Snapshots, damage: bytes) -> None:
    """A power cut may leave an empty file under the right name; the next import rewrites it."""
    [genome] = snapshots.import_folder(folder)
    snapshot = Path(snapshots.path(genome.sha256))
    snapshot.chmod(0o600)  # it is read-only, which only root may ignore
    snapshot.write_bytes(damage)

    snapshots.import_folder(folder)

    assert snapshot.read_bytes() == b"good"


def test_large_genome_uses_bounded_memory(folder: Path, snapshots: Snapshots) -> None:
    """64 MiB are copied in pieces: at most a few of them are in memory."""
    with open(folder / "large.bin", "wb") as large:
        large.truncate(64 * MIB)
    tracemalloc.start()
    taken = snapshots.import_folder(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * MIB
    assert [genome.size_bytes for genome in taken] == [4, 64 * MIB]
    assert os.path.getsize(snapshots.path(taken[1].sha256)) == 64 * MIB


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 2 * MIB])
def test_sizes_around_chunk_size(folder: Path, snapshots: Snapshots, size: int) -> None:
    """The boundaries of the pieces do not matter."""
    data = os.urandom(size)
    (folder / "large.bin").write_bytes(data)

    genome = snapshots.import_folder(folder)[1]

    assert genome.sha256 == hashlib.sha256(data).hexdigest()
    assert Path(snapshots.path(genome.sha256)).read_bytes() == data


def test_no_staged_copy_is_left(folder: Path, snapshots: Snapshots, kept: Callable[[], list[Path]]) -> None:
    """A large genome that is already known leaves no second copy on the disk."""
    (folder / "large.bin").write_bytes(b"x" * 2 * MIB)
    for _ in range(2):
        digests = {genome.sha256 for genome in snapshots.import_folder(folder)}

    assert {path.name for path in kept()} == digests


# ------------------------------------------------------------------------------------------------------- refused files


def test_missing_folder_is_reported(snapshots: Snapshots, tmp_path: Path) -> None:
    """The line says what the folder is for."""
    assert complaint(snapshots, tmp_path / "gen-0008") == "no such folder; put one file per genome there"


def test_file_in_place_of_folder_is_reported(snapshots: Snapshots, folder: Path) -> None:
    """The line has the reason why the folder cannot be listed."""
    assert "cannot be listed: " in complaint(snapshots, folder / "good.json")


def test_empty_folder_is_refused(snapshots: Snapshots, folder: Path) -> None:
    """A folder without genomes is an error, also if it has ignored files."""
    (folder / "good.json").unlink()
    (folder / ".DS_Store").touch()

    assert complaint(snapshots, folder) == "no genome files; put one file per genome there"


def test_subfolder_is_refused(snapshots: Snapshots, folder: Path) -> None:
    """A generation has no subfolders."""
    (folder / "old").mkdir()

    assert complaint(snapshots, folder) == "old: a folder; a generation is a flat folder of files, move it away"


@posix
@pytest.mark.parametrize("target", ["good.json", "nothing", "."])
def test_link_is_refused(snapshots: Snapshots, folder: Path, target: str) -> None:
    """The target of a link may change or vanish; it is not followed."""
    (folder / "link").symlink_to(folder / target)

    assert complaint(snapshots, folder) == "link: a link; put the file itself there"


@posix
@pytest.mark.timeout(20)
def test_fifo_is_refused(snapshots: Snapshots, folder: Path) -> None:
    """The import does not wait for a writer."""
    os.mkfifo(folder / "pipe")

    assert complaint(snapshots, folder) == "pipe: not a regular file; move it away"


@posix
def test_unreadable_file_is_refused(snapshots: Snapshots, folder: Path) -> None:
    """The line names the fix."""
    allow_traversal(folder)
    folder.parent.chmod(0o777)  # the snapshots are another user's, too
    (folder / "good.json").chmod(0)

    with as_unprivileged_user():
        message = complaint(snapshots, folder)

    assert message.startswith("good.json: cannot be read: Permission denied; correct its rights")


def test_empty_files_are_refused(snapshots: Snapshots, folder: Path) -> None:
    """They are probably still being written. All are named at once."""
    (folder / "empty.bin").touch()
    (folder / "other.bin").touch()

    fix = "it is empty, and a genome has at least one byte; write it or remove it"
    assert complaint(snapshots, folder).splitlines() == [f"empty.bin: {fix}", f"other.bin: {fix}"]


def test_too_large_file_is_refused(snapshots: Snapshots, folder: Path, kept: Callable[[], list[Path]]) -> None:
    """It is refused by its size, unread; one byte less is accepted."""
    with open(folder / "huge.bin", "wb") as huge:
        huge.truncate(1 << 40)
    assert complaint(snapshots, folder, bytes_max=2 * MIB) == (
        "huge.bin: 1099511627776 bytes, allowed are 2097152; raise [generation] genome_bytes_max or remove it"
    )
    assert kept() == []

    os.truncate(folder / "huge.bin", 2 * MIB)
    assert len(snapshots.import_folder(folder, bytes_max=2 * MIB)) == 2


@posix
@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[2J.bin", "\x7f", "gen\udce4.bin", "a\u202egpj.exe", "a\u2028b"])
def test_unprintable_name_is_refused(snapshots: Snapshots, folder: Path, name: str) -> None:
    """Control characters, invalid Unicode and reversed text are refused, and escaped in the message."""
    (folder / name).write_bytes(b"genome")

    message = complaint(snapshots, folder)

    assert message.endswith("control characters or broken Unicode in its name; rename it")
    assert message.isprintable()


@posix
def test_all_errors_are_reported_together(snapshots: Snapshots, folder: Path) -> None:
    """One line each, so that one attempt finds every error."""
    (folder / "a").mkdir()
    (folder / "b").touch()
    (folder / "c").symlink_to("a")

    assert [line.partition(":")[0] for line in complaint(snapshots, folder).splitlines()] == ["a", "b", "c"]


def test_refused_folder_leaves_only_earlier_snapshots(
    snapshots: Snapshots, folder: Path, kept: Callable[[], list[Path]]
) -> None:
    """Also if it is refused later, for another reason than its files."""
    (genome,) = snapshots.import_folder(folder)
    (folder / "new.json").write_bytes(b"new")
    (folder / "large.json").write_bytes(b"x" * 2 * MIB)
    (folder / "empty.json").touch()

    complaint(snapshots, folder)
    assert kept() == [Path(snapshots.path(genome.sha256))]

    (folder / "empty.json").unlink()
    assert len(snapshots.import_folder(folder)) == 3
    snapshots.discard_new()
    assert kept() == [Path(snapshots.path(genome.sha256))]
    assert [path.name for path in kept()[0].parents[1].iterdir()] == [genome.sha256[:2]]


def test_discarding_spares_what_was_kept(folder: Path, snapshots: Snapshots, kept: Callable[[], list[Path]]) -> None:
    """The snapshots of an earlier generation, or of genomes that joined it."""
    first = snapshots.import_file(folder, "good.json")
    (folder / "new.json").write_bytes(b"new")
    snapshots.keep_new()
    snapshots.import_file(folder, "new.json")

    snapshots.discard_new()

    assert kept() == [Path(snapshots.path(first.sha256))]


# -------------------------------------------------------------------------------------------- changes during the import


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    """Truncates the file, as a program does before it writes it anew."""
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    """Writes other bytes of the same size."""
    with open(path, "r+b") as file:
        file.write(b"evil")


def exchange(path: Path) -> None:
    """Replaces the file by another one of the same size and time."""
    new = path.with_name(".new")
    new.write_bytes(path.read_bytes()[::-1])
    os.utime(new, (1e9, 1e9))
    os.replace(new, path)


def become_a_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(b"elsewhere")
    path.unlink()
    path.symlink_to(elsewhere)


class RacingWriter:
    """Another program that changes a genome at the worst moment; the calls of `stat` are real."""

    def __init__(self, path: Path, write: Callable[[Path], object]) -> None:
        self._path, self._write = path, write
        self._looks = 0
        os.utime(path, (1e9, 1e9))  # an old file, so that a write changes its time

    def behind(self, look: Callable[[str], os.stat_result]) -> Callable[[str], os.stat_result]:
        """Writes after the first `stat` of the path."""

        def wrapped(path: str) -> os.stat_result:
            seen = look(path)
            if os.fspath(path) == os.fspath(self._path):
                self._write(self._path)
            return seen

        return wrapped

    def between(self, look: Callable[[int], os.stat_result]) -> Callable[[int], os.stat_result]:
        """Writes between the two calls of `stat` for the open file."""

        def wrapped(descriptor: int) -> os.stat_result:
            self._looks += 1
            if self._looks == 2:
                self._write(self._path)
            return look(descriptor)

        return wrapped


SIZES = pytest.mark.parametrize("size", [4, 3 * MIB], ids=["small", "large"])


@SIZES
@pytest.mark.parametrize("write", [grow, shrink, rewrite, empty])
def test_genome_changed_during_read_is_refused(
    snapshots: Snapshots, folder: Path, write: Callable[[Path], None], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is still being written is refused, whatever its writer does, until the end of the read."""
    (folder / "good.json").write_bytes(b"good" * (size // 4))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", RacingWriter(folder / "good.json", write).between(os.fstat))
        message = complaint(snapshots, folder)

    assert message == "good.json: it changes while it is read; run again when it is written"


@SIZES
@pytest.mark.parametrize("write", [grow, shrink, rewrite, exchange])
def test_genome_changed_before_open_is_consistent(
    snapshots: Snapshots, folder: Path, write: Callable[[Path], None], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between `stat` of its path and the opening: the new file is imported or refused, but never a mixture."""
    (folder / "good.json").write_bytes(b"good" * (size // 4))
    monkeypatch.setattr(os, "lstat", RacingWriter(folder / "good.json", write).behind(os.lstat))

    try:
        [genome] = snapshots.import_folder(folder)
    except GenomeError as error:
        assert "it changes while it is read" in str(error)
    else:
        data = (folder / "good.json").read_bytes()
        assert (genome.size_bytes, genome.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert Path(snapshots.path(genome.sha256)).read_bytes() == data


@pytest.mark.parametrize("write", [empty, grow, pytest.param(become_a_link, marks=posix)])
def test_genome_invalid_at_open_is_refused(
    snapshots: Snapshots, folder: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is empty, too large or a link by then is refused as usual."""
    monkeypatch.setattr(os, "lstat", RacingWriter(folder / "good.json", write).behind(os.lstat))

    assert complaint(snapshots, folder, bytes_max=4).startswith("good.json: ")


def test_vanished_genome_is_refused(snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is removed after the listing is reported as unreadable."""
    monkeypatch.setattr(os, "lstat", RacingWriter(folder / "good.json", os.unlink).behind(os.lstat))

    assert complaint(snapshots, folder).startswith("good.json: cannot be read: No such file or directory")


# ---------------------------------------------------------------------------------------------------------- a full disk


def fill(disk: Path, leave_bytes: int) -> None:
    """Fills a disk up to this rest."""
    with open(disk / "filler", "wb") as filler:
        filler.write(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave_bytes))


def test_full_disk_is_host_error(folder: Path, tiny_disk: Path) -> None:
    """A full disk for the snapshot is an error of the host, and is reported so."""
    (folder / "large.bin").write_bytes(b"x" * 4 * MIB)
    fill(tiny_disk, MIB)

    with pytest.raises(HostError, match="No space left"):
        Snapshots(tiny_disk / "genomes").import_folder(folder)


@pytest.mark.parametrize("size", [MIB // 2, MIB + MIB // 2])
def test_disk_full_at_last_chunk_fails_import(folder: Path, tiny_disk: Path, size: int) -> None:
    """A snapshot is complete or there is an error: no partial genome exists under the digest of a complete one."""
    (folder / "good.json").write_bytes(os.urandom(size))
    fill(tiny_disk, size - 64 * 1024)

    with pytest.raises(HostError, match="No space left"):
        Snapshots(tiny_disk / "genomes").import_folder(folder)


def test_failed_import_frees_its_space(folder: Path, tiny_disk: Path) -> None:
    """The space of a failed import is freed, or the ledger on the same disk could not be written either."""
    (folder / "good.json").write_bytes(b"x" * 16 * MIB)

    with pytest.raises(HostError, match="No space left"):
        Snapshots(tiny_disk / "genomes").import_folder(folder)

    assert os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize > 7 * MIB


def test_staged_leftover_of_killed_host_is_replaced(
    snapshots: Snapshots, folder: Path, kept: Callable[[], list[Path]]
) -> None:
    """It was already write-protected, which Windows neither writes to nor removes."""
    staged = Path(snapshots.path("00")).parents[1] / "staged"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    staged.chmod(stat.S_IREAD)

    (genome,) = snapshots.import_folder(folder, bytes_max=10**6)

    assert kept() == [Path(snapshots.path(genome.sha256))]
