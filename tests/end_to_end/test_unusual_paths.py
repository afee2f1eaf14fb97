"""Projects in folders with characters that mean something to shells, URIs, templates and option parsers."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.farm_project import CALLABLE, COMMAND, FarmProject, games

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

#: Windows has no quotation marks, question marks, colons and line breaks in names.
NAME = "-x {genome} it's 100%25 $HOME #1; ä&y [z]" + ("" if sys.platform == "win32" else ' "q"?mode=rw:b\nc')
HOOK = "import pathlib, sys; pathlib.Path('hooked').write_bytes(sys.stdin.buffer.read())"


@pytest.fixture
def unusual(tmp_path: Path) -> Iterator[FarmProject]:
    """A project in a folder with an unusual name."""
    farm = FarmProject(tmp_path / NAME)
    yield farm
    farm.close()


@pytest.mark.parametrize("evaluator", [CALLABLE, COMMAND], ids=["callable", "command"])
def test_unusual_path_of_project(unusual: FarmProject, evaluator: str) -> None:
    """A run with a hook completes, and every command that reads it works."""
    unusual.configure(workers=1, evaluator=evaluator, extra='[hooks]\ncommand = ["python", "hook.py", "{event}"]')
    (unusual.root / "hook.py").write_text(HOOK)
    unusual.add_genomes(games(2))

    code, out = unusual.run()

    assert code == 0, out
    unusual.assert_counted_once()
    assert (unusual.root / "hooked").exists()
    for command in (("status",), ("results",), ("explain", "local-0"), ("verify",), ("report",), ("check",)):
        code, out = unusual.run(*command)
        assert code == 0, (command, out)
    assert (unusual.root / "results" / "report-gen-0001.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_command_that_init_prints_can_be_copied(tmp_path: Path) -> None:
    """It is quoted for the shell."""
    pipeline = [sys.executable, "-m", "pipeline"]
    made = subprocess.run([*pipeline, "init", f"./{NAME}"], cwd=tmp_path, capture_output=True, text=True, check=True)

    line = made.stdout.partition("now: pipeline ")[2]

    words = shlex.join([*pipeline, "status"]) + line.removeprefix("run --gen 1")
    shown = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "nothing was run here yet" in shown.stderr, line


@pytest.mark.skipif(sys.platform != "linux", reason="other systems make no such names")
def test_path_of_no_text_is_refused(tmp_path: Path) -> None:
    """Records and settings are Unicode: one line, by host and agent."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad \xff"))
    root.mkdir()
    (root / "pipeline.toml").touch()
    (root / "share").mkdir()
    agent = ("inbox_agent", "--share", "share", "--python", "game:play")

    for command in (("pipeline", "run", "--gen", "1"), ("pipeline", "check"), agent):
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, errors="replace", check=False
        )
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
        assert r"bad \udcff: broken Unicode in this path; rename the folder" in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the current folder cannot be removed there")
def test_removed_current_folder_is_named(tmp_path: Path) -> None:
    """One line that says what to do."""
    pipeline = shlex.join([sys.executable, "-P", "-m", "pipeline"])

    for command in ("status", "run --gen 1", "check"):
        words = f"mkdir gone && cd gone && rmdir ../gone && exec {pipeline} {command}"
        ran = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
        assert "pipeline: .: No such file or directory; go to a folder that is there" in ran.stderr
