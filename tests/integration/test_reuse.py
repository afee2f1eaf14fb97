"""Generations with `reuse = "same-seeds"`: an elite is not played again, and where its fitness comes from is told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from pipeline import ConfigError, Evaluator, Fitness, open_farm
from pipeline.api import OpenFarm
from pipeline.core.facts import Fact, RunOpened, TrialSettled
from pipeline.errors import ExitCode
from pipeline.inspection.verify import verify
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger
from tests.harness.command_line import pipeline
from tests.harness.farm_project import GAMES

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)
WITH_REPLAY = """
def play(genome, trial):
    (trial.scratch / "artifacts").mkdir(exist_ok=True)
    (trial.scratch / "artifacts" / "replay.bin").write_bytes(b"1")
    return float(trial.seed)
"""


def genome(number: int) -> bytes:
    return json.dumps({"n": number}).encode()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[OpenFarm]:
    with open_farm(
        tmp_path, evaluator=GAME, workers=2, trials_per_genome=2, seed=3, seeds="fixed", reuse="same-seeds"
    ) as opened:
        yield opened


def root_of(farm: OpenFarm) -> Path:
    return farm.results.parents[1]


def attempts_of(farm: OpenFarm) -> int:
    """How many attempts the generation that was evaluated last has."""
    return int(json.loads((farm.results / "summary.json").read_text())["attempts"]["issued"])


def test_elite_keeps_its_fitness_without_a_game(farm: OpenFarm) -> None:
    """Under another name; a genome that is new is played."""
    first = farm.evaluate({"a": genome(1), "b": genome(2)})
    second = farm.evaluate({"elite": genome(1), "c": genome(3)})

    assert attempts_of(farm) == 2
    assert second["elite"] == first["a"]
    assert second["c"].value not in (None, first["a"].value)
    assert all(audit.passed for audit in verify(root_of(farm), None))


def test_next_process_reuses_what_the_ledger_has(tmp_path: Path) -> None:
    """Also what was itself reused; the files are those of the game that was played."""
    (tmp_path / "replaying.py").write_text(WITH_REPLAY)
    evaluator = Evaluator(python="replaying:play", folder=tmp_path)
    found = list[Fitness]()
    for _ in range(3):
        with open_farm(tmp_path, evaluator=evaluator, workers=1, seeds="fixed", reuse="same-seeds") as farm:
            found.append(farm.evaluate({"a": b"1"})["a"])
            issued = attempts_of(farm)

    assert issued == 0
    assert found[0] == found[1] == found[2]
    assert found[2].files is not None
    assert (found[2].files / "replay.bin").read_bytes() == b"1"


def test_submitted_elite_is_answered_at_once(farm: OpenFarm) -> None:
    """Its future gets the result of the generation before."""
    with farm.open_generation():
        before = farm.submit(genome(1)).result(timeout=60)
    with farm.open_generation():
        again = farm.submit(genome(1)).result(timeout=60)
        new = farm.submit(genome(2)).result(timeout=60)

    assert again == before != new
    assert attempts_of(farm) == 2


def test_changed_evaluator_plays_everything(tmp_path: Path) -> None:
    """No fitness of an earlier version counts for the new one."""
    for version in ("one", "two"):
        evaluator = replace(GAME, version=version)
        with open_farm(tmp_path, evaluator=evaluator, workers=1, seeds="fixed", reuse="same-seeds") as farm:
            fitness = farm.evaluate({"a": genome(1)})["a"]
            issued = attempts_of(farm)

    assert (fitness.evaluator, issued) == ("two", 3)


def test_people_are_told_where_a_fitness_comes_from(farm: OpenFarm, capsys: pytest.CaptureFixture[str]) -> None:
    """`explain` names the generation, and `summary.json` has the number of trials."""
    for _ in range(2):
        farm.evaluate({"a": genome(1)})

    code, told, _errors = pipeline(capsys, "explain", "--gen", "2", "a", "--root", root_of(farm))

    assert code == ExitCode.OK
    assert "of generation 1, without a game" in told
    assert json.loads((farm.results / "summary.json").read_text())["trials_reused"] == 2


def test_verify_finds_a_reused_fitness_that_no_game_gave(farm: OpenFarm) -> None:
    """It is compared with the attempt that it names, because its own generation has no result to compare it with."""
    for _ in range(2):
        farm.evaluate({"a": genome(1)})
    root = root_of(farm)
    ledger = Ledger(ProjectPaths(root).state)
    facts = [entry.fact for entry in ledger.entries_of(2)]
    ledger.append([_of_generation_3(fact) for fact in facts], 0.0, 3, 1)
    ledger.close()

    audits = verify(root, 3)

    assert [audit.count_holds for audit in audits] == [False]
    assert "had the fitness" in audits[0].problems[0]


def _of_generation_3(fact: Fact) -> Fact:
    """A fact of generation 2, as of a third one with another fitness."""
    if isinstance(fact, RunOpened):
        return structs.replace(fact, generation=3)
    return structs.replace(fact, fitness=1e6) if isinstance(fact, TrialSettled) else fact


def test_reuse_needs_fixed_seeds(tmp_path: Path) -> None:
    """With seeds of each generation nothing would ever be reused, which is told at once."""
    farm = open_farm(tmp_path, evaluator=GAME, workers=1, reuse="same-seeds")
    with pytest.raises(ConfigError, match='needs seeds = "fixed"'), farm:
        pass
