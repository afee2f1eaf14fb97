"""After the docstring of cma's EvalParallel2, class and context manager for parallel evaluations."""

from typing import Any

import cma
from cma.optimization_tools import EvalParallel2

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded


@recorded
def elli(x: Any, cond: float) -> float:
    return float(cma.ff.elli(x, cond=cond))


def run(recipe: Recipe | None) -> Any:
    es = cma.CMAEvolutionStrategy(3 * [1], 1, {"verbose": -9, "ftarget": 1e-3, "seed": 5})
    if recipe is not None:
        recipe(es=es, elli=elli, EvalParallel2=EvalParallel2)
        return es.result.xbest, es.result.fbest, es.result.evaluations
    evaluate = EvalParallel2(elli, 0)
    while not es.stop():
        solutions = es.ask()
        es.tell(solutions, evaluate(solutions, args=(1e1,)))
    return es.result.xbest, es.result.fbest, es.result.evaluations
