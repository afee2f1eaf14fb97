"""Schemathesis over the served OpenAPI, against a real farm: `python -m tests.programs.http_fuzz --minutes 10`.

Half of the time with requests about a generation that is open, half with requests about any. The exit code is that of
Schemathesis: 0 if no answer was unexpected.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm

#: Every genome can be played: the fuzzer sends any bytes.
GAME = "def play(genome, trial):\n    return 1.0\n"
CONFIG = """
headers = {{ Authorization = "Bearer {token}" }}
request-timeout = 40
max-stream-events = 3
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "401", "403", "404", "409", "422", "429", "501"]
[[operations]]
# the body needs a number, or the request a key; a name is more than a text: OpenAPI cannot say so
include-operation-id = ["open_generation", "put_genome"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "429"]
"""
#: Long polls would take the time of a short run.
SHORT = """
[[operations]]
include-operation-id = ["settled", "events"]
parameters = { wait_s = 0.1 }
"""
OPEN = """
[[operations]]
include-operation-id = ["generation", "genomes", "submit", "genome", "put_genome", "cancel", "settled", "artifacts"]
parameters = {{ "path.number" = {number} }}
"""


def fuzz(farm: HttpFarm, folder: Path, *, is_open: bool, examples: int, seed: int, minutes: float | None = None) -> int:
    """Runs Schemathesis; its output is that of this process."""
    config = CONFIG.format(token=farm.secret("control"))
    if is_open:
        config += OPEN.format(number=farm.operations.open_generation(key="fuzz").number)
    config += SHORT if minutes is None else ""
    path = folder / "schemathesis.toml"
    path.write_text(config)
    command = [sys.executable, "-c", "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"]
    phases = "fuzzing" if is_open and minutes is None else "coverage,fuzzing"
    options = ["--phases", phases, "--seed", str(seed), "--max-examples", str(examples), "--no-shrink"]
    options += ["--max-time", str(int(60 * minutes))] if minutes is not None else ["--generation-deterministic"]
    words = ["--config-file", str(path), "--no-color", "run", f"{farm.url}/v1/openapi.json", "--continue-on-failure"]
    return subprocess.run([*command, *words, *options], cwd=folder, check=False).returncode


def fuzzed_project(root: Path) -> FarmProject:
    """A project whose games play anything."""
    project = FarmProject(root)
    project.configure(workers=2, evaluator='python = "anything:play"')
    (root / "anything.py").write_text(GAME)
    return project


def main() -> int:
    """Runs both halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = fuzzed_project(Path(folder) / "farm")
        with http_farm(project.root) as farm:
            codes = [
                fuzz(
                    farm, Path(folder), is_open=is_open, examples=10_000, seed=options.seed, minutes=options.minutes / 2
                )
                for is_open in (True, False)
            ]
        project.close()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
