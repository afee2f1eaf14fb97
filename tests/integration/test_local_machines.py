"""Machines that are local processes: started, stopped, frozen and killed."""

import contextlib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hyperv_ops import LocalMachines, LocalSpec, MachineError, PowerState
from tests.harness.waiting import PATIENCE_S, eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

OBEDIENT = "import sys; print('up', flush=True); sys.stdin.read(); print('bye')"
#: Does not end when its owner closes its input.
STUBBORN = "import time; print('up', flush=True); [time.sleep(1) for _ in range(600)]"
FOLDERS = ("inbox/tmp", "status")


class LocalMachinesHarness:
    """A few machines with their disks and logs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: dict[str, str] = {}
        self.machines = LocalMachines({})
        self.ended = threading.Semaphore(0)  #: released for every machine that has ended

    def make(self, **programs: str) -> LocalMachines:
        """Machines by name, each of which runs a few lines of Python."""
        self.machines = LocalMachines(
            {name: self.spec(name, code) for name, code in programs.items()}, self.ended.release
        )
        return self.machines

    def spec(self, name: str, code: str) -> LocalSpec:
        return LocalSpec(
            argv=[sys.executable, "-S", "-c", textwrap.dedent(code)],
            disk=self.disk(name),
            folders=FOLDERS,
            log=self.folder / "logs" / name / "agent.log",
            cwd=self.folder,
        )

    def disk(self, name: str) -> Path:
        return self.folder / "disks" / name

    def log(self, name: str) -> str:
        path = self.folder / "logs" / name / "agent.log"
        return path.read_text() if path.exists() else ""

    def is_up(self, name: str) -> bool:
        return eventually(lambda: "up" in self.log(name))

    def process(self, name: str) -> psutil.Process:
        pid = self.machines.info(name).pid
        assert pid is not None
        return psutil.Process(pid)

    def note_at_end(self, name: str) -> str:
        """Waits until a machine has ended by itself; returns its note."""
        assert eventually(lambda: self.machines.info(name).state is PowerState.OFF)
        return self.machines.info(name).note


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[LocalMachinesHarness]:
    harness = LocalMachinesHarness(tmp_path)
    yield harness
    with contextlib.suppress(ValueError):
        harness.machines.close(timeout_s=0)
    for process in harness.machines._processes.values():
        assert process.stdin is not None
        process.stdin.close()  # a machine that ended by itself still has its pipe


def test_machine_life_cycle(harness: LocalMachinesHarness) -> None:
    """off -> started -> running, with a process and an uptime -> shut down -> off, with its last output."""
    machines = harness.make(vm=OBEDIENT)
    assert machines.names() == ["vm"]
    assert machines.info("vm").state is PowerState.OFF
    assert machines.info("vm").note == "not started"

    machines.start("vm")
    assert harness.is_up("vm")
    info = machines.info("vm")
    assert (info.name, info.state, info.note) == ("vm", PowerState.RUNNING, "")
    assert psutil.pid_exists(info.pid or 0)
    assert machines.info("vm").uptime_s >= info.uptime_s >= 0

    assert machines.shutdown("vm", PATIENCE_S)
    assert machines.info("vm").state is PowerState.OFF
    assert machines.info("vm").pid is None
    assert machines.info("vm").note == "exit code 0; bye"


def test_verbs_are_idempotent(harness: LocalMachinesHarness) -> None:
    """Starting a running machine and stopping one that is off change nothing."""
    machines = harness.make(vm=OBEDIENT)
    machines.power_off("vm")
    assert machines.shutdown("vm", 0)

    machines.start("vm")
    process = harness.process("vm")
    machines.start("vm")
    assert harness.process("vm") == process

    assert machines.shutdown("vm", PATIENCE_S)
    assert machines.shutdown("vm", 0)
    for _ in range(2):
        machines.power_off("vm")
        machines.restore("vm")
        machines.close()
    assert machines.info("vm").state is PowerState.OFF


def test_machine_can_be_restarted(harness: LocalMachinesHarness) -> None:
    """It is another process then, and its log is continued."""
    machines = harness.make(vm=OBEDIENT)
    machines.start("vm")
    first = harness.process("vm")
    assert harness.is_up("vm")
    machines.shutdown("vm", PATIENCE_S)
    machines.start("vm")

    assert harness.process("vm") != first
    machines.shutdown("vm", PATIENCE_S)
    assert harness.log("vm").split() == ["up", "bye"] * 2


def test_shutdown_has_timeout(harness: LocalMachinesHarness) -> None:
    """A machine that does not stop in time is reported as on, and still runs."""
    machines = harness.make(vm=STUBBORN)
    machines.start("vm")
    assert harness.is_up("vm")

    assert not machines.shutdown("vm", 0.01)

    assert machines.info("vm").state is PowerState.RUNNING


def test_power_off_ends_process_ignoring_signals(harness: LocalMachinesHarness) -> None:
    """A process that ignores signals is killed."""
    machines = harness.make(vm=STUBBORN)
    machines.start("vm")
    process = harness.process("vm")

    machines.power_off("vm")

    assert not process.is_running()
    assert machines.info("vm").state is PowerState.OFF


@posix
def test_power_off_ends_stopped_process(harness: LocalMachinesHarness) -> None:
    """A stopped process counts as running, ignores everything, and dies at `power_off`."""
    machines = harness.make(vm=OBEDIENT)
    machines.start("vm")
    assert harness.is_up("vm")
    process = harness.process("vm")
    process.suspend()
    assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    assert not machines.shutdown("vm", 0.01)
    assert machines.info("vm").state is PowerState.RUNNING

    machines.power_off("vm")

    assert not process.is_running()
    assert machines.info("vm").note == "signal SIGKILL; up"


@posix
def test_power_off_ends_process_group(harness: LocalMachinesHarness) -> None:
    """The children of a machine are killed with it."""
    machines = harness.make(
        vm="""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        open("child", "w").write(str(child.pid))
        print("up", flush=True)
        time.sleep(600)
        """
    )
    machines.start("vm")
    assert harness.is_up("vm")
    child = psutil.Process(int((harness.folder / "child").read_text()))

    machines.power_off("vm")

    assert eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_machine_ends_with_its_owner(harness: LocalMachinesHarness) -> None:
    """The owner has the other end of its standard input, and no other machine does."""
    machines = harness.make(one=OBEDIENT, other=STUBBORN)
    machines.start("one")
    machines.start("other")
    assert harness.is_up("one")

    assert machines.shutdown("one", PATIENCE_S)  # also while a later process runs that could have inherited that end
    assert machines.info("other").state is PowerState.RUNNING


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("import sys; print('first', flush=True); sys.exit('no licence')", "exit code 1; no licence"),
        ("pass", "exit code 0"),
        ("import os; os._exit(3)", "exit code 3"),
        ("print('x' * 5000)", f"exit code 0; {'x' * 300}"),
        ("import sys; sys.stdout.buffer.write(b'gr\\xfc\\xdfe')", "exit code 0; gr��e"),
        pytest.param("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV", marks=posix),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)",
            "signal 35",
            marks=posix,
        ),
    ],
)
def test_exit_reason_is_reported(harness: LocalMachinesHarness, code: str, note: str) -> None:
    """Exit code or signal, and the last line of output."""
    machines = harness.make(vm=code)
    machines.start("vm")

    assert harness.note_at_end("vm") == note


def test_on_exit_is_called_for_every_exit(harness: LocalMachinesHarness) -> None:
    """Each end, wanted or not, is reported at once and without a query."""
    machines = harness.make(crashes="pass", obeys=OBEDIENT, ignores=STUBBORN)
    for name in machines.names():
        machines.start(name)
    assert harness.ended.acquire(timeout=PATIENCE_S)
    assert harness.is_up("obeys")
    machines.shutdown("obeys", PATIENCE_S)
    assert harness.ended.acquire(timeout=PATIENCE_S)
    machines.power_off("ignores")
    assert harness.ended.acquire(timeout=PATIENCE_S)

    assert not harness.ended.acquire(blocking=False)


@posix
def test_ended_machine_frees_its_pipe(harness: LocalMachinesHarness) -> None:
    """Its pipe is closed, or a machine that keeps crashing would use up the owner's file descriptors."""
    machines, before = harness.make(vm="pass"), psutil.Process().num_fds()
    machines.start("vm")
    harness.note_at_end("vm")
    assert harness.ended.acquire(timeout=PATIENCE_S)

    assert psutil.Process().num_fds() == before


