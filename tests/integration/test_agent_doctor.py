"""`inbox-agent doctor`: all checks, on a healthy machine and with each problem really present."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from inbox_agent.doctor import session_trouble
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.protocol.layout import HostRecord, encode
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.desktop import DesktopSession
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = "def play(genome, trial):\n    return len(genome.read_bytes()) + trial.seed / 10\n"


class Machine:
    """A share, an evaluator and the arguments of an agent."""

    def __init__(self, root: Path) -> None:
        self.share, self.state = root / "share ü", root / "notes"
        self.share.mkdir(parents=True)
        LocalFiles(self.share).make_folders()
        (root / "game.py").write_text(GAME)
        self.root, self.arguments = root, ["--python", "game:play", "--folder", str(root)]
        self.agent: subprocess.Popen[bytes] | None = None

    def ask(self, *more: str) -> "subprocess.CompletedProcess[str]":
        words = ["doctor", "--share", str(self.share), "--state", str(self.state), *more, *self.arguments]
        return subprocess.run(
            [sys.executable, "-m", "inbox_agent", *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )

    def items(self, *more: str) -> dict[str, dict[str, Any]]:
        """Every check by name; the exit code must agree."""
        ran = self.ask("--json", *more)
        items = {one["item"]: one for one in json.loads(ran.stdout)}
        assert ran.returncode == int(not all(one["ok"] for one in items.values())), ran.stderr
        assert all(bool(one["fix"]) != one["ok"] for one in items.values())
        return items

    def wrong(self, *more: str) -> dict[str, str]:
        return {name: f"{one['found']}; {one['fix']}" for name, one in self.items(*more).items() if not one["ok"]}

    def start(self) -> None:
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "inbox_agent", "--share", self.share, "--state", self.state, *self.arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert eventually((self.share / "status/agent.json").exists, 20)

    def left(self) -> set[str]:
        return {path.relative_to(self.share).as_posix() for path in self.share.rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "Rechner 1")
    yield machine
    if machine.agent is not None:
        machine.agent.kill()
        machine.agent.communicate()


def fill(path: Path) -> None:
    """Fills the disk."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


# ------------------------------------------------------------------------------------------------------- no problem


def test_doctor_prints_nothing_when_all_checks_pass(machine: Machine) -> None:
    """Exit code 0, no output, and no file left."""
    ran = machine.ask()
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert machine.left() == set()
    assert not machine.state.exists()


def test_verbose_doctor_lists_passed_checks(machine: Machine) -> None:
    """With -v each check has a line, also the versions."""
    lines = dict(line.split(": ", 1) for line in machine.ask("-v").stdout.splitlines())
    assert list(lines)[:4] == ["folders", "inbox", "outbox", "status"]
    version = EvaluatorFiles(EvaluatorTable(python="game:play"), machine.root).version()
    assert lines["evaluator"] == f"game:play of {machine.root}, version {version}, 1 file counts"
    assert all(name in lines["versions"] for name in ("genome-pipeline", "msgspec", "orjson", "psutil", "watchdog"))


def test_doctor_evaluates_given_genome(machine: Machine) -> None:
    """A genome of three bytes with seed 7 has the fitness that the evaluator computes."""
    genome = machine.root / "a.bin"
    genome.write_bytes(b"abc")
    assert machine.items("--genome", str(genome), "--seed", "7")["trial"]["found"].startswith("fitness 3.7 after ")
    assert machine.left() == set()


def test_doctor_does_not_disturb_running_agent(machine: Machine) -> None:
    """The agent keeps its lock and its process; repeated checks wake no agent and leave no file."""
    machine.start()
    assert machine.agent is not None
    for _ in range(3):
        assert f"process {machine.agent.pid}" in machine.items()["agent"]["found"]
    assert machine.agent.poll() is None
    lock = {"status/agent.lock", "status/agent.lock.pid"}
    assert machine.left() == {"status/agent.json", "status/evaluator.json", *lock}


def test_doctor_names_owner_of_share(machine: Machine) -> None:
    """The host of the newest host.json is named, with the number of attempts that wait."""
    owner = HostRecord(farm="farm-1", worker="vm-3", epoch=2)
    LocalFiles(machine.share).publish("inbox/2.host.json", encode(owner))
    assert machine.items()["inbox"]["found"] == "worker vm-3 of farm farm-1, epoch 2; 0 start signals"


