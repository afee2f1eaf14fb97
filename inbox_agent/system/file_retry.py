"""Retries for busy files: Windows refuses access while a virus scanner, an indexer or an ending process has one open.

Owns: which errors are transient and how long they are retried. On other systems none is.
"""

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Windows errors while another process has the file open: access denied, sharing violation, lock violation.
BUSY_WINERRORS = frozenset({5, 32, 33})
TRIES_MAX = 12
WAIT_S_MAX = 2.5


def is_busy(error: OSError) -> bool:
    """Whether an error may be transient."""
    winerror = getattr(error, "winerror", None)
    if winerror is None:  # `os.open` uses the C runtime, which has one code for all three
        return sys.platform == "win32" and error.errno == errno.EACCES
    return winerror in BUSY_WINERRORS


def retry_while_busy(act: Callable[[], T], is_busy: Callable[[OSError], bool] = is_busy) -> T:
    """Runs one operation on a file; retries while it is busy, bounded in count and time.

    Raises:
        OSError: the operation's error, if it is permanent or outlasts the retries.
    """
    deadline = time.monotonic() + WAIT_S_MAX
    for attempt in range(1, TRIES_MAX + 1):
        try:
            return act()
        except OSError as error:
            pause_s = 0.01 * 2 ** min(attempt, 5)
            if not is_busy(error) or attempt == TRIES_MAX or time.monotonic() + pause_s > deadline:
                raise
            time.sleep(pause_s)
    raise AssertionError("unreachable")
