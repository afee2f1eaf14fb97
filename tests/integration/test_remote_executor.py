"""Calls of Python functions on a farm elsewhere: numbers come back, exactly, and nothing else."""

import math
from collections.abc import Iterator
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
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteFarm]:
    project = FarmProject(tmp_path_factory.mktemp("calls") / "farm")
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


@pytest.mark.parametrize("value", [(1.0,), [1.0], "1", None, True, math.inf, math.nan, 2**53 + 1, 1j], ids=repr)
def test_other_values_are_refused_where_they_are_made(farm: RemoteFarm, value: object) -> None:
    """A part of them would be a wrong value."""
    with open_remote_executor(farm) as executor, pytest.raises(EvaluationFailed, match="cannot come back"):
        executor.submit(given, value).result()


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
