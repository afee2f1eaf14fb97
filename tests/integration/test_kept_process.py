"""The worker process of a Python evaluator between two games: what is restored, and when it is replaced."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.evaluation import memory
from inbox_agent.evaluators import make_evaluator
from inbox_agent.protocol.layout import Outcome
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import FUNCTION, SCRIPTED, EvaluatorHarness, is_gone
from tests.harness.waiting import eventually

pytestmark = pytest.mark.processes
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
Make = Callable[..., EvaluatorHarness]
PID = "return os.getpid()"


@pytest.fixture
def make(tmp_path: Path, tree: ProcessTree) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(*, folder: Path = SCRIPTED, python: str = FUNCTION, **keys: Any) -> EvaluatorHarness:
            evaluator = make_evaluator(EvaluatorTable(python=python, **keys), folder, tmp_path / "scratch", tree)
            stack.callback(evaluator.close)
            return EvaluatorHarness(evaluator, tmp_path / "scratch")

        yield make


@pytest.fixture
def harness(make: Make) -> EvaluatorHarness:
    return make()


# ----------------------------------------------------------------------------------------------------------- replaced


@pytest.mark.parametrize(
    "game", ["return 1 / 0", "return 'text'", "return {'metrics': {}}", "sys.exit(3)", "os._exit(3)"]
)
def test_process_is_replaced_after_a_failed_game(harness: EvaluatorHarness, game: str) -> None:
    """It may have left the module's state half changed."""
    before = harness.play(PID).fitness
    assert harness.play(game).outcome is Outcome.FAILED

    assert harness.play(PID).fitness != before


def test_failed_game_costs_no_other_game(harness: EvaluatorHarness) -> None:
    """A game that ruins a module and fails: all forty others complete."""
    ruin = "import json; json.dumps = None; raise RuntimeError('ruined')"
    outcomes = [harness.play(ruin if n == 7 else "import json; json.dumps({}); return 1").outcome for n in range(41)]

    assert outcomes.count(Outcome.COMPLETED) == 40


def test_process_is_replaced_after_games_per_process(make: Make) -> None:
    """Two games in each of them."""
    harness = make(games_per_process=2)
    pids = [harness.play(PID).fitness for _ in range(4)]

    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_edit_within_one_second_is_played(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes a compiled copy for current if its source had the same size and was written in the same second."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    game = tmp_path / "quick_game.py"
    harness = make(folder=tmp_path, python="quick_game:play")
    written_at = time.time() + 3600  # a test that is held up does not leave the time in which copies are not trusted
    fitness = []
    for number in (1, 2):
        game.write_text(f"def play(genome, trial):\n    return {number}\n")
        os.utime(game, (written_at, written_at))
        harness.evaluator.unload()
        fitness.append(harness.play("").fitness)

    assert fitness == [1, 2]


def test_grown_process_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that keeps something of each game would fill the memory in the end."""
    monkeypatch.setattr(memory, "GROWTH_INTERVAL_S", 0.0)
    monkeypatch.setattr(memory, "GROWTH_MAX_MB", 50)
    harness = make()
    keep = "import math; math.kept = [*getattr(math, 'kept', []), b'x' * (30 << 20)]; return os.getpid()"
    pids = [harness.play(keep).fitness for _ in range(8)]

    assert 2 <= len(set(pids)) <= 4


@pytest.mark.parametrize(
    ("game", "what"),
    [
        ("import threading; threading.Thread(target=hang, name='poller', daemon=True).start()", "thread poller"),
        ("spawn(SLEEPER, 'pid')", "1 child process"),
    ],
)
def test_what_a_game_leaves_running_ends_with_its_process(harness: EvaluatorHarness, game: str, what: str) -> None:
    """The log names it, the game counts, and the next one gets a new process."""
    finished = harness.play(f"{game}; return os.getpid()")

    assert finished.outcome is Outcome.COMPLETED
    assert f"still running when the game returned: {what}; the next game gets a new process" in finished.log.decode()
    assert finished.fitness is not None
    assert eventually(lambda: is_gone(int(finished.fitness or 0)))
    assert harness.play("return 1").log == b""


@posix
def test_daemon_that_a_game_leaves_is_noticed(harness: EvaluatorHarness) -> None:
    """Its parent has ended, so it is no child of the game's process any more."""
    finished = harness.play("spawn(ORPHAN, 'parent').wait(); return int(Path('orphan').read_text())")

    assert b"still running when the game returned: 1 child process" in finished.log
    assert eventually(lambda: is_gone(int(finished.fitness or 0)))


@posix
def test_process_is_kept_after_a_closed_pool(harness: EvaluatorHarness) -> None:
    """What `multiprocessing` keeps for itself is not left by the game."""
    pool = (
        "import multiprocessing; p = multiprocessing.get_context('fork').Pool(2); p.map(abs, [1]); p.close(); p.join()"
    )
    pids = {harness.play(f"{pool}; return os.getpid()").fitness for _ in range(3)}

    assert len(pids) == 1


# ----------------------------------------------------------------------------------------------------------- restored


def same_process(harness: EvaluatorHarness, game: str, then: str) -> float | None:
    """The fitness of a second game that runs in the process of a first one."""
    first = harness.play(f"{game}\nreturn os.getpid()").fitness
    second = harness.play(f"value = {then}\nreturn {{'fitness': float(value), 'metrics': {{'pid': os.getpid()}}}}")
    assert second.metrics["pid"] == first, second.reason
    return second.fitness


def test_environment_is_restored(harness: EvaluatorHarness) -> None:
    """Changed, new and deleted variables."""
    game = "os.environ['NEW'] = '1'; os.environ['LANG'] = 'xx'; os.environ.pop('PATH')"

    assert same_process(harness, game, "'NEW' in os.environ or 'PATH' not in os.environ") == 0


def test_working_directory_is_restored(harness: EvaluatorHarness) -> None:
    """It is the scratch folder."""
    assert same_process(harness, "os.chdir('/')", "os.path.samefile(os.getcwd(), trial.scratch)") == 1


@posix
def test_umask_is_restored(harness: EvaluatorHarness) -> None:
    """Other users may need to read the artifacts."""
    assert same_process(harness, "os.umask(0o777)", "os.umask(0o22) < 0o777") == 1


@posix
def test_signal_handlers_are_restored(harness: EvaluatorHarness) -> None:
    """A game that ignores or handles signals does so for itself."""
    game = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)"

    assert same_process(harness, game, "__import__('signal').getsignal(10) == 0") == 1


