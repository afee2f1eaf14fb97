"""After adaptive's tutorial, a 1D learner on a function with a sharp peak. Steady state: not reproducible."""

from typing import Any

import adaptive

from tests.contrib.objectives import peak
from tests.contrib.recipes import Recipe


def run(recipe: Recipe | None) -> Any:
    assert recipe is not None
    learner = adaptive.Learner1D(peak, bounds=(-1, 1))
    recipe(adaptive=adaptive, learner=learner)
    assert learner.npoints >= 40
    assert learner.data == {x: peak(x) for x in learner.data}
    return learner.data
