"""After Nevergrad's guide, Optimization, Using several workers. Steady state: not reproducible."""

from typing import Any

import nevergrad as ng
import numpy as np

from tests.contrib.objectives import square
from tests.contrib.recipes import Recipe


def run(recipe: Recipe | None) -> Any:
    optimizer = ng.optimizers.TwoPointsDE(parametrization=2, budget=100, num_workers=5)
    optimizer.parametrization.random_state = np.random.RandomState(12)
    assert recipe is not None
    recipe(optimizer=optimizer, square=square)
    told = [(value.parameter.value, value.mean) for value in optimizer.archive.values()]
    assert len(told) == optimizer.budget
    assert all(square(x) == value for x, value in told)
    return told
