"""Converts a ledger of version 2, which had a row for each fact.

Owns: the one transaction that does it: the file has either version, also if the host is killed or the disk is full.
Bodies keep their bytes. Every checksum is compared; a damaged ledger stays as it is.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipeline.storage.ledger_rows import SCHEMA, VERSION, Commit, UnreadableRow, check_schema, decode_body, insert

MIGRATED_VERSION = 2


def migrate(db: sqlite3.Connection) -> None:
    """Converts a ledger of version 2.

    Raises:
        UnreadableRow: it is damaged.
        sqlite3.Error: it cannot be read, or not be written.
    """
    with db:
        db.executescript(f"BEGIN IMMEDIATE;{_DROP_INDEXES}{SCHEMA}")
        last = 0
        for commit, body in _commits(db):
            if commit.first != last + 1:
                raise UnreadableRow(f"fact {commit.first} is damaged")
            insert(db, commit, body)
            last = commit.last
        (written,) = db.execute("SELECT facts FROM farm").fetchone()
        if last != written:
            raise UnreadableRow(f"fact {last + 1} is missing")
        db.execute("DROP TABLE facts")
        check_schema(db)  # the table that version 2 had already, too
        db.execute("UPDATE farm SET version = ?", (VERSION,))


def _commits(db: sqlite3.Connection) -> Iterator[tuple[Commit, bytes]]:
    """The commits and their bodies; version 2 does not separate commits of the same time."""
    for (at, generation, run), rows in groupby(_checked_rows(db), key=itemgetter(1, 2, 3)):
        numbers, bodies = zip(*((row[0], row[-1]) for row in rows), strict=True)
        last, body = numbers[-1], "".join(f"{line}\n" for line in bodies).encode()
        yield Commit(last, at, generation, run, decode_body(last, body)), body


def _checked_rows(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    query = "SELECT seq, at, generation, run, kind, worker, attempt, body, crc FROM facts ORDER BY seq"
    for expected, (*columns, crc) in enumerate(db.execute(query), 1):
        row = tuple(columns)
        if row[0] != expected or not isinstance(row[-1], str) or crc != zlib.crc32(repr(row).encode()):
            raise UnreadableRow(f"fact {expected} is damaged or missing")
        yield row


_DROP_INDEXES = "DROP INDEX issued;DROP INDEX answered;DROP INDEX epochs;DROP INDEX generations;"
