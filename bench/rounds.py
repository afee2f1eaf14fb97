"""Measures programs in turn, A B C A B C …, and takes medians, so that other load affects all of them alike."""

import statistics
import sys
from collections.abc import Callable, Mapping

from bench.apart import NotMeasured

ROUNDS = 3
Figures = dict[str, float]


def in_turn(measurements: Mapping[str, Callable[[], Figures]], rounds: int = ROUNDS) -> dict[str, Figures | str]:
    """For every measurement the median of each of its figures, or why there are none."""
    found: dict[str, list[Figures]] = {name: [] for name in measurements}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name, measure in measurements.items():
            if name in failures:
                continue
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            try:
                found[name].append(measure())
            except NotMeasured as error:
                failures[name] = str(error)
    return {
        name: {figure: statistics.median(each[figure] for each in figures) for figure in figures[0]}
        if figures
        else failures[name]
        for name, figures in found.items()
    }


def figure(measured: Figures | str, name: str) -> float | None:
    """One figure of a measurement, if there is one."""
    return None if isinstance(measured, str) else measured[name]


def note(*measured: Figures | str) -> str:
    """Why a comparison is not possible; empty if it is."""
    return next((each for each in measured if isinstance(each, str)), "")
