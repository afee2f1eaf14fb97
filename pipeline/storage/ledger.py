"""The ledger: the farm's only persistent state. Append-only facts in SQLite on the local disk, one commit per tick.

Owns: durability, and when damage stops the program. Not here: what a fact means. With `synchronous=FULL`, facts survive
a power cut once `append` has returned. Every row has a checksum and rows are numbered without gaps, so damage is
detected when it is read and never skipped. Queries use only columns; `body` is decoded, never matched as text.
"""

import contextlib
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from inbox_agent.protocol.layout import clean
from pipeline.core.facts import KINDS, AttemptEnded, Entry, Fact, decode_fact, encode_fact, kind_of
from pipeline.errors import HostError, InputError, LedgerError, PipelineError
from pipeline.paths import LEDGER_FILE
from pipeline.storage.read_connection import ReadConnection, connect_to_read, is_forbidden, log_of

_SCHEMA = """
CREATE TABLE farm (id TEXT NOT NULL, version INTEGER NOT NULL, facts INTEGER NOT NULL);
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,           -- wall clock of the host, seconds since 1970, for people
    generation INTEGER NOT NULL, -- 0 before the first one
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,         -- the fact's tag
    worker TEXT,                -- the worker and the attempt that the fact names
    attempt TEXT,
    body TEXT NOT NULL,         -- JSON
    crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX issued ON facts (attempt) WHERE kind = 'attempt_issued';
CREATE INDEX answered ON facts (attempt) WHERE kind IN ('attempt_ended', 'result_late');
CREATE INDEX epochs ON facts (kind) WHERE kind IN ('epoch_raised', 'epoch_opened');
CREATE INDEX generations ON facts (generation);
"""
VERSION = 2
_ERROR_CHARS_MAX = 200  # of SQLite's and msgspec's errors, which quote the damaged file


