"""The result file of a command that does not end well: counted if the user says that it is final, named otherwise."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from inbox_agent.evaluators import make_evaluator
from inbox_agent.protocol.layout import Outcome
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import COMMAND, SCRIPTED, EvaluatorHarness

pytestmark = pytest.mark.processes
WRITE = "Path('result.json').write_text('{\"fitness\": 5}')"


@pytest.fixture
def make(tmp_path: Path, tree: ProcessTree) -> Iterator[Callable[[bool], EvaluatorHarness]]:
    with ExitStack() as stack:

        def make(result_is_final: bool) -> EvaluatorHarness:
            table = EvaluatorTable(command=COMMAND, result_is_final=result_is_final)
            evaluator = make_evaluator(table, SCRIPTED, tmp_path / "scratch", tree)
            stack.callback(evaluator.close)
            return EvaluatorHarness(evaluator, tmp_path / "scratch")

        yield make


def test_final_result_ends_a_game_that_does_not_end(make: Callable[[bool], EvaluatorHarness]) -> None:
    """A window that waits for a click after the game is closed."""
    finished = make(True).play(f"{WRITE}; hang()")

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 5)


def test_final_result_counts_after_a_crash(make: Callable[[bool], EvaluatorHarness]) -> None:
    """A game engine that crashes while it unloads has played to the end."""
    finished = make(True).play(f"{WRITE}; os._exit(3)")

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 5)


def test_incomplete_result_is_not_final(make: Callable[[bool], EvaluatorHarness]) -> None:
    """The file is there before it is complete."""
    game = "file = open('result.json', 'w'); file.write('{\"fitness\": 1'); file.flush(); time.sleep(0.5)"
    finished = make(True).play(f"{game}; file.write('2}}'); file.close(); hang()")

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 12)


@pytest.mark.parametrize(
    ("end", "reason"), [("os._exit(3)", "exit code 3"), ("hang()", "the time limit of 1.5 s passed")]
)
def test_result_of_a_failed_game_is_named(make: Callable[[bool], EvaluatorHarness], end: str, reason: str) -> None:
    """It does not count; the reason says that it was there, and which setting would count it."""
    finished = make(False).play(f"{WRITE}; {end}", time_limit_s=1.5)

    assert finished.fitness is None
    assert finished.reason == (
        f"{reason}; result.json was written before, with fitness 5, which `result_is_final = true` would count"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.parametrize("trick", ["os.mkfifo('result.json')", "os.symlink('/dev/zero', 'result.json')"])
def test_result_that_is_no_file_does_not_block_the_agent(make: Callable[[bool], EvaluatorHarness], trick: str) -> None:
    """It is looked at while the game runs, which may put anything in its place."""
    finished = make(True).play(f"{trick}; hang()", time_limit_s=1.5)

    assert finished.outcome is Outcome.TIMED_OUT
