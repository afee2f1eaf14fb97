"""Behaviour of the evaluator that runs a command."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.protocol import CannotLoad
from inbox_agent.protocol.layout import RECORD_BYTES_MAX, Outcome
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import COMMAND, SCRIPTED, EvaluatorHarness, MakeHarness, harness_factory, is_gone

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and signals")


@pytest.fixture
def make_harness(tmp_path: Path, tree: ProcessTree) -> Iterator[MakeHarness]:
    with harness_factory(CommandEvaluator, tmp_path / "scratch", tree) as make:
        yield make


@pytest.fixture
def harness(make_harness: MakeHarness) -> EvaluatorHarness:
    return make_harness(COMMAND)


def test_nonzero_exit_code_is_failure(harness: EvaluatorHarness) -> None:
    """The reason is the exit code and the last line of the output, which often has the cause."""
    finished = harness.play("print('no licence'); sys.stdout.flush(); os._exit(3)")

    assert finished.outcome is Outcome.FAILED
    assert finished.reason == "exit code 3: no licence"


@posix
def test_crash_is_named_by_signal(harness: EvaluatorHarness) -> None:
    """The reason names the signal."""
    assert harness.play("os.kill(os.getpid(), 11)").reason == "signal SEGV"


def test_missing_program_is_named(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The reason names it; the evaluator tries again in the next evaluation."""
    harness = make_harness(["no-such-game", "{genome}"])

    for _ in range(2):
        finished = harness.play("")
        assert finished.outcome is Outcome.FAILED
        assert finished.reason == "cannot start 'no-such-game': no such program"


@pytest.mark.parametrize("options", [[], ["-u"], ["-X", "utf8"], ["-W", "error", "-I"]])
def test_missing_python_script_is_found_before_a_game(
    tmp_path: Path, make_harness: MakeHarness, options: list[str]
) -> None:
    """Also behind options of the interpreter."""
    harness = make_harness(["python", *options, "plya.py", "{genome}"], tmp_path)

    with pytest.raises(CannotLoad) as error:
        harness.evaluator.load(1.0)
    assert str(error.value) == f"plya.py: no such file in {tmp_path}"


@pytest.mark.parametrize(
    "arguments", [["-m", "game"], ["-um", "game"], ["-c", "pass"], ["-"], ["{genome}"], ["--version"], ["-u"]]
)
def test_python_without_script_can_be_loaded(tmp_path: Path, make_harness: MakeHarness, arguments: list[str]) -> None:
    """A module, code, or the genome itself."""
    assert make_harness(["python", *arguments], tmp_path).evaluator.load(1.0)


