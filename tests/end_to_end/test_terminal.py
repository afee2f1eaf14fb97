"""`pipeline run` and `pipeline top` in a real terminal: what it shows, takes as keys and leaves behind."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals of POSIX", allow_module_level=True)

from tests.harness.farm_project import FarmProject, games
from tests.harness.terminal_screen import Terminal
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
Start = Callable[..., Terminal]
WAITING = "no generation was run here yet; waiting for `pipeline run`"
CTRL_C = "\x03"


@pytest.fixture
def start(project: FarmProject) -> Iterator[Start]:
    """Starts a `pipeline` command in a terminal."""
    terminals: list[Terminal] = []

    def start(*args: str, width: int = 80, height: int = 24) -> Terminal:
        command = [sys.executable, "-m", "pipeline", *args, "--root", str(project.root)]
        terminals.append(Terminal(command, cwd=project.root, width=width, height=height))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def until(terminal: Terminal, *words: str) -> None:
    """Waits until all of these words are on the screen at once."""
    shown = eventually(lambda: all(map(terminal.shows, words)), within_s=60)
    assert shown, "\n".join(terminal.lines())


def add_gated_genomes(project: FarmProject, count: int, generation: int = 1) -> None:
    """The first two games are over at once, which is enough for an estimate; the others last until `open_gate`."""
    gate = {"until": str(project.root / "gate")}
    genomes = {
        name: {**game, **(gate if number >= 2 else {})} for number, (name, game) in enumerate(games(count).items())
    }
    project.add_genomes(genomes, generation)


def open_gate(project: FarmProject) -> None:
    (project.root / "gate").touch()


def headline_count(terminal: Terminal) -> int:
    return sum(line.startswith("generation 1 · ") for line in terminal.all_lines())


def test_top_follows_one_generation_after_the_other(project: FarmProject, start: Start) -> None:
    """It waits for the first run, shows it, goes on with the next one, and ends by Ctrl-C alone, with exit code 0."""
    project.configure(workers=2)
    project.add_genomes(games(3))
    add_gated_genomes(project, 12, generation=2)
    top = start("top", width=200, height=50)
    until(top, WAITING)

    assert project.run()[0] == 0
    until(top, "generation 1 · 3 genomes", "finished in", "3 of 3", "fittest genomes")
    assert top.process.poll() is None

    host = project.start("run", "--gen", "2")
    until(top, "generation 2 · 12 genomes", "about", "generation 2 so far", "generation 1  ", "best ", "playing")
    open_gate(project)
    assert project.wait_for_end(host)[0] == 0
    until(top, "finished in", "12 of 12", "generations 1 to 2")
    assert top.process.poll() is None and not top.echoes

    top.press(CTRL_C)
    assert top.process.wait(30) == 0
    assert top.echoes and top.lines() == []  # the terminal is as it was before


def test_top_survives_a_killed_host_and_a_fresh_run(project: FarmProject, start: Start) -> None:
    """It says that no host plays, goes on when one does, and begins anew with a fresh run."""
    project.configure(workers=2)
    add_gated_genomes(project, 8)
    top = start("top")
    host = project.start()
    until(top, "playing", "about")
    host.kill()
    until(top, "and no host plays it now")
    open_gate(project)

    assert project.run()[0] == 0
    until(top, "finished in", "8 of 8")

    (project.root / "genomes/gen-0001/g007.json").unlink()
    fresh = project.start("run", "--gen", "1", "--fresh")
    until(top, "generation 1 · 7 genomes", "of 7")
    assert project.wait_for_end(fresh)[0] == 0
    until(top, "finished in", "7 of 7")
    top.process.send_signal(signal.SIGTERM)
    assert top.process.wait(30) == 0
    assert top.echoes and top.lines() == []


def test_top_of_a_given_generation_ends_with_it(project: FarmProject, start: Start) -> None:
    """It waits for that one, whatever else is played, and leaves its end on the screen."""
    project.configure(workers=1)
    project.add_genomes(games(2))
    project.add_genomes(games(4, seconds=0.3), generation=2)
    assert project.run()[0] == 0
    top = start("top", "--gen", "2")
    until(top, "generation 2 was not begun here yet; waiting for `pipeline run --gen 2`")
    assert project.run("run", "--gen", "2")[0] == 0
    assert top.process.wait(30) == 0
    until(top, "generation 2 · 4 genomes", "finished in", "4 of 4")
    assert top.echoes


def test_top_outside_a_project_says_so(project: FarmProject, start: Start) -> None:
    """At once, with exit code 2, and the screen is not cleared for it."""
    project.root.mkdir(exist_ok=True)
    top = start("top")
    assert top.process.wait(30) == 2
    until(top, "pipeline init")


def test_stopped_run_leaves_one_display(project: FarmProject, start: Start) -> None:
    """Keys that are pressed, line breaks and Ctrl-C included, shift nothing on the screen and are not shown."""
    project.configure(workers=2)
    add_gated_genomes(project, 40)
    run = start("run", "--gen", "1")
    until(run, "generation 1 · 40 genomes", "playing", "about")
    assert not run.echoes
    run.press("some words\n\n")
    run.press(CTRL_C)
    assert run.process.wait(60) == 3
    until(run, "stopped; the same command resumes")
    assert run.echoes
    assert headline_count(run) == 1
    assert not run.shows("^C") and not run.shows("some words")


def test_terminated_run_restores_the_terminal(project: FarmProject, start: Start) -> None:
    """By SIGTERM as by Ctrl-C."""
    project.configure(workers=1)
    add_gated_genomes(project, 20)
    run = start("run", "--gen", "1")
    until(run, "generation 1 · 20 genomes", "playing")
    assert not run.echoes
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(60) == 3
    assert run.echoes and headline_count(run) == 1


WITHOUT_ECHO = """
import sys
from pipeline.ui.echo import without_echo
with without_echo(sys.stdout):
    print("quiet", flush=True)
    input()
    raise RuntimeError("while it was quiet")
"""

IN_BACKGROUND = """
import subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], stdin=subprocess.DEVNULL, process_group=0)
"""


def test_echo_is_restored_after_an_error(tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-c", WITHOUT_ECHO, "foreground"], cwd=tmp_path)
    try:
        until(terminal, "quiet")
        assert not terminal.echoes
        terminal.press("unseen\n")
        assert terminal.process.wait(30) == 1
        assert terminal.echoes
        until(terminal, "while it was quiet")
        assert not terminal.shows("unseen")
    finally:
        terminal.close()


def test_process_in_the_background_leaves_the_terminal_alone(tmp_path: Path) -> None:
    """A change would stop it, and the terminal belongs to the one in the foreground."""
    terminal = Terminal([sys.executable, "-c", IN_BACKGROUND, "-c", WITHOUT_ECHO, "foreground"], cwd=tmp_path)
    try:
        until(terminal, "quiet", "EOFError")
        assert terminal.process.wait(30) == 0
        assert terminal.echoes
    finally:
        terminal.close()
