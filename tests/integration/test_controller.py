"""The machines of workers, as seen by the farm: actions on threads, limited boots, evidence, machine states."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hyperv_ops import Heartbeat, MachineError, MachineInfo, PowerState, Trouble
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState
from pipeline.core.observed import PowerAction
from pipeline.core.requests import MachineAction, WorkerEvidence
from pipeline.machines import controller as controller_module
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.controller import MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.pools import MachinePools
from tests.fakes.recorded_machines import FakeMachines
from tests.harness.waiting import eventually


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., tuple[MachineController, FakeMachines]]]:
    opened = []

    def make(
        *names: str,
        on_change: Callable[[], None] = lambda: None,
        on_down: Callable[[str], None] = lambda _worker: None,
        watch_interval_s: float = 0.02,
        saves: bool = False,
        **options: Any,
    ) -> tuple[MachineController, FakeMachines]:
        fake = FakeMachines(*names)
        machines: Any = fake
        controller = MachineController(
            machines,
            {f"w-{name}": name for name in names},
            BootQueue(machines, **{"stagger_s": 0.0, "boot_limit_s": 10.0, **options}),
            MachineEvidence(machines, tmp_path / "evidence"),
            on_change,
            watch_interval_s=watch_interval_s,
            saves=saves,
        )
        controller.open(on_down)
        opened.append((controller, fake))
        assert eventually(lambda: not names or controller.status()[f"w-{names[0]}"].note != "it was not looked at yet")
        return controller, fake

    yield make
    for controller, fake in opened:
        fake.gate.set()
        controller.close()


Make = Callable[..., tuple[MachineController, FakeMachines]]


def idle(controller: MachineController, worker: str) -> bool:
    return eventually(lambda: not controller.status()[worker].busy)


@pytest.mark.parametrize(
    ("action", "verbs"),
    [
        (None, ["start"]),
        (RecoveryAction.RESTART_AGENT, ["restart_agent"]),
        (RecoveryAction.REBOOT, ["shutdown", "start"]),
        (RecoveryAction.POWER_CYCLE, ["power_off", "start"]),
        (RecoveryAction.RESTORE, ["restore", "start"]),
    ],
)
def test_verbs_of_each_recovery_action(make: Make, action: RecoveryAction | None, verbs: list[str]) -> None:
    """Each action is a fixed sequence of calls, on this machine alone."""
    controller, fake = make("a", "b")
    controller.execute(MachineAction("w-a", action))
    seen = [controller.status()["w-a"]]
    while seen[-1].busy:
        seen.append(controller.status()["w-a"])

    assert fake.done == [(verb, "a") for verb in verbs]
    assert sum(one.reverted for one in [*seen, controller.status()["w-a"]]) == (action is RecoveryAction.RESTORE), (
        "it is confirmed once"
    )


@pytest.mark.parametrize(
    ("saves", "power", "verbs"),
    [
        (True, PowerAction.REST, ["save"]),
        (False, PowerAction.REST, ["shutdown"]),
        (True, PowerAction.RESUME, ["resume"]),
        (True, PowerAction.START, ["start"]),
    ],
)
def test_verbs_of_rest(make: Make, saves: bool, power: PowerAction, verbs: list[str]) -> None:
    """As configured; the connection to the share is closed first."""
    down: list[str] = []
    controller, fake = make("a", "b", on_down=down.append, saves=saves)
    controller.execute(MachineAction("w-a", None, power=power))
    assert idle(controller, "w-a")

    assert fake.done == [(verb, "a") for verb in verbs]
    assert down == ["w-a"]


def test_machine_boots_if_its_memory_cannot_be_used(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning; its worker is not recovered."""
    controller, fake = make("a", saves=True)
    fake.memory_is_lost = True
    controller.execute(MachineAction("w-a", None, power=PowerAction.RESUME))
    assert idle(controller, "w-a")

    assert fake.done == [("resume", "a"), ("start", "a")]
    assert controller.status()["w-a"].state is MachineState.RUNNING
    assert "w-a: it boots, since its memory cannot be used: a: its memory is gone" in caplog.text


