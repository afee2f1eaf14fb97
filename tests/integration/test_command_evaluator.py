"""What is particular to the evaluator that runs a command for every game."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.protocol.layout import RECORD_BYTES_MAX, Outcome
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.players import COMMAND, SCRIPTED, EvaluatorHarness, is_gone

Playing = Callable[..., EvaluatorHarness]
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and signals")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessTree]:
    tree = ProcessTree(tmp_path_factory.mktemp("agent") / "leash")
    yield tree
    tree.close()


@pytest.fixture
def playing(tmp_path: Path, tree: ProcessTree) -> Iterator[Playing]:
    """Makes players that are closed in the end."""
    with ExitStack() as stack:

        def make(argv: list[str], folder: Path = SCRIPTED) -> EvaluatorHarness:
            scratch = tmp_path / "scratch"
            player = EvaluatorHarness(CommandEvaluator(argv, folder, scratch, tree), scratch)
            stack.callback(player.evaluator.close)
            return player

        yield make


@pytest.fixture
def player(playing: Playing) -> EvaluatorHarness:
    return playing(COMMAND)


def test_nonzero_exit_code_is_failure(player: EvaluatorHarness) -> None:
    """The reason is the exit code and the last line of the output, which mostly says why."""
    finished = player.play("print('no licence'); sys.stdout.flush(); os._exit(3)")

    assert finished.outcome is Outcome.FAILED
    assert finished.reason == "exit code 3: no licence"


@posix
def test_crash_is_named_by_signal(player: EvaluatorHarness) -> None:
    """A game that dies of a signal says so."""
    assert player.play("os.kill(os.getpid(), 11)").reason == "signal SEGV"


def test_missing_program_is_named(tmp_path: Path, playing: Playing) -> None:
    """The reason names it; a later evaluation finds out for itself."""
    player = playing(["no-such-game", "{genome}"])

    for _ in range(2):
        finished = player.play("")
        assert finished.outcome is Outcome.FAILED
        assert finished.reason == "cannot start 'no-such-game': no such program"


@posix
def test_program_without_execute_permission_is_named(tmp_path: Path, playing: Playing) -> None:
    """A file without the right to execute it is told apart from one that is missing."""
    (tmp_path / "game").write_text("#!/bin/sh\n")
    player = playing(["game"], tmp_path)

    assert player.play("").reason == "cannot start 'game': not an executable file"


def test_placeholders_are_replaced(tmp_path: Path, playing: Playing) -> None:
    """Placeholders become values, other braces stay, files of the folder become absolute paths."""
    argv = ["python", "echo.py", "{seed}/{trial}", "{genome}{genome}", "{}{x}{{seed}}", "data.txt", "other.txt"]
    (tmp_path / "data.txt").touch()
    (tmp_path / "echo.py").write_text("import json, sys; print(json.dumps(sys.argv))")

    finished = playing(argv, tmp_path).play("", seed=5, trial=2)

    genome = str(tmp_path / "scratch" / "genome.py")
    data, script = str(tmp_path / "data.txt"), str(tmp_path / "echo.py")
    assert json.loads(finished.log) == [script, "5/2", genome + genome, "{}{x}{5}", data, "other.txt"]


def test_python_runs_interpreter_of_agent(tmp_path: Path, playing: Playing) -> None:
    """`python` runs with the agent's packages, and modules in the evaluator's folder can be imported."""
    code = "import sys, scripted; print(sys.executable, scripted.__file__)"

    finished = playing(["python", "-c", code]).play("")

    assert finished.log.decode().split() == [sys.executable, str(SCRIPTED / "scripted.py")]


@pytest.mark.parametrize(
    ("last_words", "complaint"),
    [
        ("pass", "the evaluator ended well but wrote no result.json"),
        ("result.write_text('')", "result.json is not valid JSON: Expecting value"),
        ("result.write_text('{\"fitness\": 1.')", "result.json is not valid JSON: Expecting ',' delimiter"),
        ("result.write_bytes(b'\\xff\\xfe')", "result.json is not valid JSON: 'utf-8' codec can't decode"),
        ("result.write_text('[' * 60000)", "result.json is nested too deep"),
        ("result.write_text('9' * 5000)", "result.json is not valid JSON: Exceeds the limit"),
        ("result.write_text('[1]')", "result.json must be an object, not list"),
        ("result.write_text(' ' * 70000)", f"result.json has 70000 bytes, allowed are {RECORD_BYTES_MAX}"),
        ("result.mkdir()", "result.json is not a regular file"),
        pytest.param("os.symlink('/dev/zero', result)", "result.json is not a regular file", marks=posix),
        pytest.param("os.mkfifo(result)", "result.json is not a regular file", marks=posix),
    ],
)
def test_unusable_result_file_gives_clear_reason(player: EvaluatorHarness, last_words: str, complaint: str) -> None:
    """Absent, torn, not text, too deep, too large, no file at all: one clear reason each."""
    finished = player.play(f"result = Path('result.json'); {last_words}; os._exit(0)")

    assert finished.outcome is Outcome.FAILED
    assert finished.reason.startswith(complaint)


def test_remaining_child_does_not_delay_result(player: EvaluatorHarness) -> None:
    """The game is over when its main process is: who still holds its output is killed, the result counts."""
    finished = player.play(
        """
        spawn(SLEEPER, "child")
        spawn(SLEEPER, "own-session", start_new_session=True)
        spawn(ORPHAN, "parent").wait()
        return 1
        """
    )

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 1)
    assert finished.seconds < 10
    pids = [player.pid_in(note) for note in ("child", "own-session", "parent", "orphan")]
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_any_program_can_be_evaluator(tmp_path: Path, playing: Playing) -> None:
    """Whatever can be started can be an evaluator."""
    if sys.platform == "win32":
        (tmp_path / "game.bat").write_text('@echo {"fitness": 6}> %1\n')
    else:
        (tmp_path / "game.bat").write_text('#!/bin/sh\necho \'{"fitness": 6}\' > "$1"\n')
        os.chmod(tmp_path / "game.bat", 0o755)

    assert playing(["game.bat", "{result}"], tmp_path).play("").fitness == 6
