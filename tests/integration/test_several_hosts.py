"""The machines of two simulated Hyper-V hosts behind real WinRM servers, one of which vanishes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState
from pipeline.core.requests import MachineAction
from pipeline.diagnosis import clones, shares
from pipeline.errors import ExitCode
from pipeline.machines import boot_queue, controller
from pipeline.machines.connections import machine_hosts
from pipeline.machines.controllers import MachineControllers
from tests.fakes.partition import Partition
from tests.harness.command_line import pipeline
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, HyperVHarness, hyperv_harness
from tests.harness.waiting import eventually

pytestmark = pytest.mark.timeout(60)
NAMES = ("vm-1", "vm-2")
Command = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two hosts with machines of the same names, and the way to the second one."""

    root: Path
    one: HyperVHarness
    other: HyperVHarness
    way: Partition

    def configure(self, defaults: str = "", **hyperv: Any) -> None:
        """Writes pipeline.toml: `defaults` are keys of `[hyperv]`, the others of both named tables."""
        tables = self.one.tables(**hyperv) + self.other.tables(port=self.way.forward(self.other.port), **hyperv)
        (self.root / "pipeline.toml").write_text(f"[hyperv]\n{defaults}\n{tables}")

    def without_shares(self) -> None:
        """The workers' shares are those inside of their machines."""
        path = self.root / "pipeline.toml"
        lines = [
            "account = 'exchange'\nsecret = 'env:SHARE_SECRET'" if line.startswith("share =") else line
            for line in path.read_text().splitlines()
        ]
        path.write_text("\n".join(lines))


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    for name, value in (("HYPERV_SECRET", PASSWORD), ("GUEST_SECRET", GUEST_SECRET), ("SHARE_SECRET", "canary")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(shares, "BEAT_WAIT_S", 0.1)
    monkeypatch.setattr(clones, "PAUSE_S", 0.05)
    (tmp_path / "game.py").write_text("def play(genome, trial):\n    return 1.0\n")
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(
                hyperv_harness(tmp_path, *NAMES, boot_s=0.05, disks=tmp_path / name, host=name, first_address=address)
            )
            for name, address in (("lab-1", 11), ("lab-2", 13))
        )
        way = Partition()
        stack.callback(way.close)
        found = Hosts(tmp_path, one, other, way)
        found.configure()
        yield found


@pytest.fixture
def vm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *args: pipeline(capsys, *args, "--root", tmp_path)


# ------------------------------------------------------------------------------------------------ as a run uses them


