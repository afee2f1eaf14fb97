"""The body of a ledger's row whose checksum is right."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.core.facts import Entry, Fact, HostStopped
from pipeline.errors import LedgerError
from pipeline.paths import LEDGER_FILE
from pipeline.storage import ledger as ledgers
from pipeline.storage.ledger import Ledger
from tests.fuzz.target import FuzzTarget
from tests.harness.source_tree import ROOT

_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-ledger-", ignore_cleanup_errors=True)  # Windows: it is open
_GOLDEN = ROOT / "tests" / "data" / "golden"


@cache
def _ledger() -> tuple[Ledger, sqlite3.Connection]:
    """A ledger with one row, and a connection that changes it."""
    folder = Path(_PLACE.name)
    ledger = Ledger(folder)
    ledger.append([HostStopped(reason="")], at=1.0, generation=1, run=1)
    db = sqlite3.connect(folder / LEDGER_FILE, isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    return ledger, db


def _decode(data: bytes) -> None:
    ledger, db = _ledger()
    body = data.decode("utf-8", "replace")
    row = (1, 1.0, 1, 1, "host_stopped", None, None, body)
    if body.encode() == data:
        db.execute("UPDATE facts SET body = ?, crc = ?", (body, ledgers._checksum(row)))
    else:
        db.execute("UPDATE facts SET body = CAST(? AS TEXT), crc = 0", (data,))
    (entry,) = ledger.entries()
    assert isinstance(entry, Entry)
    assert isinstance(entry.fact, Fact)


def _seeds() -> Iterator[bytes]:
    for path in sorted(_GOLDEN.glob("ledger-*/ledger.db")):
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as db:
            for (body,) in db.execute("SELECT body FROM facts"):
                yield body.encode()
    yield b'{"fact": "host_stopped", "reason": "\xff"}'
    yield b'{"fact": "host_stopped", "reason": "", "new": ' + b"[" * 5000


TARGET = FuzzTarget(_decode, (LedgerError,), _seeds)
