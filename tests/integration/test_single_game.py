"""`pipeline check` and `pipeline try`: one game on this computer, without a farm."""

import subprocess
import sys
from pathlib import Path

import pytest

from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.settings import EvaluatorTable
from pipeline.core.model import trial_seed

pytestmark = pytest.mark.processes

GAME = """
import os
from pathlib import Path


def play(genome, trial):
    text = genome.read_text()
    print("seed", trial.seed, "level", trial.settings["level"], "password" if "FARM_PASSWORD" in os.environ else "")
    if text == "bad":
        raise ValueError("no such move")
    Path("artifacts", "replay.txt").write_text("moves")
    return {"fitness": len(text), "metrics": {"moves": 2}}
"""
CONFIG = r"""
[settings]
level = 3
[generation]
seed = 7
[evaluator]
python = "game:play"
[evaluator.environment]
allow = ["*"]
[[worker]]
name = "vm-0"
share = '\\vm-0\exchange'
account = "player"
secret = "env:FARM_PASSWORD"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one genome; its farm has a share whose password is in an environment variable."""
    monkeypatch.setenv("FARM_PASSWORD", "hunter2")
    (tmp_path / "pipeline.toml").write_text(CONFIG)
    (tmp_path / "game.py").write_text(GAME)
    genomes = tmp_path / "genomes" / "gen-0002"
    genomes.mkdir(parents=True)
    (genomes / "good.txt").write_text("good")
    return tmp_path


def pipeline(project: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words, "--root", project],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_try_shows_output_result_and_artifacts(project: Path) -> None:
    """With the seed that the genome's first trial has in a run."""
    code, shown = pipeline(project, "try", "genomes/gen-0002/good.txt", "--keep", "kept")

    seed = trial_seed(7, 2, 1)
    assert code == 0
    assert f"  seed {seed} level 3" in shown
    assert "artifact: replay.txt, 5 bytes" in shown
    assert "metric: moves = 2" in shown
    assert f"completed: fitness 4 (seed {seed}, " in shown
    assert (project / "kept" / "replay.txt").read_text() == "moves"


def test_try_records_nothing(project: Path) -> None:
    """No results, no state."""
    before = {path for path in project.rglob("*") if "__pycache__" not in path.parts}

    pipeline(project, "try", "genomes/gen-0002/good.txt", "--seed", "9")

    assert {path for path in project.rglob("*") if "__pycache__" not in path.parts} == before


def test_try_names_failure(project: Path) -> None:
    """With the reason that a run would record, and exit code 1."""
    (project / "bad.txt").write_text("bad")

    code, shown = pipeline(project, "try", "bad.txt", "--seed", "9")

    assert code == 1
    assert "failed: ValueError: no such move (game.py, line 10) (seed 9, " in shown
    assert "Traceback" in shown


def test_game_does_not_see_secrets_of_the_host(project: Path) -> None:
    """Also where all variables are allowed."""
    _code, shown = pipeline(project, "try", "genomes/gen-0002/good.txt")

    assert "password" not in shown


def test_missing_genome_is_bad_input(project: Path) -> None:
    """One line and exit code 2."""
    code, shown = pipeline(project, "try", "genomes/gen-0002/none.txt")

    assert code == 2
    assert "none.txt: cannot be read: No such file or directory; give the path of a genome file" in shown


def test_check_plays_a_genome_of_the_newest_generation(project: Path) -> None:
    """After it has loaded the evaluator."""
    code, shown = pipeline(project, "check")

    assert code == 0
    assert "evaluator: game:play of" in shown
    version = EvaluatorFiles(EvaluatorTable(python="game:play"), project).version()
    assert f"version: {version}, 1 file counts\n" in shown
    assert "completed: fitness 4" in shown


@pytest.mark.parametrize("words", [("check",), ("try", "genomes/gen-0002/good.txt")])
def test_ignored_keys_are_shown(project: Path, words: tuple[str, ...]) -> None:
    """A number beside the fitness is most likely a metric."""
    (project / "game.py").write_text("def play(genome, trial):\n    return {'fitness': 1, 'score': 3}\n")

    code, shown = pipeline(project, *words)

    assert code == 0
    assert "the returned value: only `fitness` and `metrics` are read, these keys are ignored: score\n" in shown


def test_check_names_what_cannot_be_loaded(project: Path) -> None:
    """The module's own error, and exit code 1."""
    (project / "game.py").write_text("import no_such_library")

    code, shown = pipeline(project, "check")

    assert code == 1
    assert (
        "it cannot be loaded: cannot import game:play: ModuleNotFoundError: No module named 'no_such_library'" in shown
    )


def test_check_names_files_that_cannot_be_determined(project: Path) -> None:
    """As a run would: bad configuration, before anything is played."""
    config = CONFIG.replace('python = "game:play"', 'python = "game:play"\nfiles = ["levels/*.json"]')
    (project / "pipeline.toml").write_text(config)

    code, shown = pipeline(project, "check")

    assert code == 2
    assert "no file matches 'levels/*.json' of `files` in [evaluator]; correct the pattern" in shown
    assert "completed" not in shown


def test_check_without_genomes_loads_only(project: Path) -> None:
    """There is nothing to play yet."""
    (project / "genomes" / "gen-0002" / "good.txt").unlink()

    assert pipeline(project, "check")[0] == 0


def test_evaluator_of_other_computers_cannot_be_checked(project: Path) -> None:
    """Its [evaluator] table names nothing; it is in agent.toml of the machines."""
    (project / "pipeline.toml").write_text("[local]\nworkers = 0\n")

    code, shown = pipeline(project, "check")

    assert code == 2
    assert "[evaluator] names nothing to play" in shown