# ------------------------------------------------------------------------------------------------------------ problems


def test_doctor_reports_missing_share(machine: Machine) -> None:
    """The share is named; its contents are not checked."""
    shutil.rmtree(machine.share)
    assert list(machine.wrong()) == ["folders"]
    assert "is no folder; make it, or correct --share" in machine.wrong()["folders"]


def test_doctor_reports_file_in_place_of_folder(machine: Machine) -> None:
    """It is named with its fix."""
    (machine.share / "outbox/tmp").rmdir()
    (machine.share / "outbox/tmp").write_bytes(b"")
    assert "take away what is in its place" in machine.wrong()["folders"]


def test_doctor_accepts_folder_that_agent_will_create(machine: Machine) -> None:
    """The agent creates it."""
    (machine.share / "status").rmdir()
    assert "the agent makes it when it starts" in machine.wrong()["folders"]


@pytest.mark.needs("chattr", root=True)
@pytest.mark.parametrize("folder", ["outbox", "status"])
def test_doctor_reports_unwritable_folder(machine: Machine, folder: str) -> None:
    """The check writes a file instead of reading the permissions."""
    target = machine.share / folder
    if subprocess.run(["chattr", "+i", target], capture_output=True, check=False).returncode:
        pytest.skip("this disk knows no immutable folders")
    try:
        wrong = machine.wrong()
    finally:
        subprocess.run(["chattr", "-i", target], check=True)
    assert list(wrong) == [folder]
    assert f"give the user who plays the right to modify {folder}" in wrong[folder]
    assert machine.left() == set()


def test_doctor_reports_unknown_layout(machine: Machine) -> None:
    """The message names the layout of the host."""
    (machine.share / "inbox/1.host.json").write_text('{"layout": 1}')
    assert "layout 1, this program uses layout 2; install the same version on host and" in machine.wrong()["inbox"]


def test_doctor_reports_low_disk_space(machine: Machine, tiny_disk: Path) -> None:
    """A share on 8 MiB is reported, although it is still writable."""
    machine.share = tiny_disk
    LocalFiles(tiny_disk).make_folders()
    assert list(wrong := machine.wrong()) == ["disk"]
    assert "make room" in wrong["disk"]


def test_doctor_reports_full_disk(machine: Machine, tiny_disk: Path) -> None:
    """Nothing can be written, and no partial file is left."""
    machine.share = tiny_disk
    LocalFiles(tiny_disk).make_folders()
    fill(tiny_disk / "ballast")
    assert set(machine.wrong()) == {"outbox", "status", "disk"}
    assert machine.left() == {"ballast"}


def test_doctor_reports_files_that_cannot_be_determined(machine: Machine) -> None:
    """In the words of the agent's heartbeat, which say what to do."""
    (machine.root / "agent.toml").write_text('[evaluator]\npython = "game:play"\nfiles = ["bots/*.lua"]\n')
    machine.arguments = ["--config", str(machine.root / "agent.toml")]

    ran = machine.ask()

    problem = "no file matches 'bots/*.lua' of `files` in [evaluator]; correct the pattern"
    assert (ran.returncode, ran.stdout) == (1, f"evaluator: {machine.root}: {problem}\n")


def test_doctor_reports_import_error(machine: Machine) -> None:
    """The evaluator's own error is reported."""
    (machine.root / "game.py").write_text("import no_such_module\n")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in machine.wrong()["evaluator"]


def test_doctor_reports_module_that_exits(machine: Machine) -> None:
    """The doctor does not wait for a worker process that has ended."""
    (machine.root / "game.py").write_text("import os\nos._exit(5)\n")
    assert "evaluator process died: exit code 5" in machine.wrong()["evaluator"]


def test_doctor_reports_missing_program(machine: Machine) -> None:
    """The program of the evaluator is not installed."""
    machine.arguments = ["--folder", str(machine.root), "--", "no-such-game", "{genome}"]
    assert "cannot start 'no-such-game'" in machine.wrong()["evaluator"]


def test_doctor_reports_missing_script(machine: Machine) -> None:
    """Python is installed, but its script is missing."""
    machine.arguments = ["--folder", str(machine.root), "--", "python", "play.py", "{genome}"]
    assert f"play.py: no such file in {machine.root}" in machine.wrong()["evaluator"]


