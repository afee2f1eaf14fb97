"""The interval that a rate is measured in: from the first tick of the host with a result to the last."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.cpu import CpuTime, cpu_time
from bench.samples import NotMeasured, per_second
from pipeline.core.facts import Fact, Settlement, TrialSettled


class _Mark(NamedTuple):
    wall_s: float
    cpu: CpuTime
    results: int


class Interval:
    """Wall and CPU time, and the results, between the ends of the first tick with a result and of the last one.

    The results of the first tick are not counted. The last tick of a generation ends when its outputs are written.
    """

    def __init__(
        self, count: int, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], CpuTime] = cpu_time
    ) -> None:
        self._count, self._clock, self._cpu = count, clock, cpu
        self._begun_s = clock()
        self._results = 0
        self._first: _Mark | None = None
        self._last: _Mark | None = None

    def on_facts(self, facts: Sequence[Fact]) -> None:
        """To be called at the end of every tick, with its facts."""
        settled = [fact.settlement for fact in facts if isinstance(fact, TrialSettled)]
        assert set(settled) <= {Settlement.COMPLETED}, settled
        if not settled:
            return
        self._results += len(settled)
        if self._first is None:
            self._first = self._mark()
        elif self._results == self._count:
            self._last = self._mark()

    def figures(self) -> dict[str, float]:
        """Results per second; CPU microseconds of the host and of all processes for each; the rate of the whole call.

        Raises:
            NotMeasured: it was too short.
        """
        assert self._results == self._count, f"{self._results} of {self._count} were completed"
        if self._first is None or self._last is None:
            raise NotMeasured(f"too short to measure: one tick had all {self._count} results")
        wall_s, played = self._last.wall_s - self._first.wall_s, self._last.results - self._first.results
        rate = per_second(played, wall_s)  # first: what is too short for a rate has no CPU time either
        host_s, all_s = (last - first for first, last in zip(self._first.cpu, self._last.cpu, strict=True))
        return {
            "rate": rate,
            "whole_rate": self._count / (self._last.wall_s - self._begun_s),
            "host_us": 1e6 * host_s / played,
            "all_us": 1e6 * all_s / played,
        }

    def _mark(self) -> _Mark:
        wall_s = self._clock()  # first, so that reading the CPU times is never left out
        return _Mark(wall_s, self._cpu(), self._results)
