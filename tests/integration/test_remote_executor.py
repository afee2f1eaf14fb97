"""Calls of Python functions on a farm elsewhere: their values come back equal and of the same types."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import EvaluationFailed
from pipeline.calls.remote_executor import open_remote_executor
from pipeline.remote import RemoteFarm, connect
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import http_farm
from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

#: The evaluator of a farm whose genomes are calls.
CALLS = f"""python = "pipeline.calls.player:play"
version = "calls-1"
environment.set.PYTHONPATH = '{ROOT}'"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls") / "farm"


@pytest.fixture(scope="module")
def farm(root: Path) -> Iterator[RemoteFarm]:
    project = FarmProject(root)
    project.configure(workers=2, evaluator=CALLS, failures_max=1)
    with http_farm(project.root) as served, connect(served.url, token=served.secret("control")) as farm:
        yield farm


def given(value: Any) -> Any:
    return value


def test_numbers_come_back_exactly(farm: RemoteFarm) -> None:
    values = [0.1, -1e-308, 5e-324, math.pi, 2.0**60, -0.0, 7]
    with open_remote_executor(farm) as executor:
        assert list(executor.map(given, values)) == values
        assert executor.starmap(math.dist, [([0, 0], [3, 4])]) == [5.0]
        assert executor.pool().map(given, [1.5]) == [1.5]
        assert executor.submit(given, executor.shared(2.5)).result() == 2.5
        assert executor.workers == 2


def test_values_come_back_with_their_types(farm: RemoteFarm) -> None:
    """Those that are not a finite float travel as artifacts."""
    values = [1, True, None, "text", b"bytes", (1.0, 2), [1.0, [2]], {"a": 1, 2: (3,)}, 1j, math.inf, 2**70]
    with open_remote_executor(farm) as executor:
        found = list(executor.map(given, values))
        array = executor.submit(squares, 5).result()
    assert (found, [*map(type, found)]) == (values, [*map(type, values)])
    assert (array[0].tolist(), str(array[0].dtype), array[1]) == ([0, 1, 4, 9, 16], "int64", 5)


def squares(count: int) -> Any:
    import numpy

    return numpy.arange(count, dtype="int64") ** 2, count


def test_value_that_cannot_travel_is_refused_where_it_is_made(farm: RemoteFarm) -> None:
    with open_remote_executor(farm) as executor, pytest.raises(EvaluationFailed, match="cannot be returned"):
        executor.submit(given, object).result()


def test_value_that_was_pruned_is_missing(farm: RemoteFarm, root: Path) -> None:
    """A program that goes on with its generation is told, and what is a float still comes back."""
    with open_remote_executor(farm) as executor:
        assert list(executor.map(given, [(1,), 2.0])) == [(1,), 2.0]
    number = farm.generation
    for value in (root / "results").glob(f"gen-{number:04d}/attempts/*/files/*"):
        value.unlink()
    with open_remote_executor(farm, generation=number) as again:
        missing, kept = again.submit(given, (1,)), again.submit(given, 2.0)
        assert kept.result() == 2.0
        with pytest.raises(EvaluationFailed, match="not kept"):
            missing.result()


class Counted:
    """A value that changes when it is pickled."""

    def __init__(self) -> None:
        self.pickled = 0

    def __getstate__(self) -> dict[str, int]:
        self.pickled += 1
        return self.__dict__


def pickled_times(value: Counted) -> int:
    return value.pickled


def test_shared_value_is_pickled_once(farm: RemoteFarm) -> None:
    """So all calls get it as it was."""
    with open_remote_executor(farm) as executor:
        value = executor.shared(Counted())
        assert list(executor.map(pickled_times, [value] * 3)) == [1, 1, 1]


def test_failed_call_may_have_a_value(farm: RemoteFarm) -> None:
    with open_remote_executor(farm, failed=math.inf) as executor:
        assert list(executor.map(math.sqrt, [4, -1])) == [2.0, math.inf]


def test_program_goes_on_with_its_generation(farm: RemoteFarm) -> None:
    """Calls that it had made are answered from the ledger; a shut down executor takes none."""
    with open_remote_executor(farm) as executor:
        first = list(executor.map(given, [1.0, 2.0]))
    number = farm.generation
    with open_remote_executor(farm, generation=number) as again:
        assert list(again.map(given, [1.0, 2.0, 3.0])) == [*first, 3.0]
    with pytest.raises(RuntimeError, match="after shutdown"):
        again.submit(given, 1.0)