def test_status_is_refreshed_before_action_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an older status a machine that has just started would be restarted for being off."""
    controller, fake = make("a", watch_interval_s=60.0)
    slow, swift = threading.Event(), fake.infos

    def infos() -> dict[str, MachineInfo]:
        found = swift()
        slow.wait(0.3)  # as long as a hypervisor may take, or longer
        return found

    monkeypatch.setattr(fake, "infos", infos)
    assert controller.status()["w-a"].state is MachineState.OFF
    controller.execute(MachineAction("w-a", None))
    assert idle(controller, "w-a")

    assert controller.status()["w-a"].state is MachineState.RUNNING


def test_failed_shutdown_does_not_start_machine(make: Make) -> None:
    """The action has failed; the next one will power the machine off."""
    controller, fake = make("a")
    fake.stubborn = True
    controller.execute(MachineAction("w-a", RecoveryAction.REBOOT))
    assert idle(controller, "w-a")

    assert fake.done == [("shutdown", "a")]


def test_one_action_per_machine(make: Make) -> None:
    """While an action runs the machine is busy, and a second action is refused."""
    controller, fake = make("a")
    fake.gate.clear()
    controller.execute(MachineAction("w-a", None))
    assert eventually(lambda: ("start", "a") in fake.done)
    assert controller.status()["w-a"].busy
    controller.execute(MachineAction("w-a", RecoveryAction.POWER_CYCLE))
    fake.gate.set()
    assert idle(controller, "w-a")

    assert fake.done == [("start", "a")]


def test_concurrent_boots_are_limited(make: Make) -> None:
    """The other machines wait for their turn, and get it."""
    names = [f"m{number}" for number in range(6)]
    controller, fake = make(*names, booting_max=2)
    fake.gate.clear()
    for name in names:
        controller.execute(MachineAction(f"w-{name}", None))
    assert eventually(lambda: fake.booting_max == 2)
    assert all(controller.status()[f"w-{name}"].busy for name in names)
    assert len(fake.done) == 2

    fake.gate.set()

    assert eventually(lambda: len(fake.done) == 6)


@pytest.mark.parametrize(
    ("state", "heartbeat", "seen"),
    [
        (PowerState.RUNNING, Heartbeat.OK, MachineState.RUNNING),
        (PowerState.RUNNING, Heartbeat.NONE, MachineState.RUNNING),
        (PowerState.RUNNING, Heartbeat.LOST, MachineState.UNHEALTHY),
        (PowerState.OFF, Heartbeat.NONE, MachineState.OFF),
        (PowerState.CHANGING, Heartbeat.NONE, MachineState.UNKNOWN),
        (PowerState.UNKNOWN, Heartbeat.NONE, MachineState.UNKNOWN),
    ],
)
def test_machine_state_from_power_and_heartbeat(
    make: Make, state: PowerState, heartbeat: Heartbeat, seen: MachineState
) -> None:
    """Only a lost heartbeat makes a running machine unhealthy; a booting one has none yet."""
    controller, fake = make("a")
    fake.state["a"], fake.heartbeat["a"] = state, heartbeat

    assert eventually(lambda: controller.status()["w-a"].state is seen)


def test_stuck_transition_is_unhealthy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stuck in Stopping, or paused: the machine will not change by itself."""
    monkeypatch.setattr(controller_module, "STUCK_AFTER_S", 0.0)
    controller, fake = make("a")
    fake.state["a"] = PowerState.CHANGING

    assert eventually(lambda: controller.status()["w-a"].state is MachineState.UNHEALTHY)


def test_stale_status_is_unknown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hypervisor that does not respond gives no states; the note has the reason."""
    controller, fake = make("a")
    fake.trouble = MachineError("hv1", "no answer in time", Trouble.UNREACHABLE)
    monkeypatch.setattr(controller_module, "STALE_AFTER_S", 0.0)

    assert eventually(lambda: "no answer in time" in controller.status()["w-a"].note)
    assert controller.status()["w-a"].state is MachineState.UNKNOWN


def test_failed_action_allows_next_action(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged as one line, and the machine accepts another action."""
    controller, fake = make("a")

    def refuse(_name: str) -> None:
        raise MachineError("a", "the guest refused", Trouble.GUEST_REFUSED)

    monkeypatch.setattr(fake, "restart_agent", refuse)
    controller.execute(MachineAction("w-a", RecoveryAction.RESTART_AGENT))
    assert idle(controller, "w-a")

    assert "w-a: restart_agent: a: the guest refused" in caplog.text


@pytest.mark.parametrize(
    ("action", "down"), [(RecoveryAction.POWER_CYCLE, ["w-a"]), (RecoveryAction.RESTART_AGENT, [])]
)
def test_switched_off_machine_is_reported(make: Make, action: RecoveryAction, down: list[str]) -> None:
    """The host closes its connection to that machine; a restart of the agent leaves it open."""
    reported: list[str] = []
    controller, _fake = make("a", on_down=reported.append)
    controller.execute(MachineAction("w-a", action))
    assert idle(controller, "w-a")

    assert reported == down


def test_evidence_is_saved_before_restore(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, screen, and the host's data of its worker; if saving fails, the machine is restored all the same."""
    controller, fake = make("a")
    known = WorkerEvidence(state="recovering", reason="its agent was silent", held=("g1-1.1.1-0",), heartbeat=None)
    controller.execute(MachineAction("w-a", RecoveryAction.RESTORE, known))
    assert idle(controller, "w-a")

    (folder,) = (tmp_path / "evidence").iterdir()
    assert orjson.loads((folder / "machine.json").read_bytes())["name"] == "a"
    assert (folder / "screen.png").read_bytes() == b"a picture"
    assert orjson.loads((folder / "worker.json").read_bytes()) == {
        "state": "recovering",
        "reason": "its agent was silent",
        "held": ["g1-1.1.1-0"],
        "heartbeat": None,
    }

    def full(_name: str) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(fake, "screenshot", full)
    controller.execute(MachineAction("w-a", RecoveryAction.RESTORE))
    assert idle(controller, "w-a")
    assert fake.done.count(("restore", "a")) == 2


def test_closed_controller_starts_no_machine(make: Make) -> None:
    """A machine that waits for its turn when the host ends stays off; the next host finds it so."""
    controller, fake = make("a", "b", booting_max=1)
    fake.gate.clear()
    controller.execute(MachineAction("w-a", None))
    assert eventually(lambda: fake.done == [("start", "a")])
    controller.execute(MachineAction("w-b", None))

    controller.close()

    assert idle(controller, "w-b")
    assert fake.done == [("start", "a")]
    assert fake.closed


def test_pools_dispatch_by_worker(make: Make) -> None:
    """Each worker's action goes to the pool of its machine."""
    controller, fake = make("a")
    other, other_fake = make("b")
    pools = MachinePools({"w-a": controller, "w-b": other})

    assert pools.status().keys() == {"w-a", "w-b"}
    pools.execute(MachineAction("w-b", RecoveryAction.RESTART_AGENT))
    assert eventually(lambda: other_fake.done == [("restart_agent", "b")])
    assert fake.done == []
