"""A generator of libEnsemble by the gest-api standard, on the six-hump camel function of libEnsemble's tutorials."""

from typing import Any

from gest_api.vocs import VOCS
from libensemble.gen_classes import UniformSample

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

BATCHES = 15


@recorded
def objective(point: dict[str, float]) -> dict[str, float]:
    x, y = point["x"], point["y"]
    return {"f": (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2}


def run(recipe: Recipe | None) -> Any:
    generator = UniformSample(VOCS(variables={"x": [-3.0, 3.0], "y": [-2.0, 2.0]}, objectives={"f": "MINIMIZE"}))
    for _ in range(BATCHES):
        if recipe is not None:
            recipe(generator=generator, objective=objective)
            continue
        points = generator.suggest(8)
        generator.ingest([{**point, **objective(point)} for point in points])
    return generator.suggest(1)
