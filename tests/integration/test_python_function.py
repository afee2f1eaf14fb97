"""Behaviour of the evaluator that calls a Python function in a worker process."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from inbox_agent.evaluation import worker_process
from inbox_agent.evaluation.output_reader import OutputReader, WorkerReply
from inbox_agent.evaluation.protocol import CannotLoad
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.evaluation.scratch import Scratch
from inbox_agent.protocol.layout import RECORD_BYTES_MAX, Outcome
from inbox_agent.single_game import load_problem
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import (
    FUNCTION,
    EvaluatorHarness,
    MakeHarness,
    harness_factory,
    has_ended,
    is_gone,
)
from tests.harness.waiting import PATIENCE_S, eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")


@pytest.fixture
def make_harness(tmp_path: Path, tree: ProcessTree) -> Iterator[MakeHarness]:
    with harness_factory(FunctionEvaluator, tmp_path / "scratch", tree) as make:
        yield make


@pytest.fixture
def harness(make_harness: MakeHarness) -> EvaluatorHarness:
    return make_harness(FUNCTION)


def test_one_process_runs_many_evaluations(harness: EvaluatorHarness) -> None:
    """The process is kept, and each log has only the output of its evaluation."""
    pids = set()
    for number in range(20):
        finished = harness.play(f"print('game', {number}, end=''); return os.getpid()")
        pids.add(finished.fitness)
        assert finished.log == b"game %d" % number

    assert len(pids) == 1


def test_exit_in_function_fails_only_that_evaluation(harness: EvaluatorHarness) -> None:
    """`sys.exit` and `KeyboardInterrupt` are failures like any other."""
    assert harness.play("sys.exit(3)").reason.startswith("SystemExit: 3 (scripted.py, line ")
    assert harness.play("raise KeyboardInterrupt").reason.startswith("KeyboardInterrupt (scripted.py")
    assert harness.play("return 1").fitness == 1


def test_error_names_innermost_line_of_evaluator(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The reason names the innermost line of the evaluator's own files, not one of a library."""
    (tmp_path / "mine.py").write_text("import json\n\ndef play(genome, trial):\n    json.loads('nonsense')\n")

    finished = make_harness("mine:play", tmp_path).play("")

    assert finished.reason == "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (mine.py, line 4)"
    assert b"json.loads('nonsense')" in finished.log
    assert b"warm_child.py" not in finished.log


def test_import_error_is_reported_until_repaired(tmp_path: Path, make_harness: MakeHarness) -> None:
    """Each evaluation fails with a helpful line; nothing has to be restarted after the repair."""
    harness = make_harness("mine:play", tmp_path)
    complaints = []
    for text in (None, "def play(:", "import nonsense", "x = 1", "raise ValueError('early')", "play = 1"):
        if text is not None:
            (tmp_path / "mine.py").write_text(text)
        complaints.append(harness.play("").reason)
    (tmp_path / "mine.py").write_text("def play(genome, trial): return 5")

    assert complaints == [
        "cannot import mine:play: ModuleNotFoundError: No module named 'mine'",
        "cannot import mine:play: SyntaxError: invalid syntax (mine.py, line 1)",
        "cannot import mine:play: ModuleNotFoundError: No module named 'nonsense' (mine.py, line 1)",
        "cannot import mine:play: AttributeError: module 'mine' has no attribute 'play'",
        "cannot import mine:play: ValueError: early (mine.py, line 1)",
        "cannot import mine:play: TypeError: mine:play is not callable",
    ]
    assert harness.play("").fitness == 5


