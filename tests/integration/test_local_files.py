"""Errors of a share on a mounted path: links, FIFOs, full disks, busy files, power cuts."""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest

from inbox_agent.protocol.files import FileAlreadyExists, FileInvalid, FileMissing, FileRefused, ShareError, Unavailable
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.local_folders import FoldersByPath
from inbox_agent.system import file_retry
from inbox_agent.system.file_retry import is_busy

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")

RECORD, PAYLOAD = "inbox/x.start.json", "inbox/x.genome"
ARTIFACTS = "outbox/x.files"
BEAT = "status/agent.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "share"


@pytest.fixture
def disk(root: Path) -> LocalFiles:
    """A share with its folders on a local disk."""
    root.mkdir()
    files = LocalFiles(root)
    files.make_folders()
    return files


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the share that must not be accessed through it."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def is_unfit(files: LocalFiles, path: str, destination: Path) -> bool:
    """Whether every way to read a path raises FileInvalid, and nothing was copied."""
    for look in (
        lambda: files.size(path),
        lambda: files.read(path, 100),
        lambda: files.fetch(path, destination, 100),
    ):
        with pytest.raises(FileInvalid):
            look()
    return not destination.exists()


@posix
def test_link_is_invalid(disk: LocalFiles, root: Path, secret: Path, tmp_path: Path) -> None:
    """A link to a file, to a folder, to nothing or to itself is invalid."""
    for target in (secret, tmp_path, tmp_path / "nothing", root / PAYLOAD):
        (root / PAYLOAD).symlink_to(target)
        assert is_unfit(disk, PAYLOAD, tmp_path / "fetched")
        (root / PAYLOAD).unlink()


@posix
def test_link_in_place_of_folder_is_not_followed(disk: LocalFiles, root: Path, secret: Path, tmp_path: Path) -> None:
    """A folder of artifacts that is a link out of the share is empty."""
    (root / ARTIFACTS).symlink_to(secret.parent)

    assert is_unfit(disk, f"{ARTIFACTS}/secret", tmp_path / "fetched")


@posix
def test_removal_does_not_leave_share_through_link(disk: LocalFiles, root: Path, secret: Path) -> None:
    """Removing all staged files removes nothing elsewhere, even if tmp/ is a link."""
    (root / "inbox" / "tmp").rmdir()
    (root / "inbox" / "tmp").symlink_to(secret.parent)

    with pytest.raises(Unavailable):
        disk.remove([f"inbox/tmp/{name}" for name in disk.names("inbox/tmp") if name == "secret"])

    assert secret.exists()


@posix
def test_writes_do_not_follow_links(disk: LocalFiles, root: Path, secret: Path) -> None:
    """The target of a link is never changed by writing a payload, a record or a heartbeat."""
    for path in (PAYLOAD, "inbox/tmp/x.start.json", f"{BEAT}.new", BEAT, "outbox/x.result.json"):
        (root / path).symlink_to(secret)

    with contextlib.suppress(Unavailable):
        disk.write(PAYLOAD, b"genome")
    with contextlib.suppress(Unavailable):
        disk.publish(RECORD, b"record")
    with contextlib.suppress(Unavailable):
        disk.replace(BEAT, b"beat")
    with pytest.raises(FileAlreadyExists):
        disk.publish("outbox/x.result.json", b"result", durable=True)

    assert secret.read_bytes() == b"secret"
    assert not (root / RECORD).is_symlink()


@posix
def test_remove_deletes_link_only(disk: LocalFiles, root: Path, secret: Path) -> None:
    """Links to files and to folders are removed like any file."""
    (root / RECORD).symlink_to(secret)
    (root / ARTIFACTS).symlink_to(secret.parent)

    disk.remove([RECORD, ARTIFACTS])

    assert disk.names("inbox") == disk.names("outbox") == ["tmp"]
    assert secret.read_bytes() == b"secret"


