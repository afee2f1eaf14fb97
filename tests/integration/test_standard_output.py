"""Every command whose output has no reader or no room: its exit code is the same, and no pipe is complained of."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from pipeline.cli.main import commands
from pipeline.errors import ExitCode
from tests.harness.command_line import pipeline
from tests.harness.outputs import UselessOutput, closed_pipe, full_disk, useless_outputs
from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no non-blocking pipes of this kind")
needs_full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is full")
OK, FAILED, BAD_INPUT = ExitCode.OK, ExitCode.FAILED, ExitCode.BAD_INPUT
#: Every command with arguments, and the exit code in a project that has played generation 1.
CASES: dict[str, tuple[tuple[str, ...], int]] = {
    "init": (("new",), OK),
    "run": (("--gen", "1"), OK),
    "watch": (("--until-idle",), OK),
    "status": ((), OK),
    "verify": ((), OK),
    "doctor": (("-v",), OK),
    "take-over": (("vm-99",), BAD_INPUT),
    "check": ((), OK),
    "try": (("genomes/gen-0001/camel.txt",), OK),
    "top": ((), OK),
    "explain": (("camel.txt",), OK),
    "results": (("--json",), OK),
    "report": (("--out", "page.html"), OK),
    "schema": ((), OK),
    "deploy": ((), BAD_INPUT),
    "prune": (("--older-than", "1d", "--what-if"), OK),
    "service install": (("--root", "missing"), BAD_INPUT),
    "service uninstall": ((), BAD_INPUT),
    "service status": ((), BAD_INPUT),
    "serve": (("--host", "256.256.256.256"), BAD_INPUT),
    "mcp": (("--http", "--host", "256.256.256.256"), BAD_INPUT),
    "token make": (("reader", "--scope", "read"), OK),
    "token list": ((), OK),
    "token revoke": (("missing",), BAD_INPUT),
    "agent bundle": (("--out", "bundle", "--embed", "missing.zip"), BAD_INPUT),
    "agent verify": ((".", "--allowed-signers", "pipeline.toml"), BAD_INPUT),
    "worker list": ((), OK),
    "worker add": (("w9", "--share", "elsewhere"), OK),
    "worker drain": (("local-0",), OK),
    "worker return": (("local-0",), OK),
    "worker restart": (("local-0",), OK),
    "worker remove": (("local-0",), BAD_INPUT),
    **{
        f"vm {name}": (("--game-folder", "C:/game") if name == "check-template" else (), BAD_INPUT)
        for name in (
            *("create", "prepare", "start", "stop", "save", "restart", "checkpoint", "restore", "remove"),
            *("status", "compare", "check-template", "switch"),
        )
    },
}


PRINT_NOTHING = ("doctor", "watch")  #: with these arguments, in this project


def every_command(group: click.Group = commands, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield " ".join((*path, name))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("played") / "project"
    for words in (("init", str(root)), ("run", "--gen", "1", "--root", str(root))):
        subprocess.run([sys.executable, "-m", "pipeline", *words], check=True, capture_output=True)
    return root


@pytest.fixture
def project(played: Path, tmp_path: Path) -> Path:
    """A copy, which a command may change."""
    return shutil.copytree(played, tmp_path / "project")


def run(
    root: Path,
    *words: str,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    variables: Mapping[str, str] = {},
) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, **variables}
    command = [sys.executable, *(words if words[0] == "-c" else ("-m", *words))]
    return subprocess.run(command, cwd=root, env=environment, stdout=stdout, stderr=stderr, check=False)


def test_every_command_is_a_case() -> None:
    """A new command is tested, too."""
    assert set(every_command()) == set(CASES)


@pytest.mark.parametrize("command", CASES)
def test_command_whose_reader_has_left(command: str, project: Path) -> None:
    """Its own exit code, no traceback, and no word about the pipe."""
    arguments, code = CASES[command]
    with closed_pipe() as nowhere:
        ran = run(project, "pipeline", *command.split(), *arguments, stdout=nowhere)
    assert ran.returncode == code, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"pipe" not in ran.stderr.lower().replace(b"pipeline", b"")
    assert ran.stderr == b"" or code != OK


@needs_full_disk
@pytest.mark.parametrize("command", [name for name in CASES if CASES[name][1] == OK and name not in PRINT_NOTHING])
def test_command_whose_output_is_on_a_full_disk(command: str, project: Path) -> None:
    """What was printed is incomplete, so it does not end with 0; except `run`, which has a log.

    Without those that print nothing here.
    """
    arguments, _code = CASES[command]
    with full_disk() as nowhere:
        ran = run(project, "pipeline", *command.split(), *arguments, stdout=nowhere)
    incomplete = command != "run"
    assert ran.returncode == (ExitCode.STOPPED if incomplete else OK), ran.stderr
    assert (b"standard output: No space left on device" in ran.stderr) == incomplete
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize("command", ["status", "take-over", "vm status"])
@pytest.mark.parametrize("output", useless_outputs(), ids=lambda output: output.__name__)
def test_command_whose_errors_are_lost(output: UselessOutput, command: str, project: Path) -> None:
    """Standard error has no effect on the exit code, whether or not something is written there."""
    arguments, code = CASES[command]
    with output() as nowhere:
        assert run(project, "pipeline", *command.split(), *arguments, stderr=nowhere).returncode == code


def test_verify_of_missing_results_keeps_its_exit_code(project: Path) -> None:
    """5, whether or not the problems can be read."""
    (project / "results/gen-0001/results.csv").unlink()
    with closed_pipe() as nowhere:
        assert run(project, "pipeline", "verify", stdout=nowhere, stderr=nowhere).returncode == ExitCode.FILES_DIFFER


@pytest.mark.parametrize("words", [(), ("run",)], ids=" ".join)
def test_help_whose_reader_has_left(words: tuple[str, ...], tmp_path: Path) -> None:
    """`pipeline --help | head` is no error."""
    with closed_pipe() as nowhere:
        ran = run(tmp_path, "pipeline", *words, "--help", stdout=nowhere)
    assert (ran.returncode, ran.stderr) == (OK, b"")


def test_usage_error_whose_reader_has_left(tmp_path: Path) -> None:
    """2, as for any wrong option."""
    with closed_pipe() as nowhere:
        assert run(tmp_path, "pipeline", "status", "--wrong", stderr=nowhere).returncode == BAD_INPUT


def test_completion_whose_reader_has_left(tmp_path: Path) -> None:
    """A shell that was closed while it asked for completions."""
    asked = {"_PIPELINE_COMPLETE": "zsh_complete", "COMP_WORDS": "pipeline st", "COMP_CWORD": "1"}
    assert b"status" in run(tmp_path, "pipeline", variables=asked).stdout
    with closed_pipe() as nowhere:
        ran = run(tmp_path, "pipeline", stdout=nowhere, variables=asked)
    assert (ran.returncode, ran.stderr) == (OK, b"")


PRINTS_MUCH = """
import sys
from inbox_agent.system.standard_output import drop_failed_writes
drop_failed_writes()
for number in range(10_000):
    print(f"{number}: größe – {'x' * 100}")
