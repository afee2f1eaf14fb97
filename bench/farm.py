"""The farm itself, through its public API: opens one, warms its workers up and measures one generation.

Rates and the host's CPU time are taken from progress reports, from the first that shows a result to the last.
"""

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.apart import ROOT
from bench.games import genomes
from pipeline import Evaluator, OpenFarm, Progress, open_farm

EVALUATOR = Evaluator(python="bench.games:play", folder=ROOT, time_limit_s=120.0)
NAPS_PER_WORKER = 10


class Interval:
    """Wall time, CPU time and count from the first progress report with a result to the last."""

    def __init__(self) -> None:
        self._first: tuple[float, float, int] | None = None
        self._last = (0.0, 0.0, 0)

    def note(self, progress: Progress) -> None:
        """For `on_progress`."""
        if progress.settled:
            self._last = (time.monotonic(), time.process_time(), progress.completed)
            self._first = self._first or self._last

    def figures(self, count: int) -> dict[str, float]:
        """Evaluations per second, and CPU milliseconds of this process for each."""
        assert self._first is not None
        assert self._last[2] == count, f"{self._last[2]} of {count} were completed"
        wall_s, cpu_s, played = (last - first for first, last in zip(self._first, self._last, strict=True))
        return {"rate": played / wall_s, "cpu_ms": 1000 * cpu_s / played}


def measure(folder: str, count: int, order: str = "noop 0", workers: int = 2, queue_depth: int = 0) -> dict[str, float]:
    """Rate and CPU time per evaluation; a queue depth of 0 is the default one."""
    interval = Interval()
    with warm_farm(folder, workers, queue_depth) as farm:
        farm.evaluate(genomes(order, count), on_progress=interval.note)
    return interval.figures(count)


@contextmanager
def warm_farm(folder: str, workers: int, queue_depth: int = 0) -> Iterator[OpenFarm]:
    """A farm in which every worker has completed an evaluation."""
    root = Path(folder) / "farm"
    root.mkdir()
    if queue_depth:
        (root / "pipeline.toml").write_text(f"[local]\nqueue_depth = {queue_depth}\n")
    with open_farm(root, evaluator=EVALUATOR, workers=workers, trials_per_genome=1) as farm:
        while True:
            farm.evaluate(genomes("nap 0.02", workers * NAPS_PER_WORKER))
            if len({row["pid"] for row in results(farm)}) == workers:
                break
        yield farm


def results(farm: OpenFarm) -> list[dict[str, str]]:
    """The rows of `results.csv` of the generation evaluated last."""
    with open(farm.results / "results.csv", newline="", encoding="utf-8-sig") as table:
        return list(csv.DictReader(table))
