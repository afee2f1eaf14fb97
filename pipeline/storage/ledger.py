"""The ledger: the farm's only persistent state. Append-only facts in SQLite on the local disk, one commit per tick.

Owns: durability, and when damage stops the program. Not here: what a fact means. With `synchronous=FULL`, facts survive
a power cut once `append` has returned. Every commit has a checksum and facts are numbered without gaps, so damage is
detected when it is read and never skipped. Queries use only columns; bodies are decoded, never matched as text.
"""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inbox_agent.protocol.layout import clean
from inbox_agent.system.atomic_file import flush_names
from pipeline.core.facts import Entry, Fact, WorkerFact, encode_facts, kind_of
from pipeline.errors import HostError, InputError, LedgerError, PipelineError
from pipeline.paths import LEDGER_FILE
from pipeline.storage.ledger_migration import MIGRATED_VERSION, migrate
from pipeline.storage.ledger_rows import (
    COLUMNS,
    ERROR_CHARS_MAX,
    FARM_SCHEMA,
    SCHEMA,
    VERSION,
    Commit,
    UnreadableRow,
    check_schema,
    decode_commit,
    insert,
)
from pipeline.storage.read_connection import ReadConnection, connect_to_read, is_forbidden, log_of

SEQ_MAX = 2**63 - 1  #: of a fact: the largest integer of SQLite


