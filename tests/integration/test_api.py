"""The farm as a library: the contract of `open_farm`, with real local workers."""

import gc
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import (
    ConfigError,
    Evaluator,
    GenomeError,
    InputError,
    LedgerError,
    Progress,
    ProjectBusyError,
    StalledError,
    open_farm,
)
from pipeline.core.facts import Entry
from pipeline.storage.ledger import Ledger
from pipeline.storage.submitted_genomes import refuse_names
from tests.harness.farm_project import GAMES
from tests.harness.games.game import fitness_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)


def test_generations_run_on_same_workers(tmp_path: Path) -> None:
    """The same agents run two generations, one after the other; each returns the fitness by name."""
    first = {"a": b'{"n": 1}', "b": b'{"n": 2}'}
    second = {"a": b'{"n": 3}'}
    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=2, seed=5) as farm:
        scores = farm.evaluate(first)
        pids = [worker.pid for worker in farm.workers]
        again = farm.evaluate(second)
        assert [worker.pid for worker in farm.workers] == pids
        assert farm.generation == 2
        assert (farm.results / "results.csv").exists()
    assert set(scores) == {"a", "b"}
    assert all(score.status == "completed" and len(score.trials) == 2 for score in scores.values())
    assert again["a"].value is not None


@pytest.mark.skipif(os.name != "posix", reason="a process of Windows has handles")
def test_closed_farm_leaves_no_descriptors_open(tmp_path: Path) -> None:
    """Also before the garbage collector looks for cycles, which may be much later."""
    counts = []
    gc.disable()
    try:
        for number in range(3):
            with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=1) as farm:
                farm.evaluate({"a": b'{"n": %d}' % number})
            counts.append(psutil.Process().num_fds())
    finally:
        gc.enable()
    assert counts[1:] == [counts[0]] * 2


def test_genomes_of_earlier_generations_take_no_memory(tmp_path: Path) -> None:
    """Neither in a farm that stays open nor in one that reads its ledger."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        for number in range(3):
            farm.evaluate({"a": b'{"n": %d}' % number})
        assert farm._host.call(lambda host: list(host._fitness._tallies)) == [3]

    shown: list[Progress] = []
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        farm.evaluate({"a": b'{"n": 4}'}, on_progress=shown.append)
        assert farm._host.call(lambda host: list(host._fitness._tallies)) == [4]
    assert [one.generation for one in shown[-1].history] == [1, 2, 3]


def test_new_generation_does_not_replay_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten thousand generations the next one starts as quickly as the second."""
    replays: list[Ledger] = []
    entries = Ledger.entries

    def count(ledger: Ledger, *, after: int = 0) -> Iterator[Entry]:
        replays.append(ledger)
        return entries(ledger, after=after)

    monkeypatch.setattr(Ledger, "entries", count)
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        scores = [farm.evaluate({"a": b'{"n": %d}' % n}) for n in range(3)]

    assert all(score["a"].status == "completed" for score in scores)
    assert len(replays) == 1


