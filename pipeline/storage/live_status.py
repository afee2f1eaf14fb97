"""`state/live.json`: what a host that is at work shows of itself to whoever looks on; an old one shows nothing.

It decides when a host counts as being at work. Facts are in the ledger; this is the rest: who plays what, for how long,
and what the games say of their progress.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import psutil

from pipeline.paths import LIVE_FILE

INTERVAL_S, FRESH_S = 1.0, 10.0


class LiveStatusFile:
    """The host's side, which writes when it is due."""

    def __init__(self, state: Path) -> None:
        self._path = state / LIVE_FILE
        self._due = 0.0

    def write(self, progress: object) -> None:
        """Shows where the run stands: any record. A file that cannot be written is nobody's loss."""
        self._due = time.monotonic() + INTERVAL_S
        aside = self._path.with_name(f".{LIVE_FILE}.new")
        with contextlib.suppress(OSError):
            aside.write_bytes(orjson.dumps({"at": time.time(), "pid": os.getpid(), "progress": progress}))
            os.replace(aside, self._path)

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() >= self._due

    def remove(self) -> None:
        """Nobody is at work any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class LiveStatus(msgspec.Struct, frozen=True):
    """What was written last."""

    at: float
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    progress: msgspec.Raw


def read_live_status(state: Path) -> LiveStatus | None:
    """What a host at work shows; None if there is none, or it was killed or is stuck."""
    try:
        live = msgspec.json.decode((state / LIVE_FILE).read_bytes(), type=LiveStatus)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    fresh = abs(time.time() - live.at) < FRESH_S and psutil.pid_exists(live.pid)
    return live if fresh else None
