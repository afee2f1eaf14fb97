"""Poll schedule: full scans of a share at every poll, or less often where the server sends change notifications.

Threads: all methods are called by the control loop.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from pipeline.core.farm import Farm
from pipeline.core.observed import Observed

#: Longest pause while trials are played: results are notified, only claims and heartbeats wait for a poll.
BUSY_POLL_S = 5.0
#: Longest pause of an idle share: well below half of the silence limit, so that one scan may fail.
IDLE_POLL_S = 12.0


class Notifying(Protocol):
    """A share on a server that may send change notifications."""

    @property
    def notifies(self) -> bool:
        """Whether notifications are working now."""


class PollSchedule:
    """Knows when each of these shares was last scanned in full."""

    def __init__(
        self, shares: Mapping[str, Notifying], silence_limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shares, self._clock = shares, clock
        self._busy_s = min(BUSY_POLL_S, silence_limit_s / 6)
        self._idle_s = min(IDLE_POLL_S, silence_limit_s * 0.4)
        self._scanned_at: dict[str, float] = {}

    def due(self, farm: Farm, observed: Observed) -> set[str]:
        """The workers with shares that this poll must scan. It may skip those with working notifications, a certain
        state and a recent scan.
        """
        now = self._clock()
        found = set(farm.workers)
        for name, share in self._shares.items():
            worker, seen = farm.workers[name], observed.workers[name]
            pause_s = self._busy_s if worker.wanted or worker.left_published else self._idle_s
            certain = share.notifies and seen.readable and seen.alive
            if certain and now - self._scanned_at.get(name, -pause_s) < pause_s:
                found.discard(name)
            else:  # jittered, so that shares are not polled together
                self._scanned_at[name] = now - pause_s * secrets.randbelow(256) / 1024
        return found
