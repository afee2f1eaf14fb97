"""Measures programs in turn, A B C A B C …, so that other load affects all of them alike."""

import sys
from collections.abc import Callable, Mapping

from bench.samples import NotMeasured, Samples

ROUNDS = 3
Figures = dict[str, float]
Measured = dict[str, Samples] | str  #: each figure in every round, or why there are none


def in_turn(measurements: Mapping[str, Callable[[], Figures]], rounds: int = ROUNDS) -> dict[str, Measured]:
    """Runs every measurement once in every round; one that fails is left out of the rounds after it."""
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
    return {name: _samples(figures) if figures else failures[name] for name, figures in found.items()}


def once(what: str, measure: Callable[[], Figures]) -> Measured:
    """A measurement that is not repeated."""
    return in_turn({what: measure}, 1)[what]


def figure(measured: Measured, name: str) -> Samples | None:
    """One figure of a measurement, if there is one."""
    return None if isinstance(measured, str) else measured.get(name)


def note(*measured: Measured) -> str:
    """Why a comparison is not possible; empty if it is."""
    return next((each for each in measured if isinstance(each, str)), "")


def _samples(figures: list[Figures]) -> dict[str, Samples]:
    return {name: Samples(tuple(each[name] for each in figures)) for name in figures[0]}
