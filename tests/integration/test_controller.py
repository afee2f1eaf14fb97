"""The machine controller: actions on threads, limits for concurrent boots, saved evidence, reported states."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hyperv_ops import Heartbeat, MachineError, MachineInfo, PowerState, Trouble
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState
from pipeline.core.requests import MachineAction, WorkerEvidence
from pipeline.machines import controller
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.controller import MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.pools import MachinePools
from tests.harness.waiting import eventually


class FakeMachines:
    """Machines in memory that boot at once, or when the test allows it; every call is recorded."""

    def __init__(self, *names: str) -> None:
        self.state = dict.fromkeys(names, PowerState.OFF)
        self.heartbeat = dict.fromkeys(names, Heartbeat.OK)
        self.calls: list[tuple[str, str]] = []
        self.error: MachineError | None = None
        self.may_boot = threading.Event()  #: if cleared, guests do not boot
        self.may_boot.set()
        self.booting = self.booting_max = 0
        self.ignores_shutdown = False
        self.closed = False
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return list(self.state)

    def infos(self) -> dict[str, MachineInfo]:
        if self.error is not None:
            raise self.error
        return {name: self.info(name) for name in self.state}

    def info(self, name: str) -> MachineInfo:
        up = self.may_boot.is_set() or self.state[name] is not PowerState.RUNNING
        with self._lock:
            self.booting_max = max(self.booting_max, 0 if self.may_boot.is_set() else self._starting())
        return MachineInfo(
            name=name, state=self.state[name], heartbeat=self.heartbeat[name] if up else Heartbeat.NONE, uptime_s=7.0
        )

    def _starting(self) -> int:
        return sum(state is PowerState.RUNNING for state in self.state.values())

    def start(self, name: str) -> None:
        self.calls.append(("start", name))
        self.state[name] = PowerState.RUNNING

    def shutdown(self, name: str, timeout_s: float) -> bool:
        self.calls.append(("shutdown", name))
        self.state[name] = PowerState.RUNNING if self.ignores_shutdown else PowerState.OFF
        return not self.ignores_shutdown

    def power_off(self, name: str) -> None:
        self.calls.append(("power_off", name))
        self.state[name] = PowerState.OFF

    def restart_agent(self, name: str) -> None:
        self.calls.append(("restart_agent", name))

    def restore(self, name: str) -> None:
        self.calls.append(("restore", name))

    def screenshot(self, name: str) -> bytes | None:
        return b"a picture"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., tuple[MachineController, FakeMachines]]]:
    opened = []

    def make(
        *names: str,
        on_change: Callable[[], None] = lambda: None,
        on_down: Callable[[str], None] = lambda _worker: None,
        watch_interval_s: float = 0.02,
        **options: Any,
    ) -> tuple[MachineController, FakeMachines]:
        machines = FakeMachines(*names)
        pool = MachineController(
            machines,
            {f"w-{name}": name for name in names},
            BootQueue(machines, **{"stagger_s": 0.0, "boot_limit_s": 10.0, **options}),
            MachineEvidence(machines, tmp_path / "evidence"),
            on_change,
            watch_interval_s=watch_interval_s,
        )
        pool.open(on_down)
        opened.append((pool, machines))
        assert eventually(lambda: not names or pool.status()[f"w-{names[0]}"].note != "it was not looked at yet")
        return pool, machines

    yield make
    for pool, machines in opened:
        machines.may_boot.set()
        pool.close()


Make = Callable[..., tuple[MachineController, FakeMachines]]


def becomes_idle(pool: MachineController, worker: str) -> bool:
    return eventually(lambda: not pool.status()[worker].busy)


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
def test_recovery_action_calls_its_verbs(make: Make, action: RecoveryAction | None, verbs: list[str]) -> None:
    """In this order, on this machine only."""
    pool, machines = make("a", "b")
    pool.execute(MachineAction("w-a", action))
    seen = [pool.status()["w-a"]]
    while seen[-1].busy:
        seen.append(pool.status()["w-a"])

    assert machines.calls == [(verb, "a") for verb in verbs]
    assert sum(status.reverted for status in [*seen, pool.status()["w-a"]]) == (action is RecoveryAction.RESTORE), (
        "a restore is confirmed once"
    )


def test_status_is_refreshed_before_action_ends(make: Make) -> None:
    """With the status from before the action, a machine that has just started would be restarted for being off."""
    pool, machines = make("a", watch_interval_s=60.0)
    delay, original = threading.Event(), machines.infos

    def infos() -> dict[str, MachineInfo]:
        found = original()
        delay.wait(0.3)  # a slow response of the hypervisor
        return found

    machines.infos = infos  # type: ignore[method-assign]
    assert pool.status()["w-a"].state is MachineState.OFF
    pool.execute(MachineAction("w-a", None))
    assert becomes_idle(pool, "w-a")

    assert pool.status()["w-a"].state is MachineState.RUNNING


def test_failed_shutdown_does_not_start_machine(make: Make) -> None:
    """The action has failed; the next one cuts the power."""
    pool, machines = make("a")
    machines.ignores_shutdown = True
    pool.execute(MachineAction("w-a", RecoveryAction.REBOOT))
    assert becomes_idle(pool, "w-a")

    assert machines.calls == [("shutdown", "a")]


def test_one_action_per_machine(make: Make) -> None:
    """During an action the machine is busy, and another action is ignored."""
    pool, machines = make("a")
    machines.may_boot.clear()
    pool.execute(MachineAction("w-a", None))
    assert eventually(lambda: ("start", "a") in machines.calls)
    assert pool.status()["w-a"].busy
    pool.execute(MachineAction("w-a", RecoveryAction.POWER_CYCLE))
    machines.may_boot.set()
    assert becomes_idle(pool, "w-a")

    assert machines.calls == [("start", "a")]


def test_concurrent_boots_are_limited(make: Make) -> None:
    """The other boots follow later."""
    names = [f"m{number}" for number in range(6)]
    pool, machines = make(*names, booting_max=2)
    machines.may_boot.clear()
    for name in names:
        pool.execute(MachineAction(f"w-{name}", None))
    assert eventually(lambda: machines.booting_max == 2)
    assert all(pool.status()[f"w-{name}"].busy for name in names)
    assert len(machines.calls) == 2

    machines.may_boot.set()

    assert eventually(lambda: len(machines.calls) == 6)


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
    """A running machine is unhealthy only if its heartbeat was lost; a booting one has none yet."""
    pool, machines = make("a")
    machines.state["a"], machines.heartbeat["a"] = state, heartbeat

    assert eventually(lambda: pool.status()["w-a"].state is seen)


def test_stuck_transition_is_unhealthy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is stuck in Stopping or paused does not recover by itself."""
    monkeypatch.setattr(controller, "STUCK_AFTER_S", 0.0)
    pool, machines = make("a")
    machines.state["a"] = PowerState.CHANGING

    assert eventually(lambda: pool.status()["w-a"].state is MachineState.UNHEALTHY)


