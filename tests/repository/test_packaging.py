"""The wheel, as installed by a user: the agent runs from it with the base dependencies only."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pipeline.cli.new_project import EXAMPLE
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.source, pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def agent_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the built wheel and nothing but its base dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    scripts = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", wheel], check=True)
    return scripts


def test_base_dependencies_are_those_of_agent(agent_only: Path) -> None:
    """A VM gets four libraries and their dependencies, and nothing of the host."""
    listed = subprocess.run(
        [agent_only / "python", "-m", "pip", "list", "--format=json"], check=True, capture_output=True
    ).stdout
    names = {package["name"].lower() for package in json.loads(listed)} - {"pip", "setuptools"}
    assert names == {"genome-pipeline", "msgspec", "orjson", "psutil", "watchdog"}


def test_agent_runs_from_wheel(agent_only: Path, tmp_path: Path) -> None:
    """It makes the folders, writes heartbeats, and ends when its standard input ends."""
    (tmp_path / "share").mkdir()
    (tmp_path / "game.py").write_text("def play(genome, trial):\n    return 1.0\n")
    agent = subprocess.Popen(
        [
            *(agent_only / "inbox-agent", "--share", tmp_path / "share", "--state", tmp_path / "state"),
            *("--python", "game:play", "--folder", tmp_path, "--leave-with-parent"),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert eventually((tmp_path / "share/status/agent.json").exists, 20)
        _, output = agent.communicate(timeout=20)
        assert agent.returncode == 0, output.decode()
    finally:
        agent.kill()


def test_conformance_kit_runs_from_wheel(agent_only: Path, tmp_path: Path) -> None:
    """With its game and its records, against the agent of the wheel."""
    checks = ("result-repeats-start-signal", "start-signals-are-judged-as-documented")
    only = [word for name in checks for word in ("--only", name)]
    command: list[str | Path] = [agent_only / "python", "-m", "inbox_agent.conformance", *only]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert run.stdout.splitlines()[-1] == "2 checks passed"


def test_missing_host_extra_is_reported(agent_only: Path) -> None:
    """One line with the pip command, and the exit code for bad input."""
    run = subprocess.run([agent_only / "pipeline", "run", "--gen", "1"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert 'run: pip install "genome-pipeline[host]"' in run.stderr


def test_api_of_wheel_without_host_extra_names_pip_command(agent_only: Path) -> None:
    """The package can be imported and its errors can be caught; the last line names the pip command."""
    code = "import pipeline; print(pipeline.PipelineError.__name__); from pipeline import open_farm"
    run = subprocess.run([agent_only / "python", "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "PipelineError\n"
    assert run.stderr.splitlines()[-1].startswith("pipeline.errors.MissingExtraError: ")
    assert run.stderr.endswith('run: pip install "genome-pipeline[host]"\n')


def test_example_project_is_in_the_wheel(agent_only: Path) -> None:
    """`pipeline init` copies it from there."""
    code = (
        "from importlib.resources import files\n"
        "for path in (files('pipeline.cli') / 'example_project').rglob('*'):\n"
        "    print(path.name)"
    )
    listed = subprocess.run([agent_only / "python", "-c", code], check=True, cwd=agent_only, capture_output=True)
    names = set(listed.stdout.decode().splitlines())
    assert {path.name for path in Path(str(EXAMPLE)).rglob("*")} <= names


def test_packages_ship_type_markers(agent_only: Path) -> None:
    """Users' type checkers read the annotations of all packages only with this marker."""
    code = (
        "from importlib.resources import files\n"
        "for name in ('game_window', 'hyperv_ops', 'inbox_agent', 'pipeline'):\n"
        "    assert (files(name) / 'py.typed').is_file(), name"
    )
    subprocess.run([agent_only / "python", "-c", code], check=True, cwd=agent_only)
