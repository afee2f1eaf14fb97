"""The order of steps within a tick: responses that arrive while requests are submitted, and failed commits."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.core.facts import (
    AttemptEnded,
    EpochOpened,
    EpochRaised,
    HostStopped,
    ResultLate,
    ResultUnexpected,
    WorkerOut,
)
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.core.runs import closing_facts
from pipeline.core.share_problems import FLOODED, in_words
from pipeline.errors import HostError
from pipeline.shares.share_client import ShareResponse
from tests.fakes.ports import MemoryArchive, MemoryLedger, workers_of
from tests.harness.control_loop import LoopHarness
from tests.harness.core import CoreHarness, facts_of


def test_response_between_two_actions_does_not_publish_twice() -> None:
    """An action that was planned while its share was busy is out of date once the response has arrived."""
    core = CoreHarness("vm-0", "vm-1", genomes=2)
    core.run_until_ready()
    for seen in core.observed.workers.values():
        seen.delivered.clear()  # as if both were just about to be published
    harness = LoopHarness(core)
    (other,) = core.farm.workers["vm-1"].wanted
    harness.executor.busy.add("vm-1")  # it is publishing, and its response arrives in a moment
    harness.executor.arriving = [ShareResponse(worker="vm-1", sent={other: True})]

    harness.loop.reconcile_shares()

    assert workers_of(harness.executor.submitted) == ["vm-0"]
    assert other in core.observed.workers["vm-1"].delivered


def test_postponed_scan_runs_in_tick_of_response() -> None:
    """Its notification arrived while the share was busy; no other wake-up would follow."""
    harness = LoopHarness.ready()
    harness.loop.tick()  # the first scan
    assert harness.full_scans() == [True]
    harness.wakeups.notify("vm-0")
    harness.executor.arriving = [ShareResponse(worker="vm-0")]

    harness.loop.tick()

    assert harness.full_scans() == [True, False]


def test_new_run_scans_shares_that_rest() -> None:
    """No timer is due, and nothing has arrived: the run would wait for fresh heartbeats until the share is polled."""
    harness = LoopHarness.ready()
    harness.loop.tick()
    harness.executor.arriving = [ShareResponse(worker="vm-0")]
    harness.loop.tick()
    assert harness.full_scans() == [True]

    harness.loop.poll_all()
    harness.loop.tick()

    assert harness.full_scans() == [True, True]


def test_share_of_machine_at_rest_is_not_scanned() -> None:
    """It is off; also in the next generation, whose observed state is new."""
    harness = LoopHarness.ready()
    harness.loop.observed.workers["vm-0"].at_rest = True
    harness.loop.tick()
    harness.loop.switch_farm(Farm(harness.core.farm.farm_id, ["vm-0"]))
    harness.loop.tick()

    assert harness.full_scans() == []
    assert harness.loop.observed.workers["vm-0"].at_rest


def test_machine_that_is_saved_with_work_of_reopened_generation_is_not_at_rest() -> None:
    """Its worker holds an attempt there, which no trial that waits would wake it for."""
    harness = LoopHarness.ready()
    harness.loop.observed.workers["vm-0"].at_rest = True
    harness.loop.switch_farm(harness.core.farm)

    assert not harness.loop.observed.workers["vm-0"].at_rest


def test_pending_action_precedes_next_scan() -> None:
    """The share was busy when the action was planned; scans alone would keep it busy for ever."""
    harness = LoopHarness.ready()
    harness.core.observed.workers["vm-0"].delivered.clear()  # as if it were just about to be published
    harness.loop.tick()  # the first scan; the publication waits
    harness.wakeups.request_poll()
    harness.executor.arriving = [ShareResponse(worker="vm-0")]

    harness.loop.tick()

    assert harness.kinds() == ["scan", "publish"]


def test_actions_and_scans_alternate() -> None:
    """A share that answers more slowly than the sweep always has an action pending; it is scanned all the same."""
    harness = LoopHarness.ready()
    harness.core.observed.workers["vm-0"].delivered.clear()  # as if it were to be published, and never confirmed
    for answers in (False, False, True) * 4:
        harness.executor.arriving = [ShareResponse(worker="vm-0")] if answers else []
        harness.wakeups.request_poll()
        harness.wakeups.request_sweep()
        harness.loop.tick()

    assert harness.kinds() == ["scan", "publish", "scan", "publish", "scan"]


@pytest.mark.parametrize("full", ["ledger", "archive"])
def test_failed_commit_records_nothing_more(full: str) -> None:
    """The decisions of that tick are not in the ledger, and facts that build on them could never be replayed."""
    core = CoreHarness("vm-0", genomes=2, depth=1)
    core.run_until_ready()
    ledger, archive = MemoryLedger(), MemoryArchive()
    harness = LoopHarness(core, ledger=ledger, archive=archive)
    harness.result_arrives()
    ledger.full, archive.full = full == "ledger", full == "archive"
    harness.wakeups.notify("vm-0")
    with pytest.raises(HostError, match=r"full|No space"):
        harness.loop.tick()
    ledger.full, archive.full, submitted = False, False, len(harness.executor.submitted)

    harness.loop.record_last([HostStopped(reason="ended")])
    with pytest.raises(HostError, match="run again"):
        harness.loop.tick()
    with pytest.raises(HostError, match="run again"):
        harness.loop.record([HostStopped(reason="ended")])

    assert (ledger.facts, len(harness.executor.submitted)) == ([], submitted)


def test_result_is_archived_before_it_is_recorded() -> None:
    """One that is recorded and not archived could never be collected again."""
    core = CoreHarness("vm-0", genomes=1)
    core.run_until_ready()
    ledger, archive = MemoryLedger(), MemoryArchive()
    harness = LoopHarness(core, ledger=ledger, archive=archive)
    attempt = harness.result_arrives()
    ledger.full = True
    with pytest.raises(HostError):
        harness.loop.tick()

    assert (attempt in archive.stored, ledger.facts) == (True, [])


class CountingArchive(MemoryArchive):
    """An archive that counts the results of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def store(self, generation: int, results: Sequence[tuple[str, CollectedResult]]) -> None:
        self.calls.append(len(results))
        super().store(generation, results)


