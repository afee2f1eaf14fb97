"""docs/how-to/scale-out.md, "A Dask cluster": its commands, settings and program work, in the order of the page."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.dask_cluster import free_port
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.source, pytest.mark.timeout(180)]

PAGE = (ROOT / "docs/how-to/scale-out.md").read_text(encoding="utf-8").partition("\n## A Dask cluster\n")[2]
PAGE = PAGE.partition("\n## ")[0]
PROGRAMS = ("pipeline", "dask")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    """The commands of a block, run by this Python; an installation is not repeated."""
    lines = [shlex.split(line) for line in block.splitlines()]
    return [[sys.executable, "-m", *words] for words in lines if words[0] in PROGRAMS]


@pytest.fixture
def background() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that go on while the rest of the page is followed."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in reversed(started):
        process.terminate()
        process.wait(20)


def test_page_leads_from_one_computer_to_a_cluster(
    tmp_path: Path, background: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four workers exist, each command says that all is well, and the run begins without a recovery action."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made, processes, in_project = blocks("sh")
    (table,) = blocks("toml")
    place = f"127.0.0.1:{free_port('127.0.0.1')}"
    for command in commands(made):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    there = processes.replace("127.0.0.1:8786", place).replace("8786", place.partition(":")[2])
    background.extend(
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands(there)
    )
    project = tmp_path / "cluster-project"
    settings = (project / "pipeline.toml").read_text()
    changed = re.sub(r"^workers = 2 .*", "workers = 0", settings, flags=re.MULTILINE)
    assert changed != settings
    (project / "pipeline.toml").write_text(f"{changed}\n{table.replace('127.0.0.1:8786', place)}")

    doctor, *others = commands(in_project)
    found: list[subprocess.CompletedProcess[str]] = []

    def is_well() -> bool:
        found.append(subprocess.run(doctor, cwd=project, capture_output=True, text=True, check=False))
        return found[-1].returncode == 0

    assert eventually(is_well, 60), found[-1].stdout + found[-1].stderr
    assert re.search(r"site alice: on .*, Python .* free in .*; round trip", found[-1].stdout)
    shown = ""
    for command in others:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        shown += done.stdout + done.stderr
    assert "restart_agent" not in shown
    assert {"alice-0", "alice-1", "bob-0", "bob-1"} <= set(re.findall(r"(?:alice|bob)-\d", shown))


def test_program_of_the_page_plays_on_a_local_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is printed, with the game that is printed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    game, program = blocks("python")
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "my-project").mkdir()
    (tmp_path / "my-project" / "my_game.py").write_text(game)

    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )

    assert done.stdout.strip() == "19.0", done.stderr
