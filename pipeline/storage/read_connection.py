"""A connection that only reads a SQLite database in WAL mode, also for a user who may write neither it nor its folder.

Owns: how the file is opened. A reader uses a database in WAL mode through its log and the index of that log, `-wal` and
`-shm`. A host that runs has made them, and a reader who may not write can use them. A host that ends removes them, and
only a user with the right to write could make them again. The file alone is complete then, but it is safe to read only
while no host starts: a host that runs copies its log into the file at any time. So it is copied to memory, and the copy
is used if file and log were the same before and after, until one of them changes.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: What SQLite answers if a file cannot be made, opened or written. Source: SQLite, "Result and Error Codes".
_FORBIDDEN = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
#: A host that starts or ends meanwhile changes how the file must be opened.
_OPENINGS_MAX, _PAUSE_S = 5, 0.1


@dataclass(frozen=True, slots=True)
class _Files:
    """The database and its log as they are at a moment."""

    file: tuple[int, int, int]  #: number, size in bytes, time of the last change
    has_log: bool


class ReadConnection:
    """A connection for reading; every query sees all that is committed. Several threads may use it, one at a time.

    Raises:
        sqlite3.Error: it cannot be read; `is_forbidden` tells whether a right is missing.
        UnicodeError: it is damaged, and what SQLite quotes of it is no text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copied: _Files | None = None  #: what was copied to memory; None if the file itself is open
        self._db = self._open()

    def execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs a query. Raises sqlite3.Error."""
        if self._copied is not None and self._copied != self._look():
            self._db = self._open()  # the copy is not closed: a cursor may still read it
        return self._db.execute(query, values)

    def close(self) -> None:
        """Closes it."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        refusal = sqlite3.OperationalError("it changes all the time")
        for number in range(_OPENINGS_MAX):
            if number:
                threading.Event().wait(_PAUSE_S)
            self._copied = None
            before = self._look()
            if before.has_log or self._may_write():
                try:
                    return self._open_file()
                except sqlite3.OperationalError as error:
                    if not is_forbidden(error):
                        raise
                    refusal = error
            if not before.has_log and (copy := self._copy(before)) is not None:
                self._copied = before
                return copy
        raise refusal

    def _open_file(self) -> sqlite3.Connection:
        db = connect_to_read(self._path, "mode=ro")
        try:
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # only a query opens its log
        except (sqlite3.Error, UnicodeError):
            db.close()
            raise
        return db

    def _copy(self, before: _Files) -> sqlite3.Connection | None:
        """A copy in memory; None if the file may have been changed meanwhile."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            source = connect_to_read(self._path, "mode=ro&immutable=1")
            try:
                source.backup(copy)
            finally:
                source.close()
        except (sqlite3.Error, UnicodeError):
            copy.close()
            if self._look() == before:
                raise
            return None
        if self._look() == before:
            return copy
        copy.close()
        return None

    def _may_write(self) -> bool:
        """Whether this user may make the files that SQLite needs: where it may not write the file itself, they would
        be of no use to a host."""
        effective = os.access in os.supports_effective_ids
        return all(os.access(path, os.W_OK, effective_ids=effective) for path in (self._path, self._path.parent))

    def _look(self) -> _Files:
        try:
            info = os.stat(self._path)
        except OSError as error:
            raise sqlite3.OperationalError(f"{error.strerror}") from error
        return _Files((info.st_ino, info.st_size, info.st_mtime_ns), log_of(self._path).exists())


def log_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    """A plain connection; `how` is `mode=ro`, also with `immutable=1`. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=10, check_same_thread=False)


def is_forbidden(error: Exception) -> bool:
    """Whether a file could not be opened, made or written."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _FORBIDDEN  # the lowest byte is the primary code