def test_restore_empties_disk_and_keeps_log(harness: LocalMachinesHarness) -> None:
    """It is off, its disk has the initial empty folders, and its log, which is the owner's, is kept."""
    machines = harness.make(vm=OBEDIENT)
    machines.start("vm")
    assert harness.is_up("vm")
    (harness.disk("vm") / "inbox" / "x.start.json").write_text("{}")
    (harness.disk("vm") / "outbox").mkdir()

    machines.restore("vm")

    assert machines.info("vm").state is PowerState.OFF
    found = sorted(path.relative_to(harness.disk("vm")).as_posix() for path in harness.disk("vm").rglob("*"))
    assert found == ["inbox", "inbox/tmp", "status"]
    assert "up" in harness.log("vm")


def test_start_creates_folders_and_keeps_files(harness: LocalMachinesHarness) -> None:
    """Only `restore` removes files."""
    machines = harness.make(vm=OBEDIENT)
    (harness.disk("vm") / "inbox").mkdir(parents=True)
    (harness.disk("vm") / "inbox" / "x.start.json").write_text("{}")

    machines.start("vm")

    assert (harness.disk("vm") / "inbox" / "x.start.json").exists()
    assert (harness.disk("vm") / "status").is_dir()


def test_close_ends_all_machines(harness: LocalMachinesHarness) -> None:
    """Machines that stop on request end in order, the others are killed."""
    machines = harness.make(a=OBEDIENT, b=STUBBORN, c=OBEDIENT, never="")
    for name in "abc":
        machines.start(name)
        assert harness.is_up(name)

    machines.close(timeout_s=0.5)

    assert [machines.info(name).state for name in "abc"] == [PowerState.OFF] * 3
    assert "bye" in harness.log("a")
    assert "bye" in harness.log("c")
    assert machines.info("never").note == "not started"


