"""After neat-python's examples/xor/evolve-feedforward-parallel.py and its config-feedforward; fewer generations."""

import random
import tempfile
from pathlib import Path
from typing import Any

import neat

from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded

INPUTS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
OUTPUTS = (0.0, 1.0, 1.0, 0.0)
GENERATIONS = 3


def _attribute(name: str, kind: str, **values: object) -> str:
    lines = {"init_mean": 0.0, "init_stdev": 0.0, "init_type": kind, "max_value": 30.0, "min_value": -30.0}
    lines |= {"mutate_power": 0.0, "mutate_rate": 0.0, "replace_rate": 0.0, **values}
    return "\n".join(f"{name}_{key} = {value}" for key, value in lines.items())


CONFIG = f"""
[NEAT]
fitness_criterion = max
fitness_threshold = 3.9
no_fitness_termination = False
pop_size = 150
reset_on_extinction = False
[DefaultGenome]
activation_default = sigmoid
activation_mutate_rate = 0.0
activation_options = sigmoid
aggregation_default = sum
aggregation_mutate_rate = 0.0
aggregation_options = sum
{_attribute("bias", "gaussian", init_stdev=1.0, mutate_power=0.5, mutate_rate=0.7, replace_rate=0.1)}
{_attribute("response", "gaussian", init_mean=1.0)}
{_attribute("weight", "gaussian", init_stdev=1.0, mutate_power=0.5, mutate_rate=0.8, replace_rate=0.1)}
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.5
conn_delete_prob = 0.5
enabled_default = True
enabled_mutate_rate = 0.01
enabled_rate_to_false_add = 0.0
enabled_rate_to_true_add = 0.0
feed_forward = True
initial_connection = full
node_add_prob = 0.2
node_delete_prob = 0.2
num_hidden = 0
num_inputs = 2
num_outputs = 1
single_structural_mutation = false
structural_mutation_surer = default
[DefaultSpeciesSet]
compatibility_threshold = 3.0
[DefaultStagnation]
max_stagnation = 20
species_elitism = 2
species_fitness_func = max
[DefaultReproduction]
elitism = 2
min_species_size = 2
survival_threshold = 0.2
"""


def eval_genome(genome: Any, config: Any) -> float:
    return fitness(genome, neat.nn.FeedForwardNetwork.create(genome, config))


@recorded
def fitness(genome: Any, net: Any) -> float:
    error: float = sum((net.activate(x)[0] - wanted) ** 2 for x, wanted in zip(INPUTS, OUTPUTS, strict=True))
    return 4.0 - error


def eval_genomes(genomes: list[tuple[int, Any]], config: Any) -> None:
    """The example's serial sibling, evolve-feedforward.py."""
    for _key, genome in genomes:
        genome.fitness = eval_genome(genome, config)


def run(recipe: Recipe | None) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config"
        path.write_text(CONFIG, encoding="utf-8")
        parts = (neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet, neat.DefaultStagnation)
        config = neat.Config(*parts, str(path))
    random.seed(7)
    population = neat.Population(config)
    if recipe is None:
        return population.run(eval_genomes, GENERATIONS)
    return recipe(population=population, eval_genome=eval_genome, generations=GENERATIONS)["winner"]
