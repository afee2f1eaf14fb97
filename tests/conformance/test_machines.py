"""What every kind of machine promises: the same stories over processes of this computer, over Hyper-V by WinRM, and
over QEMU with guests that boot (`make test-vm`)."""

import sys
from collections.abc import Iterator
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
from tests.harness.hyperv_farm import hyperv_bed
from tests.harness.qemu_farm import BOOT_S, qemu_bed
from tests.harness.waiting import eventually
from tests.programs.system_programs import GUESTS

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]
GAME = "def play(genome, trial):\n    return 1.0\n"


class Kind:
    """Two machines that exist, a third that does not yet, and a look behind the curtain."""

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


class RealKind(Kind):
    """Its disks can be read by its guests alone."""

    python = "/usr/bin/python3"

    def on(self, name: str = "vm-1", within_s: float = BOOT_S) -> MachineInfo:
        return super().on(name, within_s)

    def read(self, name: str, path: str) -> bytes | None:
        self.on(name)
        ran = self.machines.run(name, "/bin/cat", [f"/{path}"], 30)
        return ran.output.encode() if ran.exit_code == 0 else None


REAL = pytest.param("qemu", marks=[pytest.mark.vm, pytest.mark.needs(*GUESTS, root=True), pytest.mark.timeout(600)])


@pytest.fixture(params=["local", "hyperv-ntlm", "hyperv-https", REAL])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
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
        yield Kind(machines, tmp_path / "disks")
        machines.close(0)
        return
    if request.param == "qemu":
        with qemu_bed(tmp_path, *names) as real:
            for name in names[:2]:
                real.machines.create(name)
            yield RealKind(real.machines, real.folder)
        return
    with hyperv_bed(tmp_path, *names, existing=names[:2], tls=request.param == "hyperv-https", boot_s=0.1) as bed:
        for name in names[:2]:
            (bed.disks / name).mkdir(parents=True)
        yield Kind(bed.machines(), bed.disks)
        assert bed.server.shells == set()


def test_a_machine_is_made_once(kind: Kind) -> None:
    """It is off then, and making it again changes nothing."""
    kind.machines.create("vm-3")
    kind.machines.create("vm-3")

    assert kind.machines.info("vm-3").state is PowerState.OFF
    assert (kind.disks / "vm-3").is_dir()


def test_starting_what_runs_is_nothing(kind: Kind) -> None:
    """It goes on as it was."""
    kind.on()
    before = kind.machines.info("vm-1").uptime_s

    kind.machines.start("vm-1")

    assert kind.machines.info("vm-1").uptime_s >= before
    assert kind.machines.info("vm-2").state is PowerState.OFF


def test_a_guest_shuts_down_when_it_is_asked(kind: Kind) -> None:
    """It is off then, and asking once more is no error."""
    kind.on()

    assert kind.machines.shutdown("vm-1", 60)
    assert kind.machines.info("vm-1").state is PowerState.OFF
    assert kind.machines.shutdown("vm-1", 60)


def test_power_is_cut_from_whoever_has_it(kind: Kind) -> None:
    """Off, twice, and on again."""
    kind.on()
    kind.machines.power_off("vm-1")
    kind.machines.power_off("vm-1")
    assert kind.machines.info("vm-1").state is PowerState.OFF

    assert kind.on().healthy


def test_the_agent_is_started_anew(kind: Kind) -> None:
    """The machine is there afterwards as before."""
    kind.on()

    kind.machines.restart_agent("vm-1")

    assert wait(kind.machines, "vm-1", 20, interval_s=0.1)


def test_a_restored_machine_has_forgotten(kind: Kind) -> None:
    """What was written since the checkpoint is gone, what was there before is back, and it is off."""
    kind.on()
    kind.machines.send("vm-1", b"kept", "notes/before.txt")
    kind.machines.shutdown("vm-1", 60)
    kind.machines.checkpoint("vm-1")
    kind.on()
    kind.machines.send("vm-1", b"lost", "notes/after.txt")

    kind.machines.restore("vm-1")
    kind.machines.restore("vm-1")

    assert kind.machines.info("vm-1").state is PowerState.OFF
    assert kind.read("vm-1", "notes/before.txt") == b"kept"
    assert kind.read("vm-1", "notes/after.txt") is None


def test_a_running_machine_gives_no_clean_checkpoint(kind: Kind) -> None:
    """Whatever it has in memory would come back with it."""
    kind.on()

    with pytest.raises(MachineError, match="off"):
        kind.machines.checkpoint("vm-1")


def test_a_removed_machine_is_gone_with_its_disk(kind: Kind) -> None:
    """Also one that runs, and also twice."""
    kind.on()

    kind.machines.remove("vm-1")
    kind.machines.remove("vm-1")

    assert not (kind.disks / "vm-1").exists()


def test_a_program_runs_in_the_guest(kind: Kind) -> None:
    """With a file that was sent before; its exit code and output come back, whatever letters it has."""
    kind.on()
    kind.machines.send("vm-1", "print('Grüße'); raise SystemExit(3)".encode(), "probe.py")

    ran = kind.machines.run("vm-1", kind.python, ["-X", "utf8", "probe.py"], 20)

    assert (ran.exit_code, ran.output.strip()) == (3, "Grüße")


def test_nothing_runs_where_nobody_is(kind: Kind) -> None:
    """A machine that is off says so."""
    with pytest.raises(MachineError) as error:
        kind.machines.run("vm-1", kind.python, ["-V"], 20)

    assert error.value.trouble is Trouble.GUEST_REFUSED


@pytest.mark.parametrize("name", ["vm-9", "vm-*", "", "vm-1;x", "VM-1"])
def test_only_its_own_machines_are_touched(kind: Kind, name: str) -> None:
    """Every verb refuses every other name before anything is asked of anybody."""
    machines = kind.machines
    verbs = [
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


def test_changes_are_told(kind: Kind) -> None:
    """Once for each, with what it is now."""
    told: list[tuple[str, PowerState]] = []
    watcher = MachineWatcher(kind.machines, lambda name, info: told.append((name, info.state)), interval_s=0.05)
    watcher.start()
    assert eventually(lambda: ("vm-1", PowerState.OFF) in told)

    kind.on()

    assert eventually(lambda: ("vm-1", PowerState.RUNNING) in told)
    assert eventually(lambda: watcher.latest()["vm-1"].healthy)
    watcher.close()
    assert told.count(("vm-2", PowerState.OFF)) == 1
