"""Audit log `state/log/audit.jsonl`: one JSON line for each change that a client asked for, allowed or not.

Owns: what is noted, and that only this user may read it. This program never reads it.
"""

import contextlib
import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path

import orjson
from msgspec import Struct
from msgspec.structs import asdict

from inbox_agent.protocol.printable import escaped
from pipeline.paths import AUDIT_FILE, LOG_FOLDER
from pipeline.storage.event_log import QuietFile, iso_time

AUDIT_BYTES_MAX, FILES_KEPT = 10 * 1024 * 1024, 5


class RequestedChange(Struct, frozen=True, kw_only=True):
    """A change that was asked for."""

    token: str  #: name
    client: str  #: address
    operation: str
    generation: int | None  #: None: of none, or of one that was to be chosen
    genomes: int = 0  #: that were sent
    genome: str = ""  #: its name, if it is one
    worker: str = ""  #: its name, if it concerns one
    status: int  #: HTTP status of the answer
    outcome: str  #: in a word, e.g. `done`, `forbidden`, `conflict`


class AuditLog:
    """The log of one server. Any thread may write. Write errors are ignored: a full disk also stops what is noted."""

    def __init__(self, state: Path) -> None:
        folder = state / LOG_FOLDER
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._file = _PrivateFile(
            folder / AUDIT_FILE, maxBytes=AUDIT_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )

    def write(self, change: RequestedChange, at: float) -> None:
        """Notes a change."""
        line = escaped(orjson.dumps({"at": iso_time(at), **asdict(change)}).decode())
        self._file.handle(logging.LogRecord("pipeline", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            self._file.close()


class _PrivateFile(QuietFile):
    """A file that only this user may read."""

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        if sys.platform != "win32":
            os.fchmod(stream.fileno(), 0o600)
        return stream
