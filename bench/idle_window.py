"""A window of time in which a host has nothing to do: its CPU time, threads and memory."""

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from bench.farm import Farm
from bench.samples import NotMeasured
from pipeline import Progress

READY_LIMIT_S, LOOK_INTERVAL_S = 120.0, 1.0


class _WindowOver(Exception):
    """Ends the generation that was played."""


class _Mark(NamedTuple):
    wall_s: float
    cpu_s: float


def idle_figures(
    farm: Farm, ready: Callable[[Progress], bool], *, settle_s: float, window_s: float
) -> dict[str, float]:
    """Plays the generation that was begun until the window is over: it begins `settle_s` after the farm is `ready`.

    No progress is looked at from then on: that would cost more than the idle host.

    Raises:
        NotMeasured: the farm did not get ready.
    """
    window = _Window(farm, ready, settle_s, window_s)
    with contextlib.suppress(_WindowOver):
        farm.play(window.on_facts)
    return window.figures()


class _Window:
    def __init__(self, farm: Farm, ready: Callable[[Progress], bool], settle_s: float, window_s: float) -> None:
        self._farm, self._ready = farm, ready
        self._settle_s, self._window_s = settle_s, window_s
        self._process = psutil.Process()
        self._begun_s = self._look_due_s = time.monotonic()
        self._ready_s: float | None = None
        self._marks: list[_Mark] = []

    def on_facts(self, _facts: object) -> None:
        now = time.monotonic()
        if self._ready_s is None:
            self._look(now)
        elif not self._marks and now - self._ready_s > self._settle_s:
            self._marks.append(_Mark(now, time.process_time()))
        elif self._marks and now - self._marks[0].wall_s > self._window_s:
            self._marks.append(_Mark(now, time.process_time()))
            raise _WindowOver

    def _look(self, now: float) -> None:
        if now >= self._look_due_s:
            self._look_due_s = now + LOOK_INTERVAL_S
            if self._ready(self._farm.progress()):
                self._ready_s = now
        if now - self._begun_s > READY_LIMIT_S:
            raise NotMeasured(f"the farm was not ready after {READY_LIMIT_S:g} s")

    def figures(self) -> dict[str, float]:
        if len(self._marks) < 2:
            raise NotMeasured("the games were over before the window was")
        first, last = self._marks
        return {
            "percent": 100 * (last.cpu_s - first.cpu_s) / (last.wall_s - first.wall_s),
            "threads": self._process.num_threads(),
            "mb": self._process.memory_info().rss / 1e6,
        }
