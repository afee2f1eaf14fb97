"""A file of lines that one process appends to, and that any number may read meanwhile.

Owns: that lines are appended whole, or not at all as far as the disk allows, and survive a power failure. If one comes
during an append, or a kill, an incomplete line may be left, which readers skip: the next append ends it first, and
begins on a line of its own.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inbox_agent.system.atomic_file import flush_names, write_all
from inbox_agent.system.file_kind import open_regular
from inbox_agent.system.file_retry import retry_while_busy

#: Windows: a program that shares no files, such as a spreadsheet, then gets the file read-only, instead of keeping the
#: host from it; and no virus scanner reads it again after each append. Elsewhere it is closed after each append: a
#: network file system reports a failed write at the latest then, and a file that was deleted or moved is noticed.
_STAYS_OPEN = sys.platform == "win32"


class LineFile:
    """Appends to one file, which is made when it is first needed, with its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def append(self, lines: bytes) -> None:
        """Appends complete lines in one write; they are on the disk when this returns.

        Raises:
            OSError: they may be repeated later; what a full disk took of them is taken back.
        """
        if self._descriptor is None:
            self._descriptor = self._open()
        descriptor = self._descriptor
        before = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, lines)
            _flush(descriptor)
            if not before:
                flush_names(self.path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            with contextlib.suppress(OSError):
                self.close()
            raise
        if not _STAYS_OPEN:
            self.close()

    def close(self) -> None:
        """Closes it until the next append; on Windows it can be renamed and removed only then. Raises OSError."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            descriptor = retry_while_busy(self._open_for_append)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flush_names(self.path.parent.parent)
            descriptor = retry_while_busy(self._open_for_append)
        try:
            if os.lseek(descriptor, 0, os.SEEK_END):
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":
                    write_all(descriptor, b"\n")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _open_for_append(self) -> int:
        return open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)


def _flush(descriptor: int) -> None:
    """Writes a file's content to its disk; its times may come later. Raises OSError."""
    (os.fsync if sys.platform == "win32" else os.fdatasync)(descriptor)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file."""

    number: int  #: from 1
    offset: int  #: of its first byte
    content: bytes | None  #: without its end; None: it has none, or the line is too long


def read_lines(path: Path, bytes_max: int) -> Iterator[Line]:
    """The lines of a file, one after another; one of more than `bytes_max` is not read. Raises OSError."""
    with open(open_regular(path), "rb") as file:
        number = offset = 0
        while piece := file.readline(bytes_max + 1):
            number, begin = number + 1, offset
            offset += len(piece)
            is_whole = piece.endswith(b"\n")
            while not piece.endswith(b"\n") and (piece := file.readline(bytes_max + 1)):
                offset += len(piece)
            yield Line(number, begin, piece[:-1] if is_whole else None)
