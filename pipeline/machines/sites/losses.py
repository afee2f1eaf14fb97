"""Which problems of a site that does not answer are said: one, although a restart shows several in a few seconds."""

import time

from pipeline.machines.sites.site_link import SiteRefused

STEADY_S = 10.0  #: that a site refuses the same, before that is said, too: a process that ends may still hold its lock


class Losses:
    """The problems of one site since it was open."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._last, self._since = "", 0.0
        self._was_open = False

    def note(self, error: Exception) -> bool:
        """Notes a problem; whether it is to be said.

        That is the first one, and what is to be changed at the site: why it refuses.
        """
        problem = str(error)
        if problem != self._last:
            self._last, self._since = problem, time.monotonic()
        if problem in self._said:
            return False
        is_steady = time.monotonic() >= self._since + STEADY_S
        is_said = not self._said or (isinstance(error, SiteRefused) and (error.is_final or is_steady))
        self._said |= {problem} if is_said else set()
        return is_said

    def end(self) -> bool:
        """The site is open; whether it was lost before, and that was said."""
        is_back, self._was_open = self._was_open and bool(self._said), True
        self._said, self._last = set(), ""
        return is_back
