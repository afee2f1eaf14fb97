"""The contract of every evaluator: each kind runs the same tests."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.protocol import GenomeEvaluator
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.protocol.layout import ARTIFACTS_MAX, LOG_BYTES_MAX, Outcome
from inbox_agent.system.process_tree import ProcessTree, interpreter
from tests.harness.evaluator_harness import COMMAND, FUNCTION, SCRIPTED, EvaluatorHarness, evaluator_options, is_gone


@pytest.fixture(params=["command", "python"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, tree: ProcessTree) -> Iterator[EvaluatorHarness]:
    evaluator: GenomeEvaluator
    scratch = tmp_path / "scratch"
    if request.param == "command":
        evaluator = CommandEvaluator(COMMAND, SCRIPTED, scratch, tree, evaluator_options())
    else:
        evaluator = FunctionEvaluator(FUNCTION, SCRIPTED, scratch, tree, evaluator_options())
    yield EvaluatorHarness(evaluator, scratch)
    evaluator.close()


def test_completed_evaluation_has_fitness_and_log(harness: EvaluatorHarness) -> None:
    """The fitness is the returned value; the output is the log."""
    finished = harness.play("print('hello'); return 2.5")

    assert (finished.outcome, finished.fitness, finished.reason) == (Outcome.COMPLETED, 2.5, "")
    assert finished.log.split() == [b"hello"]
    assert finished.metrics == {}
    assert finished.artifacts == []
    assert 0 < finished.seconds < 20


def test_metrics_are_returned(harness: EvaluatorHarness) -> None:
    """An evaluation may return an object with fitness and metrics."""
    finished = harness.play("return {'fitness': 1, 'metrics': {'lives': 3, 'score': 0.5}}")

    assert finished.fitness == 1.0
    assert finished.metrics == {"lives": 3.0, "score": 0.5}


def test_ignored_keys_are_in_the_log(harness: EvaluatorHarness) -> None:
    """The game counts, since evaluators may have keys of their own; a metric in the wrong place does not vanish
    silently.
    """
    finished = harness.play("print('hello'); return {'fitness': 1, 'score': 3, 'a\\nb': {}, 'metrics': {}}")

    said = "only `fitness` and `metrics` are read, these keys are ignored: score, a b"
    assert (finished.outcome, finished.fitness, finished.metrics) == (Outcome.COMPLETED, 1.0, {})
    assert [line.rpartition(": only")[2] for line in finished.log.decode().split("\n") if "only" in line] == [said[4:]]
    assert finished.log.startswith(b"hello")


def test_log_with_ignored_keys_is_not_longer_than_any(harness: EvaluatorHarness) -> None:
    """The host refuses a longer one."""
    finished = harness.play(f"print('x' * {2 * LOG_BYTES_MAX}); return {{'fitness': 1, 'score': 3}}")

    assert len(finished.log) == LOG_BYTES_MAX
    assert finished.log.endswith(b"these keys are ignored: score\n")


def test_evaluator_passes_job_values(harness: EvaluatorHarness) -> None:
    """Seed, trial, settings, scratch folder and the genome's bytes and suffix arrive unchanged."""
    settings = {"map": "Grüße ✓ {seed}", "fast": True, "level": 3, "speed": 1.5}

    finished = harness.play(
        """
        assert genome.endswith(".py") if isinstance(genome, str) else genome.suffix == ".py"
        assert os.path.samefile(os.getcwd(), trial.scratch)
        print(json.dumps([trial.number, trial.seed, trial.settings]))
        return 1
        """,
        trial=4,
        seed=2**31 - 1,
        settings=settings,
    )

    assert json.loads(finished.log) == [4, 2**31 - 1, settings]


def test_exception_is_failure_with_traceback_in_log(harness: EvaluatorHarness) -> None:
    """The reason is the error in one line; the traceback is in the log."""
    finished = harness.play("return 1 / 0")

    assert (finished.outcome, finished.fitness) == (Outcome.FAILED, None)
    assert "ZeroDivisionError: division by zero" in finished.reason
    assert "\n" not in finished.reason
    assert b"Traceback (most recent call last)" in finished.log