@posix
def test_missing_file_is_named_as_the_user_wrote_it(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The program looks for it in its working folder, the scratch folder, which the user has never seen."""
    reason = make_harness(["sh", "play.sh", "{genome}"], tmp_path).play("").reason
    assert reason.endswith(f"; play.sh was looked for in {tmp_path}, the folder of the evaluator")

    (tmp_path / "cat.sh").write_text('cat "$PWD/$1"\n')
    reason = make_harness(["sh", "cat.sh", "moves.txt"], tmp_path).play("").reason
    assert str(tmp_path / "scratch") not in reason
    assert "moves.txt: No such file or directory; moves.txt was looked for in" in reason


@posix
def test_program_without_execute_permission_is_named(tmp_path: Path, make_harness: MakeHarness) -> None:
    """The message differs from that for a missing file."""
    (tmp_path / "game").write_text("#!/bin/sh\n")
    harness = make_harness(["game"], tmp_path)

    assert harness.play("").reason == "cannot start 'game': not an executable file"


def test_placeholders_are_replaced(tmp_path: Path, make_harness: MakeHarness) -> None:
    """Placeholders become values, other braces stay, files of the folder become absolute paths."""
    argv = ["python", "echo.py", "{seed}/{trial}", "{genome}{genome}", "{}{x}{{seed}}", "data.txt", "other.txt"]
    (tmp_path / "data.txt").touch()
    (tmp_path / "echo.py").write_text("import json, sys; print(json.dumps(sys.argv))")

    finished = make_harness(argv, tmp_path).play("", seed=5, trial=2)

    genome = str(tmp_path / "scratch" / "genome.py")
    data, script = str(tmp_path / "data.txt"), str(tmp_path / "echo.py")
    assert json.loads(finished.log) == [script, "5/2", genome + genome, "{}{x}{5}", data, "other.txt"]


def test_paths_are_not_searched_for_placeholders(tmp_path: Path, tree: ProcessTree) -> None:
    """Neither the path of a file of the evaluator, nor a path that was filled in."""
    folder = tmp_path / "run {seed} {genome}"
    folder.mkdir()
    (folder / "echo.py").write_text("import json, sys; print(json.dumps(sys.argv))")
    (folder / "{seed}.txt").write_text("a file of this name")
    scratch = folder / "scratch {trial}"

    with harness_factory(CommandEvaluator, scratch, tree) as make:
        finished = make(["python", "echo.py", "{seed}.txt", "{scratch}", "{seed}"], folder).play("", seed=5)

    expected = [str(folder / "echo.py"), str(folder / "{seed}.txt"), str(scratch), "5"]
    assert json.loads(finished.log) == expected


def test_python_runs_interpreter_of_agent(tmp_path: Path, make_harness: MakeHarness) -> None:
    """`python` has the agent's packages, and modules in the evaluator's folder can be imported."""
    code = "import sys, scripted; print(sys.executable, scripted.__file__)"

    finished = make_harness(["python", "-c", code]).play("")

    assert finished.log.decode().split() == [sys.executable, str(SCRIPTED / "scripted.py")]


@pytest.mark.parametrize(
    ("last_words", "complaint"),
    [
        ("pass", "the evaluator ended well but wrote no result.json"),
        ("result.write_text('')", "result.json is not valid JSON: Expecting value"),
        ("result.write_text('{\"fitness\": 1.')", "result.json is not valid JSON: Expecting ',' delimiter"),
        ("result.write_bytes(b'\\xff\\xfe')", "result.json is not valid JSON: Expecting value"),  # an empty UTF-16 file
        (
            "result.write_text('ü', 'latin-1')",
            "result.json is not text in UTF-8, UTF-16 or UTF-32: 'utf-8' codec can't",
        ),
        ("result.write_bytes(b'{' + 'ü'.encode('utf-16'))", "result.json is not text in UTF-8, UTF-16 or UTF-32: "),
        ("result.write_text('[' * 60000)", "result.json is nested too deep"),
        ("result.write_text('9' * 5000)", "result.json is not valid JSON: Exceeds the limit"),
        ("result.write_text('[1]')", "result.json must be an object, not list"),
        ("result.write_text(' ' * 70000)", f"result.json has 70000 bytes, allowed are {RECORD_BYTES_MAX}"),
        ("result.mkdir()", "result.json is not a regular file"),
        pytest.param("os.symlink('/dev/zero', result)", "result.json is not a regular file", marks=posix),
        pytest.param("os.mkfifo(result)", "result.json is not a regular file", marks=posix),
    ],
)
def test_unusable_result_file_gives_clear_reason(harness: EvaluatorHarness, last_words: str, complaint: str) -> None:
    """Missing, truncated, not text, too deep, too large, not a file: one clear reason each."""
    finished = harness.play(f"result = Path('result.json'); {last_words}; os._exit(0)")

    assert finished.outcome is Outcome.FAILED
    assert finished.reason.startswith(complaint)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=ascii)
def test_result_file_in_any_encoding_of_json_counts(harness: EvaluatorHarness, encoding: str, end: str) -> None:
    """As PowerShell and .NET write it: with a byte order mark, or in UTF-16."""
    text = '{"fitness": 2.5, "metrics": {"Größe": 3}}\r\n'
    data = text.encode(encoding)
    finished = harness.play(f"Path('result.json').write_bytes({data!r}); os._exit(0)")

    assert (finished.outcome, finished.fitness, finished.metrics) == (Outcome.COMPLETED, 2.5, {"Größe": 3.0})


def test_remaining_child_does_not_delay_result(harness: EvaluatorHarness) -> None:
    """The evaluation ends with its main process: other processes with its output are killed, the result counts."""
    finished = harness.play(
        """
        spawn(SLEEPER, "child")
        spawn(SLEEPER, "own-session", start_new_session=True)
        spawn(ORPHAN, "parent").wait()
        return 1
        """
    )

    assert (finished.outcome, finished.fitness) == (Outcome.COMPLETED, 1)
    assert finished.seconds < 10
    pids = [harness.pid_in(note) for note in ("child", "own-session", "parent", "orphan")]
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_any_program_can_be_evaluator(tmp_path: Path, make_harness: MakeHarness) -> None:
    """Every executable program can be an evaluator."""
    if sys.platform == "win32":
        (tmp_path / "game.bat").write_text('@echo {"fitness": 6}> %1\n')
    else:
        (tmp_path / "game.bat").write_text('#!/bin/sh\necho \'{"fitness": 6}\' > "$1"\n')
        os.chmod(tmp_path / "game.bat", 0o755)

    assert make_harness(["game.bat", "{result}"], tmp_path).play("").fitness == 6