class Ledger:
    """The facts on disk. One writer per state folder, under its lock; `read_only` may read while it writes.

    Raises:
        LedgerError: damaged, or of another version.
        InputError: this user may not read it; HostError if it was to be written.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / LEDGER_FILE
        self._read_only = read_only
        self._refuse_other_version()
        try:
            self._db = self._connect(folder, read_only)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        try:
            if isinstance(self._db, sqlite3.Connection):
                _prepare(self._db, self.path)
            self.farm_id = self._identify()
            self._next = self._count_rows() + 1
        except LedgerError:
            self._db.close()
            raise
        except (sqlite3.Error, UnicodeError) as error:
            self._db.close()
            raise self._failure(error) from error

    def _connect(self, folder: Path, read_only: bool) -> sqlite3.Connection | ReadConnection:
        if read_only:
            return ReadConnection(self.path)
        folder.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)

    def _failure(self, error: Exception, what: str = "") -> PipelineError:
        """The error to raise for one of SQLite: a missing right is no damage."""
        text = f"{self.path}: {what}{clean(str(error), _ERROR_CHARS_MAX)}"
        if not is_forbidden(error):
            return LedgerError(f"{text}; {_FIX}")
        if self._read_only:
            return InputError(f"{text}; {_READ_FIX}")
        return HostError(f"{text}; give this user the right to write it and in its folder")

    def _refuse_other_version(self) -> None:
        """Refuses a ledger of another version before anything on disk is changed; ignores any other file.

        The usual connections change files: a writer merges a write-ahead log that a killed host left, a reader creates
        an empty one. `immutable` reads only the file, which is the whole ledger if there is no such log.
        """
        how = "mode=ro" if log_of(self.path).exists() else "immutable=1"
        with (
            contextlib.suppress(sqlite3.Error, UnicodeError),
            contextlib.closing(connect_to_read(self.path, how)) as db,
        ):
            if (row := db.execute("SELECT version FROM farm").fetchone()) is not None:
                self._check_version(row[0])

    def _check_version(self, version: object) -> None:
        if version != VERSION:
            raise LedgerError(
                f"{self.path}: a ledger of version {version!r}, and this pipeline reads version {VERSION} only; "
                f"use the pipeline that wrote it, {_FIX}"
            )

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        """Writes facts in one commit. Raises LedgerError; then none of them is written."""
        if isinstance(self._db, ReadConnection):
            raise LedgerError(f"{self.path}: cannot be written: it was opened to be read")
        rows = []
        for seq, fact in enumerate(facts, self._next):
            named = getattr(fact, "worker", None), getattr(fact, "attempt", None) or None
            row = (seq, at, generation, run, kind_of(fact), *named, encode_fact(fact).decode())
            rows.append((*row, _checksum(row)))
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("UPDATE farm SET facts = ?", (self._next + len(rows) - 1,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            raise LedgerError(f"{self.path}: cannot be written: {error}; nothing is lost, run again") from error
        self._next += len(rows)

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """All facts by number, checked. Raises LedgerError at the first one that is damaged or missing."""
        expected = after + 1
        for entry in self._select("seq > ?", after):
            if entry.seq != expected:
                raise LedgerError(f"{self.path}: fact {expected} is damaged or missing; {_FIX}")
            yield entry
            expected += 1

    def entries_of(self, generation: int, *, after: int = 0, kinds: Sequence[str] = ()) -> Iterator[Entry]:
        """The facts of one generation only, and only of these kinds if there are any. Raises LedgerError."""
        where = "generation = ? AND seq > ?"
        if kinds:
            where += f" AND kind IN ({', '.join('?' * len(kinds))})"
        return self._select(where, generation, after, *kinds)

    def entries_of_shares(self, *, after: int = 0) -> Iterator[Entry]:
        """The epoch facts of shares, of all generations. Raises LedgerError."""
        return self._select("kind IN ('epoch_raised', 'epoch_opened') AND seq > ?", after)

    def _select(self, where: str, *values: int | str) -> Iterator[Entry]:
        seq, kind = 0, ""
        try:
            columns = "seq, at, generation, run, kind, worker, attempt, body, crc"
            query = f"SELECT {columns} FROM facts WHERE {where} ORDER BY seq"  # noqa: S608  constants
            for *row, crc in self._db.execute(query, values):
                seq, at, generation, run, kind, _worker, _attempt, body = row
                if not isinstance(body, str) or crc != _checksum(tuple(row)):
                    raise LedgerError(f"{self.path}: fact {seq} is damaged or missing; {_FIX}")
                yield Entry(seq, at, generation, run, decode_fact(body))
        except (msgspec.MsgspecError, RecursionError) as error:
            if kind not in KINDS:
                why = f"is of kind {kind!r:.80}, which this pipeline does not know"
                raise LedgerError(f"{self.path}: fact {seq} {why}; use the pipeline that wrote it, {_FIX}") from error
            why = f"cannot be read: {clean(str(error), _ERROR_CHARS_MAX)}; {_FIX}"
            raise LedgerError(f"{self.path}: fact {seq} {why}") from error
        except (sqlite3.Error, UnicodeError) as error:  # while reading the next one
            raise self._failure(error, f"fact {seq + 1} cannot be read: ") from error

    def generations(self) -> list[int]:
        """The generations that have facts."""
        found = self._fetch("SELECT DISTINCT generation FROM facts WHERE generation > 0 ORDER BY generation")
        return [number for (number,) in found]

    def has(self, generation: int) -> bool:
        """Whether a generation has facts."""
        return bool(self._fetch("SELECT 1 FROM facts WHERE generation = ? LIMIT 1", generation))

    def last(self) -> tuple[int, float, int]:
        """Number, time and generation of the last fact of any generation; zeros if there is none."""
        # `+` keeps SQLite from using the index of generations, which is sorted differently.
        query = "SELECT seq, at, generation FROM facts WHERE +generation > 0 ORDER BY seq DESC LIMIT 1"
        seq, at, generation = (self._fetch(query) or [(0, 0.0, 0)])[0]
        return seq, at, generation

    def has_issued(self, attempt: str) -> bool:
        """Whether this ledger ever issued that attempt id, in any run of any generation."""
        return self.generation_of(attempt) is not None

    def generation_of(self, attempt: str) -> int | None:
        """The generation in which this ledger issued that attempt id; None if it never did."""
        query = "SELECT generation FROM facts WHERE kind = 'attempt_issued' AND attempt = ?"
        found = self._fetch(query, attempt)
        return int(found[0][0]) if found else None

    def has_collected(self, attempt: str) -> bool:
        """Whether a result of that attempt was collected or noted before, in any run of any generation."""
        found = self._select("kind IN ('attempt_ended', 'result_late') AND attempt = ?", attempt)
        return any(not isinstance(entry.fact, AttemptEnded) or entry.fact.has_result for entry in found)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _fetch(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query. Raises LedgerError."""
        try:
            return self._db.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise self._failure(error) from error

    def _identify(self) -> str:
        row = self._db.execute("SELECT id, version FROM farm").fetchone()
        if row is None:
            raise LedgerError(f"{self.path}: it says neither its farm nor its version; {_FIX}")
        self._check_version(row[1])
        return str(row[0])

    def _count_rows(self) -> int:
        # One query, so that no commit can happen between two of them.
        query = "SELECT COUNT(*), COALESCE(MAX(seq), 0), (SELECT facts FROM farm) FROM facts"
        count, last, written = self._db.execute(query).fetchone()
        if not isinstance(written, int) or not count == last == written:
            known = max(last, written if isinstance(written, int) else 0)
            raise LedgerError(f"{self.path}: {known - count} of {known} facts are missing; {_FIX}")
        return int(count)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Creates the schema in an empty file; leaves any other database unchanged. Raises LedgerError, sqlite3.Error."""
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if mark != _APPLICATION_ID and tables:
        raise LedgerError(f"{path}: a database of another program; {_FIX}")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if not tables:
        # In one transaction: a host that is killed in between must not leave half a ledger.
        db.executescript(f"BEGIN;PRAGMA application_id={_APPLICATION_ID};{_SCHEMA}")
        db.execute("INSERT INTO farm VALUES (?, ?, 0)", (secrets.token_hex(8), VERSION))
        db.execute("COMMIT")


def has_ledger(folder: Path) -> bool:
    """Whether this state folder has a ledger. Raises InputError: this user may not check."""
    path = folder / LEDGER_FILE
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_READ_FIX}") from error
    return True


_FIX = "restore the state folder from a backup, or move it away to begin a new farm"
_READ_FIX = (
    "give this user the right to read it and the files beside it; after a host was killed, `pipeline status` of "
    "a user who may write here helps"
)
_APPLICATION_ID = 0x47504C31  # "GPL1": distinguishes a ledger from other SQLite files


def _checksum(row: tuple[object, ...]) -> int:
    """Checksum of a row: of all columns but the checksum itself."""
    return zlib.crc32(repr(row).encode())