print("end", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "variables", [{}, {"PYTHONUNBUFFERED": "1"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONDEVMODE": "1"}], ids=str
)
@pytest.mark.parametrize("blocking", [True, pytest.param(False, marks=posix)], ids=["blocking", "non-blocking"])
def test_output_that_is_read_is_complete(blocking: bool, variables: dict[str, str]) -> None:
    """Also unbuffered, with characters that the encoding of the pipe lacks, and through a non-blocking pipe."""
    encoding = variables.get("PYTHONIOENCODING", "utf-8")
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, **variables}
    command = [sys.executable, "-c", PRINTS_MUCH]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=writing, stderr=subprocess.PIPE) as program:
        os.close(writing)
        with open(reading, "rb") as output:
            lines = output.read().decode(encoding).splitlines()
        assert program.stderr is not None
        assert program.stderr.read().split() == [b"end"]
    expected = "größe –".encode(encoding, "backslashreplace").decode(encoding)
    assert program.returncode == 0
    assert lines == [f"{number}: {expected} {'x' * 100}" for number in range(10_000)]


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}, {"PYTHONDEVMODE": "1"}], ids=str)
@pytest.mark.parametrize("output", useless_outputs(), ids=lambda output: output.__name__)
def test_program_whose_output_is_lost_ends_well(output: UselessOutput, variables: dict[str, str]) -> None:
    """Also after the last flush of the interpreter, which otherwise makes it exit with 120."""
    with output() as nowhere:
        ran = run(ROOT, "-c", PRINTS_MUCH, stdout=nowhere, variables=variables)
    assert (ran.returncode, ran.stderr.split()) == (0, [b"end"])


def test_commands_in_process_keep_streams_of_their_caller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `drop_failed_writes` there is no lost output to ask about."""
    before = sys.stdout, sys.stderr
    assert pipeline(capsys, "init", tmp_path / "new")[0] == OK
    assert (sys.stdout, sys.stderr) == before


# ------------------------------------------------------------------------------------------------- inbox-agent doctor


def test_doctor_of_agent_whose_reader_has_left(project: Path) -> None:
    """Its exit codes are those of its checks."""
    share = project / "state/shares/local-0"
    words = ("inbox_agent", "doctor", "--share", str(share), "--state", str(project / "notes"), "-v")
    played = ("--", "python", "play.py")
    read = run(project, *words, *played)
    missing = run(project, *words, "--", "no-such-program")
    with closed_pipe() as nowhere:
        assert run(project, *words, *played, stdout=nowhere, stderr=nowhere).returncode == read.returncode == OK
        assert run(project, *words, "--", "no-such-program", stdout=nowhere).returncode == missing.returncode == FAILED
        unreadable = run(project, *words, "--config", "missing.toml", stdout=nowhere, stderr=nowhere)
    assert unreadable.returncode == BAD_INPUT


@needs_full_disk
def test_doctor_of_agent_whose_output_is_on_a_full_disk(project: Path) -> None:
    """Its JSON is incomplete, so it does not end with 0."""
    words = ("inbox_agent", "doctor", "--share", str(project / "state/shares/local-0"), "--json")
    with full_disk() as nowhere:
        ran = run(project, *words, "--state", str(project / "notes"), "--", "python", "play.py", stdout=nowhere)
    assert ran.returncode == FAILED
    assert ran.stderr.startswith(b"inbox-agent doctor: standard output: No space left on device;")
