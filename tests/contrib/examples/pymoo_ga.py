"""After pymoo's guide, Parallelization, Starmap Interface; and its constrained problem BNH with NSGA-II."""

from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded


@recorded
def sum_of_squares(x: Any) -> Any:
    return (x**2).sum()


@recorded
def binh_korn(x: Any) -> dict[str, list[float]]:
    first, second = x
    return {
        "F": [4 * first**2 + 4 * second**2, (first - 5) ** 2 + (second - 5) ** 2],
        "G": [(first - 5) ** 2 + second**2 - 25, 7.7 - (first - 8) ** 2 - (second + 3) ** 2],
    }


class Sphere(ElementwiseProblem):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_var=10, n_obj=1, n_ieq_constr=0, xl=-5, xu=5, **kwargs)

    def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = sum_of_squares(x)


class BinhKorn(ElementwiseProblem):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_var=2, n_obj=2, n_ieq_constr=2, xl=np.zeros(2), xu=np.array([5.0, 3.0]), **kwargs)

    def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out.update(binh_korn(x))


def run(recipe: Recipe | None) -> Any:
    found = []
    for problem_class, algorithm, generations in ((Sphere, GA(), 2), (BinhKorn, NSGA2(pop_size=40), 2)):
        problem = problem_class() if recipe is None else recipe(MyProblem=problem_class)["problem"]
        result = minimize(problem, algorithm, termination=("n_gen", generations), seed=1)
        found.append((result.X, result.F))
    return found
