"""What one game does reaches no other one: whole farms of local workers."""

import sys
from pathlib import Path

import pytest

from pipeline import Evaluator, StalledError, open_farm
from tests.harness.evaluator_harness import has_ended

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

RUINOUS = """
STATE = {"ruined": False}


def play(genome, trial):
    if STATE["ruined"]:
        raise RuntimeError("an earlier game has ruined this process")
    if genome.read_bytes() == b"ruin":
        STATE["ruined"] = True
        raise ValueError("ruined")
    return 1.0
"""

SLOW_IMPORT = """
import time

time.sleep(3)


def play(genome, trial):
    return 1.0
"""

HIDING = """
import os, pathlib, sys, time

DAEMON = "import os, time; open('daemon', 'w').write(str(os.getpid())); time.sleep(600)"


def play(genome, trial):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", DAEMON], {})
        os._exit(0)
    while not (os.path.exists("daemon") and (pid := pathlib.Path("daemon").read_text())):
        time.sleep(0.01)
    if genome.read_bytes() == b"kills its agent":
        pathlib.Path(__file__).with_name("left").write_text(pid)
        os.kill(os.getppid(), 9)
        time.sleep(600)
    return float(pid)
"""

UNGUARDED = """
from pipeline import Evaluator, open_farm


def play(genome, trial):
    return 1.0


with open_farm("farm-of-a-game", evaluator=Evaluator(python="game:play"), workers=1) as farm:
    farm.evaluate({"a": b"a"})
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("position", [0, 20, 39])
def test_failing_genome_costs_no_other_genome(tmp_path: Path, workers: int, position: int) -> None:
    """It ruins the module's state and fails; wherever it is in the queue, all others get their fitness."""
    (tmp_path / "game.py").write_text(RUINOUS)
    genomes = {f"g{n:02}": b"ruin" if n == position else b"fine" for n in range(40)}

    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=workers) as farm:
        scores = farm.evaluate(genomes)

    assert [name for name, score in scores.items() if score.value is None] == [f"g{position:02}"]
    assert "ValueError: ruined" in scores[f"g{position:02}"].reason


def test_evaluator_that_opens_a_farm_is_one_clear_error(tmp_path: Path) -> None:
    """Without the guard every import would open another farm, whose workers import it again."""
    (tmp_path / "game.py").write_text(UNGUARDED)

    with (
        open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=1) as farm,
        pytest.raises(StalledError, match='below `if __name__ == "__main__":`'),
    ):
        farm.evaluate({f"g{n}": b"x" for n in range(6)})

    assert not list(tmp_path.rglob("farm-of-a-game"))


@pytest.mark.skipif(sys.platform != "linux", reason="Windows has job objects instead of daemons")
def test_daemons_of_games_end_with_the_games_and_with_killed_agents(tmp_path: Path) -> None:
    """They hide. One has killed its agent, which no game can outlive, but a daemon could."""
    (tmp_path / "game.py").write_text(HIDING)
    config = "[generation]\ntrials_per_genome = 1\nattempts_max = 1\n"
    (tmp_path / "pipeline.toml").write_text(config)

    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=1) as farm:
        scores = farm.evaluate({"a": b"fine", "b": b"kills its agent", "c": b"fine"})

    daemons = [scores["a"].value, scores["c"].value, float((tmp_path / "left").read_text())]
    assert [pid for pid in daemons if pid is None or not has_ended(int(pid))] == []
    assert scores["b"].value is None


@pytest.mark.parametrize(
    "evaluator",
    [Evaluator(python="no_such_module:play"), Evaluator(command=["no-such-program", "{genome}", "{result}"])],
    ids=["function", "command"],
)
def test_missing_evaluator_costs_no_attempt(tmp_path: Path, evaluator: Evaluator) -> None:
    """The host checks it before the first attempt."""
    with (
        open_farm(tmp_path, evaluator=evaluator, workers=2) as farm,
        pytest.raises(StalledError, match=r"cannot be loaded: .*no.such.(module|program)"),
    ):
        farm.evaluate({f"g{n:03}": b"x" for n in range(104)})

    assert not (tmp_path / "results" / "gen-0001" / "results.jsonl").exists()


def test_generation_continues_once_the_evaluator_can_be_loaded(tmp_path: Path) -> None:
    """In the same program, with the same generation."""
    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=1) as farm:
        with pytest.raises(StalledError, match="cannot be loaded"):
            farm.evaluate({"g": b"fine"}, generation=1)
        (tmp_path / "game.py").write_text(RUINOUS)

        assert farm.evaluate({"g": b"fine"}, generation=1)["g"].value == 1.0


def test_import_longer_than_the_time_limit_costs_no_genome(tmp_path: Path) -> None:
    """The time limit is that of a game."""
    (tmp_path / "game.py").write_text(SLOW_IMPORT)

    with open_farm(tmp_path, evaluator=Evaluator(python="game:play", time_limit_s=2), workers=2) as farm:
        scores = farm.evaluate({f"g{n}": b"x" for n in range(6)})

    assert [score.value for score in scores.values()] == [1.0] * 6
