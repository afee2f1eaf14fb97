"""The contract of every kind of machine: local processes, Hyper-V over WinRM, and QEMU with guests that boot (`make
test-vm`)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyperv_ops import (
    LocalMachines,
    LocalSpec,
    MachineError,
    MachineInfo,
    Machines,
    MachineWatcher,
    PowerState,
    Trouble,
)
from hyperv_ops import wait_until_healthy as wait
from tests.harness.hyperv_farm import hyperv_harness
from tests.harness.qemu_farm import BOOT_S, qemu_harness
from tests.harness.waiting import eventually
from tests.programs.system_programs import GUESTS

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]
GAME = "def play(genome, trial):\n    return 1.0\n"


class MachineCase:
    """Two machines that exist, a third that does not exist yet, and access to their disks."""

    python = sys.executable  #: in the guest

    def __init__(self, machines: Machines, disks: Path) -> None:
        self.machines, self.disks = machines, disks

    def on(self, name: str = "vm-1", within_s: float = 20) -> MachineInfo:
        self.machines.start(name)
        assert wait(self.machines, name, within_s, interval_s=0.1)
        return self.machines.info(name)

    def read(self, name: str, path: str) -> bytes | None:
        """A file of a machine's disk; None if there is none."""
        found = self.disks / name / path
        return found.read_bytes() if found.exists() else None


class RealMachineCase(MachineCase):
    """Machines whose disks only their guests can read."""

    python = "/usr/bin/python3"

    def on(self, name: str = "vm-1", within_s: float = BOOT_S) -> MachineInfo:
        return super().on(name, within_s)

    def read(self, name: str, path: str) -> bytes | None:
        self.on(name)
        ran = self.machines.run(name, "/bin/cat", [f"/{path}"], 30)
        return ran.output.encode() if ran.exit_code == 0 else None


REAL = pytest.param("qemu", marks=[pytest.mark.vm, pytest.mark.needs(*GUESTS, root=True), pytest.mark.timeout(600)])


@pytest.fixture(params=["local", "hyperv-ntlm", "hyperv-https", REAL])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MachineCase]:
    (tmp_path / "game.py").write_text(GAME)
    names = ("vm-1", "vm-2", "vm-3")
    if request.param == "local":
        code = "import sys; sys.stdin.read()"
        specs = {
            name: LocalSpec(
                argv=[sys.executable, "-S", "-c", code],
                disk=tmp_path / "disks" / name,
                folders=("inbox",),
                log=tmp_path / f"{name}.log",
                cwd=tmp_path,
            )
            for name in names
        }
        machines = LocalMachines(specs)
        yield MachineCase(machines, tmp_path / "disks")
        machines.close(0)
        return
    if request.param == "qemu":
        with qemu_harness(tmp_path, *names) as real:
            for name in names[:2]:
                real.machines.create(name)
            yield RealMachineCase(real.machines, real.folder)
        return
    with hyperv_harness(
        tmp_path, *names, existing=names[:2], tls=request.param == "hyperv-https", boot_s=0.1
    ) as harness:
        for name in names[:2]:
            (harness.disks / name).mkdir(parents=True)
        yield MachineCase(harness.machines(), harness.disks)
        assert harness.server.shells == set()


def test_create_is_idempotent(case: MachineCase) -> None:
    """The machine is off then; creating it again changes nothing."""
    case.machines.create("vm-3")
    case.machines.create("vm-3")

    assert case.machines.info("vm-3").state is PowerState.OFF
    assert (case.disks / "vm-3").is_dir()


def test_start_of_running_machine_changes_nothing(case: MachineCase) -> None:
    """It keeps running."""
    case.on()
    before = case.machines.info("vm-1").uptime_s

    case.machines.start("vm-1")

    assert case.machines.info("vm-1").uptime_s >= before
    assert case.machines.info("vm-2").state is PowerState.OFF


def test_shutdown_is_idempotent(case: MachineCase) -> None:
    """The machine is off then; a second shutdown is no error."""
    case.on()

    assert case.machines.shutdown("vm-1", 60)
    assert case.machines.info("vm-1").state is PowerState.OFF
    assert case.machines.shutdown("vm-1", 60)


