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

    def holds(self, **programs: str) -> LocalMachines:
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

    def ends(self, name: str) -> str:
        """Waits until a machine has ended by itself; returns its note."""
        assert eventually(lambda: self.machines.info(name).state is PowerState.OFF)
        return self.machines.info(name).note


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[LocalMachinesHarness]:
    rack = LocalMachinesHarness(tmp_path)
    yield rack
    with contextlib.suppress(ValueError):
        rack.machines.close(timeout_s=0)
    for process in rack.machines._processes.values():
        assert process.stdin is not None
        process.stdin.close()  # a machine that ended by itself still has its pipe


def test_machine_life_cycle(rack: LocalMachinesHarness) -> None:
    """off -> started -> running, with a process and an uptime -> shut down -> off, with its last output."""
    machines = rack.holds(vm=OBEDIENT)
    assert machines.names() == ["vm"]
    assert machines.info("vm").state is PowerState.OFF
    assert machines.info("vm").note == "not started"

    machines.start("vm")
    assert rack.is_up("vm")
    info = machines.info("vm")
    assert (info.name, info.state, info.note) == ("vm", PowerState.RUNNING, "")
    assert psutil.pid_exists(info.pid or 0)
    assert machines.info("vm").uptime_s >= info.uptime_s >= 0

    assert machines.shutdown("vm", PATIENCE_S)
    assert machines.info("vm").state is PowerState.OFF
    assert machines.info("vm").pid is None
    assert machines.info("vm").note == "exit code 0; bye"


def test_verbs_are_idempotent(rack: LocalMachinesHarness) -> None:
    """Starting a running machine and stopping one that is off change nothing."""
    machines = rack.holds(vm=OBEDIENT)
    machines.power_off("vm")
    assert machines.shutdown("vm", 0)

    machines.start("vm")
    process = rack.process("vm")
    machines.start("vm")
    assert rack.process("vm") == process

    assert machines.shutdown("vm", PATIENCE_S)
    assert machines.shutdown("vm", 0)
    for _ in range(2):
        machines.power_off("vm")
        machines.restore("vm")
        machines.close()
    assert machines.info("vm").state is PowerState.OFF


def test_machine_can_be_restarted(rack: LocalMachinesHarness) -> None:
    """It is another process then, and its log is continued."""
    machines = rack.holds(vm=OBEDIENT)
    machines.start("vm")
    first = rack.process("vm")
    assert rack.is_up("vm")
    machines.shutdown("vm", PATIENCE_S)
    machines.start("vm")

    assert rack.process("vm") != first
    machines.shutdown("vm", PATIENCE_S)
    assert rack.log("vm").split() == ["up", "bye"] * 2


def test_shutdown_has_timeout(rack: LocalMachinesHarness) -> None:
    """A machine that does not stop in time is reported as on, and still runs."""
    machines = rack.holds(vm=STUBBORN)
    machines.start("vm")
    assert rack.is_up("vm")

    assert not machines.shutdown("vm", 0.01)

    assert machines.info("vm").state is PowerState.RUNNING


def test_power_off_ends_process_ignoring_signals(rack: LocalMachinesHarness) -> None:
    """A process that ignores signals is killed."""
    machines = rack.holds(vm=STUBBORN)
    machines.start("vm")
    process = rack.process("vm")

    machines.power_off("vm")

    assert not process.is_running()
    assert machines.info("vm").state is PowerState.OFF


@posix
def test_power_off_ends_stopped_process(rack: LocalMachinesHarness) -> None:
    """A stopped process counts as running, ignores everything, and dies at `power_off`."""
    machines = rack.holds(vm=OBEDIENT)
    machines.start("vm")
    assert rack.is_up("vm")
    process = rack.process("vm")
    process.suspend()
    assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    assert not machines.shutdown("vm", 0.01)
    assert machines.info("vm").state is PowerState.RUNNING

    machines.power_off("vm")

    assert not process.is_running()
    assert machines.info("vm").note == "signal SIGKILL; up"


@posix
def test_power_off_ends_process_group(rack: LocalMachinesHarness) -> None:
    """The children of a machine are killed with it."""
    machines = rack.holds(
        vm="""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        open("child", "w").write(str(child.pid))
        print("up", flush=True)
        time.sleep(600)
        """
    )
    machines.start("vm")
    assert rack.is_up("vm")
    child = psutil.Process(int((rack.folder / "child").read_text()))

    machines.power_off("vm")

    assert eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_machine_ends_with_its_owner(rack: LocalMachinesHarness) -> None:
    """The owner has the other end of its standard input, and no other machine does."""
    machines = rack.holds(one=OBEDIENT, other=STUBBORN)
    machines.start("one")
    machines.start("other")
    assert rack.is_up("one")

    assert machines.shutdown("one", PATIENCE_S)  # also while a later process runs that could have inherited that end
    assert machines.info("other").state is PowerState.RUNNING


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("import sys; print('first', flush=True); sys.exit('no licence')", "exit code 1; no licence"),
        ("pass", "exit code 0"),
        ("import os; os._exit(3)", "exit code 3"),
        ("print('x' * 5000)", f"exit code 0; {'x' * 200}"),
        ("import sys; sys.stdout.buffer.write(b'gr\\xfc\\xdfe')", "exit code 0; gr��e"),
        pytest.param("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV", marks=posix),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)",
            "signal 35",
            marks=posix,
        ),
    ],
)
def test_exit_reason_is_reported(rack: LocalMachinesHarness, code: str, note: str) -> None:
    """Exit code or signal, and the last line of output."""
    machines = rack.holds(vm=code)
    machines.start("vm")

    assert rack.ends("vm") == note


