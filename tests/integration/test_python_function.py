"""What is particular to the evaluator that calls a Python function in a warm child."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from inbox_agent.evaluation import worker_process
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.evaluation.scratch import Scratch
from inbox_agent.protocol.layout import RECORD_BYTES_MAX, Outcome
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.players import FUNCTION, SCRIPTED, EvaluatorHarness, has_ended, is_gone
from tests.harness.waiting import eventually

Playing = Callable[..., EvaluatorHarness]
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessTree]:
    tree = ProcessTree(tmp_path_factory.mktemp("agent") / "leash")
    yield tree
    tree.close()


@pytest.fixture
def playing(tmp_path: Path, tree: ProcessTree) -> Iterator[Playing]:
    """Makes players that are closed in the end."""
    with ExitStack() as stack:

        def make(target: str, folder: Path = SCRIPTED) -> EvaluatorHarness:
            scratch = tmp_path / "scratch"
            player = EvaluatorHarness(FunctionEvaluator(target, folder, scratch, tree), scratch)
            stack.callback(player.evaluator.close)
            return player

        yield make


@pytest.fixture
def player(playing: Playing) -> EvaluatorHarness:
    return playing(FUNCTION)


def test_one_process_runs_many_evaluations(player: EvaluatorHarness) -> None:
    """The child is kept, and what each game printed belongs to that game."""
    pids = set()
    for number in range(20):
        finished = player.play(f"print('game', {number}, end=''); return os.getpid()")
        pids.add(finished.fitness)
        assert finished.log == b"game %d" % number

    assert len(pids) == 1


def test_exit_in_function_fails_only_that_evaluation(player: EvaluatorHarness) -> None:
    """`sys.exit` and any other way to raise is a failure of that game; the child lives on."""
    first = player.play("return os.getpid()").fitness

    assert player.play("sys.exit(3)").reason.startswith("SystemExit: 3 (scripted.py, line ")
    assert player.play("raise KeyboardInterrupt").reason.startswith("KeyboardInterrupt (scripted.py")
    assert player.play("return os.getpid()").fitness == first


def test_error_names_innermost_line_of_evaluator(tmp_path: Path, playing: Playing) -> None:
    """The reason names the innermost line of the evaluator's own files, not one deep in a library."""
    (tmp_path / "mine.py").write_text("import json\n\ndef play(genome, trial):\n    json.loads('nonsense')\n")

    finished = playing("mine:play", tmp_path).play("")

    assert finished.reason == "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (mine.py, line 4)"
    assert b"json.loads('nonsense')" in finished.log
    assert b"warm_child.py" not in finished.log


def test_import_error_is_reported_until_repaired(tmp_path: Path, playing: Playing) -> None:
    """Each game fails with a line that helps; nothing has to be restarted after the repair."""
    player = playing("mine:play", tmp_path)
    complaints = []
    for text in (None, "def play(:", "import nonsense", "x = 1", "raise ValueError('early')", "play = 1"):
        if text is not None:
            (tmp_path / "mine.py").write_text(text)
        complaints.append(player.play("").reason)
    (tmp_path / "mine.py").write_text("def play(genome, trial): return 5")

    assert complaints == [
        "cannot import mine:play: ModuleNotFoundError: No module named 'mine'",
        "cannot import mine:play: SyntaxError: invalid syntax (mine.py, line 1)",
        "cannot import mine:play: ModuleNotFoundError: No module named 'nonsense' (mine.py, line 1)",
        "cannot import mine:play: AttributeError: module 'mine' has no attribute 'play'",
        "cannot import mine:play: ValueError: early (mine.py, line 1)",
        "cannot import mine:play: TypeError: mine:play is not callable",
    ]
    assert player.play("").fitness == 5