@posix
@pytest.mark.timeout(20)
def test_fifo_does_not_block_reader(disk: LocalFiles, root: Path, tmp_path: Path) -> None:
    """A FIFO without a writer is invalid at once, and can be removed."""
    os.mkfifo(root / PAYLOAD)

    assert is_unfit(disk, PAYLOAD, tmp_path / "fetched")
    disk.remove([PAYLOAD])
    assert disk.names("inbox") == ["tmp"]


@posix
@pytest.mark.parametrize("path", ["inbox/tmp/x.start.json", PAYLOAD, f"{BEAT}.new", BEAT])
@pytest.mark.timeout(20)
def test_fifo_does_not_block_writer(disk: LocalFiles, root: Path, path: str) -> None:
    """Writing over a FIFO succeeds or raises, and does not wait for a reader."""
    os.mkfifo(root / path)

    def write() -> None:
        for verb in (disk.publish, disk.write, disk.replace):
            with contextlib.suppress(ShareError):
                verb({disk.publish: RECORD, disk.write: PAYLOAD, disk.replace: BEAT}[verb], b"data")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(0.5)
    was_stuck = writer.is_alive()
    if was_stuck:  # a reader unblocks it
        reader = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK)
        writer.join(5)
        os.close(reader)

    assert not was_stuck


@posix
def test_read_is_bounded_by_limit(disk: LocalFiles, root: Path, tmp_path: Path) -> None:
    """A file of a terabyte is invalid after reading no more than the limit."""
    with open(root / PAYLOAD, "wb") as sparse:
        sparse.truncate(1 << 40)

    assert disk.size(PAYLOAD) == 1 << 40
    with pytest.raises(FileInvalid):
        disk.read(PAYLOAD, 64 * 1024)
    with pytest.raises(FileInvalid):
        disk.fetch(PAYLOAD, tmp_path / "fetched", 64 * 1024)


@posix
def test_reader_of_removed_record_does_not_get_other_record(disk: LocalFiles, root: Path) -> None:
    """Its file may have new content: the data are damaged or of another attempt, and are read again."""
    disk.publish(RECORD, b'{"attempt": "x", "fitness": 1}')
    with open(root / RECORD, "rb", buffering=0) as reader:
        disk.remove([RECORD])
        disk.publish("inbox/y.start.json", b'{"attempt": "y", "fitness": 2}')
        read = reader.read()

    assert read == b'{"attempt": "y", "fitness": 2}'
    with pytest.raises(FileMissing):
        disk.read(RECORD, 1000)


