"""The order of things within a tick that no share in memory shows: reports that come in while others are acted on."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.core.facts import (
    AttemptEnded,
    EpochOpened,
    EpochRaised,
    Fact,
    HostStopped,
    RecoveryAction,
    ResultLate,
    ResultUnexpected,
    WorkerOut,
)
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult, MachineStatus, ShareScan
from pipeline.core.runs import closing_facts
from pipeline.errors import HostError, LedgerError
from pipeline.host.control_loop import ControlLoop
from pipeline.shares.share_client import ShareRequest, ShareResponse
from tests.harness.core_table import CoreHarness


class ScriptedExecutor:
    """Couriers as a script: some are away, and some reports come in as soon as anything is sent."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.sent: list[ShareRequest] = []
        self.on_the_way: list[ShareResponse] = []

    def is_busy(self, worker: str) -> bool:
        return worker in self.away

    def submit(self, request: ShareRequest) -> None:
        self.sent.append(request)
        self.away.add(request.worker)

    def completed(self) -> list[ShareResponse]:
        arrived = self.on_the_way if self.sent else []
        self.on_the_way = [] if self.sent else self.on_the_way
        self.away -= {response.worker for response in arrived}
        return arrived

    def timed_out(self) -> list[ShareScan]:
        return []


class NoMachines:
    """No machines."""

    def status(self) -> Mapping[str, MachineStatus]:
        return {}

    def execute(self, name: str, action: RecoveryAction | None) -> None: ...


class MemorySnapshots:
    """Snapshots that nobody reads."""

    def path(self, sha256: str) -> str:
        return f"/snapshots/{sha256}"


class MemoryLedger:
    """A ledger and an archive whose disk may be full."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.archived: dict[str, bytes] = {}
        self.full = ""  #: which of the two
        self.known: set[str] = set()  #: attempts that were issued in another generation

    def append(self, facts: list[Fact], at: float, generation: int, run: int) -> None:
        if self.full == "ledger":
            raise LedgerError("disk full")
        self.facts += facts

    def store(self, worker: str, result: CollectedResult) -> None:
        if self.full == "archive":
            raise OSError(28, "No space left on device")
        self.archived[result.attempt] = result.data

    def has_issued(self, attempt: str) -> bool:
        return attempt in self.known

    def has_collected(self, attempt: str) -> bool:
        return False

    def set_aside(self, worker: str, result: CollectedResult, reason: str) -> None: ...


def loop_over(core: CoreHarness, post: ScriptedExecutor, books: MemoryLedger | None = None) -> ControlLoop:
    parts: Any = {"executor": post, "machines": NoMachines(), "snapshots": MemorySnapshots(), "ledger": books}
    loop = ControlLoop(farm=core.farm, limits=Limits(), queues=core.queues, clock=lambda: core.now, **parts)
    loop.observed, loop.archive = core.watch, books  # type: ignore[assignment]
    return loop


def test_response_between_two_actions_does_not_publish_twice() -> None:
    """What was planned for a share while its courier was away is out of date as soon as the courier is back."""
    table = CoreHarness("vm-0", "vm-1", genomes=2)
    table.run_until_ready()
    for seen in table.watch.workers.values():
        seen.delivered.clear()  # as if both were just about to be published
    post = ScriptedExecutor()
    (other,) = table.farm.workers["vm-1"].wanted
    post.away.add("vm-1")  # it is publishing already, and will have said so in a moment
    post.on_the_way = [ShareResponse(worker="vm-1", sent={other: True})]
    loop = loop_over(table, post)

    loop.reconcile_shares()

    assert [request.worker for request in post.sent] == ["vm-0"]
    assert other in table.watch.workers["vm-1"].delivered


def test_postponed_scan_runs_in_tick_of_response() -> None:
    """Its bell rang while it was away: nobody would wake the loop for it later."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    post = ScriptedExecutor()
    loop = loop_over(table, post)
    loop.tick()  # the first look of all
    assert [request.full for request in post.sent] == [True]
    loop.notify("vm-0")
    post.on_the_way = [ShareResponse(worker="vm-0")]

    loop.tick()

    assert [request.scan for request in post.sent] == [True, True]


def test_pending_action_precedes_next_scan() -> None:
    """Its courier was away when something was to be done; looks alone would keep it away for ever."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    table.watch.workers["vm-0"].delivered.clear()  # as if it were just about to be published
    post = ScriptedExecutor()
    loop = loop_over(table, post)
    loop.tick()  # the first look of all; what is to be published waits
    loop.request_poll()
    post.on_the_way = [ShareResponse(worker="vm-0")]

    loop.tick()

    assert [(request.scan, bool(request.publish)) for request in post.sent] == [(True, False), (False, True)]


def test_actions_and_scans_alternate() -> None:
    """A courier slower than the sweep owes something whenever it comes back; without looks that would never end."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    table.watch.workers["vm-0"].delivered.clear()  # as if it were about to be published, and nobody can tell whether
    post = ScriptedExecutor()
    loop = loop_over(table, post)
    for back in (False, False, True) * 4:
        post.on_the_way = [ShareResponse(worker="vm-0")] if back else []
        loop.request_poll()
        loop.request_sweep()
        loop.tick()

    assert [request.scan for request in post.sent] == [True, False, True, False, True]


