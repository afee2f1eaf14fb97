"""After the docstring of leap_ec.algorithm.generational_ea, MaxOnes; a larger population, fewer generations."""

import random
from typing import Any

import numpy as np
from leap_ec import Representation, ops
from leap_ec.algorithm import generational_ea
from leap_ec.binary_rep.initializers import create_binary_sequence
from leap_ec.binary_rep.ops import mutate_bitflip
from leap_ec.binary_rep.problems import MaxOnes
from leap_ec.individual import Individual

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

SIZE, GENERATIONS = 30, 4


@recorded
def count_ones(phenome: Any) -> int:
    return int(np.count_nonzero(phenome))


class CountedOnes(MaxOnes):  # type: ignore[misc]
    def evaluate(self, phenome: Any) -> int:
        return count_ones(phenome)


def run(recipe: Recipe | None) -> Any:
    random.seed(1)
    np.random.seed(1)
    pool = ops.pool(size=SIZE)
    if recipe is None:
        first, last = Individual.evaluate_population, [ops.evaluate, pool]
    else:
        first = recipe(Individual=Individual)["evaluate_on_farm"]
        last = [pool, first]
    population = generational_ea(
        max_generations=GENERATIONS,
        pop_size=SIZE,
        problem=CountedOnes(),
        representation=Representation(initialize=create_binary_sequence(length=30)),
        pipeline=[
            ops.tournament_selection,
            ops.clone,
            mutate_bitflip(expected_num_mutations=1),
            ops.UniformCrossover(p_swap=0.4),
            *last,
        ],
        init_evaluate=first,
    )
    return [(individual.genome, individual.fitness) for individual in population]