def test_time_limit_kills_evaluation(harness: EvaluatorHarness) -> None:
    """The evaluation is killed at its time limit; its output up to then is kept."""
    for time_limit_s in (0.7, 5.0):  # the second limit only where Python takes longer than the first to start
        finished = harness.play("print('still here', flush=True); hang()", time_limit_s=time_limit_s)

        assert finished.outcome is Outcome.TIMED_OUT
        assert finished.reason == f"the time limit of {time_limit_s:g} s passed"
        assert time_limit_s <= finished.seconds < time_limit_s + 5
        if finished.log:
            break
    assert b"still here" in finished.log


def test_kill_ends_all_descendants(harness: EvaluatorHarness) -> None:
    """A child, a child in its own session and an orphaned grandchild die with the game; none is left a zombie."""
    harness.start(
        """
        spawn(SLEEPER, "child")
        spawn(SLEEPER, "own-session", start_new_session=True)
        spawn(ORPHAN, "parent").wait()
        Path("game").write_text(str(os.getpid()))
        hang()
        """
    )
    assert harness.until(lambda: harness.pid_in("game"))
    pids = [harness.pid_in(note) for note in ("game", "child", "own-session", "orphan")]

    harness.evaluator.stop()

    assert [pid for pid in pids if not is_gone(pid)] == []
    assert harness.play("return 1").fitness == 1


def test_stop_is_idempotent_and_next_evaluation_runs(harness: EvaluatorHarness) -> None:
    """After `stop` the game has ended, a second `stop` does nothing, and the next evaluation runs."""
    harness.start("Path('pid').write_text(str(os.getpid())); hang()")
    assert harness.until(lambda: harness.pid_in("pid"))
    pid = harness.pid_in("pid")

    harness.evaluator.stop()
    harness.evaluator.stop()

    assert is_gone(pid)
    assert harness.evaluator.progress == ""
    assert harness.play("return 3").fitness == 3


def test_evaluation_after_time_out_is_complete(harness: EvaluatorHarness) -> None:
    """After a time-out the next evaluation is complete and has its own log."""
    harness.play("print('the first'); hang()", time_limit_s=0.3)

    finished = harness.play("print('the second'); return 4")

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 4)
    assert finished.log.split() == [b"the", b"second"]


def test_long_log_is_truncated_to_its_end(harness: EvaluatorHarness) -> None:
    """Of 10 MB of output the last bytes are kept, up to the limit."""
    finished = harness.play(
        """
        for number in range(160):
            print("x" * 65000)
        print("the end")
        return 1
        """
    )

    assert finished.fitness == 1
    assert len(finished.log) == LOG_BYTES_MAX
    assert finished.log.rstrip().endswith(b"the end")


def test_endless_output_does_not_delay_wait(harness: EvaluatorHarness) -> None:
    """A game writes as fast as it can and never a newline: `wait` returns in time, the log stays bounded."""
    harness.start(
        """
        trial.progress("flooding")
        end = time.monotonic() + 1
        while time.monotonic() < end: os.write(1, b"x" * 65536)
        return 1
        """
    )
    assert harness.until(lambda: harness.evaluator.progress == "flooding")
    overdue, finished = [], None
    while finished is None:
        asked = time.monotonic()
        finished = harness.evaluator.wait(0.1)
        overdue.append(time.monotonic() - asked - 0.1)

    assert finished.fitness == 1
    assert len(finished.log) == LOG_BYTES_MAX
    assert max(overdue) < 0.5


def test_invalid_return_value_is_failure(harness: EvaluatorHarness) -> None:
    """An invalid result is refused, and the reason names what is wrong."""
    complaints = {
        "math.nan": "fitness must be finite, not nan",
        "-math.inf": "fitness must be finite, not -inf",
        "10 ** 400": "fitness must be finite, not inf",
        "-1.7e308": "fitness must be at most 1e+300 of either sign, not -1.7e+308",
        "'12'": "fitness must be a number, not str",
        "True": "fitness must be a number, not bool",
        "None": "fitness must be a number, not NoneType",
        "{}": "has no `fitness`",
        "{'metrics': {}}": "has no `fitness`; its keys are metrics",
        "{'fitnes': 1, 'score': 3}": "has no `fitness`; its keys are fitnes, score",
        "{'fitness': 1, 'metrics': [1]}": "metrics must be an object of at most 64 numbers",
        "{'fitness': 1, 'metrics': {'a': math.nan}}": "metric a must be finite, not nan",
    }
    for answer, complaint in complaints.items():
        finished = harness.play(f"return {answer}")

        assert (finished.outcome, finished.fitness) == (Outcome.FAILED, None), answer
        assert complaint in finished.reason


