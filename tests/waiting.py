"""Waiting in tests: for a condition and not for a time."""

import threading
import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], within_s: float = 5.0, every_s: float = 0.005) -> bool:
    """Whether `condition` becomes true in time. Asked every few milliseconds, and once more at the end."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(every_s)
    return bool(condition())