def test_power_off_is_idempotent(case: MachineCase) -> None:
    """The machine is powered off twice, then started again."""
    case.on()
    case.machines.power_off("vm-1")
    case.machines.power_off("vm-1")
    assert case.machines.info("vm-1").state is PowerState.OFF

    assert case.on().healthy


def test_restart_agent_keeps_machine(case: MachineCase) -> None:
    """The machine runs afterwards as before."""
    case.on()

    case.machines.restart_agent("vm-1")

    assert wait(case.machines, "vm-1", 20, interval_s=0.1)


def test_restore_discards_changes(case: MachineCase) -> None:
    """Files written since the checkpoint are gone, earlier files are back, and the machine is off."""
    case.on()
    case.machines.send("vm-1", b"kept", "notes/before.txt")
    case.machines.shutdown("vm-1", 60)
    case.machines.checkpoint("vm-1")
    case.on()
    case.machines.send("vm-1", b"lost", "notes/after.txt")

    case.machines.restore("vm-1")
    case.machines.restore("vm-1")

    assert case.machines.info("vm-1").state is PowerState.OFF
    assert case.read("vm-1", "notes/before.txt") == b"kept"
    assert case.read("vm-1", "notes/after.txt") is None


def test_checkpoint_of_running_machine_is_refused(case: MachineCase) -> None:
    """Otherwise the contents of its memory would be restored, too."""
    case.on()

    with pytest.raises(MachineError, match="off"):
        case.machines.checkpoint("vm-1")


def test_remove_deletes_machine_and_disk(case: MachineCase) -> None:
    """Also a running machine; removing it again is no error."""
    case.on()

    case.machines.remove("vm-1")
    case.machines.remove("vm-1")

    assert not (case.disks / "vm-1").exists()


def test_run_returns_exit_code_and_output(case: MachineCase) -> None:
    """A command reads a file that was sent before; its exit code and its output come back in any alphabet."""
    case.on()
    case.machines.send("vm-1", "print('Grüße'); raise SystemExit(3)".encode(), "probe.py")

    ran = case.machines.run("vm-1", case.python, ["-X", "utf8", "probe.py"], 20)

    assert (ran.exit_code, ran.output.strip()) == (3, "Grüße")


def test_run_on_stopped_machine_is_refused(case: MachineCase) -> None:
    """The error says that the machine is off."""
    with pytest.raises(MachineError) as error:
        case.machines.run("vm-1", case.python, ["-V"], 20)

    assert error.value.trouble is Trouble.GUEST_REFUSED


@pytest.mark.parametrize("name", ["vm-9", "vm-*", "", "vm-1;x", "VM-1"])
def test_unknown_names_are_refused(case: MachineCase, name: str) -> None:
    """Every method refuses any other name before it sends a request."""
    machines = case.machines
    verbs: list[Callable[[str], object]] = [
        *(machines.info, machines.create, machines.start, machines.power_off, machines.restart_agent),
        *(machines.checkpoint, machines.restore, machines.remove, machines.screenshot),
        *(
            lambda n: machines.shutdown(n, 1),
            lambda n: machines.send(n, b"", "x"),
            lambda n: machines.run(n, "x", [], 1),
        ),
    ]
    for verb in verbs:
        with pytest.raises(MachineError) as error:
            verb(name)
        assert error.value.trouble is Trouble.NO_SUCH_MACHINE


def test_watcher_reports_each_change_once(case: MachineCase) -> None:
    """Each change is reported once, with the current state."""
    changes: list[tuple[str, PowerState]] = []
    watcher = MachineWatcher(case.machines, lambda name, info: changes.append((name, info.state)), interval_s=0.05)
    watcher.start()
    assert eventually(lambda: ("vm-1", PowerState.OFF) in changes)

    case.on()

    assert eventually(lambda: ("vm-1", PowerState.RUNNING) in changes)
    assert eventually(lambda: watcher.latest()["vm-1"].healthy)
    watcher.close()
    assert changes.count(("vm-2", PowerState.OFF)) == 1
