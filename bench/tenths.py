"""The course of a long generation: the rate of each tenth of it, and the longest pause of the control loop."""

import time
from collections.abc import Callable
from itertools import pairwise

from bench.samples import NotMeasured

PARTS = 10


class Tenths:
    """What is seen at the ends of ticks, from the first one with a result on. Needs the same memory however many."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._results = 0
        self._marks: list[tuple[float, int]] = []  #: time and results at the begin of the first tenth and at all ends
        self._last_tick_s = 0.0
        self.longest_pause_s = 0.0  #: between the ends of two ticks, the second of which had results to take

    @property
    def over(self) -> bool:
        """Whether all tenths were seen."""
        return len(self._marks) > PARTS

    def on_tick(self, results: int) -> None:
        """To be called at the end of every tick, with the number of its results."""
        now = self._clock()
        self._results += results
        if results and self._marks:
            self.longest_pause_s = max(self.longest_pause_s, now - self._last_tick_s)
        self._last_tick_s = now
        while results and not self.over and self._results >= self._count * len(self._marks) / PARTS:
            self._marks.append((now, self._results))

    def rates(self) -> list[float]:
        """Results per second in each tenth.

        Raises:
            NotMeasured: they were not all seen, or too short.
        """
        spans = [(last[0] - first[0], last[1] - first[1]) for first, last in pairwise(self._marks)]
        if not self.over or not all(wall_s > 0 for wall_s, _results in spans):
            raise NotMeasured(f"too short to measure: {self._results} results")
        return [results / wall_s for wall_s, results in spans]