def test_progress_is_latest_line_during_evaluation(harness: EvaluatorHarness) -> None:
    """The latest progress line is the progress, as one printable line, until the evaluation ends."""
    harness.start(
        """
        trial.progress("lap 1")
        trial.progress("lap \\x1b[31m 2\\n of 3")
        while not os.path.exists("go"): time.sleep(0.01)
        return 1
        """
    )
    assert harness.until(lambda: harness.evaluator.progress == "lap [31m 2 of 3")

    (harness.scratch / "go").touch()

    assert harness.finish().fitness == 1
    assert harness.evaluator.progress == ""
    harness.start("hang()")
    assert harness.evaluator.progress == ""


def test_output_may_contain_any_character(harness: EvaluatorHarness) -> None:
    """Output is UTF-8 on every system, whatever the console's code page."""
    finished = harness.play("print('Grüße ✓ 日本'); return 1")

    assert finished.log.decode().strip() == "Grüße ✓ 日本"


def test_artifacts_are_returned_sorted_and_limited(harness: EvaluatorHarness) -> None:
    """Regular files in `artifacts/` are returned, sorted and limited in number; nothing else, and only once."""
    finished = harness.play(
        f"""
        for number in range({ARTIFACTS_MAX + 3}):
            Path("artifacts", f"{{number:02}}.bin").write_bytes(b"x" * number)
        Path("artifacts", "000-folder").mkdir()
        if hasattr(os, "mkfifo"):
            os.symlink("/etc/passwd", "artifacts/000-link")
            os.mkfifo("artifacts/000-fifo")
        return 1
        """
    )

    assert [path.name for path in finished.artifacts] == [f"{n:02}.bin" for n in range(ARTIFACTS_MAX)]
    assert finished.artifacts[3].read_bytes() == b"xxx"
    assert harness.play("return 1").artifacts == []


def test_failed_evaluation_returns_artifacts(harness: EvaluatorHarness) -> None:
    """The replay of a failed game is of particular interest."""
    finished = harness.play("Path('artifacts', 'replay').touch(); raise SystemExit(3)")

    assert finished.outcome is Outcome.FAILED
    assert [path.name for path in finished.artifacts] == ["replay"]


def test_scratch_folder_is_cleaned_before_each_evaluation(harness: EvaluatorHarness) -> None:
    """Files, read-only folders, links and a changed genome of the previous game are removed."""
    harness.play(
        """
        os.makedirs("a/b"); Path("a/b/c").touch(); os.chmod("a/b", 0o500); Path("result.json").touch()
        Path("artifacts/old").touch(); os.unlink(genome)
        if hasattr(os, "mkfifo"): os.symlink("/etc/passwd", genome); os.mkfifo("pipe")
        return 1
        """
    )

    finished = harness.play("print(sorted(os.listdir()), os.listdir('artifacts')); return 1")

    settings = ["settings.json"] if isinstance(harness.evaluator, CommandEvaluator) else []
    assert finished.log.decode().strip() == f"{sorted(['artifacts', 'genome.py', *settings])} []"


def test_evaluation_has_no_standard_input(harness: EvaluatorHarness) -> None:
    """A game that reads its input gets end of file and does not hang."""
    finished = harness.play("return len(sys.stdin.read()) + len(os.read(0, 10))")

    assert finished.fitness == 0


def test_time_limit_of_days_is_accepted(harness: EvaluatorHarness) -> None:
    """The longest time limit that a start signal can carry works."""
    assert harness.play("return 1", time_limit_s=7 * 86400.0).fitness == 1


def test_pythonw_agent_uses_console_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every console program that a game starts would open a window over it."""
    beside = tmp_path / "python.exe"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "pythonw.exe"))
    assert interpreter() == sys.executable

    beside.touch()

    assert interpreter() == str(beside)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.11"))
    assert interpreter() == sys.executable