def test_file_named_like_standard_module_is_not_imported_by_child(tmp_path: Path, playing: Playing) -> None:
    """The child's own imports come first; the evaluator's modules are found, by what it starts as well."""
    for name in ("json", "ctypes", "dataclasses", "traceback"):
        (tmp_path / f"{name}.py").write_text("raise ValueError('not the one you want')")
    (tmp_path / "words.py").write_text("number = 6")
    code = "import subprocess, sys; from words import number; x = [sys.executable, '-c', 'import words']"
    (tmp_path / "mine.py").write_text(f"{code}\ndef play(genome, trial): subprocess.check_call(x); return number")

    assert playing("mine:play", tmp_path).play("").fitness == 6


def test_import_output_is_in_first_log(tmp_path: Path, playing: Playing) -> None:
    """Warnings of libraries appear once, where people look first."""
    (tmp_path / "mine.py").write_text("print('loading')\ndef play(genome, trial): print('playing'); return 1")
    player = playing("mine:play", tmp_path)

    assert player.play("").log.split() == [b"loading", b"playing"]
    assert player.play("").log.split() == [b"playing"]


def test_import_time_does_not_count_as_evaluation_time(tmp_path: Path, playing: Playing) -> None:
    """The play clock starts when the evaluator is ready, or a slow import would fail every genome."""
    (tmp_path / "mine.py").write_text("import time; time.sleep(0.6)\ndef play(genome, trial): return 1")

    finished = playing("mine:play", tmp_path).play("", time_limit_s=0.4)

    assert finished.fitness == 1
    assert finished.seconds < 0.4


def test_exit_of_process_is_reported(player: EvaluatorHarness) -> None:
    """An exit in the middle of a game fails that game only."""
    assert player.play("os._exit(3)").reason == "evaluator process died: exit code 3"
    assert player.play("return 1").fitness == 1


@posix
def test_crash_is_named_with_python_traceback(player: EvaluatorHarness) -> None:
    """A segmentation fault is named, and the log tells the Python lines that led there."""
    finished = player.play("import ctypes; ctypes.string_at(0)")

    assert finished.reason == "evaluator process died: signal SEGV"
    assert b"Fatal Python error: Segmentation fault" in finished.log
    assert b"in game" in finished.log


def test_process_that_died_between_evaluations_is_replaced(player: EvaluatorHarness) -> None:
    """The next genome does not pay for it."""
    pid = int(player.play("return os.getpid()").fitness or 0)
    psutil.Process(pid).kill()
    assert eventually(lambda: has_ended(pid))

    assert player.play("return 1").fitness == 1