def test_on_exit_is_called_for_every_exit(rack: LocalMachinesHarness) -> None:
    """Each end, wanted or not, is reported at once and without a query."""
    machines = rack.holds(crashes="pass", obeys=OBEDIENT, ignores=STUBBORN)
    for name in machines.names():
        machines.start(name)
    assert rack.ended.acquire(timeout=PATIENCE_S)
    assert rack.is_up("obeys")
    machines.shutdown("obeys", PATIENCE_S)
    assert rack.ended.acquire(timeout=PATIENCE_S)
    machines.power_off("ignores")
    assert rack.ended.acquire(timeout=PATIENCE_S)

    assert not rack.ended.acquire(blocking=False)


@posix
def test_ended_machine_frees_its_pipe(rack: LocalMachinesHarness) -> None:
    """Its pipe is closed, or a machine that keeps crashing would use up the owner's file descriptors."""
    machines, before = rack.holds(vm="pass"), psutil.Process().num_fds()
    machines.start("vm")
    rack.ends("vm")
    assert rack.ended.acquire(timeout=PATIENCE_S)

    assert psutil.Process().num_fds() == before


def test_restore_empties_disk_and_keeps_log(rack: LocalMachinesHarness) -> None:
    """It is off, its disk has the initial empty folders, and its log, which is the owner's, is kept."""
    machines = rack.holds(vm=OBEDIENT)
    machines.start("vm")
    assert rack.is_up("vm")
    (rack.disk("vm") / "inbox" / "x.start.json").write_text("{}")
    (rack.disk("vm") / "outbox").mkdir()

    machines.restore("vm")

    assert machines.info("vm").state is PowerState.OFF
    found = sorted(path.relative_to(rack.disk("vm")).as_posix() for path in rack.disk("vm").rglob("*"))
    assert found == ["inbox", "inbox/tmp", "status"]
    assert "up" in rack.log("vm")


def test_start_creates_folders_and_keeps_files(rack: LocalMachinesHarness) -> None:
    """Only `restore` removes files."""
    machines = rack.holds(vm=OBEDIENT)
    (rack.disk("vm") / "inbox").mkdir(parents=True)
    (rack.disk("vm") / "inbox" / "x.start.json").write_text("{}")

    machines.start("vm")

    assert (rack.disk("vm") / "inbox" / "x.start.json").exists()
    assert (rack.disk("vm") / "status").is_dir()


def test_close_ends_all_machines(rack: LocalMachinesHarness) -> None:
    """Machines that stop on request end in order, the others are killed."""
    machines = rack.holds(a=OBEDIENT, b=STUBBORN, c=OBEDIENT, never="")
    for name in "abc":
        machines.start(name)
        assert rack.is_up(name)

    machines.close(timeout_s=0.5)

    assert [machines.info(name).state for name in "abc"] == [PowerState.OFF] * 3
    assert "bye" in rack.log("a")
    assert "bye" in rack.log("c")
    assert machines.info("never").note == "not started"


def test_other_local_machines_are_refused(rack: LocalMachinesHarness) -> None:
    """Every method refuses a name that is not of this farm, permanently."""
    machines = rack.holds(vm=OBEDIENT)
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


def test_missing_program_is_machine_error(rack: LocalMachinesHarness) -> None:
    """The machine cannot be started, now or later, and is off."""
    spec = rack.spec("vm", "")
    machines = LocalMachines({"vm": LocalSpec(argv=["no-such-program"], disk=spec.disk, log=spec.log, cwd=spec.cwd)})

    with pytest.raises(MachineError, match="vm: cannot be started: ") as error:
        machines.start("vm")

    assert not error.value.transient
    assert machines.info("vm").state is PowerState.OFF


@pytest.mark.parametrize("place", ["disks", "logs"])
def test_disk_error_is_machine_error(rack: LocalMachinesHarness, place: str) -> None:
    """Every error of a start is a MachineError, as the protocol says."""
    machines = rack.holds(vm=OBEDIENT)
    (rack.folder / place).write_text("in the way")

    with pytest.raises(MachineError):
        machines.start("vm")


def test_long_log_is_rotated_at_start(rack: LocalMachinesHarness) -> None:
    """A machine that starts with a large log gets a new one, and the old one is kept beside it."""
    machines = rack.holds(vm=OBEDIENT)
    log = rack.folder / "logs" / "vm" / "agent.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (1024 * 1024 + 1))

    machines.start("vm")
    assert rack.is_up("vm")

    assert log.stat().st_size < 100
    assert log.with_name("agent.log.1").stat().st_size == 1024 * 1024 + 1


@posix
def test_machine_does_not_get_ctrl_c(rack: LocalMachinesHarness) -> None:
    """Ctrl-C goes to the owner's process group, and a machine has its own."""
    machines = rack.holds(vm=OBEDIENT)
    machines.start("vm")

    assert os.getpgid(rack.process("vm").pid) == rack.process("vm").pid
    assert signal.getsignal(signal.SIGINT) is not None
