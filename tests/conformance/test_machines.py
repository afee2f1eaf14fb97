"""The contract of each role of machines, for every kind that has it: `Power` of local processes, and all roles of
Hyper-V over WinRM and of QEMU with guests that boot (`make test-vm`)."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hyperv_ops import (
    GuestIdentity,
    LocalMachines,
    LocalSpec,
    MachineError,
    MachineInfo,
    Machines,
    MachineWatcher,
    Power,
    PowerState,
    Trouble,
)
from hyperv_ops import wait_until_healthy as wait
from tests.harness.hyperv_farm import hyperv_harness
from tests.harness.qemu_farm import BOOT_S, qemu_harness
from tests.harness.waiting import eventually
from tests.programs.system_programs import GUESTS

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]
NAMES = ("vm-1", "vm-2", "vm-3")
UNKNOWN = ["vm-9", "vm-*", "", "vm-1;x", "VM-1"]
IDENTITY = GuestIdentity(computer="x", share_account="x", share_password="x", address="127.0.0.1", prefix_length=8)
GAME = "def play(genome, trial):\n    return 1.0\n"


class PowerCase:
    """Two machines that exist and are off."""

    boot_s: float = 20

    def __init__(self, power: Power) -> None:
        self.power = power

    def on(self, name: str = "vm-1") -> MachineInfo:
        """Starts a machine and waits until it is healthy."""
        self.power.start(name)
        assert wait(self.power, name, self.boot_s, interval_s=0.1)
        return self.power.info(name)


class MachineCase(PowerCase):
    """A third machine can be created, and their disks can be read."""

    python = sys.executable  #: in the guest

    def __init__(self, machines: Machines, disks: Path, boot_of: Callable[[str], object]) -> None:
        """`boot_of`: what changes when the guest of a machine boots."""
        super().__init__(machines)
        self.machines, self.disks, self.boot_of = machines, disks, boot_of

    def read(self, name: str, path: str) -> bytes | None:
        """A file of a machine's disk; None if there is none."""
        found = self.disks / name / path
        return found.read_bytes() if found.exists() else None


class RealMachineCase(MachineCase):
    """Machines whose disks only their guests can read."""

    boot_s = BOOT_S
    python = "/usr/bin/python3"

    def read(self, name: str, path: str) -> bytes | None:
        self.on(name)
        ran = self.machines.run(name, "/bin/cat", [f"/{path}"], 30)
        return ran.output.encode() if ran.exit_code == 0 else None


REAL = pytest.param("qemu", marks=[pytest.mark.vm, pytest.mark.needs(*GUESTS, root=True), pytest.mark.timeout(600)])
VIRTUAL = ["hyperv-ntlm", "hyperv-https", REAL]


@pytest.fixture(params=VIRTUAL)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MachineCase]:
    with virtual_machines(request.param, tmp_path) as case:
        yield case


@pytest.fixture(params=["local", *VIRTUAL])
def power_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PowerCase]:
    if request.param != "local":
        with virtual_machines(request.param, tmp_path) as case:
            yield case
        return
    code = "import sys; sys.stdin.read()"
    specs = {
        name: LocalSpec(
            argv=[sys.executable, "-S", "-c", code],
            disk=tmp_path / "disks" / name,
            folders=("inbox",),
            log=tmp_path / f"{name}.log",
            cwd=tmp_path,
        )
        for name in NAMES[:2]
    }
    machines = LocalMachines(specs)
    yield PowerCase(machines)
    machines.close(0)


@contextmanager
def virtual_machines(kind: str, folder: Path) -> Iterator[MachineCase]:
    (folder / "game.py").write_text(GAME)
    if kind == "qemu":
        with qemu_harness(folder, *NAMES) as real:
            for name in NAMES[:2]:
                real.machines.create(name)
            yield RealMachineCase(
                real.machines, real.folder, lambda name: real.in_guest(name, "cat /proc/sys/kernel/random/boot_id")
            )
        return
    with hyperv_harness(folder, *NAMES, existing=NAMES[:2], tls=kind == "hyperv-https", boot_s=0.1) as harness:
        for name in NAMES[:2]:
            (harness.disks / name).mkdir(parents=True)
        yield MachineCase(harness.machines(), harness.disks, harness.hyperv.guest_pid)
        assert harness.server.shells == set()


def assert_unknown(name: str, *methods: Callable[[str], object]) -> None:
    for method in methods:
        with pytest.raises(MachineError) as error:
            method(name)
        assert error.value.trouble is Trouble.NO_SUCH_MACHINE


# -------------------------------------------------------------------------------------------------------------- power


def test_start_of_running_machine_changes_nothing(power_case: PowerCase) -> None:
    """It keeps running."""
    power_case.on()
    before = power_case.power.info("vm-1").uptime_s

    power_case.power.start("vm-1")

    assert power_case.power.info("vm-1").uptime_s >= before
    assert power_case.power.info("vm-2").state is PowerState.OFF


def test_shutdown_is_idempotent(power_case: PowerCase) -> None:
    """The machine is off then; a second shutdown is no error."""
    power_case.on()

    assert power_case.power.shutdown("vm-1", 60)
    assert power_case.power.info("vm-1").state is PowerState.OFF
    assert power_case.power.shutdown("vm-1", 60)