@posix
def test_timers_are_stopped(harness: EvaluatorHarness) -> None:
    """The alarm of one game does not end the next one."""
    game = "import signal; signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.setitimer(signal.ITIMER_REAL, 0.2)"

    assert same_process(harness, game, "time.sleep(0.5) is None") == 1


@posix
def test_alarm_at_the_end_of_a_game_fails_that_game(harness: EvaluatorHarness) -> None:
    """A handler that raises does so in the game or not at all."""
    game = """
        import signal
        def late(*_):
            raise TimeoutError("too late")
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return time.sleep(0.05) or 1
    """
    for _ in range(10):
        finished = harness.play(game)
        assert finished.outcome is Outcome.COMPLETED or "TimeoutError: too late" in finished.reason
        assert harness.play("return 1").fitness == 1


def test_standard_output_is_restored(harness: EvaluatorHarness) -> None:
    """A game that redirects its output does so for itself."""
    assert same_process(harness, "sys.stdout = open(os.devnull, 'w')", "sys.stdout is sys.__stdout__") == 1


@pytest.mark.parametrize("game", ["sys.stdout.close()", "os.close(1)", "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)"])
def test_process_with_closed_or_redirected_output_is_replaced(harness: EvaluatorHarness, game: str) -> None:
    """The next game can print."""
    assert harness.play(f"{game}; return 1").fitness == 1

    finished = harness.play("print('hello'); return 2")

    assert (finished.fitness, finished.log.split()) == (2, [b"hello"])


def test_process_whose_state_cannot_be_restored_is_replaced(harness: EvaluatorHarness) -> None:
    """The game counts, and the next one is not affected."""
    finished = harness.play("os.environ._data = None; return 1")

    assert finished.fitness == 1
    assert b"a change that cannot be undone" in finished.log
    assert harness.play("return float('PATH' in os.environ)").fitness == 1


@posix
def test_handler_set_by_an_imported_name_is_restored(make: Make, tmp_path: Path) -> None:
    """`from signal import signal` in the module takes the function when it is imported."""
    (tmp_path / "trapping.py").write_text(
        "from signal import SIG_IGN, SIGUSR1, getsignal, signal\n"
        "def play(genome, trial):\n"
        "    before = getsignal(SIGUSR1)\n"
        "    signal(SIGUSR1, SIG_IGN)\n"
        "    return float(before == SIG_IGN)\n"
    )
    harness = make(folder=tmp_path, python="trapping:play")

    assert [harness.play("").fitness for _ in range(3)] == [0, 0, 0]


def test_replies_that_nothing_asked_for_end_the_game(harness: EvaluatorHarness) -> None:
    """A game can read the marker of replies; with it, it could restart its own time limit or flood the agent."""
    forge = """
        import inspect
        owners = [found.frame.f_locals.get("self") for found in inspect.stack()]
        loop = next(owner for owner in owners if type(owner).__name__ == "_RequestLoop")
        for _ in range(1000):
            loop._send({"ready": True})
        hang()
    """
    finished = harness.play(forge, time_limit_s=20.0)

    assert (finished.outcome, finished.reason) == (Outcome.FAILED, "the evaluator process's reply makes no sense")
    assert harness.play("return 1").fitness == 1
