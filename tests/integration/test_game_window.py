"""Programs in windows on a real display: what goes wrong with them is named, and nothing of them is left."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from game_window import DesktopError, FaultKind, GameFault, GameLimits, GameProgram, open_desktop, virtual_display
from tests.harness.gui_games import EXAMPLE
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.needs("Xvfb")]

NIGHT = (0, 0, 60)
#: Shows a window that is `NIGHT` all over; its title names the last key that was pressed.
SHOW = f"""
import pygame, sys, time
pygame.display.init()
screen = pygame.display.set_mode((200, 100))
pygame.display.set_caption("Night")
def frame():
    for event in pygame.event.get():
        if event.type == pygame.QUIT:
            sys.exit(0)
        if event.type in (pygame.KEYDOWN, pygame.KEYUP):
            what = "down" if event.type == pygame.KEYDOWN else "up"
            pygame.display.set_caption(f"Night: {{pygame.key.name(event.key)}} {{what}}")
    screen.fill({NIGHT})
    pygame.display.flip()
    pygame.time.wait(10)
"""
PLAY_ON = "while True:\n    frame()\n"
UNTIL_Q = "while not pygame.display.get_caption()[0].endswith('q down'):\n    frame()\n"
Start = Callable[..., GameProgram]


@pytest.fixture
def display() -> Iterator[str]:
    with virtual_display(640, 480) as display:
        assert display is not None
        yield display


@pytest.fixture
def start(display: str) -> Iterator[Start]:
    """Starts lines of Python as a game."""
    games: list[GameProgram] = []
    before = {*psutil.Process().children(recursive=True)}  # the display, and what other tests keep

    def start(lines: str, **limits: float) -> GameProgram:
        command = [sys.executable, "-c", textwrap.dedent(lines)]
        games.append(GameProgram(command, "Night", display=display, limits=GameLimits(**limits)))
        return games[-1]

    yield start
    for game in games:
        game.close()
    assert eventually(lambda: before.issuperset(psutil.Process().children(recursive=True)), 10), "nothing is left"


def refusal(start: Start, lines: str, **limits: float) -> str:
    with pytest.raises(GameFault) as fault:
        start(lines, **limits)
    return str(fault.value)


def check_until_fault(game: GameProgram) -> GameFault:
    found: list[GameFault] = []

    def fails() -> bool:
        try:
            game.check(progress=None)
        except GameFault as fault:
            found.append(fault)
        return bool(found)

    assert eventually(fails, 20)
    return found[0]


# ------------------------------------------------------------------------------------------------------- the window


def test_window_is_seen_where_it_is(start: Start) -> None:
    """The picture of the window is a part of that of the screen."""
    game = start(SHOW + PLAY_ON)
    assert eventually(lambda: game.picture().find(NIGHT) == (0, 0), 10)
    assert (game.picture().width, game.picture().height) == (200, 100)
    assert game.screen().find(NIGHT) == (220, 190)


def test_held_keys_reach_the_game_and_are_released(start: Start) -> None:
    game = start(SHOW + PLAY_ON)
    game.hold({"left"})
    assert eventually(lambda: game.title == "Night: left down", 10)
    game.hold({"left", "f5"})
    assert eventually(lambda: game.title == "Night: f5 down", 10)
    game.hold(())
    assert eventually(lambda: game.title == "Night: left up", 10)


def test_window_gets_the_keyboard_back(start: Start, display: str) -> None:
    """Another window comes to the front; the next check takes the keyboard from it."""
    game = start(SHOW + PLAY_ON)
    other = start(SHOW.replace("Night", "Night two") + PLAY_ON)
    desktop = open_desktop(display)
    (window,) = (window for window in desktop.windows() if window.title == "Night")
    assert not desktop.is_active(window)

    def is_active_after_check() -> bool:
        game.check(progress=None)
        return desktop.is_active(window)

    assert eventually(is_active_after_check, 10)

    game.hold({"a"})
    assert eventually(lambda: game.title == "Night: a down", 10)
    assert other.title == "Night two"
    desktop.close()


# -------------------------------------------------------------------------------------------------------- the faults


def test_program_without_window_is_named(start: Start) -> None:
    """It is killed, so the test ends before it would."""
    assert refusal(start, "import time; time.sleep(600)", window_s=1.0) == (
        "no window: no title began with 'Night' in 1 s"
    )


def test_program_that_ends_at_its_start_is_named(start: Start) -> None:
    assert refusal(start, "raise SystemExit(3)") == "crashed: exit code 3"
    assert refusal(start, "raise SystemExit(0)") == "ended: exit code 0, before the evaluator was done with it"
    assert refusal(start, "import os; os.kill(os.getpid(), 9)") == "crashed: signal KILL"


def test_dialog_before_the_game_is_named(start: Start) -> None:
    """The fault has a picture of the screen, with the dialog."""
    with pytest.raises(GameFault) as fault:
        start(SHOW.replace("Night", "No licence") + PLAY_ON, window_s=2.0)
    assert str(fault.value) == "dialog: No licence"
    assert fault.value.screen is not None
    assert fault.value.screen.find(NIGHT) == (220, 190)


def test_window_that_is_closed_by_its_game_is_named(start: Start) -> None:
    game = start(SHOW + UNTIL_Q + "pygame.display.quit()\ntime.sleep(600)")
    game.hold({"q"})
    assert check_until_fault(game).kind is FaultKind.NO_WINDOW


def test_game_that_does_not_respond_is_killed(start: Start) -> None:
    game = start(SHOW + UNTIL_Q + "time.sleep(600)", hang_s=0.5)
    game.hold({"q"})
    assert check_until_fault(game).kind is FaultKind.HUNG


def test_window_of_child_process_is_of_the_game(start: Start) -> None:
    """A launcher starts the game; both end together."""
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SHOW + PLAY_ON!r}])"
    assert start(child).title == "Night"


# ------------------------------------------------------------------------------------------------------- the desktop


def error_of(display: str, **environment: str) -> str:
    """Of opening it, in a process of its own: a failed attempt of python-xlib leaves its sockets to the collector."""
    lines = f"from game_window import open_desktop\nopen_desktop({display!r})"
    run = subprocess.run(
        [sys.executable, "-c", lines],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    return run.stderr.splitlines()[-1] if run.stderr else ""


def test_desktop_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert error_of(":5000").startswith("game_window.desktop.DesktopError: the display :5000 cannot be used: ")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DesktopError, match="no display: the variable DISPLAY is not set"):
        open_desktop()
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(DesktopError, match=r"Xvfb is not installed \(Debian: apt-get install xvfb\)"),
        virtual_display(),
    ):
        pass


def test_displays_are_independent(display: str) -> None:
    """Two displays at a time have names of their own, and end with their block."""
    with virtual_display() as second:
        assert second is not None
        assert second != display
        assert error_of(second) == ""
    assert f"the display {second} cannot be used" in error_of(second)


def test_display_is_closed_to_programs_without_its_key(display: str) -> None:
    """Such as those of other users of the computer."""
    assert "cannot be used" in error_of(display, XAUTHORITY=os.devnull)
    assert error_of(display) == ""


def test_game_says_how_it_is_called() -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLE / "catch.py", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--fault {crash,hang,dialog,stall}" in run.stdout