def test_results_may_be_moved_between_two_generations(tmp_path: Path) -> None:
    """The farm has nothing of them open then: Windows moves no folder with an open file."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        farm.evaluate({"a": b'{"n": 1}'})
        (tmp_path / "results").rename(tmp_path / "moved")
        farm.evaluate({"a": b'{"n": 2}'})

    lines = [(tmp_path / path / "results.jsonl").read_bytes() for path in ("moved/gen-0001", "results/gen-0002")]
    assert [line.count(b"\n") for line in lines] == [1, 1]


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_collector_is_left_as_it_was(tmp_path: Path, collects: bool) -> None:
    """It belongs to the program that calls: also one that has turned it off."""
    (gc.enable if collects else gc.disable)()
    frozen = gc.get_freeze_count()
    try:
        for _ in range(2):  # the second one replays the ledger
            with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
                farm.evaluate({"a": b'{"n": 1}'})
                assert (gc.isenabled(), gc.get_freeze_count()) == (collects, frozen)
    finally:
        gc.enable()


def test_failed_genome_does_not_raise(tmp_path: Path) -> None:
    """The failed genome has no value, but a status and a reason."""
    genomes = {"bad": b'{"do": "raise"}'} | {f"good-{n}": b'{"n": %d}' % n for n in range(6)}
    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=1) as farm:
        scores = farm.evaluate(genomes)
    assert (scores["bad"].value, scores["bad"].status) == (None, "failed")
    assert "cannot be played" in scores["bad"].reason
    assert all(scores[f"good-{n}"].value is not None for n in range(6))


def test_last_progress_has_all_trials_settled(tmp_path: Path) -> None:
    """The last progress of a generation has all its trials settled."""
    reports: list[Progress] = []
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        farm.evaluate({f"g{n}": b'{"n": %d}' % n for n in range(5)}, on_progress=reports.append)
    assert reports[-1].settled == reports[-1].trials == 5
    assert [now.settled for now in reports] == sorted(now.settled for now in reports)


def test_progress_has_fitness_of_this_and_earlier_generations(tmp_path: Path) -> None:
    """Best, mean and the fittest genomes; another process that opens the farm knows the generations before."""
    reports: list[Progress] = []
    expected: list[object] = []
    for _ in range(2):
        with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=2) as farm:
            for _ in range(2):
                genomes = {f"g{n}": b'{"n": %d}' % (n + 10 * len(expected)) for n in range(3)}
                scores = farm.evaluate(genomes, on_progress=reports.append)
                values = {name: score.value for name, score in scores.items() if score.value is not None}
                expected.append((farm.generation, 3, max(values.values()), pytest.approx(sum(values.values()) / 3)))
    last = reports[-1]
    found: list[object] = [
        (one.generation, one.completed, one.best, one.mean) for one in (*last.history, last.fitness) if one
    ]
    assert found == expected
    assert [leader.genome for leader in last.leaders] == sorted(values, key=values.__getitem__, reverse=True)
    assert all(one.fitness is None or one.fitness.generation == one.generation for one in reports)


def test_genomes_may_be_paths(tmp_path: Path) -> None:
    """The file is copied into the generation's folder and not changed."""
    source = tmp_path / "champion.json"
    source.write_bytes(b'{"n": 7}')
    with open_farm(tmp_path / "farm", evaluator=GAME, workers=1, trials_per_genome=1, seed=1) as farm:
        scores = farm.evaluate({"champion.json": source})
    (seed,) = [trial for trial in scores["champion.json"].trials if trial is not None]
    assert seed == scores["champion.json"].value
    assert fitness_of(source.read_bytes(), 0) != seed
    assert (tmp_path / "farm/genomes/gen-0001/champion.json").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_genome_name_must_be_plain_file_name(tmp_path: Path, name: str) -> None:
    """No name from a caller leads to a path outside of the generation's folder."""
    with open_farm(tmp_path, evaluator=GAME, workers=1) as farm, pytest.raises(GenomeError, match="plain file name"):
        farm.evaluate({name: b"x"})


@pytest.mark.parametrize("name", [".hidden", "Thumbs.db"])
def test_name_ignored_by_import_is_refused(tmp_path: Path, name: str) -> None:
    """The result has every genome that was passed, or the call fails before any file is written."""
    with open_farm(tmp_path, evaluator=GAME, workers=1) as farm, pytest.raises(GenomeError, match="not taken for"):
        farm.evaluate(dict.fromkeys(["good", name], b'{"n": 1}'))
    assert not list(tmp_path.glob("genomes/*/*"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "A"], "one file"),
        (["g", "g."], "no file"),
        (["g "], "no file"),
        (["CON"], "no file"),
        (["nul.txt"], "no file"),
        (["a:b"], "a plain file name is needed"),
        (["a|b"], "no file"),
    ],
)
def test_names_equal_on_windows_are_refused_there(names: list[str], expected: str) -> None:
    """One file would get the fitness of the other; elsewhere the names are different."""
    refuse_names(names, windows=False)
    with pytest.raises(GenomeError, match=expected):
        refuse_names(names, windows=True)


def test_changed_genome_of_begun_generation_is_refused(tmp_path: Path) -> None:
    """Other bytes under its number are refused before a file is overwritten; without a number the next one is used."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        farm.evaluate({"a": b'{"n": 1}'})
        with pytest.raises(GenomeError, match="give another generation"):
            farm.evaluate({"a": b'{"n": 2}'}, generation=1)
        assert (tmp_path / "genomes/gen-0001/a").read_bytes() == b'{"n": 1}'
        shutil.rmtree(tmp_path / "genomes")
        farm.evaluate({"a": b'{"n": 2}'})
        assert farm.generation == 2


def test_failed_open_releases_lock(tmp_path: Path) -> None:
    """Its ledger is damaged: the second call reports the same, and not that the lock is held."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/ledger.db").write_bytes(b"no ledger at all" * 1000)
    for _ in range(2):
        with pytest.raises(LedgerError):
            open_farm(tmp_path, evaluator=GAME, workers=1).__enter__()


