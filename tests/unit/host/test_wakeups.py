"""Wake-ups: none is lost, whenever it arrives.

The control loop takes what is due at the start of a tick. A notification or a timer that arrives later in the tick, on
another thread, must lead to another tick that does what was requested.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.requests import ScanRequest
from pipeline.host.wakeups import Due, Wakeups
from pipeline.shares.share_client import ShareResponse
from tests.fakes.ports import MemoryArchive, MemoryLedger, MemoryMachines, ScriptedExecutor
from tests.harness.control_loop import LoopHarness
from tests.harness.core import CoreHarness

#: Each kind of wake-up, and what the next tick takes for it.
KINDS: dict[str, tuple[Callable[[Wakeups], None], Due]] = {
    "notification": (lambda wakeups: wakeups.notify("vm-0"), Due(frozenset({"vm-0"}), poll=False, sweep=False)),
    "poll": (Wakeups.request_poll, Due(frozenset(), poll=True, sweep=False)),
    "sweep": (Wakeups.request_sweep, Due(frozenset(), poll=False, sweep=True)),
    "wake": (Wakeups.wake, Due(frozenset(), poll=False, sweep=False)),
}

#: The phases of a tick, each by the call to a port that belongs to it.
PHASES = {
    "responses are received": (ScriptedExecutor, "completed"),
    "scans are submitted": (ScriptedExecutor, "submit"),
    "machines are queried": (MemoryMachines, "status"),
    "results are archived": (MemoryArchive, "store"),
    "facts are recorded": (MemoryLedger, "append"),
    "actions are executed": (MemoryMachines, "execute"),
}


class LastCall:
    """Calls a function at the last call of one method in a tick, that is, as late in its phase as possible."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.calls = self.fire_at = 0
        self.fire: Callable[[], None] = lambda: None
        original = getattr(owner, method)

        def counted(port: Any, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.fire_at:
                self.fire()
            return original(port, *arguments)

        monkeypatch.setattr(owner, method, counted)


def loop_with_everything_due() -> LoopHarness:
    """A loop whose next tick has something to do in every phase."""
    core = CoreHarness("vm-0", "vm-1", genomes=2, depth=1, machines=True)
    core.run_until_ready()
    restart = (RecoveryAction.RESTART_AGENT,)
    machines = MemoryMachines({"vm-1": MachineStatus(MachineState.OFF, restart, boots=False)})
    harness = LoopHarness(core, ledger=MemoryLedger(), archive=MemoryArchive(), machines=machines)
    harness.result_arrives("vm-0")
    harness.wakeups.request_sweep()
    return harness


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", KINDS)
def test_wakeup_during_tick_leads_to_another_tick(kind: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the loop is doing when it arrives; what was requested is due in that tick."""
    call, due = KINDS[kind]
    probe = LastCall(monkeypatch, *PHASES[phase])
    loop_with_everything_due().loop.tick()
    assert probe.calls, "this phase did not occur"
    probe.calls, probe.fire_at = 0, probe.calls
    harness = loop_with_everything_due()
    harness.wakeups.wait(0)

    def call_on_other_thread() -> None:
        while harness.wakeups.wait(0):  # the tick itself may have requested another one
            pass
        thread = threading.Thread(target=call, args=(harness.wakeups,))
        thread.start()
        thread.join()

    probe.fire = call_on_other_thread
    harness.loop.tick()

    assert harness.wakeups.wait(0)
    assert harness.wakeups.take() == due


def test_wakeup_between_wait_and_tick_is_part_of_that_tick() -> None:
    """It may lead to one more tick, which finds nothing to do."""
    wakeups = Wakeups()
    wakeups.take()
    wakeups.wake()
    assert wakeups.wait(0)
    wakeups.notify("vm-0")

    assert wakeups.take() == Due(frozenset({"vm-0"}), poll=False, sweep=False)
    assert wakeups.wait(0)
    assert wakeups.take() == Due(frozenset(), poll=False, sweep=False)


def test_wait_without_wakeup_times_out() -> None:
    """Then the loop ticks all the same."""
    wakeups = Wakeups()

    assert not wakeups.wait(0)


def test_first_tick_sweeps() -> None:
    """Machines that are off must be started."""
    assert Wakeups().take().sweep


def test_concurrent_notifications_are_all_taken() -> None:
    """A thousand, from eight threads, while they are being taken."""
    wakeups, taken = Wakeups(), set[str]()

    def notify_all(group: int) -> None:
        for number in range(125):
            wakeups.notify(f"vm-{group}-{number}")

    threads = [threading.Thread(target=notify_all, args=(group,)) for group in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken |= wakeups.take().scans
    taken |= wakeups.take().scans

    assert len(taken) == 1000


def test_notified_share_is_scanned_after_its_request_in_progress() -> None:
    """The notification arrived while the share was busy: its scan follows the response."""
    harness = LoopHarness.ready()
    harness.loop.tick()  # the first scan is in progress
    harness.wakeups.wait(0)
    harness.wakeups.notify("vm-0")
    harness.loop.tick()
    assert len(harness.executor.submitted) == 1
    harness.executor.arriving = [ShareResponse(worker="vm-0")]
    harness.wakeups.wake()  # as the executor does with each response
    harness.loop.tick()

    (again,) = harness.executor.submitted[1:]
    assert isinstance(again, ScanRequest)
    assert (again.worker, again.full) == ("vm-0", False)


# ----------------------------------------------------------------------------------------------------------- gathering


class Gathering(threading.Event):
    """Instead of waiting, the loop is notified by another worker."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.during: Callable[[], None] = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        """Notes for how long it would wait."""
        if not self.is_set():
            self.waits.append(timeout)
            self.during()
        return self.is_set()


def test_notifications_of_a_moment_are_taken_together() -> None:
    """The wait that the first one ends is followed by a short one for others."""
    gathering = Gathering()
    wakeups = Wakeups(gathering)
    gathering.during = lambda: wakeups.notify("local-1")
    wakeups.take()
    wakeups.notify("local-0")

    assert wakeups.wait(0, gather_s=0.003)

    assert gathering.waits == [0.003]
    assert wakeups.take().scans == {"local-0", "local-1"}
    assert not wakeups.wait(0), "one tick for both"


@pytest.mark.parametrize("kind", ["poll", "sweep", "wake"])
def test_other_wakeup_is_not_delayed(kind: str) -> None:
    """A timer, a response or a request to stop."""
    call, _due = KINDS[kind]
    gathering = Gathering()
    wakeups = Wakeups(gathering)
    call(wakeups)
    wakeups.notify("local-0")

    assert wakeups.wait(0, gather_s=0.003)

    assert gathering.waits == []
    wakeups.notify("local-0")
    wakeups.wait(0, gather_s=0.003)
    assert gathering.waits == [0.003], "the next results are gathered again"


@pytest.mark.parametrize("kind", ["poll", "sweep", "wake"])
def test_other_wakeup_ends_gathering(kind: str) -> None:
    """It arrives while the loop waits for more results, which would take an hour."""
    call, _due = KINDS[kind]
    wakeups = Wakeups()
    wakeups.notify("local-0")
    thread = threading.Thread(target=call, args=(wakeups,))
    thread.start()

    assert wakeups.wait(0, gather_s=3600)
    thread.join()


def test_nothing_is_gathered_without_wakeup() -> None:
    """The time ran out: the loop ticks at once."""
    gathering = Gathering()

    assert not Wakeups(gathering).wait(0, gather_s=0.003)
    assert gathering.waits == []


def test_nothing_is_gathered_while_workers_wait() -> None:
    """Then a notification starts the next tick at once."""
    gathering = Gathering()
    wakeups = Wakeups(gathering)
    wakeups.notify("local-0")

    assert wakeups.wait(0)
    assert gathering.waits == []
