"""How often each share is looked at in full: at every poll, or rarely where the server tells of what arrives."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

#: Well below the silence limit, so that one look may fail. What arrives is told of; only claims and beats wait so long.
HEARING_POLL_S = 5.0


class Hears(Protocol):
    """A share whose server tells of news."""

    @property
    def hears(self) -> bool:
        """Whether it does so now."""


class Rhythm:
    """Remembers when each of these shares is due again."""

    def __init__(self, shares: Mapping[str, Hears], clock: Callable[[], float] = time.monotonic) -> None:
        self._shares, self._clock = shares, clock
        self._due: dict[str, float] = {}

    def resting(self, unsure: Collection[str]) -> set[str]:
        """The shares that need no look at this poll: their server tells of news, and the last look was good."""
        now = self._clock()
        found = set()
        for name, share in self._shares.items():
            if share.hears and name not in unsure and now < self._due.get(name, 0.0):
                found.add(name)
            else:  # never in step with others
                self._due[name] = now + HEARING_POLL_S * (0.75 + secrets.randbelow(512) / 1024)
        return found
