"""An optimiser that never waits for a whole batch keeps the workers busy. The figure is printed, not asserted."""

import csv
import random
from concurrent.futures import FIRST_COMPLETED, wait
from datetime import datetime
from itertools import islice
from pathlib import Path

import pytest

from pipeline import open_executor
from pipeline.calls.executor import FarmExecutor
from tests.harness.called_functions import sleep

pytestmark = [pytest.mark.contrib, pytest.mark.processes, pytest.mark.timeout(120)]

WORKERS, SUBMITTED, JOBS, WARM_UP = 2, 4, 120, 4
TARGET = 0.95


def test_steady_state_keeps_workers_busy(tmp_path: Path, notes: list[str]) -> None:
    """Four jobs of 20 to 200 ms are submitted at any time."""
    dice = random.Random(5)
    jobs = [dice.uniform(0.02, 0.2) for _ in range(JOBS)]
    with open_executor(tmp_path, workers=WORKERS) as executor:
        list(executor.map(sleep, [0.05] * WARM_UP))
        values = steady_state(executor, jobs)

    assert sorted(values) == sorted(jobs)
    busy, whole = times(tmp_path / "results" / "gen-0001" / "attempts.csv")
    share = busy / (WORKERS * whole)
    notes.append(f"steady state: {JOBS} jobs of 20 to 200 ms, {WORKERS} workers busy {share:.0%} (target {TARGET:.0%})")


def steady_state(executor: FarmExecutor, jobs: list[float]) -> list[float]:
    """The values, in the order of completion."""
    left, values = iter(jobs), list[float]()
    waiting = {executor.submit(sleep, seconds) for seconds in islice(left, SUBMITTED)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        values += [future.result() for future in done]
        waiting |= {executor.submit(sleep, seconds) for seconds in islice(left, len(done))}
    return values


def times(path: Path) -> tuple[float, float]:
    """Seconds that workers played, and from the first begin to the last end."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["genome"]) > WARM_UP]
    began = min(datetime.fromisoformat(row["began"]) for row in rows)
    ended = max(datetime.fromisoformat(row["ended"]) for row in rows)
    return sum(float(row["seconds"]) for row in rows), (ended - began).total_seconds()
