"""The ledger: the farm's only memory. Facts in SQLite on the host's local disk, append-only, one commit per tick.

It decides when a broken ledger stops the program; it does not know what a fact means. `synchronous=FULL`: what
`append` has returned from outlives a power cut. Every row carries a checksum and the rows are numbered without gaps,
so damage is found when it is read and never guessed around.
"""

import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.core.facts import AttemptIssued, Fact, decode_fact, encode_fact

_SCHEMA = """
CREATE TABLE IF NOT EXISTS farm (id TEXT NOT NULL, version INTEGER NOT NULL, facts INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS facts (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,           -- wall clock of the host, seconds since 1970, for people
    generation INTEGER NOT NULL, -- 0 before the first one
    run INTEGER NOT NULL,
    attempt TEXT,               -- only of the fact that issued it
    body TEXT NOT NULL,         -- JSON
    crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS issued ON facts (attempt) WHERE attempt IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs ON facts (generation, run, seq);
"""
VERSION = 1
FILE_NAME = "ledger.db"


class LedgerError(Exception):
    """The ledger cannot be trusted or not be written; nothing goes on without it."""


class Entry(NamedTuple):
    """A fact as it stands in the ledger."""

    seq: int
    at: float
    generation: int
    run: int
    fact: Fact


class Ledger:
    """The facts on disk. Open one per state folder, under its lock; `read_only` may look on while another one writes.

    Raises:
        LedgerError: damaged, of another version, or not readable.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / FILE_NAME
        try:
            self._db = self._connect(folder, read_only)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: {error}; {_cure_of(error)}") from error
        try:
            if not read_only:
                self._prepare()
            self.farm_id = self._identify(read_only)
            self._next = self._count_rows() + 1
        except LedgerError:
            self._db.close()
            raise
        except (sqlite3.Error, UnicodeError) as error:
            self._db.close()
            raise LedgerError(f"{self.path}: {' '.join(str(error).split())}; {_cure_of(error)}") from error

    def _connect(self, folder: Path, read_only: bool) -> sqlite3.Connection:
        if read_only:
            # Who looks on may do so from several threads, one at a time.
            where = f"{self.path.absolute().as_uri()}?mode=ro"
            return sqlite3.connect(where, uri=True, timeout=10, check_same_thread=False)
        folder.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)

    def _prepare(self) -> None:
        """Makes a ledger of an empty file; any other database is left as it is."""
        (mark,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if mark != _APPLICATION_ID and tables:
            raise LedgerError(f"{self.path}: a database of another program; {_CURE}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        if not tables:
            # In one piece: a host that is killed in between must not leave half a ledger.
            self._db.executescript(f"BEGIN;PRAGMA application_id={_APPLICATION_ID};{_SCHEMA}COMMIT;")

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        """Writes facts in one commit. Raises LedgerError; then nothing of them is written."""
        rows = []
        for seq, fact in enumerate(facts, self._next):
            body = encode_fact(fact).decode()
            attempt = fact.attempt if type(fact) is AttemptIssued else None
            row = (seq, at, generation, run, attempt, body)
            rows.append((*row, _checksum(row)))
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("UPDATE farm SET facts = ?", (self._next + len(rows) - 1,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            raise LedgerError(f"{self.path}: cannot be written: {error}") from error
        self._next += len(rows)

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """All facts in order, checked. Raises LedgerError at the first one that is damaged or missing."""
        expected = after + 1
        for entry in self._select("seq > ?", after):
            if entry.seq != expected:
                raise LedgerError(f"{self.path}: fact {expected} is damaged or missing; {_CURE}")
            yield entry
            expected += 1

    def entries_of(self, generation: int, *, after: int = 0) -> Iterator[Entry]:
        """The facts of one generation, for who looks at nothing else. Raises LedgerError."""
        return self._select("generation = ? AND seq > ?", generation, after)

    def entries_of_shares(self, *, after: int = 0) -> Iterator[Entry]:
        """The epochs of shares, in whatever generation they were raised and opened. Raises LedgerError."""
        return self._select('seq > ? AND body LIKE \'{"fact":"Epoch%\'', after)

    def _select(self, where: str, *values: int) -> Iterator[Entry]:
        seq = 0
        try:
            query = f"SELECT seq, at, generation, run, attempt, body, crc FROM facts WHERE {where} ORDER BY seq"  # noqa: S608  constants
            for *row, crc in self._db.execute(query, values):
                seq, at, generation, run, _attempt, body = row
                if not isinstance(body, str) or crc != _checksum(tuple(row)):
                    raise LedgerError(f"{self.path}: fact {seq} is damaged or missing; {_CURE}")
                yield Entry(seq, at, generation, run, decode_fact(body))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise LedgerError(f"{self.path}: fact {seq} cannot be read: {error}; {_CURE}") from error
        except (sqlite3.Error, UnicodeError) as error:  # on the way to the next one
            raise LedgerError(f"{self.path}: fact {seq + 1} cannot be read: {error}; {_cure_of(error)}") from error

    def generations(self) -> list[int]:
        """Those that have facts."""
        found = self._db.execute("SELECT DISTINCT generation FROM facts WHERE generation > 0 ORDER BY generation")
        return [number for (number,) in found]

    def has(self, generation: int) -> bool:
        """Whether a generation has facts."""
        found = self._db.execute("SELECT 1 FROM facts WHERE generation = ? LIMIT 1", (generation,)).fetchone()
        return found is not None

    def last(self) -> tuple[int, float, int]:
        """Number, time and generation of the last fact of any generation; zeros if there is none."""
        # `+` keeps SQLite from using the index of generations, which is not in this order.
        query = "SELECT seq, at, generation FROM facts WHERE +generation > 0 ORDER BY seq DESC LIMIT 1"
        seq, at, generation = self._db.execute(query).fetchone() or (0, 0.0, 0)
        return seq, at, generation

    def issued(self, attempt: str) -> bool:
        """Whether this ledger ever issued that attempt id, in any run of any generation."""
        found = self._db.execute("SELECT 1 FROM facts WHERE attempt = ?", (attempt,)).fetchone()
        return found is not None

    def heard(self, attempt: str) -> bool:
        """Whether a result of that attempt was collected or noted before, in a run of its own generation."""
        generation = int(attempt[1 : attempt.index("-")])
        query = "SELECT 1 FROM facts WHERE generation = ? AND (body LIKE ? OR body LIKE ?) LIMIT 1"
        ended = f'{{"fact":"AttemptEnded","attempt":"{attempt}"%"answered":true%'
        late = f'{{"fact":"ResultLate","attempt":"{attempt}"%'
        return self._db.execute(query, (generation, ended, late)).fetchone() is not None

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _identify(self, read_only: bool) -> str:
        row = self._db.execute("SELECT id, version FROM farm").fetchone()
        if row is None and not read_only:
            row = (secrets.token_hex(8), VERSION)
            self._db.execute("INSERT INTO farm VALUES (?, ?, 0)", row)
        if row is None or row[1] != VERSION:
            raise LedgerError(f"{self.path}: not a ledger of version {VERSION}; {_CURE}")
        return str(row[0])

    def _count_rows(self) -> int:
        # One question, so that no commit can fall between two of them.
        query = "SELECT COUNT(*), COALESCE(MAX(seq), 0), (SELECT facts FROM farm) FROM facts"
        count, last, written = self._db.execute(query).fetchone()
        if not isinstance(written, int) or not count == last == written:
            known = max(last, written if isinstance(written, int) else 0)
            raise LedgerError(f"{self.path}: {known - count} of {known} facts are missing; {_CURE}")
        return int(count)


_CURE = "restore the state folder from a backup, or move it away to begin a new farm"
_FORBIDDEN = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_RIGHTS_CURE = "see that this user may write in that folder: SQLite does so even to look on"
_APPLICATION_ID = 0x47504C31  # "GPL1": tells a ledger from any other SQLite file


def _cure_of(error: Exception) -> str:
    # Source: SQLite, "Result and Error Codes": the lowest byte is the primary code.
    return _RIGHTS_CURE if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FORBIDDEN else _CURE


def _checksum(row: tuple[object, ...]) -> int:
    """Over the whole row: number, time, generation, run, attempt and body, each in its place."""
    return zlib.crc32(repr(row).encode())
