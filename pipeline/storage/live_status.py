"""Status file `state/live.json`: the progress of a running host, for other processes; a stale file is ignored.

Owns: when a host counts as running. Not here: facts (`ledger`). It holds what the ledger lacks: what each worker plays,
for how long, and the progress that the games report.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import psutil

from inbox_agent.system.atomic_file import replace_file
from pipeline.paths import LIVE_FILE

INTERVAL_S, FRESH_S = 1.0, 10.0


class LiveStatusFile:
    """Writes the status file of this host."""

    def __init__(self, state: Path) -> None:
        self._path = state / LIVE_FILE
        self._due = 0.0

    def write(self, progress: object) -> None:
        """Writes the progress: any serialisable record. Write errors are ignored."""
        self._due = time.monotonic() + INTERVAL_S
        with contextlib.suppress(OSError):
            replace_file(self._path, orjson.dumps({"at": time.time(), "pid": os.getpid(), "progress": progress}))

    @property
    def is_due(self) -> bool:
        """Whether to write again."""
        return time.monotonic() >= self._due

    def remove(self) -> None:
        """Deletes the file when the host exits."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class LiveStatus(msgspec.Struct, frozen=True):
    """The content of the file."""

    at: float
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    progress: msgspec.Raw


def read_live_status(state: Path) -> LiveStatus | None:
    """The status of the running host; None if there is none, or it was killed or is stuck."""
    try:
        live = msgspec.json.decode((state / LIVE_FILE).read_bytes(), type=LiveStatus)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    fresh = abs(time.time() - live.at) < FRESH_S and psutil.pid_exists(live.pid)
    return live if fresh else None
