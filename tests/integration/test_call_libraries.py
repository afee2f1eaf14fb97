"""What libraries need beside an executor, without the libraries: `make test-contrib` plays with them."""

import random
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import MissingExtraError, open_executor, register_joblib
from pipeline.calls.executor import FarmExecutor
from pipeline.contrib.neat import FarmEvaluator
from pipeline.paths import ProjectPaths
from tests.harness import called_functions as called

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def genomes(*keys: int) -> list[tuple[int, Any]]:
    return [(key, SimpleNamespace(key=key, fitness=None)) for key in keys]


def test_neat_genomes_get_their_fitness(tmp_path: Path) -> None:
    """The config is written once, and the counter in it is left alone."""
    config = SimpleNamespace(genome_config=SimpleNamespace(node_indexer=count(5), inputs=2))
    first, second = genomes(1, 2, 3), genomes(4)
    with open_executor(tmp_path, workers=1) as executor:
        evaluator = FarmEvaluator(executor, called.inputs_times_key)
        evaluator.evaluate(first, config)
        evaluator.evaluate(second, config)

    assert [genome.fitness for _key, genome in first + second] == [2, 4, 6, 8]
    assert next(config.genome_config.node_indexer) == 5
    assert len(list(ProjectPaths(tmp_path).shared_values.iterdir())) == 1


def test_neat_evaluator_with_a_seed_draws_the_same_numbers(tmp_path: Path) -> None:
    """Those that neat-python's own parallel evaluator draws."""
    config = SimpleNamespace(genome_config=SimpleNamespace(node_indexer=None))
    population = genomes(7, 8)
    with open_executor(tmp_path, workers=1) as executor:
        FarmEvaluator(executor, called.drawn, seed=42).evaluate(population, config)

    assert [genome.fitness for _key, genome in population] == [random.Random(42 + key).random() for key in (7, 8)]


def test_missing_joblib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    executor: Any = FarmExecutor.__new__(FarmExecutor)

    with pytest.raises(MissingExtraError, match=r'joblib is not installed.*; run: pip install "joblib>='):
        register_joblib(executor)


def test_classes_are_pickled_as_their_library_says(tmp_path: Path) -> None:
    """DEAP makes classes at run time, and has told pickle how to make them again."""
    with open_executor(tmp_path, workers=1) as executor:
        assert executor.submit(called.name_of, called.Made("Individual")()).result() == "Individual"
