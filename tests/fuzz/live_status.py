"""`state/live.json`."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.paths import LIVE_FILE
from pipeline.storage.live_status import LiveStatus, read_live_status
from tests.fuzz.target import FuzzTarget

_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-live-")


def _decode(data: bytes) -> None:
    state = Path(_PLACE.name)
    (state / LIVE_FILE).write_bytes(data)
    assert isinstance(read_live_status(state), LiveStatus | None)


def _seeds() -> Iterator[bytes]:
    for at, pid in ((time.time(), os.getpid()), (0.0, 1), (1e300, 2**31 - 1), (-1, 2**31), (None, "1")):
        yield json.dumps({"at": at, "pid": pid, "progress": {"workers": []}}).encode()


TARGET = FuzzTarget(_decode, (), _seeds)
