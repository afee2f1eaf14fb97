"""An exclusive lock on a local file, which the operating system releases when the holding process ends."""

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


#: The rights of a new folder of a lock; on Windows it gets those of the folder above, in every version of Python.
_FOLDER_MODE = 0o777 if sys.platform == "win32" else 0o700
_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class AlreadyLocked(Exception):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by process {holder or 'unknown'}")
        self.holder = holder


class FileLock:
    """Locks `path` from construction to `release`, or until the process ends.

    A new file, and a new folder of it, are for this user alone. An existing file keeps its rights, except of users who
    may read it and not write it: on POSIX these could lock it.

    Raises:
        AlreadyLocked: another process holds it; the message names its process id.
        OSError: the file or its folder cannot be made or written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._note = note_path(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        _exclude_readers(self._descriptor)
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


def _exclude_readers(descriptor: int) -> None:
    """Takes the right to read the file from those who have no right to write it."""
    if sys.platform != "win32":
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        writers = (mode & 0o222) << 1  # their rights to read
        with contextlib.suppress(OSError):  # another user's file, or a file system without rights
            if readers := mode & 0o044 & ~writers:
                os.fchmod(descriptor, mode & ~readers)


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
