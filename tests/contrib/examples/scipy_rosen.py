"""After the first example of scipy.optimize.differential_evolution, Rosenbrock's function; fewer iterations."""

from typing import Any

from scipy.optimize import differential_evolution
from scipy.optimize import rosen as rosenbrock

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

SETTINGS: dict[str, Any] = {"rng": 1, "maxiter": 2, "polish": False}


@recorded
def rosen(x: Any) -> float:
    return float(rosenbrock(x))


def run(recipe: Recipe | None) -> Any:
    bounds = [(0, 2), (0, 2), (0, 2), (0, 2), (0, 2)]
    if recipe is None:
        result = differential_evolution(rosen, bounds, updating="deferred", **SETTINGS)
    else:
        names = {
            "differential_evolution": differential_evolution,
            "rosen": rosen,
            "bounds": bounds,
            "settings": SETTINGS,
        }
        result = recipe(**names)["result"]
    return result.x, result.fun, result.nfev
