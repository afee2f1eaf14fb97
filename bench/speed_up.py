"""Speed-up: the rate of N workers relative to one, on evaluations that each take 50 ms of CPU time."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import farm
from bench.apart import apart
from bench.machine import cores
from bench.rounds import ROUNDS, figure, in_turn, note
from bench.table import Row
from bench.targets import SPEED_UP_PER_WORKER, at_least


def rows(place: Path, workers: Sequence[int], *, quick: bool) -> list[Row]:
    """One row for each number of workers; more workers than cores are for information."""
    each = 20 if quick else 100
    numbers = sorted({1, *workers})
    measured = in_turn(
        {
            f"{n} workers": partial(apart, farm.measure, place, count=each * n, order="spin 0.05", workers=n)
            for n in numbers
        },
        1 if quick else ROUNDS,
    )
    one_worker = measured["1 workers"]
    found = []
    for n in numbers[1:]:
        ours = measured[f"{n} workers"]
        found.append(
            Row(
                what=f"speed-up of {n} workers, 50 ms evaluations",
                figure=figure(ours, "rate"),
                unit="/s",
                reference=figure(one_worker, "rate"),
                against="one worker",
                target=at_least(SPEED_UP_PER_WORKER * n) if n <= cores() else None,
                note=note(ours, one_worker),
            )
        )
    return found