def test_stuck_farm_raises_with_diagnosis(tmp_path: Path) -> None:
    """Every evaluation fails from the start: the call raises the reason instead of returning an empty result."""
    broken = Evaluator(python="no_such_module:play", folder=GAMES)
    with (
        open_farm(tmp_path, evaluator=broken, workers=1, trials_per_genome=1) as farm,
        pytest.raises(StalledError, match="no_such_module"),
    ):
        farm.evaluate({f"g{n}": b'{"n": %d}' % n for n in range(12)})


def test_second_open_of_farm_is_refused(tmp_path: Path) -> None:
    """A second call for the same folder is refused; afterwards the folder is free again."""
    with open_farm(tmp_path, evaluator=GAME, workers=1), pytest.raises(ProjectBusyError, match="has this project open"):
        open_farm(tmp_path, evaluator=GAME, workers=1).__enter__()
    with open_farm(tmp_path, evaluator=GAME, workers=1) as farm:
        assert farm.generation == 0


@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_invalid_generation_number_is_refused(tmp_path: Path, number: int) -> None:
    """It is refused before anything is recorded; the next call works."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        with pytest.raises(InputError, match="expected a number from 1"):
            farm.evaluate({"a": b"{}"}, generation=number)
        (tmp_path / "genomes/gen-1000000000").mkdir(parents=True)
        farm.evaluate({"a": b"{}"})

        assert farm.generation == 1


def test_refused_genomes_are_removed(tmp_path: Path) -> None:
    """The call leaves no file, so the next one with that number evaluates only its own genomes."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        with pytest.raises(GenomeError):
            farm.evaluate({"typo": b"{}", "empty": b""}, generation=8)
        assert not (tmp_path / "genomes/gen-0008").exists()

        assert list(farm.evaluate({"right": b"{}"}, generation=8)) == ["right"]


def test_command_must_be_list(tmp_path: Path) -> None:
    """A string would be split into its characters; paths are accepted."""
    with pytest.raises(InputError, match="one by one"), open_farm(tmp_path, evaluator=Evaluator(command="play.py")):
        pass
    command: list[Any] = ["python", tmp_path / "play.py"]
    with open_farm(tmp_path, evaluator=Evaluator(command=command)):
        pass


def test_files_must_be_list(tmp_path: Path) -> None:
    """A string would be split into its characters."""
    game = Evaluator(python="game:play", files="*.py")
    with pytest.raises(InputError, match="expected a list of patterns"), open_farm(tmp_path, evaluator=game):
        pass


@pytest.mark.parametrize(
    ("evaluator", "problem"),
    [
        (Evaluator(command=["x"], python="a:b"), "open_farm: give one of `command` and `python`, not both"),
        (Evaluator(python="a:b", environment={"A=B": "x"}), "open_farm: environment: 'A=B' is no name of a variable"),
        (Evaluator(python="a:b", time_limit_s=0), "open_farm: Expected `float` > 0.0 - at `evaluator.time_limit_s`"),
        (Evaluator(python="a:b", files=["../a.py"]), "open_farm: files: '../a.py': a pattern cannot leave the folder"),
        (Evaluator(python="a:b", version="two words"), "open_farm: version = 'two words': expected 1 to 64 of"),
    ],
)
def test_unusable_evaluator_is_configuration_error(tmp_path: Path, evaluator: Evaluator, problem: str) -> None:
    """As if it stood in `pipeline.toml`, so that a caller catches one class."""
    with pytest.raises(ConfigError) as error, open_farm(tmp_path, evaluator=evaluator):
        pass

    assert str(error.value).startswith(problem)


def test_infinite_setting_is_configuration_error(tmp_path: Path) -> None:
    """JSON has no such number."""
    problem = pytest.raises(ConfigError, match="a finite number is needed")
    with problem, open_farm(tmp_path, evaluator=GAME, settings={"speed": math.inf}):
        pass


@pytest.mark.parametrize("keys", [{"files": ("game.py", "**/game.py")}, {"version": "2026-11.a"}])
def test_evaluator_names_its_version_or_files(tmp_path: Path, keys: dict[str, Any]) -> None:
    """What the keys of that name in `[evaluator]` say."""
    game = Evaluator(python="game:play", folder=GAMES, **keys)
    with open_farm(tmp_path, evaluator=game, workers=1, trials_per_genome=1) as farm:
        assert farm.evaluate({"a": b"{}"})["a"].status == "completed"
