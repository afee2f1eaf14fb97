"""Measures contenders in turn, A B C A B C …, and takes medians: a noisy minute then hits all of them."""

import statistics
import sys
from collections.abc import Callable, Mapping

from bench.apart import NotMeasured

ROUNDS = 3
Figures = dict[str, float]


def in_turn(contenders: Mapping[str, Callable[[], Figures]], rounds: int = ROUNDS) -> dict[str, Figures | str]:
    """For every contender the median of each of its figures, or why there are none."""
    found: dict[str, list[Figures]] = {name: [] for name in contenders}
    trouble: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            if name in trouble:
                continue
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            try:
                found[name].append(measure())
            except NotMeasured as error:
                trouble[name] = str(error)
    return {
        name: {figure: statistics.median(each[figure] for each in figures) for figure in figures[0]}
        if figures
        else trouble[name]
        for name, figures in found.items()
    }


def figure(measured: Figures | str, name: str) -> float | None:
    """One figure of a contender, if it was measured."""
    return None if isinstance(measured, str) else measured[name]


def note(*measured: Figures | str) -> str:
    """Why a comparison is not possible; empty if it is."""
    return next((each for each in measured if isinstance(each, str)), "")
