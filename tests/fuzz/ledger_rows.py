"""The body of a ledger's row whose checksum is right."""

import atexit
import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.core.facts import Entry, Fact, HostStopped
from pipeline.errors import LedgerError
from pipeline.paths import LEDGER_FILE
from pipeline.storage import ledger_rows
from pipeline.storage.ledger import Ledger
from tests.fuzz.target import FuzzTarget
from tests.harness.source_tree import ROOT

_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-ledger-")
_GOLDEN = ROOT / "tests" / "data" / "golden"


@cache
def _ledger() -> tuple[Ledger, sqlite3.Connection]:
    """A ledger with one row, and a connection that changes it."""
    folder = Path(_PLACE.name)
    ledger = Ledger(folder)
    ledger.append([HostStopped(reason="")], at=1.0, generation=1, run=1)
    db = sqlite3.connect(folder / LEDGER_FILE, isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    atexit.register(_close, ledger, db)
    return ledger, db


def _close(ledger: Ledger, db: sqlite3.Connection) -> None:
    """Windows removes no folder with open files."""
    db.close()
    ledger.close()
    _PLACE.cleanup()


def _decode(data: bytes) -> None:
    ledger, db = _ledger()
    crc = ledger_rows._checksum((1, 1, 1.0, 1, 1, 0), data)
    db.execute("UPDATE commits SET body = ?, crc = ?", (data, crc))
    (entry,) = ledger.entries()
    assert isinstance(entry, Entry)
    assert isinstance(entry.fact, Fact)


def _seeds() -> Iterator[bytes]:
    for path in sorted(_GOLDEN.glob("ledger-*/ledger.db")):
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as db:
            (tables,) = db.execute("SELECT group_concat(name) FROM sqlite_master").fetchone()
            for (body,) in db.execute(
                f"SELECT CAST(body AS BLOB) FROM {'commits' if 'commits' in tables else 'facts'}"
            ):
                yield body
    yield b'{"fact": "host_stopped", "reason": ""}\n' * 2
    yield b'{"fact": "host_stopped", "reason": "\xff"}'
    yield b'{"fact": "host_stopped", "reason": "", "new": ' + b"[" * 5000


TARGET = FuzzTarget(_decode, (LedgerError,), _seeds)