@posix
def test_record_removed_during_read_is_missing(disk: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes during a read gives neither a mixture nor another record."""
    disk.publish(RECORD, b'{"attempt": "x", "fitness": 1}')
    real_read = os.read

    def read_by_halves(descriptor: int, count: int) -> bytes:
        begun = real_read(descriptor, 16)
        disk.remove([RECORD])
        disk.publish("inbox/y.start.json", b'{"attempt": "y", "fitness": 2}')
        monkeypatch.undo()
        return begun + real_read(descriptor, count - 16)

    monkeypatch.setattr(os, "read", read_by_halves)

    with pytest.raises((FileMissing, Unavailable)):
        LocalFiles(root).read(RECORD, 1000)


@posix
def test_published_record_is_never_reused(disk: LocalFiles, root: Path) -> None:
    """While its name exists, a record keeps its content, however many records follow."""
    for number in range(20):
        disk.publish(f"inbox/{number}.start.json", b"record %d" % number)
        if number % 3 == 0:
            disk.remove([f"inbox/{number}.start.json"])

    for number in range(20):
        if number % 3:
            assert disk.read(f"inbox/{number}.start.json", 100) == b"record %d" % number


def test_closed_share_is_opened_again_when_it_is_used(disk: LocalFiles, root: Path) -> None:
    """A call that was in progress when the host closed it may go on."""
    disk.publish("inbox/a.start.json", b"1")
    disk.close()

    assert "a.start.json" in disk.names("inbox")


def test_file_in_place_of_folder_is_unavailable(disk: LocalFiles, root: Path) -> None:
    """It cannot be listed, so its content is unknown."""
    (root / "status").rmdir()
    (root / "status").write_bytes(b"")

    with pytest.raises(Unavailable):
        disk.names("status")
    with pytest.raises(Unavailable):
        disk.replace(BEAT, b"beat")


def test_full_disk_publishes_nothing(tiny_disk: Path) -> None:
    """A record that does not fit raises Unavailable, its name does not appear, and it can be published later."""
    files = LocalFiles(tiny_disk)
    files.make_folders()
    with pytest.raises(Unavailable):
        files.write(PAYLOAD, b"x" * 2**24)

    with pytest.raises(Unavailable):
        files.publish(RECORD, b"y" * 2**16)
    assert sorted(files.names("inbox")) == ["tmp", "x.genome"]

    files.remove([PAYLOAD])
    files.publish(RECORD, b"y" * 2**16)
    assert files.read(RECORD, 2**16) == b"y" * 2**16


# ---------------------------------------------------------------------------------------------------- busy files


@dataclass
class Obstacle:
    """A real obstacle for the heartbeat, which goes away after the error was checked several times."""

    path: Path
    times: int  #: after this number of checks it goes away
    passing: bool = True
    asked: int = 0

    def is_busy(self, _error: OSError) -> bool:
        self.asked += 1
        if self.asked == self.times:
            self.path.rmdir()
        return self.passing


def test_busy_file_is_retried(disk: LocalFiles, root: Path) -> None:
    """A transient error that passes during the retries does not reach the caller."""
    (root / BEAT).mkdir()
    obstacle = Obstacle(root / BEAT, times=3)

    LocalFiles(root, is_busy=obstacle.is_busy).replace(BEAT, b"beat")

    assert obstacle.asked == 3
    assert disk.read(BEAT, 100) == b"beat"


def test_other_errors_are_not_retried(disk: LocalFiles, root: Path) -> None:
    """A permanent error is raised at once."""
    (root / BEAT).mkdir()
    obstacle = Obstacle(root / BEAT, times=99, passing=False)

    with pytest.raises(Unavailable):
        LocalFiles(root, is_busy=obstacle.is_busy).replace(BEAT, b"beat")

    assert obstacle.asked == 1


@pytest.mark.parametrize(("tries_max", "wait_s_max"), [(3, 60.0), (1000, 0.1)])
def test_retries_of_busy_file_are_bounded(
    disk: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch, tries_max: int, wait_s_max: float
) -> None:
    """Retries are limited in number and time; then the file is Unavailable."""
    monkeypatch.setattr(file_retry, "TRIES_MAX", tries_max)
    monkeypatch.setattr(file_retry, "WAIT_S_MAX", wait_s_max)
    (root / BEAT).mkdir()
    obstacle = Obstacle(root / BEAT, times=9999)
    began = time.monotonic()

    with pytest.raises(Unavailable):
        LocalFiles(root, is_busy=obstacle.is_busy).replace(BEAT, b"beat")

    assert 1 < obstacle.asked <= 4
    assert time.monotonic() - began < 5


class Busy:
    """A system call that fails several times as for a busy file on Windows, then works."""

    def __init__(self, call: Callable[..., object], winerror: int | None, times: int) -> None:
        self._call, self._winerror, self._times = call, winerror, times
        self.calls = 0

    def __call__(self, *args: object, **options: object) -> object:
        self.calls += 1
        if self.calls > self._times:
            return self._call(*args, **options)
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        error.winerror = self._winerror  # type: ignore[attr-defined, unused-ignore]
        raise error


@pytest.mark.parametrize("winerror", [5, 32, 33])
@pytest.mark.parametrize("verb", ["replace", "unlink", "scandir"])
def test_three_windows_errors_mean_busy(
    disk: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, winerror: int
) -> None:
    """Access denied, a sharing violation and a lock are retried, for writing, removing and listing."""
    disk.write(PAYLOAD, b"genome")
    busy = Busy(getattr(os, verb), winerror, times=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, verb, busy)
        disk.replace(BEAT, b"beat")
        disk.remove([PAYLOAD])
        names = disk.names("inbox")

    assert busy.calls == 3
    assert names == ["tmp"]
    assert disk.read(BEAT, 100) == b"beat"


def test_permission_error_means_busy_on_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of `os.open` have no Windows number; on other systems the same error means forbidden."""
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr("sys.platform", "win32")
    assert is_busy(refusal)
    monkeypatch.setattr("sys.platform", "linux")
    assert not is_busy(refusal)


def test_share_lost_during_read_is_unavailable(
    disk: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the destination is not at fault."""
    disk.write(PAYLOAD, b"genome")

    def gone(_descriptor: int) -> None:
        raise OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", gone)
        with pytest.raises(Unavailable):
            disk.fetch(PAYLOAD, tmp_path / "fetched", 100)


def test_file_held_by_virus_scanner_is_refused(
    disk: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C runtime of Windows only reports "invalid"; a share that can be listed shows what that means."""
    disk.write(PAYLOAD, b"genome")
    disk = LocalFiles(disk.root, folders=FoldersByPath)
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(errno.EINVAL, os.strerror(errno.EINVAL))))

    with pytest.raises(FileRefused, match="virus"):
        disk.fetch(PAYLOAD, tmp_path / "fetched", 100)

    monkeypatch.setattr(os, "scandir", Mock(side_effect=OSError(errno.EINVAL, os.strerror(errno.EINVAL))))
    with pytest.raises(Unavailable) as away:
        disk.fetch(PAYLOAD, tmp_path / "fetched", 100)
    assert not isinstance(away.value, FileRefused)