class Ledger:
    """The facts on disk. One writer per state folder, under its lock; `read_only` may read while it writes.

    A writer converts a ledger of the version before.

    Raises:
        LedgerError: damaged, or of another version.
        InputError: this user may not read it; HostError if it was to be written, or the disk is full.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / LEDGER_FILE
        self._read_only = read_only
        self._refuse_other_version()
        try:
            self._db = self._connect(folder, read_only)
        except (sqlite3.Error, UnicodeError) as error:  # SQLite quotes the damaged text
            raise self._failure(error) from error
        try:
            if isinstance(self._db, sqlite3.Connection):
                _prepare(self._db, self.path)
                self._migrate(self._db)
            self.farm_id = self._identify()
            check_schema(self._db)
            self._last = self._count_facts()
        except PipelineError:
            self._db.close()
            raise
        except UnreadableRow as error:
            self._db.close()
            raise LedgerError(f"{self.path}: {error}; {_FIX}") from error
        except (sqlite3.Error, UnicodeError) as error:
            self._db.close()
            raise self._failure(error) from error

    def _connect(self, folder: Path, read_only: bool) -> sqlite3.Connection | ReadConnection:
        if read_only:
            return ReadConnection(self.path)
        folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            _create(self.path)
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)

    def _failure(self, error: Exception, what: str = "") -> PipelineError:
        """The error to raise for one of SQLite: a missing right or a full disk is no damage."""
        text = f"{self.path}: {what}{clean(str(error), ERROR_CHARS_MAX)}"
        if getattr(error, "sqlite_errorcode", 0) in _FULL:
            return HostError(f"{text}; nothing is lost: free some space and run again")
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
        how = "mode=ro" if log_of(self.path).exists() else "mode=ro&immutable=1"
        with (
            contextlib.suppress(sqlite3.Error, UnicodeError),
            contextlib.closing(connect_to_read(self.path, how)) as db,
        ):
            if (row := db.execute("SELECT version FROM farm").fetchone()) is not None:
                self._check_version(row[0])

    def _check_version(self, version: object) -> None:
        if version == MIGRATED_VERSION:
            if self._read_only:
                raise LedgerError(
                    f"{self.path}: a ledger of version {version}; `pipeline run` converts it to version {VERSION}"
                )
        elif version != VERSION:
            raise LedgerError(
                f"{self.path}: a ledger of version {version!r}, and this pipeline reads version {VERSION} only; "
                f"use the pipeline that wrote it, {_FIX}"
            )

    def _migrate(self, db: sqlite3.Connection) -> None:
        if db.execute("SELECT version FROM farm").fetchone() != (MIGRATED_VERSION,):
            return
        try:
            migrate(db)
        except (sqlite3.Error, UnicodeError) as error:
            raise self._failure(error, f"cannot be converted to version {VERSION}: ") from error

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        """Writes facts in one commit. Raises LedgerError; then none of them is written."""
        if isinstance(self._db, ReadConnection):
            raise LedgerError(f"{self.path}: cannot be written: it was opened to be read")
        if not facts:
            return
        last = self._last + len(facts)
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                # A commit that was made and reported as failed is not continued.
                known = self._db.execute("UPDATE farm SET facts = ? WHERE facts = ?", (last, self._last)).rowcount
                if not known:
                    raise sqlite3.IntegrityError(f"it does not end with fact {self._last}")
                insert(self._db, Commit(last, at, generation, run, facts), encode_facts(facts))
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be written: {error}; nothing is lost, run again") from error
        self._last = last

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """All facts by number, checked. Raises LedgerError at the first one that is damaged or missing."""
        expected = after + 1
        for commit in self._select("last > ?", after):
            if max(commit.first, after + 1) != expected:
                raise LedgerError(f"{self.path}: fact {expected} is missing; {_FIX}")
            yield from (entry for entry in commit.entries() if entry.seq > after)
            expected = commit.last + 1

    def entries_of(
        self, generation: int, *, after: int = 0, until: int = SEQ_MAX, kinds: Sequence[str] = ()
    ) -> Iterator[Entry]:
        """The facts of one generation only, and only of these kinds if there are any. Raises LedgerError.

        `until` is the last fact of a commit, as `last` returns it: a host may write more while they are read.
        """
        for commit in self._select("generation = ? AND last > ? AND last <= ?", generation, after, until):
            for entry in commit.entries():
                if entry.seq > after and (not kinds or kind_of(entry.fact) in kinds):
                    yield entry

    def entries_of_shares(self, *, after: int = 0, until: int = SEQ_MAX) -> Iterator[Entry]:
        """The facts of all generations that each depends on; `until` as above. Raises LedgerError."""
        for commit in self._select("epochs = 1 AND last > ? AND last <= ?", after, until):
            for entry in commit.entries():
                if entry.seq > after and isinstance(entry.fact, WorkerFact):
                    yield entry

    def _select(self, where: str, *values: int) -> Iterator[Commit]:
        last = 0
        try:
            query = f"SELECT {COLUMNS} FROM commits WHERE {where} ORDER BY last"  # noqa: S608  constants
            for row in self._db.execute(query, values):
                commit = decode_commit(row)
                last = commit.last
                yield commit
        except UnreadableRow as error:
            raise LedgerError(f"{self.path}: {error}; {_FIX}") from error
        except (sqlite3.Error, UnicodeError) as error:  # while reading the next one
            raise self._failure(error, f"fact {last + 1} cannot be read: ") from error

    def generations(self) -> list[int]:
        """The generations that have facts."""
        found = self._fetch("SELECT DISTINCT generation FROM commits WHERE generation > 0 ORDER BY generation")
        return [number for (number,) in found]

    def has(self, generation: int) -> bool:
        """Whether a generation has facts."""
        return bool(self._fetch("SELECT 1 FROM commits WHERE generation = ? LIMIT 1", generation))

    def last(self) -> tuple[int, float, int]:
        """Number, time and generation of the last fact of any generation; zeros if there is none."""
        # `+` keeps SQLite from using the index of generations, which is sorted differently.
        query = "SELECT last, at, generation FROM commits WHERE +generation > 0 ORDER BY last DESC LIMIT 1"
        last, at, generation = (self._fetch(query) or [(0, 0.0, 0)])[0]
        return last, at, generation

    def has_issued(self, attempt: str) -> bool:
        """Whether this ledger ever issued that attempt id, in any run of any generation."""
        return self.generation_of(attempt) is not None

    def generation_of(self, attempt: str) -> int | None:
        """The generation in which this ledger issued that attempt id; None if it never did."""
        found = self._fetch("SELECT generation FROM attempts WHERE attempt = ?", attempt)
        return int(found[0][0]) if found else None

    def has_collected(self, attempt: str) -> bool:
        """Whether a result of that attempt was collected or noted before, in any run of any generation."""
        return bool(self._fetch("SELECT 1 FROM attempts WHERE attempt = ? AND collected = 1", attempt))

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

    def _count_facts(self) -> int:
        # One query, so that no commit can happen between two of them.
        query = "SELECT COALESCE(SUM(facts), 0), COALESCE(MAX(last), 0), (SELECT facts FROM farm) FROM commits"
        count, last, written = self._db.execute(query).fetchone()
        if not isinstance(written, int) or not count == last == written:
            known = max(last, written if isinstance(written, int) else 0)
            raise LedgerError(f"{self.path}: {known - count} of {known} facts are missing; {_FIX}")
        return int(count)


def _create(path: Path) -> None:
    """Creates a ledger without facts. It gets its name when it is complete: others may look for it at any moment."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a host that was killed
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")
        _add_schema(db)
    os.replace(new, path)
    flush_names(path.parent)


def _add_schema(db: sqlite3.Connection) -> None:
    # In one transaction: a host that is killed in between must not leave half a ledger.
    db.executescript(f"BEGIN;PRAGMA application_id={_APPLICATION_ID};{FARM_SCHEMA}{SCHEMA}")
    db.execute("INSERT INTO farm VALUES (?, ?, 0)", (secrets.token_hex(8), VERSION))
    db.execute("COMMIT")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Creates the schema in an empty file; leaves any other database unchanged. Raises LedgerError, sqlite3.Error."""
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if mark != _APPLICATION_ID and tables:
        raise LedgerError(f"{path}: a database of another program; {_FIX}")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if not tables:
        _add_schema(db)


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
#: What SQLite answers if the disk is full, or fails to write. Source: SQLite, "Result and Error Codes".
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_APPLICATION_ID = 0x47504C31  # "GPL1": distinguishes a ledger from other SQLite files
