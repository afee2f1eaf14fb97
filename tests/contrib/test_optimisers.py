"""Optimisers of others play their own examples on a farm as they do in one process, bit for bit, whatever is killed.

The hooks are the recipes of docs/how-to/optimiser-recipes.md. The libraries are imported only when such a test runs.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline import open_executor
from pipeline.calls.executor import FarmExecutor
from tests.contrib.conftest import Row
from tests.contrib.executors import SerialExecutor, traced
from tests.contrib.kills import HIGH_LIMITS, Kills
from tests.contrib.recipes import Recipe, blocks, opening_program, recipe
from tests.contrib.trajectory import canonical, recording
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [
    pytest.mark.contrib,
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # of the libraries' own
]

#: Section of the page -> package on the index, and module of its example.
REPRODUCIBLE = {
    "neat-python": ("neat-python", "neat_xor"),
    "DEAP": ("deap", "deap_onemax"),
    "pymoo": ("pymoo", "pymoo_ga"),
    "Nevergrad": ("nevergrad", "nevergrad_batches"),
    "Optuna": ("optuna", "optuna_batches"),
    "cma": ("cma", "cma_elli"),
    "PyGAD": ("pygad", "pygad_readme"),
    "SciPy": ("scipy", "scipy_rosen"),
    "pyribs": ("ribs", "pyribs_sphere"),
    "joblib and scikit-learn": ("scikit-learn", "joblib_roots"),
    "LEAP": ("leap-ec", "leap_maxones"),
    "Generators of the gest-api standard": ("libensemble", "gest_sampling"),
}
STEADY_STATE = {
    "adaptive": ("adaptive", "adaptive_peak"),
    "Nevergrad, in one line": ("nevergrad", "nevergrad_minimize"),
}
LINES_MAX = 5


@dataclass
class Played:
    """What a library did with its recipe."""

    result: Any
    submitted: str  #: digest of all calls and values, in order
    called: str  #: digest of the calls of the objective function in this process
    evaluations: int
    kills: int = 0


def example(title: str) -> Callable[[Recipe | None], Any]:
    """What plays the library's own example: with a recipe, or without a hook."""
    _package, module = {**REPRODUCIBLE, **STEADY_STATE}[title]
    run: Callable[[Recipe | None], Any] = import_module(f"tests.contrib.examples.{module}").run
    return run


def played(title: str, executor: FarmExecutor) -> Played:
    """Plays the example of a section with its recipe."""
    submitted = traced(executor)
    with recording() as called:
        result = canonical(example(title)(recipe(title, executor)))
    assert eventually(lambda: submitted.is_complete, PATIENCE_S)
    return Played(result, submitted.digest, called.digest, len(submitted))


@cache
def serial(title: str) -> Played:
    """In this process."""
    with TemporaryDirectory() as folder:
        return played(title, SerialExecutor(Path(folder)))


@pytest.fixture
def on_farm(rows: list[Row], tmp_path: Path) -> Callable[..., Played]:
    """Plays on two workers, adds a row to the table, and kills if it is told to."""

    def play(title: str, *, kill: bool = False) -> Played:
        began = time.monotonic()
        (tmp_path / "pipeline.toml").write_text(HIGH_LIMITS if kill else "", encoding="utf-8")
        with open_executor(tmp_path, workers=2) as executor, Kills(executor) if kill else nullcontext() as kills:
            found = played(title, executor)
        found.kills = kills.count if kills else 0
        package, _module = {**REPRODUCIBLE, **STEADY_STATE}[title]
        rows.append(Row(title, version(package), found.evaluations, time.monotonic() - began, found.kills))
        return found

    return play


def test_page_begins_with_a_program_that_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", opening_program()]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[1, 2]\n", "")


def test_each_recipe_is_short_and_played() -> None:
    assert blocks().keys() == REPRODUCIBLE.keys() | STEADY_STATE.keys()
    lines = {title: len(code.replace("\n\n", "\n").splitlines()) for title, code in blocks().items()}
    assert max(lines.values()) <= LINES_MAX, lines


@pytest.mark.parametrize("title", REPRODUCIBLE)
def test_recipe_does_not_change_what_a_library_does(title: str) -> None:
    """Alone it makes the same calls in the same order and ends with the same result."""
    with recording() as called:
        result = canonical(example(title)(None))

    assert len(called) > 0
    assert (result, called.digest) == (serial(title).result, serial(title).called)


@pytest.mark.parametrize("title", REPRODUCIBLE)
def test_trajectory_on_a_farm_is_the_serial_one(title: str, on_farm: Callable[..., Played]) -> None:
    found = on_farm(title)

    assert (found.result, found.submitted) == (serial(title).result, serial(title).submitted)


@pytest.mark.parametrize("title", REPRODUCIBLE)
def test_trajectory_is_the_serial_one_whatever_is_killed(title: str, on_farm: Callable[..., Played]) -> None:
    """Agents and evaluator processes, one a second."""
    found = on_farm(title, kill=True)

    assert (found.result, found.submitted) == (serial(title).result, serial(title).submitted)
    assert found.kills > 0


@pytest.mark.parametrize("title", STEADY_STATE)
def test_steady_state_gets_every_value(title: str, on_farm: Callable[..., Played]) -> None:
    """Its trajectory is another one each time; the example checks the values."""
    assert on_farm(title, kill=True).evaluations >= 40