def test_power_off_is_idempotent(power_case: PowerCase) -> None:
    """The machine is powered off twice, then started again."""
    power_case.on()
    power_case.power.power_off("vm-1")
    power_case.power.power_off("vm-1")
    assert power_case.power.info("vm-1").state is PowerState.OFF

    assert power_case.on().healthy


def test_watcher_reports_each_change_once(power_case: PowerCase) -> None:
    """Each change is reported once, with the current state."""
    changes: list[tuple[str, PowerState]] = []
    watcher = MachineWatcher(power_case.power, lambda name, info: changes.append((name, info.state)), interval_s=0.05)
    watcher.start()
    assert eventually(lambda: ("vm-1", PowerState.OFF) in changes)

    power_case.on()

    assert eventually(lambda: ("vm-1", PowerState.RUNNING) in changes)
    assert eventually(lambda: watcher.latest()["vm-1"].healthy)
    watcher.close()
    assert changes.count(("vm-2", PowerState.OFF)) == 1


@pytest.mark.parametrize("name", UNKNOWN)
def test_power_refuses_unknown_names(power_case: PowerCase, name: str) -> None:
    """Every method refuses any other name before it sends a request."""
    machines = power_case.power
    assert_unknown(name, machines.info, machines.start, machines.power_off, lambda n: machines.shutdown(n, 1))


# --------------------------------------------------------------------------------------------------------------- saving


def test_saved_machine_goes_on_with_its_memory(case: MachineCase) -> None:
    """A process that ran before runs on, without a boot; a second save and a second resume change nothing."""
    case.on()
    before = case.boot_of("vm-1")
    case.machines.save("vm-1")
    case.machines.save("vm-1")
    assert case.machines.info("vm-1").state is PowerState.OFF

    case.machines.resume("vm-1")
    case.machines.resume("vm-1")

    assert wait(case.machines, "vm-1", case.boot_s, interval_s=0.1)
    assert case.boot_of("vm-1") == before


@pytest.mark.parametrize("discard", ["start", "power_off", "restore"])
def test_saved_memory_is_discarded(case: MachineCase, discard: str) -> None:
    """By what boots a machine, or changes what its disk has to be."""
    case.machines.checkpoint("vm-1")
    case.on()
    before = case.boot_of("vm-1")
    case.machines.save("vm-1")

    getattr(case.machines, discard)("vm-1")
    case.machines.resume("vm-1")

    assert wait(case.machines, "vm-1", case.boot_s, interval_s=0.1)
    assert case.boot_of("vm-1") != before


def test_checkpoint_of_saved_machine_is_refused(case: MachineCase) -> None:
    """Its disk is not as after a shutdown."""
    case.on()
    case.machines.save("vm-1")

    with pytest.raises(MachineError, match="off"):
        case.machines.checkpoint("vm-1")


def test_memory_is_used_once(case: MachineCase) -> None:
    """After it has run on, the disk is not the one that the memory belongs to."""
    case.on()
    case.machines.save("vm-1")
    case.machines.resume("vm-1")
    assert wait(case.machines, "vm-1", case.boot_s, interval_s=0.1)
    before = case.boot_of("vm-1")
    case.machines.power_off("vm-1")

    case.machines.resume("vm-1")

    assert wait(case.machines, "vm-1", case.boot_s, interval_s=0.1)
    assert case.boot_of("vm-1") != before


@pytest.mark.parametrize("name", UNKNOWN)
def test_saving_refuses_unknown_names(case: MachineCase, name: str) -> None:
    """Every method, like those of `Power`."""
    assert_unknown(name, case.machines.save, case.machines.resume)


# --------------------------------------------------------------------------------------------------------- provisioning


def test_create_is_idempotent(case: MachineCase) -> None:
    """The machine is off then; creating it again changes nothing."""
    case.machines.create("vm-3")
    case.machines.create("vm-3")

    assert case.machines.info("vm-3").state is PowerState.OFF
    assert (case.disks / "vm-3").is_dir()


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


@pytest.mark.parametrize("name", UNKNOWN)
def test_provisioning_refuses_unknown_names(case: MachineCase, name: str) -> None:
    """Every method, like those of `Power`."""
    machines = case.machines
    assert_unknown(name, machines.create, machines.checkpoint, machines.restore, machines.remove)


# ---------------------------------------------------------------------------------------------------------------- guest


def test_restart_agent_keeps_machine(case: MachineCase) -> None:
    """The machine runs afterwards as before."""
    case.on()

    case.machines.restart_agent("vm-1")

    assert wait(case.machines, "vm-1", 20, interval_s=0.1)


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


@pytest.mark.parametrize("name", UNKNOWN)
def test_guest_refuses_unknown_names(case: MachineCase, name: str) -> None:
    """Every method, like those of `Power`."""
    machines = case.machines
    assert_unknown(
        name,
        machines.restart_agent,
        machines.screenshot,
        lambda n: machines.identify(n, IDENTITY),
        lambda n: machines.send(n, b"", "x"),
        lambda n: machines.run(n, "x", [], 1),
    )
