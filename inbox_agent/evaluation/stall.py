"""Whether a running game still makes progress: it reports another `progress:` line within a time."""

import time
from collections.abc import Callable


class ProgressWatch:
    """Watches the progress text of one game."""

    def __init__(
        self, progress: Callable[[], str], limit_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`progress` gives the latest text, empty before the first; without a limit nothing stalls."""
        self._progress, self._limit_s, self._clock = progress, limit_s, clock
        self._last, self._changed_at = progress(), clock()

    def until_due_s(self) -> float:
        """How long it may be waited for the game before `stall_reason` must be called."""
        if self._limit_s is None:
            return float("inf")
        return self._changed_at + self._limit_s - self._clock()

    def stall_reason(self) -> str:
        """Why the game counts as stalled; empty while it does not. Call it often: it notes when the text changes."""
        if self._limit_s is None:
            return ""
        if (latest := self._progress()) != self._last:
            self._last, self._changed_at = latest, self._clock()
        if self._clock() < self._changed_at + self._limit_s:
            return ""
        last = f'the last was "{self._last}"' if self._last else "it never reported any"
        return f"stalled: no new progress for stall_limit_s = {self._limit_s:g}; {last}"
