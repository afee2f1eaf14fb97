"""An exclusive lock on a local file, which the operating system releases when the holding process ends."""

import errno
import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class AlreadyLocked(Exception):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by process {holder or 'unknown'}")
        self.holder = holder


class FileLock:
    """Locks `path` from construction to `release`, or until the process ends.

    Raises:
        AlreadyLocked: another process holds it; the message names its process id.
        OSError: the file or its folder cannot be made or written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._note = note_path(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            if not _is_held(error):
                raise
            raise AlreadyLocked(path, _read_note(self._note)) from None
        try:
            self._note.write_text(str(os.getpid()))
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Releases the lock. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._descriptor)


def holder_of(path: Path) -> str | None:
    """The id of the process that has `path` locked, `unknown` if it is not noted; None if it is not locked.

    Raises:
        OSError: this user may not open the file, or its file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)  # closing the descriptor releases it at once
    except OSError as error:
        if not _is_held(error):
            raise
        return _read_note(note_path(path)) or "unknown"
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(error: OSError) -> bool:
    """Whether a lock failed because another process holds it; on Windows the error does not tell that from others."""
    return sys.platform == "win32" or error.errno in _HELD


def note_path(path: Path) -> Path:
    """The file with the process id of the holder; its modification time is when the lock was taken."""
    return path.with_name(path.name + ".pid")


def _read_note(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")[:10]
    except OSError:
        return ""
