"""The rows of the ledger: one for each commit.

Owns: the schema, and what a row holds. A row has a checksum of all its columns, so damage is detected when it is read.
Not here: transactions, and which rows are read.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
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

VERSION = 3
SCHEMA = """
CREATE TABLE commits (
    last INTEGER PRIMARY KEY,    -- the number of its last fact
    facts INTEGER NOT NULL,      -- how many it has
    at REAL NOT NULL,            -- wall clock of the host, seconds since 1970, for people
    generation INTEGER NOT NULL, -- 0 before the first one
    run INTEGER NOT NULL,
    epochs INTEGER NOT NULL,     -- 1: other generations depend on some facts
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


class UnreadableRow(Exception):
    """A row is damaged, or a later version wrote it; the message says which facts, and not in which file."""


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
