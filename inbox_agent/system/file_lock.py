"""One process at a time: a lock on a local file that ends with the process that holds it, however that one dies."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class AlreadyLocked(Exception):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by process {holder or 'unknown'}")
        self.holder = holder


class FileLock:
    """Holds `path` locked from construction to `release`, or until the process ends.

    Raises:
        Held: another process has it; the message names its process id.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._note = note_path(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise AlreadyLocked(path, _read_note(self._note)) from None
        self._note.write_text(str(os.getpid()))

    def release(self) -> None:
        """Lets go. The file stays: removing a lock file would let two processes lock two files of one name."""
        os.close(self._descriptor)


def holder_of(path: Path) -> str | None:
    """The process id of who holds `path` locked, `unknown` if it is not noted; None if nobody does.

    Raises:
        OSError: this user may not ask.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)  # and let go with the descriptor, at once
    except OSError:
        return _read_note(note_path(path)) or "unknown"
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def note_path(path: Path) -> Path:
    """The file that says who took the lock; it is as old as that."""
    return path.with_name(path.name + ".pid")


def _read_note(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")[:10]
    except OSError:
        return ""
