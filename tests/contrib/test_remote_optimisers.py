"""Recipes for optimisers on a farm elsewhere, over HTTP, without a change: with floats, tuples and lists as values."""

import time
from pathlib import Path

import pytest

from pipeline.calls.remote_executor import open_remote_executor
from pipeline.remote import connect
from tests.contrib.conftest import Row
from tests.contrib.test_optimisers import played, serial
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import http_farm
from tests.harness.source_tree import ROOT

pytestmark = [
    pytest.mark.contrib,
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # of the libraries' own
]

EVALUATOR = f"""python = "pipeline.calls.player:play"
version = "calls-1"
environment.set.PYTHONPATH = '{ROOT}'"""


@pytest.mark.parametrize("title", ["SciPy", "Nevergrad", "PyGAD", "DEAP", "neat-python", "joblib and scikit-learn"])
def test_trajectory_elsewhere_is_the_serial_one(title: str, tmp_path: Path, rows: list[Row]) -> None:
    """Every argument and every value, in order."""
    expected = serial(title)
    began, project = time.monotonic(), FarmProject(tmp_path / "farm")
    project.configure(workers=2, evaluator=EVALUATOR)
    with (
        http_farm(project.root) as served,
        connect(served.url, token=served.secret("submit")) as farm,
        open_remote_executor(farm) as executor,
    ):
        found = played(title, executor)

    assert (found.result, found.submitted) == (expected.result, expected.submitted)
    rows.append(Row(f"{title}, elsewhere", "", found.evaluations, time.monotonic() - began))
