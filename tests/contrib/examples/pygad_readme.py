"""After the example of PyGAD's README: weights for which six inputs give a wanted output."""

from typing import Any

import pygad

from tests.contrib.objectives import INPUTS, fitness
from tests.contrib.recipes import Recipe


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
