"""After DEAP's examples/ga/onemax_mp.py; fewer individuals and generations."""

import array
import random
from typing import Any

import numpy as np
from deap import algorithms, base, creator, tools

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

SIZE, GENERATIONS = 100, 3

creator.create("FitnessMax", base.Fitness, weights=(1.0,))
creator.create("Individual", array.array, typecode="b", fitness=creator.FitnessMax)


@recorded
def evaluate_one_max(individual: Any) -> tuple[int]:
    return (sum(individual),)


def run(recipe: Recipe | None) -> Any:
    toolbox = base.Toolbox()
    toolbox.register("attr_bool", random.randint, 0, 1)
    toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.attr_bool, 100)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", evaluate_one_max)
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.05)
    toolbox.register("select", tools.selTournament, tournsize=3)
    if recipe is not None:
        recipe(toolbox=toolbox)
    random.seed(64)
    stats = tools.Statistics(lambda individual: individual.fitness.values)
    for name in ("mean", "std", "min", "max"):
        stats.register(name, getattr(np, name))
    best = tools.HallOfFame(1)
    population, logbook = algorithms.eaSimple(
        toolbox.population(n=SIZE),
        toolbox,
        cxpb=0.5,
        mutpb=0.1,
        ngen=GENERATIONS,
        stats=stats,
        halloffame=best,
        verbose=False,
    )
    return list(map(list, population)), list(logbook), list(best[0])