def test_process_holding_scratch_file_is_replaced(player: EvaluatorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a file that a game left open cannot be removed while its process lives; the next game gets another."""
    first = player.play("return os.getpid()").fitness
    prepare = Scratch.prepare

    def held_open(scratch: Scratch, suffix: str) -> Path:
        if psutil.pid_exists(int(first or 0)):
            raise PermissionError(13, "the process cannot access the file")
        return prepare(scratch, suffix)

    monkeypatch.setattr(Scratch, "prepare", held_open)

    second = player.play("return os.getpid()")

    assert second.outcome is Outcome.COMPLETED
    assert second.fitness != first


def test_working_directory_is_reset_before_reply(player: EvaluatorHarness) -> None:
    """A folder that somebody is in cannot be removed on Windows; the process comes back before it answers."""
    first = player.play("os.mkdir('away'); os.chdir('away'); return os.getpid()").fitness

    assert player.play("return os.getpid() if not os.path.exists('away') else 0").fitness == first


@posix
def test_working_directory_is_reset_to_scratch_folder(player: EvaluatorHarness) -> None:
    """Nor anywhere else but in the scratch folder."""
    pid = player.play("os.mkdir('away'); os.chdir('away'); return os.getpid()").fitness

    assert Path(psutil.Process(int(pid or 0)).cwd()) == player.scratch


@posix
def test_process_survives_removed_scratch_folder(player: EvaluatorHarness) -> None:
    """A game that removes everything is no reason to begin anew."""
    first = player.play("import shutil; os.chdir('/'); shutil.rmtree(trial.scratch); return os.getpid()")
    second = player.play("Path('note').touch(); return os.getpid()")

    assert (first.outcome, second.outcome) == (Outcome.COMPLETED, Outcome.COMPLETED)
    assert first.fitness == second.fitness


def test_output_is_utf_8_in_any_environment(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embeddable Python reads no environment, and takes the console's code page."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")

    finished = playing(FUNCTION).play("print('Grüße ✓'); print('日本', file=sys.stderr); return 1")

    assert finished.outcome is Outcome.COMPLETED
    assert finished.log.decode().split() == ["Grüße", "✓", "日本"]


def test_children_survive_evaluation_and_end_with_close(player: EvaluatorHarness) -> None:
    """A server that the evaluator keeps for its games stays; `close` ends it."""
    player.play("spawn(SLEEPER, '../server'); return 1")
    server = player.pid_in("../server")
    assert player.play("return 1").fitness == 1
    assert not is_gone(server)

    player.evaluator.close()

    assert is_gone(server)


@posix
def test_ended_orphans_are_reaped(player: EvaluatorHarness) -> None:
    """A child that lives for days must not fill the process table with zombies of its games."""

    def zombies() -> list[int]:
        return [p.pid for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]

    for pid in zombies():  # of earlier tests: reaping stops at a child that other code may wait for
        os.waitpid(pid, 0)
    code = "import subprocess; subprocess.Popen(['true'], start_new_session=True)"
    for _ in range(3):
        player.play(f"spawn({code!r}, 'parent').wait(); return 1")

    assert eventually(lambda: player.play("return 1") and not zombies())


@posix
def test_forked_process_does_not_reply(player: EvaluatorHarness) -> None:
    """The forked process returns from the function too, and is not taken for the one that was asked."""
    finished = player.play("child = os.fork(); child and os.waitpid(child, 0); return 1 if child else 2")

    assert finished.fitness == 1
    assert player.play("return 3").fitness == 3


def test_too_long_answer_is_refused(player: EvaluatorHarness) -> None:
    """The child's limit is the record's, and an answer beyond it fails without harm."""
    assert worker_process._BYTES_MAX == RECORD_BYTES_MAX

    finished = player.play("return {'fitness': 1, 'notes': 'x' * 100_000}")

    assert finished.outcome is Outcome.FAILED
    assert "allowed are 65536" in finished.reason
    assert player.play("return 1").fitness == 1


def test_numpy_numbers_are_accepted(player: EvaluatorHarness) -> None:
    """What can say its plain value with `.item()` counts; other objects are refused by name."""
    assert player.play("class Scalar: item = lambda self: 2.5\nreturn Scalar()").fitness == 2.5
    assert "object is not a number" in player.play("return object()").reason


def test_closed_or_replaced_streams_do_not_lose_reply(player: EvaluatorHarness) -> None:
    """Closed or replaced `sys.stdout`, redirected or closed descriptors: the answer arrives all the same."""
    assert player.play("sys.stdout = None; return 1").fitness == 1
    assert player.play("sys.stderr.close(); return 2").fitness == 2
    assert player.play("os.close(1); os.close(2); return 3").fitness == 3
    assert player.play("return 4").fitness == 4


def test_output_of_c_code_is_in_log(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines written by a C library do not wait in its buffer for a later game."""
    library = "ucrtbase" if sys.platform == "win32" else None
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it Python itself would see to that
    player = playing(FUNCTION)

    finished = player.play(f"import ctypes; ctypes.CDLL({library!r}).puts(b'from C'); return 1")

    assert b"from C" in finished.log


def test_child_exits_when_its_input_ends(player: EvaluatorHarness) -> None:
    """Even where nobody kills it, the end of its input is its end."""
    pid = int(player.play("return os.getpid()").fitness or 0)
    assert isinstance(player.evaluator, FunctionEvaluator)
    worker = player.evaluator._child
    assert worker is not None
    assert worker.process.stdin is not None

    worker.process.stdin.close()

    assert eventually(lambda: has_ended(pid))
