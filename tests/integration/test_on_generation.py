"""`open_farm(on_generation=…)`: a program is called once a generation is finished, with real local workers."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import Evaluator, FarmClosed, GenerationSummary, InputError, StalledError, open_farm
from tests.harness.farm_project import GAMES

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)
GENOMES = {f"g{n}": b'{"n": %d}' % n for n in range(3)}


def test_each_finished_generation_is_summarized_once(tmp_path: Path) -> None:
    """In the calling thread, before `evaluate` returns; the results are written by then."""
    seen: list[GenerationSummary] = []

    def note(done: GenerationSummary) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert (done.results / "results.csv").exists()
        seen.append(done)

    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=2, on_generation=note) as farm:
        scores = farm.evaluate(GENOMES)
        assert [done.generation for done in seen] == [1]
        farm.evaluate({"bad": b'{"do": "raise"}', "good": b"{}"})

    first, second = seen
    fitness = {name: score.value for name, score in scores.items() if score.value is not None}
    assert (first.best_genome, first.best) == max(fitness.items(), key=lambda pair: pair[1])
    assert (first.worst, first.trials, first.attempts) == (min(fitness.values()), 6, 6)
    assert (second.generation, second.completed, second.failed) == (2, 1, 1)


def test_open_generation_is_summarized_when_its_block_ends(tmp_path: Path) -> None:
    """With all genomes that were submitted; not while the block may still submit."""
    seen: list[GenerationSummary] = []
    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=1, on_generation=seen.append) as farm:
        with farm.open_generation():
            assert farm.submit(b'{"n": 1}').result(timeout=60).status == "completed"
            farm.submit(b'{"n": 2}')
            assert seen == []
        assert [(done.generation, done.completed) for done in seen] == [(1, 2)]


def test_finished_generation_is_summarized_again_for_a_program_that_resumes(tmp_path: Path) -> None:
    """A program that was killed before it had recorded a generation gets the same summary."""
    seen: list[GenerationSummary] = []
    for _ in range(2):
        with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1, on_generation=seen.append) as farm:
            farm.evaluate(GENOMES, generation=1)

    assert seen[0] == seen[1]


def test_error_of_the_callback_reaches_the_caller_and_harms_nothing(tmp_path: Path) -> None:
    """The generation is counted, its results can be read, and the farm plays on."""
    calls: list[int] = []

    def fail_once(done: GenerationSummary) -> None:
        calls.append(done.generation)
        if len(calls) == 1:
            raise ConnectionError("the tracking server is away")

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1, on_generation=fail_once) as farm:
        with pytest.raises(ConnectionError, match="is away"):
            farm.evaluate(GENOMES)
        scores = farm.scores()
        assert farm.evaluate(GENOMES, generation=1) == scores
        assert farm.evaluate({"next": b"{}"})["next"].status == "completed"

    assert [score.status for score in scores.values()] == ["completed"] * 3
    assert calls == [1, 1, 2]


def test_error_of_the_callback_reaches_the_end_of_the_block(tmp_path: Path) -> None:
    """The futures have their results."""

    def fail(_done: GenerationSummary) -> None:
        raise ConnectionError("the tracking server is away")

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1, on_generation=fail) as farm:
        with pytest.raises(ConnectionError), farm.open_generation():
            future = farm.submit(b"{}")
        assert future.result(timeout=0).status == "completed"


def test_generation_that_is_left_is_not_summarized(tmp_path: Path) -> None:
    """It has no figures yet: not if the block raises, nor if the farm cannot go on."""
    seen: list[GenerationSummary] = []
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1, on_generation=seen.append) as farm:
        with pytest.raises(KeyError), farm.open_generation():
            future = farm.submit(b'{"seconds": 30}')
            raise KeyError
        with pytest.raises(FarmClosed):
            future.result(timeout=0)
        assert farm.evaluate({}) == {}
    missing = Evaluator(python="no_such_module:play", folder=GAMES)
    with (
        open_farm(tmp_path / "stuck", evaluator=missing, workers=1, on_generation=seen.append) as farm,
        pytest.raises(StalledError),
    ):
        farm.evaluate({"a": b"{}"})

    assert seen == []


def test_callback_reads_the_generation_and_cannot_play_another(tmp_path: Path) -> None:
    """It is still the turn of the call that has finished it."""
    genomes: list[list[str]] = []

    def read(_done: GenerationSummary) -> None:
        genomes.append(farm.table()["genome"])
        farm.evaluate({"another": b"{}"})

    with (
        open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1, on_generation=read) as farm,
        pytest.raises(InputError, match="plays a generation already"),
    ):
        farm.evaluate(GENOMES)

    assert genomes == [list(GENOMES)]


def test_callback_must_be_a_function(tmp_path: Path) -> None:
    """It is refused before the farm is opened."""
    not_a_function: Any = "print"
    with (
        pytest.raises(InputError, match="on_generation: expected a function, found str"),
        open_farm(tmp_path / "farm", on_generation=not_a_function),
    ):
        raise AssertionError
    assert not (tmp_path / "farm").exists()
