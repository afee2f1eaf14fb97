"""After the example of PyGAD's README: weights for which six inputs give a wanted output."""

from typing import Any

import numpy as np
import pygad

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

INPUTS, WANTED = (4, -2, 3.5, 5, -11, -4.7), 44


@recorded
def fitness(solution: Any) -> float:
    return float(1.0 / (np.abs(np.sum(solution * INPUTS) - WANTED) + 0.000001))


def fitness_of_one(ga_instance: Any, solution: Any, index: int) -> float:
    return fitness(solution)


def run(recipe: Recipe | None) -> Any:
    settings = {
        "num_generations": 4,
        "num_parents_mating": 7,
        "sol_per_pop": 50,
        "num_genes": len(INPUTS),
        "random_seed": 9,
        "suppress_warnings": True,
    }
    if recipe is None:
        ga_instance = pygad.GA(fitness_func=fitness_of_one, **settings)
    else:
        ga_instance = recipe(pygad=pygad, fitness=fitness, settings=settings)["ga_instance"]
    ga_instance.run()
    return ga_instance.population, ga_instance.best_solutions_fitness
