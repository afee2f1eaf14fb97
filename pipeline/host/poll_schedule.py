"""How often each share is looked at in full: at every poll, or rarely where the server tells of what arrives."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

#: At most, where something is played. What arrives is told of; only claims and beats wait so long.
BUSY_POLL_S = 5.0
#: At most, where nothing is: well below half of the silence limit, so that one look may fail.
IDLE_POLL_S = 12.0


class Notifying(Protocol):
    """A share whose server tells of news."""

    @property
    def notifies(self) -> bool:
        """Whether it does so now."""


class PollSchedule:
    """Remembers when each of these shares was looked at."""

    def __init__(
        self, shares: Mapping[str, Notifying], silence_limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shares, self._clock = shares, clock
        self._busy_s = min(BUSY_POLL_S, silence_limit_s / 6)
        self._idle_s = min(IDLE_POLL_S, silence_limit_s * 0.4)
        self._scanned_at: dict[str, float] = {}

    def not_due(self, uncertain: Collection[str], busy: Collection[str]) -> set[str]:
        """The shares that need no look at this poll: their server tells of news, and the last look was good."""
        now = self._clock()
        found = set()
        for name, share in self._shares.items():
            pause_s = self._busy_s if name in busy else self._idle_s
            if share.notifies and name not in uncertain and now - self._scanned_at.get(name, -pause_s) < pause_s:
                found.add(name)
            else:  # never in step with others
                self._scanned_at[name] = now - pause_s * secrets.randbelow(256) / 1024
        return found
