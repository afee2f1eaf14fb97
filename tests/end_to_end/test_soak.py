"""The soak itself, for some seconds: `make soak HOURS=24` plays for as long as it is told to."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.source_tree import ROOT
from tests.programs.soak.samples import read_samples

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def test_short_soak_counts_each_genome_once_and_draws_its_samples(tmp_path: Path) -> None:
    """Under faults, with generations in all ways, pruning, a kill of the watch and a changed evaluator."""
    options = ["--hours", "0.007", "--seed", "4", "--pause-s", "1", "--fault-every-s", "1", "--sample-every-s", "0.5"]
    command = [sys.executable, "-m", "tests.programs.soak", *options, "--generations-per-evaluator", "2"]

    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "prune and verify" in done.stdout
    assert "kill watch 1" in done.stdout
    samples = read_samples(tmp_path / "samples.csv")
    assert samples[-1].settled > 0
    assert max(sample.agents for sample in samples) >= 3
    assert (tmp_path / "soak.svg").read_text(encoding="utf-8").startswith("<svg")
    begun = [line for line in (tmp_path / "faults.txt").read_text().splitlines() if line.endswith("begins")]
    assert begun, done.stdout
