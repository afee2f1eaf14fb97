"""A few generations under random faults; `make chaos RUNS=100` runs many."""

from pathlib import Path

import pytest

from tests.programs.chaos import one_run

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", [2])
def test_generation_survives_random_faults(tmp_path: Path, seed: int) -> None:
    """Hosts, agents and games are killed and stopped at any moment: each genome counts once, `verify` passes, no
    process remains."""
    chaos, outcomes = one_run(seed, tmp_path / "farm")

    assert chaos.counts.total() >= 4
    assert outcomes["completed"] > 0
