"""Waiting in tests: for a condition and not for a time."""

import sys
import threading
import time
from collections.abc import Callable

#: Under Wine a host needs ten seconds to begin and an agent five; elsewhere neither needs one.
PATIENCE = 4 if sys.platform == "win32" else 1
PATIENCE_S = 30.0 * PATIENCE  #: after which what a test waits for is not to be hoped for any more


def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S, every_s: float = 0.005) -> bool:
    """Whether `condition` becomes true in time. Asked every few milliseconds, and once more at the end."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(every_s)
    return bool(condition())