def test_stale_status_is_unknown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the hypervisor does not answer, the states of its machines are unknown; the note contains the error."""
    pool, machines = make("a")
    machines.error = MachineError("hv1", "no answer in time", Trouble.UNREACHABLE)
    monkeypatch.setattr(controller, "STALE_AFTER_S", 0.0)

    assert eventually(lambda: "no answer in time" in pool.status()["w-a"].note)
    assert pool.status()["w-a"].state is MachineState.UNKNOWN


def test_failed_action_allows_next_action(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged in one line, and the machine accepts the next action."""
    pool, machines = make("a")

    def refuse(_name: str) -> None:
        raise MachineError("a", "the guest refused", Trouble.GUEST_REFUSED)

    machines.restart_agent = refuse  # type: ignore[method-assign]
    pool.execute(MachineAction("w-a", RecoveryAction.RESTART_AGENT))
    assert becomes_idle(pool, "w-a")

    assert "w-a: restart_agent: a: the guest refused" in caplog.text


@pytest.mark.parametrize(
    ("action", "down"), [(RecoveryAction.POWER_CYCLE, ["w-a"]), (RecoveryAction.RESTART_AGENT, [])]
)
def test_power_cycle_reports_machine_down(make: Make, action: RecoveryAction, down: list[str]) -> None:
    """The host closes its connection to that machine; a restart of the agent leaves it open."""
    reported: list[str] = []
    pool, _machines = make("a", on_down=reported.append)
    pool.execute(MachineAction("w-a", action))
    assert becomes_idle(pool, "w-a")

    assert reported == down


def test_evidence_is_saved_before_restore(make: Make, tmp_path: Path) -> None:
    """Machine state, screenshot and the host's data of the worker; if saving fails, the machine is restored anyway."""
    pool, machines = make("a")
    known = WorkerEvidence(state="recovering", reason="its agent was silent", held=("g1-1.1.1-0",), heartbeat=None)
    pool.execute(MachineAction("w-a", RecoveryAction.RESTORE, known))
    assert becomes_idle(pool, "w-a")

    (folder,) = (tmp_path / "evidence").iterdir()
    assert orjson.loads((folder / "machine.json").read_bytes())["name"] == "a"
    assert (folder / "screen.png").read_bytes() == b"a picture"
    assert orjson.loads((folder / "worker.json").read_bytes()) == {
        "state": "recovering",
        "reason": "its agent was silent",
        "held": ["g1-1.1.1-0"],
        "heartbeat": None,
    }

    machines.screenshot = lambda _name: (_ for _ in ()).throw(OSError("disk full"))  # type: ignore[method-assign]
    pool.execute(MachineAction("w-a", RecoveryAction.RESTORE))
    assert becomes_idle(pool, "w-a")
    assert machines.calls.count(("restore", "a")) == 2


def test_closed_controller_starts_no_machine(make: Make) -> None:
    """A machine whose boot is still queued when the host ends stays off."""
    pool, machines = make("a", "b", booting_max=1)
    machines.may_boot.clear()
    pool.execute(MachineAction("w-a", None))
    assert eventually(lambda: machines.calls == [("start", "a")])
    pool.execute(MachineAction("w-b", None))

    pool.close()

    assert becomes_idle(pool, "w-b")
    assert machines.calls == [("start", "a")]
    assert machines.closed


def test_pools_dispatch_by_worker(make: Make) -> None:
    """Each worker's action goes to the pool of its machine."""
    pool, machines = make("a")
    other, other_machines = make("b")
    pools = MachinePools({"w-a": pool, "w-b": other})

    assert pools.status().keys() == {"w-a", "w-b"}
    pools.execute(MachineAction("w-b", RecoveryAction.RESTART_AGENT))
    assert eventually(lambda: other_machines.calls == [("restart_agent", "b")])
    assert machines.calls == []
