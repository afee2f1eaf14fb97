"""The lock that ends with its process: other processes are started and killed."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from tests.harness.other_user import allow_traversal, as_unprivileged_user
from tests.harness.source_tree import ROOT

HOLDER = """
import sys
from pathlib import Path
from inbox_agent.system.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A lock file in a folder that does not exist yet."""
    return tmp_path / "state" / "host.lock"


@pytest.fixture
def holder(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline().strip() == b"held"
        yield process
        process.kill()
        process.wait()


def test_lock_is_exclusive(path: Path) -> None:
    """Not even the same process gets it a second time, before it is released."""
    lock = FileLock(path)
    with pytest.raises(AlreadyLocked) as refused:
        FileLock(path)
    assert refused.value.holder == str(os.getpid())

    lock.release()

    FileLock(path).release()


def test_refused_lock_names_holding_process(path: Path, holder: "subprocess.Popen[bytes]") -> None:
    """The error names the file and the process, however often it is raised; an unknown process is called unknown."""
    for _ in range(2):
        with pytest.raises(AlreadyLocked, match=f"host.lock is in use by process {holder.pid}"):
            FileLock(path)

    path.with_name("host.lock.pid").unlink()

    with pytest.raises(AlreadyLocked, match="in use by process unknown"):
        FileLock(path)


def test_lock_is_released_when_process_dies(path: Path, holder: "subprocess.Popen[bytes]") -> None:
    """After kill -9 the lock is free at once, and the next holder is the process that the file names."""
    holder.kill()
    holder.wait()

    lock = FileLock(path)

    with pytest.raises(AlreadyLocked, match=f"process {os.getpid()}"):
        FileLock(path)
    lock.release()


def test_child_does_not_inherit_lock(path: Path) -> None:
    """A child of the holder may live longer, and does not keep the lock."""
    lock = FileLock(path)
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"up"
    lock.release()

    FileLock(path).release()

    child.communicate(b"\n")


def test_lock_file_is_not_removed(path: Path) -> None:
    """Otherwise two processes could lock two files of one name."""
    FileLock(path).release()

    assert path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has one error for every lock that fails")
def test_file_system_without_locks_is_no_lock_of_another_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error reaches the caller as it is."""

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("inbox_agent.system.file_lock._lock", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        FileLock(path)


posix = pytest.mark.skipif(sys.platform == "win32", reason="rights are an ACL there, and readers cannot lock a file")


@posix
def test_lock_and_its_folder_are_for_their_owner_alone(path: Path) -> None:
    """Whatever the umask: any user who may read a file can lock it."""
    before = os.umask(0)
    try:
        FileLock(path).release()
    finally:
        os.umask(before)

    assert [stat.S_IMODE(found.stat().st_mode) for found in (path.parent, path)] == [0o700, 0o600]


@posix
@pytest.mark.parametrize(("mode", "left"), [(0o644, 0o600), (0o664, 0o660), (0o666, 0o666), (0o640, 0o600)])
def test_existing_lock_is_closed_to_those_who_may_only_read_it(path: Path, mode: int, left: int) -> None:
    """Users of a group that shares a project keep their rights; so does the folder."""
    path.parent.mkdir()
    path.parent.chmod(0o755)
    path.touch()
    path.chmod(mode)

    FileLock(path).release()

    assert stat.S_IMODE(path.stat().st_mode) == left
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@posix
def test_other_user_cannot_hold_the_lock(path: Path) -> None:
    """In a folder that others may read, because the owner allowed it."""
    path.parent.mkdir(mode=0o755)
    FileLock(path).release()
    allow_traversal(path.parent)
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")

    with as_unprivileged_user(), pytest.raises(PermissionError):
        os.open(path, os.O_RDONLY)
