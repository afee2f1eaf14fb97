"""The ledger: the farm's only memory. Facts in SQLite on the host's local disk, append-only, one commit per tick.

It decides when a broken ledger stops the program; it does not know what a fact means. `synchronous=FULL`: what
`append` has returned from outlives a power cut. Every row carries a checksum and the rows are numbered without gaps,
so damage is found when it is read and never guessed around.
"""

import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.core.facts import AttemptIssued, Fact, decode_fact, encode_fact

_SCHEMA = """
CREATE TABLE IF NOT EXISTS farm (id TEXT NOT NULL, version INTEGER NOT NULL);
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
            if read_only:
                self._db = sqlite3.connect(f"file:{self.path.as_posix()}?mode=ro", uri=True, timeout=10)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(_SCHEMA)
            self.farm_id = self._identify(read_only)
            self._next = self._count_rows() + 1
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: {error}") from error

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        """Writes facts in one commit. Raises LedgerError; then nothing of them is written."""
        rows = []
        for seq, fact in enumerate(facts, self._next):
            body = encode_fact(fact)
            attempt = fact.attempt if type(fact) is AttemptIssued else None
            rows.append((seq, at, generation, run, attempt, body.decode(), _checksum(seq, body)))
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            raise LedgerError(f"{self.path}: cannot be written: {error}") from error
        self._next += len(rows)

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """All facts in order, checked. Raises LedgerError at the first one that is damaged or missing."""
        expected = after + 1
        try:
            query = "SELECT seq, at, generation, run, body, crc FROM facts WHERE seq > ? ORDER BY seq"
            for seq, at, generation, run, body, crc in self._db.execute(query, (after,)):
                data = body.encode() if isinstance(body, str) else bytes(body)
                if seq != expected or crc != _checksum(seq, data):
                    raise LedgerError(f"{self.path}: fact {expected} is damaged or missing; {_CURE}")
                yield Entry(seq, at, generation, run, decode_fact(data))
                expected += 1
        except (sqlite3.Error, msgspec.MsgspecError, UnicodeError) as error:
            raise LedgerError(f"{self.path}: fact {expected} cannot be read: {error}; {_CURE}") from error

    def issued(self, attempt: str) -> bool:
        """Whether this ledger ever issued that attempt id, in any run of any generation."""
        found = self._db.execute("SELECT 1 FROM facts WHERE attempt = ?", (attempt,)).fetchone()
        return found is not None

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _identify(self, read_only: bool) -> str:
        row = self._db.execute("SELECT id, version FROM farm").fetchone()
        if row is None and not read_only:
            row = (secrets.token_hex(8), VERSION)
            self._db.execute("INSERT INTO farm VALUES (?, ?)", row)
        if row is None or row[1] != VERSION:
            raise LedgerError(f"{self.path}: not a ledger of version {VERSION}")
        return str(row[0])

    def _count_rows(self) -> int:
        count, last = self._db.execute("SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM facts").fetchone()
        if count != last:
            raise LedgerError(f"{self.path}: {last - count} of {last} facts are missing; {_CURE}")
        return int(count)


_CURE = "restore the state folder from a backup, or move it away to begin a new farm"


def _checksum(seq: int, body: bytes) -> int:
    return zlib.crc32(body, seq)


def wall_clock() -> float:
    """Seconds since 1970; for people, never for a decision."""
    return time.time()
