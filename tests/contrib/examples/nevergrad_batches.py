"""After Nevergrad's guide, Optimization, Ask and tell interface; with TwoPointsDE, since NGOpt fails with NumPy 2.4."""

from typing import Any

import nevergrad as ng
import numpy as np

from tests.contrib.objectives import square
from tests.contrib.recipes import Recipe


def run(recipe: Recipe | None) -> Any:
    optimizer = ng.optimizers.TwoPointsDE(parametrization=2, budget=120, num_workers=6)
    optimizer.parametrization.random_state = np.random.RandomState(12)
    if recipe is not None:
        return recipe(optimizer=optimizer, square=square)["recommendation"].value
    while optimizer.num_ask < optimizer.budget:
        candidates = [optimizer.ask() for _ in range(optimizer.num_workers)]
        for candidate in candidates:
            optimizer.tell(candidate, square(*candidate.args))
    return optimizer.provide_recommendation().value