def test_file_named_like_standard_module_is_not_imported_by_child(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The worker process imports its own modules first; those of the evaluator are found, also by its children."""
    for name in ("json", "ctypes", "dataclasses", "traceback"):
        (tmp_path / f"{name}.py").write_text("raise ValueError('not the one you want')")
    (tmp_path / "words.py").write_text("number = 6")
    code = "import subprocess, sys; from words import number; x = [sys.executable, '-c', 'import words']"
    (tmp_path / "mine.py").write_text(f"{code}\ndef play(genome, trial): subprocess.check_call(x); return number")

    assert make_harness("mine:play", tmp_path).play("").fitness == 6


def test_import_output_is_in_first_log(tmp_path: Path, make_harness: MakeHarness) -> None:
    """Warnings of libraries appear once, in the first log."""
    (tmp_path / "mine.py").write_text("print('loading')\ndef play(genome, trial): print('playing'); return 1")
    harness = make_harness("mine:play", tmp_path)

    assert harness.play("").log.split() == [b"loading", b"playing"]
    assert harness.play("").log.split() == [b"playing"]


def test_import_time_does_not_count_as_evaluation_time(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The time limit starts when the evaluator is ready, or a slow import would fail every genome."""
    (tmp_path / "mine.py").write_text("import time; time.sleep(0.6)\ndef play(genome, trial): return 1")

    finished = make_harness("mine:play", tmp_path).play("", time_limit_s=0.4)

    assert finished.fitness == 1
    assert finished.seconds < 0.4


def test_exit_of_process_is_reported(harness: EvaluatorHarness) -> None:
    """An exit during an evaluation fails only that evaluation."""
    assert harness.play("os._exit(3)").reason == "evaluator process died: exit code 3"
    assert harness.play("return 1").fitness == 1


@posix
@pytest.mark.parametrize(
    ("end", "was_killed"),
    [("os.kill(os.getpid(), 9)", True), ("os._exit(3)", False), ("os.abort()", False)],
    ids=["killed", "exit", "abort"],
)
def test_killed_import_is_told_from_one_that_ends_itself(
    end: str, was_killed: bool, tmp_path: Path, make_harness: MakeHarness
) -> None:
    """The system kills for want of memory, which may pass; the others would happen again."""
    (tmp_path / "mine.py").write_text(f"import os; {end}")

    with pytest.raises(CannotLoad) as error:
        make_harness("mine:play", tmp_path).evaluator.load(PATIENCE_S)

    assert error.value.was_killed == was_killed


@posix
def test_crash_is_named_with_python_traceback(harness: EvaluatorHarness) -> None:
    """A segmentation fault is named, and the log has the Python traceback."""
    finished = harness.play("import ctypes; ctypes.string_at(0)")

    assert finished.reason == "evaluator process died: signal SEGV"
    assert b"Fatal Python error: Segmentation fault" in finished.log
    assert b"in game" in finished.log


def test_process_that_died_between_evaluations_is_replaced(harness: EvaluatorHarness) -> None:
    """The next genome is not charged."""
    pid = int(harness.play("return os.getpid()").fitness or 0)
    psutil.Process(pid).kill()
    assert eventually(lambda: has_ended(pid))

    assert harness.play("return 1").fitness == 1


def test_process_holding_scratch_file_is_replaced(harness: EvaluatorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a file that is held open cannot be removed; the next evaluation gets another process."""
    first = harness.play("return os.getpid()").fitness
    prepare = Scratch.prepare

    def held_open(scratch: Scratch, suffix: str) -> Path:
        if psutil.pid_exists(int(first or 0)):
            raise PermissionError(13, "the process cannot access the file")
        return prepare(scratch, suffix)

    monkeypatch.setattr(Scratch, "prepare", held_open)

    second = harness.play("return os.getpid()")

    assert second.outcome is Outcome.COMPLETED
    assert second.fitness != first


def test_working_directory_is_reset_before_reply(harness: EvaluatorHarness) -> None:
    """On Windows a current directory cannot be removed; the process leaves it before it replies."""
    first = harness.play("os.mkdir('away'); os.chdir('away'); return os.getpid()").fitness

    assert harness.play("return os.getpid() if not os.path.exists('away') else 0").fitness == first


@posix
def test_working_directory_is_reset_to_scratch_folder(harness: EvaluatorHarness) -> None:
    """The next evaluation starts in its scratch folder."""
    pid = harness.play("os.mkdir('away'); os.chdir('away'); return os.getpid()").fitness

    assert Path(psutil.Process(int(pid or 0)).cwd()) == harness.scratch


@posix
def test_process_survives_removed_scratch_folder(harness: EvaluatorHarness) -> None:
    """A game that removes the folder does not need a new process."""
    first = harness.play("import shutil; os.chdir('/'); shutil.rmtree(trial.scratch); return os.getpid()")
    second = harness.play("Path('note').touch(); return os.getpid()")

    assert (first.outcome, second.outcome) == (Outcome.COMPLETED, Outcome.COMPLETED)
    assert first.fitness == second.fitness


def test_output_is_utf_8_in_any_environment(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embeddable Python ignores the environment, and uses the console's code page."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")

    finished = make_harness(FUNCTION).play("print('Grüße ✓'); print('日本', file=sys.stderr); return 1")

    assert finished.outcome is Outcome.COMPLETED
    assert finished.log.decode().split() == ["Grüße", "✓", "日本"]


def test_children_of_import_survive_evaluations_and_end_with_close(make_harness: MakeHarness, tmp_path: Path) -> None:
    """A server that the module starts for all its games."""
    module = (
        "import subprocess, sys\n"
        "server = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "def play(genome, trial):\n    return server.pid\n"
    )
    (tmp_path / "served.py").write_text(module)
    harness = make_harness("served:play", tmp_path)
    server = int(harness.play("").fitness or 0)
    assert harness.play("").fitness == server
    assert not is_gone(server)

    harness.evaluator.close()

    assert is_gone(server)


@posix
def test_ended_orphans_are_reaped(harness: EvaluatorHarness) -> None:
    """A process that lives for days must not fill the process table with zombies."""

    def zombies() -> list[int]:
        return [p.pid for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]

    for pid in zombies():  # of earlier tests: reaping stops at a child that other code may wait for
        os.waitpid(pid, 0)
    code = "import subprocess; subprocess.Popen(['true'], start_new_session=True)"
    for _ in range(3):
        harness.play(f"spawn({code!r}, 'parent').wait(); return 1")

    assert eventually(lambda: harness.play("return 1") and not zombies())


@posix
def test_forked_process_does_not_reply(harness: EvaluatorHarness) -> None:
    """The forked process also returns from the function, but its reply is ignored."""
    finished = harness.play("child = os.fork(); child and os.waitpid(child, 0); return 1 if child else 2")

    assert finished.fitness == 1
    assert harness.play("return 3").fitness == 3


def test_too_long_reply_is_refused(harness: EvaluatorHarness) -> None:
    """The limit is that of the record; a longer answer fails that evaluation only."""
    assert worker_process._BYTES_MAX == RECORD_BYTES_MAX

    finished = harness.play("return {'fitness': 1, 'notes': 'x' * 100_000}")

    assert finished.outcome is Outcome.FAILED
    assert "allowed are 65536" in finished.reason
    assert harness.play("return 1").fitness == 1


def test_numpy_numbers_are_accepted(harness: EvaluatorHarness) -> None:
    """Objects with a plain value from `.item()` count; other objects are refused by name."""
    assert harness.play("class Scalar: item = lambda self: 2.5\nreturn Scalar()").fitness == 2.5
    assert "object is not a number" in harness.play("return object()").reason


def test_closed_or_replaced_streams_do_not_lose_reply(harness: EvaluatorHarness) -> None:
    """Closed or replaced `sys.stdout`, redirected or closed descriptors: the reply arrives all the same."""
    assert harness.play("sys.stdout = None; return 1").fitness == 1
    assert harness.play("sys.stderr.close(); return 2").fitness == 2
    assert harness.play("os.close(1); os.close(2); return 3").fitness == 3
    assert harness.play("return 4").fitness == 4


def test_output_of_c_code_is_in_log(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a C library do not stay in its buffer until a later evaluation."""
    library = "ucrtbase" if sys.platform == "win32" else None
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # Python itself would not buffer with it
    harness = make_harness(FUNCTION)

    finished = harness.play(f"import ctypes; ctypes.CDLL({library!r}).puts(b'from C'); return 1")

    assert b"from C" in finished.log


def test_child_exits_when_its_input_ends(harness: EvaluatorHarness) -> None:
    """It ends at end of file, also if it is not killed."""
    pid = int(harness.play("return os.getpid()").fitness or 0)
    assert isinstance(harness.evaluator, FunctionEvaluator)
    worker = harness.evaluator._child
    assert worker is not None
    assert worker.process.stdin is not None

    worker.process.stdin.close()

    assert eventually(lambda: has_ended(pid))


@posix
def test_reply_of_ended_process_is_still_read(
    make_harness: MakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine a process may end before its last words have been read."""
    read, asked = OutputReader.wait, []

    def wait(reader: OutputReader, timeout_s: float) -> WorkerReply | None:
        asked.append(timeout_s)
        if len(asked) > 1:
            return read(reader, timeout_s)
        assert evaluator._child is not None
        pid = evaluator._child.process.pid
        assert eventually(lambda: has_ended(pid))
        return None

    (tmp_path / "broken.py").write_text("import no_such_library")
    evaluator: Any = make_harness("broken:play", tmp_path).evaluator
    monkeypatch.setattr(OutputReader, "wait", wait)

    assert "No module named 'no_such_library'" in load_problem(evaluator)
