"""A game that makes no progress for `stall_limit_s` ends: each kind of evaluator runs the same tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.evaluators import make_evaluator
from inbox_agent.protocol.layout import Outcome
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import COMMAND, FUNCTION, SCRIPTED, EvaluatorHarness

pytestmark = pytest.mark.processes
Make = Callable[..., EvaluatorHarness]
STALL_LIMIT_S = 3.0  # longer than a game needs to begin


@pytest.fixture(params=["command", "python"])
def make(request: pytest.FixtureRequest, tmp_path: Path, tree: ProcessTree) -> Iterator[Make]:
    """Makes an evaluator with the given keys of `[evaluator]`."""
    kind: dict[str, Any] = {"command": COMMAND} if request.param == "command" else {"python": FUNCTION}
    with ExitStack() as stack:

        def make(**keys: Any) -> EvaluatorHarness:
            evaluator = make_evaluator(EvaluatorTable(**kind, **keys), SCRIPTED, tmp_path / "scratch", tree)
            stack.callback(evaluator.close)
            return EvaluatorHarness(evaluator, tmp_path / "scratch")

        yield make


def test_game_without_new_progress_is_ended(make: Make) -> None:
    """It timed out; the reason has its last progress, and the next game is not affected."""
    harness = make(stall_limit_s=STALL_LIMIT_S)

    finished = harness.play("trial.progress('lap 3 of 7'); hang()")

    assert (finished.outcome, finished.fitness) == (Outcome.TIMED_OUT, None)
    assert finished.reason == 'stalled: no new progress for stall_limit_s = 3; the last was "lap 3 of 7"'
    assert harness.play("return 1").fitness == 1


def test_game_that_repeats_its_progress_is_ended(make: Make) -> None:
    """What counts is that the text changes."""
    finished = make(stall_limit_s=STALL_LIMIT_S).play("while True: trial.progress('lap 3'); time.sleep(0.02)")

    assert 'the last was "lap 3"' in finished.reason


def test_game_that_reports_no_progress_is_ended(make: Make) -> None:
    finished = make(stall_limit_s=0.5).play("hang()")

    assert finished.reason == "stalled: no new progress for stall_limit_s = 0.5; it never reported any"


def test_game_with_new_progress_plays_on(make: Make) -> None:
    """For much longer than the limit."""
    game = "for lap in range(70): trial.progress(f'lap {lap}'); time.sleep(0.05)\nreturn lap"

    assert make(stall_limit_s=STALL_LIMIT_S).play(game).fitness == 69


def test_game_without_limit_may_be_silent(make: Make) -> None:
    assert make().play("time.sleep(0.6); return 1").fitness == 1