def test_other_local_machines_are_refused(harness: LocalMachinesHarness) -> None:
    """Every method refuses a name that is not of this farm, permanently."""
    machines = harness.make(vm=OBEDIENT)
    for verb in (
        lambda: machines.info("dc01"),
        lambda: machines.start("dc01"),
        lambda: machines.shutdown("dc01", 1),
        lambda: machines.power_off("dc01"),
        lambda: machines.restore("dc01"),
    ):
        with pytest.raises(MachineError, match="dc01: not a machine of this farm") as error:
            verb()
        assert not error.value.transient


def test_missing_program_is_machine_error(harness: LocalMachinesHarness) -> None:
    """The machine cannot be started, now or later, and is off."""
    spec = harness.spec("vm", "")
    machines = LocalMachines({"vm": LocalSpec(argv=["no-such-program"], disk=spec.disk, log=spec.log, cwd=spec.cwd)})

    with pytest.raises(MachineError, match="vm: cannot be started: ") as error:
        machines.start("vm")

    assert not error.value.transient
    assert machines.info("vm").state is PowerState.OFF


@pytest.mark.parametrize("place", ["disks", "logs"])
def test_disk_error_is_machine_error(harness: LocalMachinesHarness, place: str) -> None:
    """Every error of a start is a MachineError, as the protocol says."""
    machines = harness.make(vm=OBEDIENT)
    (harness.folder / place).write_text("in the way")

    with pytest.raises(MachineError):
        machines.start("vm")


def test_long_log_is_rotated_at_start(harness: LocalMachinesHarness) -> None:
    """A machine that starts with a large log gets a new one, and the old one is kept beside it."""
    machines = harness.make(vm=OBEDIENT)
    log = harness.folder / "logs" / "vm" / "agent.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (1024 * 1024 + 1))

    machines.start("vm")
    assert harness.is_up("vm")

    assert log.stat().st_size < 100
    assert log.with_name("agent.log.1").stat().st_size == 1024 * 1024 + 1


@posix
def test_machine_does_not_get_ctrl_c(harness: LocalMachinesHarness) -> None:
    """Ctrl-C goes to the owner's process group, and a machine has its own."""
    machines = harness.make(vm=OBEDIENT)
    machines.start("vm")

    assert os.getpgid(harness.process("vm").pid) == harness.process("vm").pid
    assert signal.getsignal(signal.SIGINT) is not None
