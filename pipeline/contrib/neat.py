"""neat-python on a farm: `population.run(FarmEvaluator(executor, eval_genome).evaluate, 300)`."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a worker imports this module, and need not have the host's
    from pipeline.calls.executor import FarmExecutor


class FarmEvaluator:
    """Takes the place of `neat.ParallelEvaluator`.

    neat-python's config holds the counter of node keys, and each pickling of it uses up one: its own ParallelEvaluator
    evolves other genomes than a serial run does. Here the config is shared without the counter, once for all calls.
    """

    def __init__(
        self,
        executor: "FarmExecutor",
        eval_function: Callable[[Any, Any], float],
        *,
        seed: int | None = None,
    ) -> None:
        """Creates it for `eval_function(genome, config)`.

        Args:
            seed: an evaluator that draws from `random` needs it to be reproducible: `random` is seeded with
                `seed + genome.key` before each call, as ParallelEvaluator does.
        """
        self._executor, self._eval_function, self._seed = executor, eval_function, seed
        self._config: Any = None
        self._shared: Any = None

    def evaluate(self, genomes: Sequence[tuple[int, Any]], config: Any) -> None:
        """Gives each genome its fitness.

        Raises:
            EvaluationFailed: a call failed. neat-python needs a number for each genome: with
                `open_executor(failed=0.0)` it gets that one.
        """
        if self._shared is None or config is not self._config:
            with _without_counter(config):
                self._config, self._shared = config, self._executor.shared(config)
        call = partial(_evaluate, self._eval_function, self._shared, self._seed)
        fitnesses = self._executor.map(call, [genome for _key, genome in genomes])
        for (_key, genome), fitness in zip(genomes, fitnesses, strict=True):
            genome.fitness = fitness


def _evaluate(function: Callable[[Any, Any], float], config: Any, seed: int | None, genome: Any) -> float:
    if seed is not None:
        random.seed(seed + genome.key)
    return function(genome, config)


@contextmanager
def _without_counter(config: Any) -> Iterator[None]:
    genome_config = config.genome_config
    counter, genome_config.node_indexer = genome_config.node_indexer, None
    try:
        yield
    finally:
        genome_config.node_indexer = counter
