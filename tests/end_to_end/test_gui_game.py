"""A game in a window, played end to end by local workers: on Linux each game has a display of its own.

Windows has one desktop for each session, so one worker plays there.
"""

import shutil
import sys

import pytest

from tests.harness.farm_project import FarmProject
from tests.harness.gui_games import EXAMPLE, assert_played, write_gui_project
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


def test_folder_of_the_example_is_a_project(project: FarmProject) -> None:
    """As the tutorial uses it: `pipeline check` plays one game of a copy, and the score is read."""
    shutil.copytree(EXAMPLE, project.root)

    code, output = project.run("check")

    assert code == 0, output
    assert "genome: genomes/gen-0001/aim-00.json\n" in output
    assert "progress: Catch: ball 5 of 5" in output
    assert "artifact: screen.png, " in output
    assert "metric: caught = " in output
