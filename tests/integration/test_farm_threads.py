"""A farm belongs to no thread: any may call it and close it, and one generation is played at a time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline import Evaluator, FarmClosed, HostError, InputError, Progress, open_farm
from pipeline.api import OpenFarm
from pipeline.host.host import Host
from tests.harness.farm_project import GAMES

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFarm]:
    """One for all tests: each has generations of its own."""
    with open_farm(tmp_path_factory.mktemp("farm"), evaluator=GAME, workers=1, trials_per_genome=1) as opened:
        yield opened


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """A thread that did not open the farm."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_other_thread_evaluates(farm: OpenFarm, other: ThreadPoolExecutor) -> None:
    scores = other.submit(farm.evaluate, {"a": b'{"n": 1}'}).result()

    assert scores["a"].status == "completed"
    assert farm.scores() == scores


def test_calls_of_two_threads_take_turns(farm: OpenFarm) -> None:
    """Each gets the results of its own generation."""
    before = farm.generation
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(farm.evaluate, {f"g{n}": b'{"n": %d}' % n}) for n in range(4)]

    assert [list(call.result()) for call in calls] == [["g0"], ["g1"], ["g2"], ["g3"]]
    assert farm.generation == before + 4


def test_progress_is_asked_for_while_a_game_is_played(
    farm: OpenFarm, other: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Such a call is carried out between two ticks."""
    gate, reports = tmp_path / "gate", list[Progress]()

    def look(_progress: Progress) -> None:
        if not gate.exists():
            reports.append(other.submit(farm.progress).result())
            gate.touch()

    farm.evaluate({"a": b'{"until": "%s"}' % str(gate).replace("\\", "/").encode()}, on_progress=look)

    assert reports[0].playing
    assert not reports[0].finished


def test_progress_is_reported_in_the_calling_thread(farm: OpenFarm) -> None:
    """A progress bar, or a window, belongs to one thread."""
    threads = set[int]()
    farm.evaluate({"a": b'{"n": 1}'}, on_progress=lambda _progress: threads.add(threading.get_ident()))

    assert threads == {threading.get_ident()}


def test_evaluation_in_its_own_callback_is_refused(farm: OpenFarm) -> None:
    """It would wait for itself."""
    with pytest.raises(InputError, match="this thread plays a generation already"):
        farm.evaluate({"a": b'{"n": 1}'}, on_progress=lambda _progress: print(farm.evaluate({"b": b'{"n": 2}'})))

    with pytest.raises(InputError, match="this thread plays a generation already"), farm.open_generation():
        farm.evaluate({"b": b'{"n": 2}'})


def test_evaluation_in_a_callback_of_a_future_is_refused(farm: OpenFarm) -> None:
    """The host's own thread plays."""
    refused = list[BaseException]()

    def evaluate(_future: object) -> None:
        try:
            farm.evaluate({"b": b'{"n": 2}'})
        except InputError as error:
            refused.append(error)

    with farm.open_generation():
        farm.submit(b'{"n": 1}').add_done_callback(evaluate)

    assert [str(error) for error in refused] == [
        "evaluate: a callback of a future cannot play a generation; let another thread do it"
    ]


class Pressed(KeyboardInterrupt):
    """Ctrl-C."""


def test_interrupted_evaluation_can_be_continued(farm: OpenFarm, tmp_path: Path) -> None:
    """Ctrl-C ends the wait; with the number of the generation the same farm goes on."""
    gate = tmp_path / "gate"
    genomes = {"a": b'{"n": 1}', "b": b'{"until": "%s"}' % str(gate).replace("\\", "/").encode()}

    def press(progress: Progress) -> None:
        if progress.completed == 1:
            raise Pressed

    with pytest.raises(Pressed):
        farm.evaluate(genomes, on_progress=press)
    assert farm.progress().completed == 1
    gate.touch()
    scores = farm.evaluate(genomes, generation=farm.generation)

    assert {score.status for score in scores.values()} == {"completed"}


def test_farm_that_another_thread_closed_can_be_opened_again(tmp_path: Path, other: ThreadPoolExecutor) -> None:
    """By the same process: nothing of it is left, and its lock is free."""
    threads = [thread.name for thread in threading.enumerate()].count("pipeline-host")
    stack = ExitStack()
    farm = stack.enter_context(open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1))
    farm.evaluate({"a": b'{"n": 1}'})
    other.submit(stack.close).result()

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as again:
        assert again.evaluate({"a": b'{"n": 1}'}, generation=1)["a"].status == "completed"
    assert [thread.name for thread in threading.enumerate()].count("pipeline-host") == threads


def test_closing_ends_a_play_of_another_thread(tmp_path: Path, other: ThreadPoolExecutor) -> None:
    """Its call says how to go on."""
    stack = ExitStack()
    farm = stack.enter_context(open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1))
    playing = threading.Event()
    call = other.submit(farm.evaluate, {"a": b'{"do": "hang"}'}, on_progress=lambda _progress: playing.set())
    assert playing.wait(60)
    stack.close()

    with pytest.raises(FarmClosed, match="evaluate with generation=1 to resume"):
        call.result()


CALLS: list[Callable[[OpenFarm], Any]] = [
    lambda farm: farm.evaluate({"a": b'{"n": 1}'}),
    lambda farm: farm.submit(b"1"),
    lambda farm: farm.open_generation().__enter__(),
    lambda farm: farm.scores(),
    lambda farm: farm.table(),
    lambda farm: farm.progress(),
    lambda farm: farm.generation,
    lambda farm: farm.results,
    lambda farm: farm.workers,
]


@pytest.fixture(scope="module")
def closed_farm(tmp_path_factory: pytest.TempPathFactory) -> OpenFarm:
    with open_farm(tmp_path_factory.mktemp("closed"), evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        pass
    return farm


@pytest.mark.parametrize("call", CALLS)
def test_closed_farm_says_so(closed_farm: OpenFarm, call: Callable[[OpenFarm], Any]) -> None:
    with pytest.raises(FarmClosed, match="the farm is closed; open it again"):
        call(closed_farm)


def test_error_while_closing_reaches_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is released nevertheless."""
    close = Host.close

    def fail(host: Host) -> None:
        close(host)
        raise HostError("the disk is gone")

    monkeypatch.setattr(Host, "close", fail)
    with (
        pytest.raises(HostError, match="the disk is gone"),
        open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1),
    ):
        pass
    monkeypatch.undo()

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1):
        pass