@pytest.fixture
def controllers(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[MachineControllers]:
    """As a run makes them; a state counts as out of date after a second."""
    monkeypatch.setattr(controller, "WATCH_INTERVAL_S", 0.05)
    monkeypatch.setattr(controller, "STALE_AFTER_S", 1.0)
    found = controllers_of(hosts)
    found.open(on_down=lambda _worker: None)
    assert eventually(lambda: set(states(found).values()) == {MachineState.OFF})
    yield found
    hosts.way.reconnect()  # ends queries that wait for an answer
    found.close()


def controllers_of(hosts: Hosts) -> MachineControllers:
    config = load_config(hosts.root)
    return MachineControllers(machine_hosts(config, hosts.root), config, hosts.root / "evidence", lambda: None)


def states(controllers: MachineControllers) -> dict[str, MachineState]:
    return {name: one.status()[name].state for name, one in controllers.of_worker.items()}


def are(controllers: MachineControllers, host: str, state: MachineState) -> bool:
    return {found for name, found in states(controllers).items() if name.startswith(host)} == {state}


def start(controllers: MachineControllers, *workers: str) -> None:
    for worker in workers:
        controllers.of_worker[worker].execute(MachineAction(worker, None))


def test_machines_of_a_host_that_vanishes_are_unknown(hosts: Hosts, controllers: MachineControllers) -> None:
    """Those of the other host are known and started meanwhile. When it is back, all are known."""
    hosts.way.cut()
    assert eventually(lambda: are(controllers, "lab-2", MachineState.UNKNOWN))
    start(controllers, "lab-2-vm-1", "lab-1-vm-1", "lab-1-vm-2")
    assert eventually(lambda: are(controllers, "lab-1", MachineState.RUNNING))
    assert are(controllers, "lab-2", MachineState.UNKNOWN)
    assert controllers.of_worker["lab-2-vm-1"].status()["lab-2-vm-1"].busy

    hosts.way.reconnect()

    assert eventually(lambda: states(controllers)["lab-2-vm-1"] is MachineState.RUNNING)
    assert [event.what for event in hosts.other.hyperv.events] == ["start"]


def test_reason_of_an_unknown_machine_names_its_host(hosts: Hosts, controllers: MachineControllers) -> None:
    """Of one that is silent, and of one that refuses connections."""

    def note() -> str:
        return controllers.of_worker["lab-2-vm-1"].status()["lab-2-vm-1"].note

    hosts.way.cut()
    assert eventually(lambda: note().startswith("its host has not answered for "))
    hosts.other.server.close()
    hosts.way.reconnect()
    assert eventually(lambda: note().startswith("127.0.0.1: "))
    assert are(controllers, "lab-2", MachineState.UNKNOWN)
    assert are(controllers, "lab-1", MachineState.OFF)


def test_actions_reach_the_machine_of_the_named_host(hosts: Hosts, controllers: MachineControllers) -> None:
    """Both hosts have a `vm-1`."""
    start(controllers, "lab-2-vm-1")
    assert eventually(lambda: states(controllers)["lab-2-vm-1"] is MachineState.RUNNING)
    controllers.of_worker["lab-2-vm-1"].execute(MachineAction("lab-2-vm-1", RecoveryAction.POWER_CYCLE))
    assert eventually(lambda: hosts.other.hyperv.boots("vm-1") == 2)
    assert hosts.one.hyperv.events == []
    assert {event.machine for event in hosts.other.hyperv.events} == {"vm-1"}


def test_each_host_boots_as_many_machines_at_once_as_its_limit_allows(hosts: Hosts) -> None:
    """One boots slowly on each host, so the second one waits there, and not for the other host."""
    hosts.configure(booting_max=1, stagger_s=0.0)
    found = controllers_of(hosts)
    for host in (hosts.one, hosts.other):
        for name in NAMES:
            host.hyperv.boot_slowly(name, 1.0)
    start(found, *found.of_worker)
    assert eventually(lambda: hosts.one.hyperv.booting_max == hosts.other.hyperv.booting_max == 1)
    assert eventually(lambda: all(host.hyperv.is_healthy(name) for host in (hosts.one, hosts.other) for name in NAMES))
    found.close()
    assert hosts.one.hyperv.booting_max == hosts.other.hyperv.booting_max == 1


def test_address_of_another_hosts_machine_is_known(hosts: Hosts, controllers: MachineControllers) -> None:
    """Machines are told apart by host; of a host that does not answer only what was known is reported."""
    start(controllers, "lab-1-vm-1", "lab-2-vm-1")
    reported = {"lab-1/vm-1": "127.0.0.11", "lab-2/vm-1": "127.0.0.13"}

    def are_reported() -> bool:
        found = controllers.addresses("lab-1-vm-1")
        return all(address in found.get(machine, ()) for machine, address in reported.items())

    assert eventually(are_reported)
    hosts.way.cut()
    assert eventually(lambda: are(controllers, "lab-2", MachineState.UNKNOWN))
    assert are_reported()


# ---------------------------------------------------------------------------------------------------------- memory


def test_machine_waits_for_memory_of_its_host(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is room for one beside the reserve. It is reported once, and the second one boots when there is room."""
    monkeypatch.setattr(boot_queue, "MEMORY_INTERVAL_S", 0.05)
    hosts.configure(memory_reserve_mb=4096, stagger_s=0.0)
    hosts.other.hyperv.memory_mb = 4096 + 2048
    found = controllers_of(hosts)
    start(found, *found.of_worker)
    assert eventually(lambda: all(hosts.one.hyperv.is_healthy(name) for name in NAMES))
    assert eventually(lambda: "waits for memory of its host" in caplog.text)
    (waiting,) = [name for name in NAMES if hosts.other.hyperv.boots(name) == 0]
    assert found.of_worker[f"lab-2-{waiting}"].status()[f"lab-2-{waiting}"].busy, "so it is not recovered"

    hosts.other.hyperv.memory_mb += 2048

    assert eventually(lambda: all(hosts.other.hyperv.is_healthy(name) for name in NAMES))
    assert caplog.text.count("waits for memory") == 1
    found.close()


def test_machine_starts_where_free_memory_is_not_reported(hosts: Hosts) -> None:
    """Windows reports it to administrators only; the doctor says so."""
    hosts.configure(memory_reserve_mb=31_000)
    hosts.other.hyperv.missing.add("administrator")
    found = controllers_of(hosts)
    start(found, "lab-2-vm-1")
    assert eventually(lambda: hosts.other.hyperv.is_healthy("vm-1"))
    found.close()


# ----------------------------------------------------------------------------------------------------- by commands


def test_vm_commands_work_over_all_hosts(hosts: Hosts, vm: Command) -> None:
    """Machines are shown with their host; `--host` restricts a selection."""
    assert vm("vm", "start", "--all", "--wait")[0] == ExitCode.OK
    code, out, _ = vm("vm", "status")
    assert code == ExitCode.OK
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [f"{host}-{name}", f"{host}/{name}", "running"] for host in ("lab-1", "lab-2") for name in NAMES
    ]
    assert vm("vm", "stop", "--all", "--host", "lab-2")[1] == "lab-2-vm-1: is off\nlab-2-vm-2: is off\n"
    assert all(hosts.one.hyperv.is_healthy(name) for name in NAMES)
    assert vm("vm", "save", "--count", "1", "--host", "lab-1")[1].startswith("lab-1-vm-1: is off")


def test_host_that_does_not_answer_fails_for_its_machines_only(hosts: Hosts, vm: Command) -> None:
    """Of every command; `status` shows the others."""
    hosts.other.server.close()
    code, out, err = vm("vm", "start", "--all")
    assert (code, out) == (ExitCode.FAILED, "lab-1-vm-1: is on\nlab-1-vm-2: is on\n")
    assert err.splitlines()[-1].startswith("not done with lab-2-vm-1, lab-2-vm-2; ")

    code, out, err = vm("vm", "status")
    assert code == ExitCode.FAILED
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["running", "running", "unknown", "unknown"]
    (line,) = err.splitlines()
    assert line.startswith("lab-2-vm-1, lab-2-vm-2: 127.0.0.1: ")


def test_machines_of_one_network_get_different_addresses(hosts: Hosts, vm: Command) -> None:
    """They are numbered over all hosts; each clone is compared with the template's machine of its host."""
    hosts.configure("network = '192.168.77.0/24'", template_machine="'vm-1'")
    hosts.without_shares()
    hosts.other.hyperv.set_screen("vm-2", "Single 1280x720")
    for host in (hosts.one, hosts.other):
        host.hyperv.template = [{"item": "agent", "ok": True, "found": "version 1", "cure": ""}]

    code, out, err = vm("vm", "prepare", "--all", "--yes")

    assert [line.split()[:5] for line in out.splitlines()] == [
        [f"{host}-{name}:", "is", name, "at", f"192.168.77.{address},"]
        for (host, name), address in zip(
            [(host, name) for host in ("lab-1", "lab-2") for name in NAMES], (11, 12, 13, 14), strict=True
        )
    ]
    assert (code, err) == (ExitCode.FAILED, "lab-2-vm-2: screen is Single 1280x720, of vm-1 Default\n")
    assert hosts.other.hyperv.identity("vm-1") == ("vm-1", "192.168.77.13")
    assert vm("vm", "compare", "--host", "lab-1")[:2] == (ExitCode.OK, "lab-1-vm-1: as vm-1\nlab-1-vm-2: as vm-1\n")


def test_settings_of_a_host_that_does_not_answer_are_not_compared(hosts: Hosts, vm: Command) -> None:
    """Those of the other one are."""
    hosts.configure(template_machine="'vm-1'")
    hosts.other.server.close()
    code, out, _ = vm("vm", "compare")
    assert code == ExitCode.FAILED
    first, second, third = out.splitlines()
    assert (first, second) == ("lab-1-vm-1: as vm-1", "lab-1-vm-2: as vm-1")
    assert third.startswith("[hyperv.lab-2]: its machines were not compared: 127.0.0.1: ")


def test_command_for_one_host_asks_which(hosts: Hosts, vm: Command) -> None:
    """One line names the hosts."""
    hosts.configure("network = '192.168.77.0/24'")
    code, _, err = vm("vm", "switch")
    assert (code, err) == (ExitCode.BAD_INPUT, "pipeline: which host? Give --host with one of lab-1, lab-2\n")
    assert vm("vm", "switch", "--host", "lab-2")[1] == "farm: is there, this side of it is 192.168.77.1\n"
    assert hosts.one.hyperv.scripts == []
    code, _, err = vm("vm", "check-template", "--game-folder", "C:\\game", "--host", "lab-2")
    assert "[hyperv.lab-2] template_machine is not set" in err
    for args in (("switch", "--host", "lab-9"), ("start", "--all", "--host", "lab-9")):
        code, _, err = vm("vm", *args)
        assert (code, err) == (
            ExitCode.BAD_INPUT,
            "pipeline: --host lab-9: there is none of that name; there are lab-1, lab-2\n",
        )


def test_doctor_reports_each_host(hosts: Hosts, vm: Command) -> None:
    """Readings of both; a host that does not answer is reported once, and the others' machines are checked."""
    assert "[hyperv.lab-1], [hyperv.lab-2]: hv1: 16 processors" in vm("doctor", "-v")[1]
    hosts.one.hyperv.missing.add("switch")
    hosts.configure(memory_reserve_mb=1024)
    hosts.one.hyperv.missing.add("administrator")
    hosts.other.server.close()

    lines = [line for line in vm("doctor")[1].splitlines() if line.startswith("[hyperv")]

    assert [line.partition(": ")[0] for line in lines] == ["[hyperv.lab-1]"] * 2 + ["[hyperv.lab-2]"]
    assert "`memory_reserve_mb` has no effect, as hv1 does not report free memory" in lines[0]
    assert "winrm quickconfig" in lines[2]