def test_doctor_reports_failed_trial(machine: Machine) -> None:
    """A trial without a fitness is reported with its reason."""
    (machine.root / "game.py").write_text("def play(genome, trial):\n    return 1 / 0\n")
    (machine.root / "a.bin").write_bytes(b"x")
    wrong = machine.wrong("--genome", str(machine.root / "a.bin"))
    assert list(wrong) == ["trial"]
    assert "ZeroDivisionError: division by zero (game.py, line 2)" in wrong["trial"]


def test_doctor_skips_trial_during_evaluation(machine: Machine) -> None:
    """Two evaluations at once would disturb each other, so the trial is skipped."""
    machine.start()
    (machine.root / "a.bin").write_bytes(b"x")
    assert "not played: the agent, process" in machine.wrong("--genome", str(machine.root / "a.bin"))["trial"]


def test_doctor_reports_agent_with_old_heartbeat(machine: Machine) -> None:
    """It holds the lock and its heartbeat is old."""
    machine.start()
    assert machine.agent is not None
    psutil.Process(machine.agent.pid).suspend()
    long_ago = time.time() - 1000
    status = machine.share / "status"
    for path in (status / "agent.json", status / "agent.lock.pid", machine.state / "agent.lock.pid"):
        os.utime(path, (long_ago, long_ago))
    assert re.search(r"has not beaten for 10\d\d s; end its task", machine.wrong()["agent"])


def test_doctor_accepts_agent_that_just_started(machine: Machine) -> None:
    """The heartbeat of the previous agent does not count."""
    machine.start()
    assert machine.agent is not None
    psutil.Process(machine.agent.pid).suspend()
    os.utime(machine.share / "status/agent.json", (1, 1))
    assert machine.items()["agent"]["ok"]


def test_doctor_finds_agent_with_other_state_folder(machine: Machine) -> None:
    """Every agent locks its share."""
    machine.start()
    assert machine.agent is not None
    machine.state = machine.root / "other notes"
    assert f"process {machine.agent.pid}, plays here" in machine.items()["agent"]["found"]


def test_doctor_reports_agent_without_lock(machine: Machine) -> None:
    """An agent on another computer, which reaches the share over a network, has no lock on this one."""
    beat, done = machine.share / "status/agent.json", threading.Event()

    def write() -> None:
        while not done.wait(0.2):
            beat.write_text("{}")

    beat.write_text("{}")
    other = threading.Thread(target=write)
    other.start()
    try:
        assert "another agent beats here" in machine.wrong()["agent"]
    finally:
        done.set()
        other.join()


def test_doctor_reports_clock_that_went_back(machine: Machine) -> None:
    """A file with a time in the future shows it."""
    beat, tomorrow = machine.share / "status/agent.json", time.time() + 86400
    beat.write_text("{}")
    os.utime(beat, (tomorrow, tomorrow))
    assert "ahead of this clock; set the clock" in machine.wrong()["clock"]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (DesktopSession(id="0", console=False), "session 0 has no desktop"),
        (DesktopSession(id="2", console=False), "session 2 has no desktop"),
        (DesktopSession(id="2", console=False, desktop="Default"), "session 2 is not at the console"),
        (DesktopSession(id="1", console=True, desktop="Default", locked=True), "the screen is locked"),
    ],
)
def test_doctor_reports_session_without_desktop(session: DesktopSession, expected: str) -> None:
    """The data of the session from Windows are evaluated equally on every system."""
    trouble = session_trouble(session)
    assert trouble is not None
    assert trouble[0].startswith(expected)


def test_console_session_passes() -> None:
    """A user is logged on there, and the screen is not locked."""
    assert session_trouble(DesktopSession(id="1", console=True, desktop="Default")) is None


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to play: give --config, --python, or a command after --"),
        (["--config", "no-such.toml"], "no-such.toml: cannot be read: "),
        (["--python", "game:play", "--genome", "no-such.bin"], "--genome no-such.bin: no such file"),
    ],
)
def test_agent_doctor_bad_input_exits_with_2(machine: Machine, arguments: list[str], expected: str) -> None:
    """Exit code 2, before any check."""
    machine.arguments = arguments
    ran = machine.ask()
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert f"inbox-agent doctor: {expected}" in ran.stderr
