"""The bench of faults runs programs that hang, die and leave processes running. Real processes, no library."""

import json
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from bench.faults.__main__ import main
from bench.faults.cell import measure
from bench.faults.measurement import Cell

pytestmark = pytest.mark.processes

ANSWER = {"fitnesses": 40, "failed": [], "error": "", "seconds": 1.5}
HEAD = f"""
import json, os, signal, subprocess, sys, time
from pathlib import Path

folder = Path(os.environ["FAULTS_FOLDER"])

def note(pid):
    with open(NOTES, "a") as notes:
        print(pid, file=notes)

def answer(**changes):
    (folder / "answer.json").write_text(json.dumps({ANSWER!r} | changes))

def sleeper(**how):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], **how).pid

"""


class Programs:
    """Programs in place of a system's, which note the processes that they start."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes.txt"

    def measure(self, body: str, *, fault: str = "none", deadline_s: float = 30.0) -> Cell:
        program = f"NOTES = {str(self._notes)!r}\n{HEAD}{textwrap.dedent(body)}"
        return measure("pebble", fault, deadline_s, [sys.executable, "-c", program])

    def noted(self) -> list[int]:
        return [int(line) for line in self._notes.read_text().splitlines()]

    def still_running(self) -> list[int]:
        return [pid for pid in self.noted() if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_program_that_hangs_is_ended_at_deadline(programs: Programs) -> None:
    """With all that it started, also what has another session and another environment."""
    cell = programs.measure(
        """
        note(os.getpid())
        note(sleeper())
        note(sleeper(start_new_session=True))
        note(sleeper(env={}))
        note(sleeper(env={}, start_new_session=True))
        time.sleep(300)
        """,
        deadline_s=2.0,
    )
    assert (cell.end, cell.fitnesses, cell.left_running) == ("never", 0, 0)
    assert len(programs.noted()) == 5
    assert programs.still_running() == []


def test_processes_left_running_are_counted_and_ended(programs: Programs) -> None:
    cell = programs.measure(
        """
        note(sleeper())
        note(sleeper(start_new_session=True))
        answer(fitnesses=39, failed=[17])
        """
    )
    assert (cell.end, cell.fitnesses, cell.failed, cell.left_running) == ("returned", 39, (17,), 2)
    assert len(programs.noted()) == 2
    assert programs.still_running() == []


def test_program_that_is_killed_has_no_answer(programs: Programs) -> None:
    assert programs.measure("os.kill(os.getpid(), signal.SIGSEGV)").end == "died"
    cell = programs.measure("os._exit(3)")
    assert (cell.end, cell.error, cell.fitnesses) == ("died", "exit code 3", 0)


def test_error_of_call_is_kept_without_its_text(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    """The text may have paths of this machine; it is printed."""
    cell = programs.measure("answer(fitnesses=16, error='OSError', message='no room')")
    assert (cell.end, cell.error, cell.fitnesses) == ("raised", "OSError", 16)
    assert capsys.readouterr().err == "OSError: no room\n"


def test_killed_program_is_run_again_in_same_folder(programs: Programs) -> None:
    """Games are counted in both runs, and so are the processes that the first run left."""
    cell = programs.measure(
        """
        again = (folder / "games").exists()
        with open(folder / "games", "ab") as games:
            games.write(b"." * 21)
        if again:
            answer()
        else:
            answer(fitnesses=7)
            note(sleeper())
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        fault="program",
    )
    assert (cell.end, cell.fitnesses, cell.games, cell.left_running) == ("returned", 40, 42, 1)
    assert programs.still_running() == []


def test_deadline_is_kept(programs: Programs) -> None:
    """A second for the end of the processes is enough."""
    begun = time.monotonic()
    programs.measure("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)", deadline_s=1.0)
    assert 1.0 <= time.monotonic() - begun < 15.0


def test_farm_names_genome_that_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command, with our own system, which needs no other library."""
    stored = tmp_path / "faults.json"
    assert main(["--only", "genome-pipeline", "--fault", "exit", "--json", str(stored)]) == 0
    shown = capsys.readouterr()
    assert "genome-pipeline, exit: 39/40" in shown.err
    assert "| genome-pipeline open_farm | 39/40" in shown.out
    (cell,) = json.loads(stored.read_bytes())["cells"]
    assert (cell["end"], cell["failed"], cell["left_running"]) == ("returned", [17], 0)
