"""Patience with busy files: Windows refuses for a moment what a virus scanner, an indexer or a dying process has open.

It decides what such a refusal looks like and for how long it is asked again. Elsewhere a refusal lasts.
"""

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Windows says these while somebody holds the file: access denied, sharing, lock.
BUSY_WINERRORS = frozenset({5, 32, 33})
TRIES_MAX = 12
WAIT_S_MAX = 2.5


def is_busy(error: OSError) -> bool:
    """Whether an error may pass by itself."""
    winerror = getattr(error, "winerror", None)
    if winerror is None:  # `os.open` asks the C runtime there, which knows one word for all three
        return sys.platform == "win32" and error.errno == errno.EACCES
    return winerror in BUSY_WINERRORS


def retry_while_busy(act: Callable[[], T], is_busy: Callable[[OSError], bool] = is_busy) -> T:
    """Runs one operation on a file; a busy file is asked again, bounded in count and time.

    Raises:
        OSError: what the operation raises that does not pass.
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
