"""What a program gets of each genome: fitness, metrics, attempts, files, evaluator and params."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import pytest

from pipeline import Evaluator, Fitness, GenomeError, Table, open_farm
from pipeline.api import OpenFarm
from pipeline.core.facts import GenomeAdded, ReusedResult
from pipeline.core.model import Attempt
from pipeline.host.genome_fitness import genome_fitness
from pipeline.views import results
from pipeline.views.results import METRIC_NAMES_MAX
from tests.harness.core import VERSION, CoreHarness
from tests.harness.farm_project import GAMES

GAME = Evaluator(python="game:play", folder=GAMES)


def played(**result: Any) -> CoreHarness:
    """A genome of two trials, of which both were played."""
    core = CoreHarness("w0", genomes=1, trials=2)
    core.run_until_ready()
    for number, attempt in enumerate(list(core.farm.attempts), 1):
        core.publish_result(attempt, fitness=float(number), **result)
    core.tick()
    return core


def fitness_of(core: CoreHarness, folder: Path, genome: int = 1) -> Fitness:
    return genome_fitness(core.farm, core.farm.genomes[genome - 1], folder)


def put_artifact(folder: Path, attempt: str) -> Path:
    """An artifact in an attempt's folder, which is returned."""
    files = folder / "attempts" / attempt / "files"
    files.mkdir(parents=True)
    (files / "replay.bin").write_bytes(b"1")
    return files


def test_fitness_has_what_was_found_out(tmp_path: Path) -> None:
    """Means over the trials, and who decided them."""
    core = played(metrics={"score": 3.0})

    found = fitness_of(core, tmp_path)

    assert (found.value, found.status, found.reason, found.trials) == (1.5, "completed", "", [1.0, 2.0])
    assert (found.metrics, found.evaluator, found.files, found.params) == ({"score": 3.0}, VERSION, None, {})
    assert found.attempts == list(core.farm.attempts)


def test_first_fields_keep_their_places() -> None:
    """Programs make them in their own tests, by position."""
    assert Fitness(1.0, "completed", "", [1.0]) == Fitness(value=1.0, status="completed", reason="", trials=[1.0])


@pytest.mark.parametrize("number", [0, 1])
def test_files_are_those_of_the_last_attempt_that_has_some(tmp_path: Path, number: int) -> None:
    """An empty folder, which a full disk leaves, counts as none."""
    core = played()
    first, last = core.farm.attempts
    expected = put_artifact(tmp_path, (first, last)[number])
    (tmp_path / "attempts" / last / "files").mkdir(parents=True, exist_ok=True)
    if number:
        put_artifact(tmp_path, first)

    assert fitness_of(core, tmp_path).files == expected


def test_open_genome_has_no_attempts(tmp_path: Path) -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()

    found = fitness_of(core, tmp_path)

    assert (found.value, found.status, found.attempts, found.metrics) == (None, "open", [], {})


