"""Warns once when a disk of this host is nearly full, and once more if that comes again after there was room."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.disk_room import bytes_text, low_bytes, reserve_bytes
from pipeline.core.limits import Limits

log = logging.getLogger(__name__)

INTERVAL_S = 30.0
_WARN_AGAIN_FACTOR = 1.5  #: so many times the threshold must be free before another warning


class DiskWatch:
    """Looks at the disks of these folders every half minute."""

    def __init__(self, limits: Limits, folders: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._folders, self._clock = limits, folders, clock
        self._due = 0.0
        self._warned = False

    def look(self) -> None:
        """Looks if it is time. A disk that cannot be asked is left out."""
        if (now := self._clock()) < self._due:
            return
        self._due = now + INTERVAL_S
        looks = [(folder, *look) for folder in self._folders if (look := _free_and_total(folder)) is not None]
        low = [look for look in looks if look[1] < low_bytes(self._limits, look[2])]
        if low and not self._warned:
            self._warned = True
            folder, free, total = low[0]
            log.warning(
                "%s: only %s are free on its disk; below %s artifacts are left out, and a full disk stops the run; "
                "`pipeline prune --older-than 30d --what-if` shows what can be removed",
                folder,
                bytes_text(free),
                bytes_text(reserve_bytes(self._limits, total)),
            )
        elif all(free >= _WARN_AGAIN_FACTOR * low_bytes(self._limits, total) for _folder, free, total in looks):
            self._warned = False


def _free_and_total(folder: Path) -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free, usage.total