def answered(core: CoreHarness, post: ScriptedExecutor, worker: str = "vm-0") -> str:
    """A result lies in the share, and is about to be seen."""
    (attempt,) = core.farm.workers[worker].wanted
    core.publish_result(attempt)
    post.on_the_way = [ShareResponse(worker=worker, scan=core.scan(worker))]
    return attempt


@pytest.mark.parametrize("full", ["ledger", "archive"])
def test_failed_commit_records_nothing_more(full: str) -> None:
    """What it has decided is not in the ledger, and whatever it built on that could never be replayed."""
    table = CoreHarness("vm-0", genomes=2, depth=1)
    table.run_until_ready()
    post, books = ScriptedExecutor(), MemoryLedger()
    loop = loop_over(table, post, books)
    answered(table, post)
    books.full = full
    loop.notify("vm-0")
    with pytest.raises(HostError, match=r"full|No space"):
        loop.tick()
    books.full, sent = "", len(post.sent)

    loop.record_last([HostStopped(reason="ended")])
    with pytest.raises(HostError, match="run again"):
        loop.tick()
    with pytest.raises(HostError, match="run again"):
        loop.record([HostStopped(reason="ended")])

    assert (books.facts, len(post.sent)) == ([], sent)


def test_host_stop_records_last_facts_and_cleans_shares() -> None:
    """What its local workers held is taken back, on the record and then on their shares."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    (held,) = table.farm.workers["vm-0"].wanted
    post, books = ScriptedExecutor(), MemoryLedger()
    loop = loop_over(table, post, books)

    loop.record_last(closing_facts(table.farm, ["vm-0"], "ended"))

    assert [type(fact) for fact in books.facts] == [AttemptEnded, HostStopped]
    assert [request.remove for request in post.sent] == [(held,)]


def test_share_of_excluded_worker_is_not_scanned() -> None:
    """Its worker is out, and nothing of it would be taken in: hands off means eyes off."""
    table = CoreHarness("vm-0", "vm-1", genomes=1)
    table.run_until_ready()
    table.record(WorkerOut(worker="vm-0", reason="hands off"))
    post = ScriptedExecutor()
    loop = loop_over(table, post)

    loop.tick()

    assert [request.worker for request in post.sent] == ["vm-1"]


def test_response_from_previous_generation_is_late() -> None:
    """A report comes in, and before the next tick another generation is begun: its result is late, and no stranger."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    post, books = ScriptedExecutor(), MemoryLedger()
    loop = loop_over(table, post, books)
    loop.tick()
    attempt = answered(table, post)
    books.known = {attempt}
    loop.reconcile_shares()  # takes the report in
    farm = Farm(table.farm.farm_id, ["vm-0"])
    for fact, at in table.facts:
        if isinstance(fact, EpochRaised | EpochOpened):
            farm.evolve(fact, at)
    loop.switch_farm(farm)

    facts = loop.tick()

    assert [type(fact) for fact in facts if isinstance(fact, ResultLate | ResultUnexpected)] == [ResultLate]


def test_scan_carries_its_request_time() -> None:
    """However late its report comes in: what happened to a machine meanwhile it does not show."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    post = ScriptedExecutor()
    loop = loop_over(table, post, MemoryLedger())
    loop.tick()
    asked_at = table.watch.time
    table.now += 5
    loop.tick()
    post.on_the_way = [ShareResponse(worker="vm-0", scan=table.scan("vm-0"))]

    loop.tick()

    seen = table.watch.workers["vm-0"]
    assert (seen.seen_alive_requested_at, seen.seen_alive_at) == (asked_at, asked_at + 5)


def test_failed_request_is_retried_at_next_sweep() -> None:
    """A share that refuses answers at once: asked again at once, it would have the loop do nothing else."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    post = ScriptedExecutor()
    loop = loop_over(table, post)
    loop.tick()  # the first look of all
    post.on_the_way = [ShareResponse(worker="vm-0", error="inbox/x.genome: somebody has it open")]
    loop.tick()
    loop.wait(0)

    assert loop.wait(0) is False
    loop.tick()
    assert [request.scan for request in post.sent] == [True]
    loop.request_sweep()
    loop.tick()
    assert [request.scan for request in post.sent] == [True, True]


def test_unreadable_share_is_not_polled_fast() -> None:
    """It says so at once, and what was published there stays unconfirmed for as long."""
    table = CoreHarness("vm-0", genomes=1)
    table.run_until_ready()
    table.watch.workers["vm-0"].unconfirmed = set(table.farm.workers["vm-0"].wanted)
    loop = loop_over(table, ScriptedExecutor())
    assert loop.workers_to_poll_fast() == {"vm-0"}

    table.outage("vm-0", 1)

    assert loop.workers_to_poll_fast() == set()