@pytest.mark.parametrize("winerror", [2, 112, 1224])
def test_other_windows_errors_are_not_busy(
    disk: LocalFiles, monkeypatch: pytest.MonkeyPatch, winerror: int | None
) -> None:
    """A full disk or a mapped file is reported at once."""
    busy = Busy(os.replace, winerror, times=99)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", busy)
        with pytest.raises(Unavailable):
            disk.replace(BEAT, b"beat")

    assert busy.calls == 1


# --------------------------------------------------------------------------------- no hard links, flushed to the disk


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The disk does not support hard links."""

    def link(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)


@posix
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_publish_without_hard_links_does_not_replace(
    disk: LocalFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On FAT, or on a share without hard links, nothing is replaced either."""
    refuse_links(monkeypatch, number)

    disk.publish(RECORD, b"the first")
    assert disk.names("inbox/tmp") == []
    with pytest.raises(FileAlreadyExists):
        disk.publish(RECORD, b"second")

    assert disk.read(RECORD, 100) == b"the first"


@posix
def test_publish_without_hard_links_refuses_dangling_link(
    disk: LocalFiles, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that seems missing but cannot be replaced stays."""
    refuse_links(monkeypatch, errno.EPERM)
    (root / RECORD).symlink_to(tmp_path / "nothing")

    with pytest.raises(FileAlreadyExists):
        disk.publish(RECORD, b"record")

    assert (root / RECORD).is_symlink()


@posix
def test_disk_error_of_link_is_raised(disk: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another error of `link` is raised and does not lead to a rename."""
    refuse_links(monkeypatch, errno.EIO)

    with pytest.raises(Unavailable):
        disk.publish(RECORD, b"record")

    assert disk.names("inbox") == ["tmp"]


@pytest.mark.parametrize("durable", [False, True])
def test_durable_record_is_flushed_after_rename(
    disk: LocalFiles, root: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """The file is flushed once it has its name, or the name might be lost in a power cut."""
    final, real_fsync = root / RECORD, os.fsync
    flushed: list[bool] = []

    def fsync(descriptor: int) -> None:
        flushed.append(final.exists() and os.path.samestat(os.fstat(descriptor), final.stat()))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    disk.publish(RECORD, b"record", durable=durable)

    assert flushed == ([True] if durable else [])