def test_results_of_a_tick_are_archived_in_one_call() -> None:
    """One write for all of them, and none in a tick without results."""
    core = CoreHarness("vm-0", "vm-1", genomes=2, depth=1)
    core.run_until_ready()
    archive = CountingArchive()
    harness = LoopHarness(core, archive=archive)
    collected, arriving = set[str](), list[ShareResponse]()
    for worker in ("vm-0", "vm-1"):
        collected.add(harness.result_arrives(worker))
        arriving += harness.executor.arriving
    harness.executor.arriving = arriving
    harness.loop.tick()
    harness.wakeups.request_sweep()
    harness.loop.tick()

    assert (archive.calls, set(archive.stored)) == ([2], collected)


class LockedArchive(MemoryArchive):
    """An archive whose file another program has open, on Windows."""

    def store(self, generation: int, results: Sequence[tuple[str, CollectedResult]]) -> None:
        raise PermissionError(13, "Permission denied", "results.jsonl")


def test_archive_that_cannot_be_written_says_what_to_do() -> None:
    """Not to free space on a disk that is not full."""
    core = CoreHarness("vm-0", genomes=1)
    core.run_until_ready()
    harness = LoopHarness(core, archive=LockedArchive())
    harness.result_arrives()

    with pytest.raises(HostError, match=r"'results.jsonl'; make it writable, close what has it open, and run again"):
        harness.loop.tick()


def test_host_stop_records_last_facts_and_cleans_shares() -> None:
    """What its local workers held is withdrawn, in the ledger and then on their shares."""
    core = CoreHarness("vm-0", genomes=1)
    core.run_until_ready()
    (held,) = core.farm.workers["vm-0"].wanted
    ledger = MemoryLedger()
    harness = LoopHarness(core, ledger=ledger)

    harness.loop.record_last(closing_facts(core.farm, ["vm-0"], "ended"))

    assert [type(fact) for fact in ledger.facts] == [AttemptEnded, HostStopped]
    assert harness.executor.submitted == [ShareAction("vm-0", remove=(held,))]


def test_share_of_excluded_worker_is_not_scanned() -> None:
    """No result of it would be accepted."""
    core = CoreHarness("vm-0", "vm-1", genomes=1)
    core.run_until_ready()
    core.record(WorkerOut(worker="vm-0", reason="its share belongs to another farm"))
    harness = LoopHarness(core)

    harness.loop.tick()

    assert workers_of(harness.executor.submitted) == ["vm-1"]


def test_response_from_previous_generation_is_late() -> None:
    """A response arrives, and another generation is begun before the next tick: its result is late, not unexpected."""
    core = CoreHarness("vm-0", genomes=1)
    core.run_until_ready()
    ledger = MemoryLedger()
    ledger.append([fact for fact, _at in core.facts], 0.0, 1, 1)
    harness = LoopHarness(core, ledger=ledger)
    harness.loop.tick()
    harness.result_arrives()
    harness.loop.reconcile_shares()  # receives the response
    farm = Farm(core.farm.farm_id, ["vm-0"])
    for fact, at in core.facts:
        if isinstance(fact, EpochRaised | EpochOpened):
            farm.evolve(fact, at)
    harness.loop.switch_farm(farm)

    facts = harness.loop.tick()

    assert [type(fact) for fact in facts if isinstance(fact, ResultLate | ResultUnexpected)] == [ResultLate]


def test_result_that_is_being_judged_is_not_read_again() -> None:
    """A scan that is requested meanwhile would fetch its artifacts into the folder that they are archived from."""
    harness = LoopHarness.ready()
    harness.loop.tick()
    attempt = harness.result_arrives()
    harness.wakeups.notify("vm-0")

    harness.loop.tick()

    first, again = (request for request in harness.executor.submitted if isinstance(request, ScanRequest))
    assert attempt not in first.handled
    assert attempt in again.handled


