"""One process at a time: a lock on a local file that ends with the process that holds it, however that one dies."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class Held(Exception):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by process {holder or 'unknown'}")
        self.holder = holder


class Lock:
    """Holds `path` locked from construction to `release`, or until the process ends.

    Raises:
        Held: another process has it; the message names its process id.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._note = path.with_name(path.name + ".pid")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise Held(path, self._holder()) from None
        self._note.write_text(str(os.getpid()))

    def release(self) -> None:
        """Lets go. The file stays: removing a lock file would let two processes lock two files of one name."""
        os.close(self._descriptor)

    def _holder(self) -> str:
        try:
            return self._note.read_text()[:10]
        except OSError:
            return ""
