"""Shell completion and `--version`, as a shell and a user start the programs."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from pipeline.cli.main import commands
from tests.harness.command_line import pipeline
from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
SCRIPTS = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Runs a program with the environment's scripts on the path; returns its standard output."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, **variables}, capture_output=True, text=True, check=True
    )
    return ran.stdout


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert pipeline(capsys, "init", tmp_path)[0] == 0
    (tmp_path / "genomes/gen-0012").mkdir()
    (tmp_path / "genomes/gen-0012/new genome.json").touch()
    (tmp_path / "genomes/gen-0012/.hidden").touch()
    return tmp_path


CASES = [
    ("ru", ["run"]),
    ("run --f", ["--fresh"]),
    ("vm sta", ["start", "status"]),
    ("take-over l", ["local-0", "local-1"]),
    ("doctor local-0 local-", ["local-0", "local-1"]),
    ("vm start x", []),
    ("run --gen 1", ["1", "12"]),
    ("status --gen ", ["1", "12"]),
    ("explain n", ["new genome.json"]),
    ("run --gen 1 --only n", ["new genome.json"]),
    ("explain local-1", ["local-1"]),
    ("results --sort fit", ["fitness"]),
]


@pytest.mark.parametrize(("words", "expected"), CASES)
def test_words_are_completed(project: Path, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]) -> None:
    """Commands, options and their values, workers, genomes, generations."""
    monkeypatch.chdir(project)
    *args, begun = words.split(" ")
    found = ShellComplete(commands, {}, "pipeline", "_PIPELINE_COMPLETE").get_completions(args, begun)
    assert [item.value for item in found] == expected


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_bash_completes(project: Path) -> None:
    """The line of the documents, in a real shell; a name with a blank is one name."""
    (line,) = re.findall(r"`(eval [^`]*bash_source[^`]*)`", (ROOT / "docs/how-to/editor-and-shell.md").read_text())
    script = (
        f"{line}\nCOMP_WORDS=(pipeline explain n)\nCOMP_CWORD=2\n_pipeline_completion pipeline\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    assert run("bash", "--norc", "-c", script, cwd=project) == "new genome.json\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete(project: Path, shell: str) -> None:
    """The script that the documents let the shell read, and what it then asks the program for."""
    table = (ROOT / "docs/how-to/editor-and-shell.md").read_text()
    assert f"_PIPELINE_COMPLETE={shell}_source pipeline" in table
    assert f"_PIPELINE_COMPLETE={shell}_complete" in run("pipeline", cwd=project, _PIPELINE_COMPLETE=f"{shell}_source")
    last = "local-" if shell == "fish" else "2"  # fish gives the begun word, the others its number
    asked = {"_PIPELINE_COMPLETE": f"{shell}_complete", "COMP_WORDS": "pipeline take-over local-", "COMP_CWORD": last}
    answer = run("pipeline", cwd=project, **asked)
    assert "local-0" in answer and "local-1" in answer


def test_completion_outside_of_a_project_is_silent(tmp_path: Path) -> None:
    """Also where the configuration cannot be read."""
    asked = {"_PIPELINE_COMPLETE": "bash_complete", "COMP_WORDS": "pipeline explain x", "COMP_CWORD": "2"}
    assert run("pipeline", cwd=tmp_path, **asked).strip() == ""
    (tmp_path / "pipeline.toml").write_text("not toml")
    assert run("pipeline", cwd=tmp_path, **asked).strip() == ""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["pipeline"], "pipeline"),
        ([sys.executable, "-m", "pipeline"], "pipeline"),
        (["inbox-agent"], "inbox-agent"),
        (["inbox-agent", "doctor"], "inbox-agent"),
        ([sys.executable, "-m", "inbox_agent"], "inbox-agent"),
    ],
)
def test_every_program_tells_its_version(tmp_path: Path, command: list[str], name: str) -> None:
    """In one form."""
    assert run(*command, "--version", cwd=tmp_path) == f"{name}, version {version('genome-pipeline')}\n"
