"""After adaptive's tutorial, a 1D learner on a function with a sharp peak. Steady state: not reproducible."""

from typing import Any

import adaptive

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

OFFSET, WIDTH = 0.1, 0.01


@recorded
def peak(x: float) -> float:
    return x + WIDTH**2 / (WIDTH**2 + (x - OFFSET) ** 2)


def run(recipe: Recipe | None) -> Any:
    assert recipe is not None
    learner = adaptive.Learner1D(peak, bounds=(-1, 1))
    recipe(adaptive=adaptive, learner=learner)
    assert learner.npoints >= 40
    assert learner.data == {x: peak(x) for x in learner.data}
    return learner.data
