"""The rows of the ledger: one for each commit.

Owns: the schema, and what a row holds. A row has a checksum of all its columns, so damage is detected when it is read.
The schema, which is text in the file, is compared with the one of this version when a ledger is opened.
Not here: transactions, and which rows are read.
"""

import contextlib
import re
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from inbox_agent.protocol.layout import clean
from pipeline.core.facts import (
    KINDS,
    AttemptEnded,
    AttemptIssued,
    Entry,
    Fact,
    ResultLate,
    WorkerFact,
    decode_facts,
)
from pipeline.storage.read_connection import ReadConnection

VERSION = 3
FARM_SCHEMA = "CREATE TABLE farm (id TEXT NOT NULL, version INTEGER NOT NULL, facts INTEGER NOT NULL);"
SCHEMA = """
CREATE TABLE commits (
    last INTEGER PRIMARY KEY,    -- the number of its last fact
    facts INTEGER NOT NULL,      -- how many it has
    at REAL NOT NULL,            -- wall clock of the host, seconds since 1970, for people
    generation INTEGER NOT NULL, -- 0 before the first one
    run INTEGER NOT NULL,
    epochs INTEGER NOT NULL,     -- 1: other generations depend on some of its facts
    body BLOB NOT NULL,          -- the facts, each a line of JSON
    crc INTEGER NOT NULL
);
CREATE INDEX commits_by_generation ON commits (generation, last, facts);
CREATE INDEX commits_with_epochs ON commits (last) WHERE epochs = 1;
CREATE TABLE attempts (          -- what is asked about attempts of other runs
    attempt TEXT PRIMARY KEY,
    generation INTEGER NOT NULL, -- the one that issued it
    collected INTEGER NOT NULL   -- 1: a result was collected, or noted as late
) WITHOUT ROWID;
"""
#: The columns of a commit, as `decode_commit` takes them.
COLUMNS = "last, facts, at, generation, run, epochs, body, crc"
ERROR_CHARS_MAX = 200  # of SQLite's and msgspec's errors, which quote the damaged file
_COMMENT = re.compile(" *--[^\n]*")


class UnreadableRow(Exception):
    """A row or the schema is damaged, or a later version wrote it; the message says which, and not in which file."""


def check_schema(db: sqlite3.Connection | ReadConnection) -> None:
    """Compares the tables and indexes of a ledger with those of this version. Raises UnreadableRow, sqlite3.Error.

    SQLite uses whatever schema it finds: with another condition, an index leaves out rows without an error.
    """
    if damaged := sorted(name for _kind, name, _table, _text in _expected_schema() - _schema_of(db)):
        raise UnreadableRow(f"the schema of {', '.join(damaged)} is damaged")
    roots = [root for (root,) in db.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")]
    if len(set(roots)) < len(roots):
        raise UnreadableRow("two of its tables or indexes begin on the same page")


@cache
def _expected_schema() -> frozenset[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(FARM_SCHEMA + SCHEMA)
        return _schema_of(db)


def _schema_of(db: sqlite3.Connection | ReadConnection) -> frozenset[tuple[str, ...]]:
    """Kind, name, table and text of each table and index, without comments: earlier pipelines wrote other ones."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return frozenset((*map(str, names), _COMMENT.sub("", str(text))) for *names, text in rows)


class Commit(NamedTuple):
    """The facts of one commit."""

    last: int  #: the number of the last one
    at: float
    generation: int
    run: int
    facts: Sequence[Fact]

    @property
    def first(self) -> int:
        """The number of its first fact."""
        return self.last - len(self.facts) + 1

    def entries(self) -> Iterator[Entry]:
        """Its facts by number."""
        _last, at, generation, run, facts = self
        for seq, fact in enumerate(facts, self.first):
            yield Entry(seq, at, generation, run, fact)


def insert(db: sqlite3.Connection, commit: Commit, body: bytes) -> None:
    """Writes a commit, whose facts `body` encodes, within a transaction. Raises sqlite3.Error."""
    last, at, generation, run, facts = commit
    epochs = int(any(isinstance(fact, WorkerFact) for fact in facts))
    row = (last, len(facts), at, generation, run, epochs)
    db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, body, _checksum(row, body)))
    issued = [(fact.attempt, generation) for fact in facts if isinstance(fact, AttemptIssued)]
    collected = [
        (fact.attempt,)
        for fact in facts
        if (isinstance(fact, AttemptEnded) and fact.has_result) or isinstance(fact, ResultLate)
    ]
    db.executemany("INSERT INTO attempts VALUES (?, ?, 0)", issued)
    db.executemany("UPDATE attempts SET collected = 1 WHERE attempt = ?", collected)


def decode_commit(row: tuple[Any, ...]) -> Commit:
    """The commit of a row. Raises UnreadableRow."""
    *columns, body, crc = row
    last, count, at, generation, run, _epochs = columns
    if not isinstance(body, bytes) or crc != _checksum(tuple(columns), body):
        raise UnreadableRow(f"the commit of fact {last} is damaged")
    facts = decode_body(last, body)
    if len(facts) != count:
        raise UnreadableRow(f"the commit of fact {last} has {len(facts)} facts instead of {count!r:.80}")
    return Commit(last, at, generation, run, facts)


def decode_body(last: int, body: bytes) -> Sequence[Fact]:
    """The facts of a commit that ends with fact `last`. Raises UnreadableRow."""
    try:
        return decode_facts(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        why = f"cannot be read: {clean(str(error), ERROR_CHARS_MAX)}"
        if unknown := _unknown_kind(body):
            why = (
                f"has a fact of kind {unknown!r:.80}, which this pipeline does not know; use the pipeline that wrote it"
            )
        raise UnreadableRow(f"the commit of fact {last} {why}") from error


class _Tag(msgspec.Struct):
    fact: str


_decode_tags = msgspec.json.Decoder(_Tag).decode_lines


def _unknown_kind(body: bytes) -> str:
    """The first kind of fact in a body that this version does not know; empty if there is none."""
    try:
        return next((tag.fact for tag in _decode_tags(body) if tag.fact not in KINDS), "")
    except (msgspec.MsgspecError, RecursionError):
        return ""


def _checksum(columns: tuple[object, ...], body: bytes) -> int:
    return zlib.crc32(repr(columns).encode(), zlib.crc32(body))
