"""A game in a window, played end to end by local workers: on Linux each game has a display of its own.

Windows has one desktop for each session, so one worker plays there.
"""

import sys

import pytest

from tests.harness.farm_project import FarmProject
from tests.harness.gui_games import assert_played, write_gui_project
from tests.harness.waiting import eventually

DISPLAY = () if sys.platform == "win32" else ("Xvfb",)
WORKERS = 1 if sys.platform == "win32" else 2
GAMES = 4

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300), pytest.mark.needs(*DISPLAY)]


def test_games_in_windows_are_played_and_their_faults_named(project: FarmProject) -> None:
    """A crash, a hang, a dialog and a stall cost their genomes only, and nothing stays open."""
    write_gui_project(project, GAMES, workers=WORKERS)

    code, output = project.run("run", "--gen", "1", within_s=200)

    assert code == 1, output
    assert_played(project, GAMES)
    assert eventually(lambda: not project.processes(), 10), project.processes()
