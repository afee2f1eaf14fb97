"""A small ledger on a real disk, and what other processes read of it or do to its file."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pipeline.core.facts import AttemptIssued, Entry, Fact, HostStarted, HostStopped
from pipeline.storage.ledger import Ledger
from tests.harness.records import attempt


def issued(number: int) -> AttemptIssued:
    return AttemptIssued(
        attempt=attempt(number), genome=1, trial=1, number=number, worker="vm-0", epoch=1, publication=number
    )


#: The facts of `written_ledger`.
STORY: Sequence[Fact] = (HostStarted(pid=1, workers=2), issued(1), issued(2), issued(3), HostStopped(reason="ended"))


def written_ledger(folder: Path) -> Path:
    """The path of a ledger with a few facts in three commits, which was closed properly."""
    with closing(Ledger(folder)) as ledger:
        for facts in (STORY[:2], STORY[2:4], STORY[4:]):
            ledger.append(facts, at=1.5, generation=7, run=1)
        return ledger.path


def reads(folder: Path, *, read_only: bool = False) -> list[Entry]:
    """Everything that a new process reads."""
    with closing(Ledger(folder, read_only=read_only)) as ledger:
        return list(ledger.entries())


def alter(path: Path, *statements: str) -> None:
    """Changes the database without the ledger's code."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
