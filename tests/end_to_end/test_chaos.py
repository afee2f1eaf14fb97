"""A few generations under random blows; many of them: `make chaos RUNS=100`."""

from pathlib import Path

import pytest

from tests.programs.chaos import one_run

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", [2])
def test_generation_survives_random_faults(tmp_path: Path, seed: int) -> None:
    """Hosts, agents and games killed and stopped at any moment: counted once, verified from outside, nobody left."""
    chaos, outcomes = one_run(seed, tmp_path / "farm")

    assert chaos.counts.total() >= 4
    assert outcomes["completed"] > 0
