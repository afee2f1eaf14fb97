"""Waiting for conditions in tests."""

import sys
import threading
import time
from collections.abc import Callable

#: Under Wine a host takes ten seconds to start and an agent five; elsewhere both are fast.
PATIENCE = 4 if sys.platform == "win32" else 1
PATIENCE_S = 30.0 * PATIENCE  #: the default time-out of tests


def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S, every_s: float = 0.005) -> bool:
    """Whether `condition` becomes true in time. It is checked every few milliseconds, and once more at the end."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(every_s)
    return bool(condition())