def test_fitness_of_a_genome_looks_at_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scores of a generation cost in proportion to it, also with more metrics than a table has columns."""
    core = CoreHarness("w0", genomes=6)
    core.run_until_ready()
    while core.farm.open_trials:
        for attempt in [*core.farm.workers["w0"].wanted.values()]:
            genome = attempt.trial.genome.number
            core.publish_result(attempt.id, metrics={f"m-{genome}-{number:02d}": 1.0 for number in range(64)})
        core.tick()
    assert len(core.farm.counts.metrics) > METRIC_NAMES_MAX
    seen: list[str] = []
    real = results._counted

    def counting(farm: Any, genome: Any) -> list[Attempt | ReusedResult]:
        seen.append(genome.name)
        return real(farm, genome)

    monkeypatch.setattr(results, "_counted", counting)

    assert len(fitness_of(core, tmp_path, 6).metrics) == 64
    assert {*seen} == {"g6"}


# ------------------------------------------------------------------------------------------------------------- programs


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[OpenFarm]:
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        yield farm


@pytest.mark.processes
def test_params_are_in_scores_and_tables(farm: OpenFarm) -> None:
    """As they were first recorded: the same call again, with other ones, changes nothing."""
    genomes = {"a": b'{"n": 1}', "b": b'{"n": 2}'}
    scores = farm.evaluate(genomes, params={"a": {"rate": 0.5, "layers": 3}})
    again = farm.evaluate(genomes, params={"a": {"rate": 9}, "b": {"rate": 9}}, generation=1)

    assert_type(scores, dict[str, Fitness])
    assert_type(farm.table(), Table)
    assert [score.params for score in scores.values()] == [{"layers": 3, "rate": 0.5}, {}]
    assert again == scores
    assert farm.table()["param_rate"] == [0.5, None]
    header, row, *_ = (farm.results / "results.csv").read_text("utf-8-sig").splitlines()
    assert "param_layers,param_rate" in header
    assert ",3,0.5" in row


@pytest.mark.processes
def test_changed_params_of_a_fitness_are_not_those_of_the_farm(farm: OpenFarm) -> None:
    """A genome without params shares them with all others."""
    params: Any = farm.evaluate({"a": b'{"n": 1}'})["a"].params
    params["rate"] = 9

    assert farm.scores()["a"].params == {}


@pytest.mark.processes
@pytest.mark.parametrize("params", [{"b": {"rate": 1}}, {"a": {"rate": [1]}}, {"a": {"rate": float("nan")}}, [1]])
def test_unusable_params_leave_nothing(farm: OpenFarm, tmp_path: Path, params: Any) -> None:
    """They are refused before anything is written."""
    with pytest.raises(GenomeError, match="params"):
        farm.evaluate({"a": b'{"n": 1}'}, params=params)

    assert not (tmp_path / "genomes").exists()
    assert (farm.generation, farm._host.call(lambda host: host.ledger.has(1))) == (0, False)


@pytest.mark.processes
@pytest.mark.parametrize("genomes", [None, [("a", b"1")]])
def test_genomes_are_checked_first(farm: OpenFarm, genomes: Any) -> None:
    """What is wrong with them is said, and not that the params have none."""
    with pytest.raises(GenomeError, match="expected a mapping of names to bytes or paths"):
        farm.evaluate(genomes, params={"a": {"rate": 1}})


@pytest.mark.processes
def test_params_of_new_genomes_are_recorded_when_a_generation_is_continued(farm: OpenFarm) -> None:
    """One that it has already keeps its own."""
    farm.evaluate({"a": b'{"n": 1}'}, generation=1)
    farm.evaluate({"a": b'{"n": 1}', "b": b'{"n": 2}'}, params={"b": {"x": 1}}, generation=1)

    entries = farm._host.call(lambda host: list(host.ledger.entries_of(1)))
    added = [entry.fact for entry in entries if isinstance(entry.fact, GenomeAdded)]
    assert [(fact.name, fact.params) for fact in added] == [("a", {}), ("b", {"x": 1})]


GAME_WITH_REPLAY = """
from pathlib import Path

def play(genome, trial):
    Path("artifacts").mkdir(exist_ok=True)
    Path("artifacts/replay.bin").write_bytes(b"moves")
    return 1.0
"""


@pytest.mark.processes
def test_artifacts_of_a_game_are_found(tmp_path: Path) -> None:
    """As soon as the genome has its fitness."""
    (tmp_path / "game_with_replay.py").write_text(GAME_WITH_REPLAY)
    with open_farm(tmp_path, evaluator=Evaluator(python="game_with_replay:play"), workers=1) as farm:
        files = farm.evaluate({"a": b"1"})["a"].files

    assert files is not None
    assert (files / "replay.bin").read_bytes() == b"moves"


@pytest.mark.processes
def test_no_genomes_have_no_results(farm: OpenFarm, tmp_path: Path) -> None:
    """No generation is begun: a program whose population is empty needs no branch of its own."""
    assert farm.evaluate({}) == {}
    assert farm.evaluate({}, generation=7) == {}
    assert (farm.generation, (tmp_path / "genomes").exists()) == (0, False)

    farm.evaluate({"a": b'{"n": 1}'})
    assert farm.evaluate({}) == {}
    assert farm.generation == 1
    assert list(farm.evaluate({}, generation=1)) == ["a"], "a generation that was begun is continued"