def test_fetched_artifacts_of_judged_results_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a result that is ignored: here its worker is out."""
    archive, removed = MemoryArchive(), list[tuple[str, str]]()
    monkeypatch.setattr(archive, "discard", lambda worker, attempt: removed.append((worker, attempt)))
    core = CoreHarness("vm-0", genomes=1)
    core.run_until_ready()
    harness = LoopHarness(core, archive=archive)
    harness.loop.tick()
    attempt = harness.result_arrives()
    (response,) = harness.executor.arriving
    assert response.scan is not None
    results = tuple(replace(result, artifacts=("replay",)) for result in response.scan.results)
    harness.executor.arriving = [replace(response, scan=replace(response.scan, results=results))]
    core.record(WorkerOut(worker="vm-0", reason="its share belongs to another farm"))
    harness.wakeups.wake()
    harness.loop.reconcile_shares()

    assert facts_of(harness.loop.tick(), AttemptEnded) == []

    assert removed == [("vm-0", attempt)]


def test_flooded_share_is_told_once_and_its_notifications_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """It is scanned at the next poll, so a flood of notifications takes no time from other shares."""
    harness = LoopHarness.ready()
    core, unknown = harness.core, Limits().unknown_results_max
    harness.loop.tick()
    for number in range(unknown + 5):
        attempt = f"g0001-0001-t1-a7-{number:012d}"
        core.shares["vm-0"].results[attempt] = CollectedResult(attempt=attempt, record=None)
    harness.executor.arriving = [ShareResponse(worker="vm-0", scan=core.scan("vm-0"))]
    facts = harness.loop.tick()
    assert len(facts_of(facts, ResultUnexpected)) == unknown
    scans = len(harness.full_scans())

    harness.executor.arriving = [ShareResponse(worker="vm-0", scan=core.scan("vm-0"))]
    harness.wakeups.notify("vm-0")
    assert facts_of(harness.loop.tick(), ResultUnexpected) == []
    assert len(harness.full_scans()) == scans
    harness.wakeups.request_poll()
    harness.loop.tick()

    assert len(harness.full_scans()) == scans + 1
    assert [record.getMessage() for record in caplog.records] == [f"vm-0: {in_words(FLOODED)}"]


def test_scan_carries_its_request_time() -> None:
    """A late response does not show what happened to a machine after its request."""
    harness = LoopHarness.ready()
    core = harness.core
    harness.loop.tick()
    requested_at = core.observed.time
    core.now += 5
    harness.loop.tick()
    harness.executor.arriving = [ShareResponse(worker="vm-0", scan=core.scan("vm-0"))]

    harness.loop.tick()

    seen = core.observed.workers["vm-0"]
    assert (seen.seen_alive_requested_at, seen.seen_alive_at) == (requested_at, requested_at + 5)


def test_failed_request_is_retried_at_next_sweep() -> None:
    """A share that refuses responds at once; an immediate retry would keep the loop busy."""
    harness = LoopHarness.ready()
    harness.loop.tick()  # the first scan
    harness.executor.arriving = [ShareResponse(worker="vm-0", error="inbox/x.genome: another process has it open")]
    harness.loop.tick()
    harness.wakeups.wait(0)

    assert harness.wakeups.wait(0) is False
    harness.loop.tick()
    assert harness.kinds() == ["scan"]
    harness.wakeups.request_sweep()
    harness.loop.tick()
    assert harness.kinds() == ["scan", "scan"]


def test_inbox_that_cannot_be_written_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Until it can: each attempt would say it again."""
    harness = LoopHarness.ready()
    problem = "inbox/ cannot be written: access denied"
    for written in (problem, problem, None, problem, "", problem):
        error = f"inbox/{len(caplog.messages)}.genome: access denied" if written else ""
        harness.executor.arriving = [ShareResponse(worker="vm-0", error=error, write_problem=written)]
        harness.loop.tick()
        assert harness.core.observed.workers["vm-0"].write_problem == (problem if written is None else written)

    assert caplog.messages == [f"vm-0: {problem}"] * 2


def test_unreadable_share_is_not_polled_fast() -> None:
    """Its publications stay unconfirmed for as long, and each scan would fail at once."""
    harness = LoopHarness.ready()
    harness.core.observed.workers["vm-0"].unconfirmed = set(harness.core.farm.workers["vm-0"].wanted)
    assert harness.loop.workers_to_poll_fast() == {"vm-0"}

    harness.core.outage("vm-0", 1)

    assert harness.loop.workers_to_poll_fast() == set()


def test_full_scan_asks_for_sizes_of_unconfirmed_publications() -> None:
    """A quick scan does not: it covers `outbox/` only."""
    harness = LoopHarness.ready()
    (attempt,) = harness.core.farm.workers["vm-0"].wanted
    harness.core.observed.workers["vm-0"].unconfirmed = {attempt}
    harness.loop.tick()

    (request,) = harness.executor.submitted
    assert isinstance(request, ScanRequest)
    assert (request.full, set(request.expected_sizes)) == (True, {attempt})
