"""Share ownership, epochs and uncertain publications: laws 3, 4 and 7."""

import pytest

from inbox_agent.protocol.layout import HostRecord, Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Fact, RecoveryAction
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from tests.harness.core import CoreHarness, FakeShare, facts_of

pytestmark = pytest.mark.rules


def test_first_contact_opens_epoch_1() -> None:
    """On an empty share epoch 1 is recorded, published and confirmed by a scan."""
    core = CoreHarness("w0")
    core.run_until_ready()
    assert (core.farm.workers["w0"].epoch, core.farm.workers["w0"].epoch_open) == (1, True)
    assert core.shares["w0"].owner == HostRecord(farm="f00d", worker="w0", epoch=1)


def test_silence_starts_when_epoch_is_published() -> None:
    """Its `host.json` took half a minute to arrive; the silence limit starts then (seed 1351)."""
    core = CoreHarness("w0", machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    share = core.shares["w0"]
    share.sends_heartbeats = False
    core.tick()
    share.unknown = "no answer"
    core.run(29)
    share.unknown = ""

    core.run(29)
    assert core.machine_actions == []
    core.run(3)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]


def test_missing_start_signal_raises_epoch() -> None:
    """Only the host deletes in `inbox/`, so the share was reverted; its attempts are lost without charges."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    held = list(core.farm.workers["w0"].wanted.values())
    core.shares["w0"].starts.clear()
    core.tick()
    assert core.farm.workers["w0"].epoch == 2
    assert {attempt.outcome for attempt in held} == {Outcome.LOST}
    assert not any(attempt.charged for attempt in held)
    for _ in range(2):
        core.tick()
    core.play_all()


def test_new_epoch_does_not_charge_old_claims() -> None:
    """The scan that shows the revert also shows the claims."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    claimed = core.farm.attempts[core.claim("w0")]
    core.tick()
    core.shares["w0"].damaged_epoch = 1

    facts = core.tick()

    assert claimed.outcome is Outcome.LOST
    assert not any(isinstance(fact, f.GenomeCharged) for fact in facts)
    assert core.farm.workers["w0"].epoch == 2


def test_host_record_write_is_retried_in_same_epoch() -> None:
    """The share's disk is full, so the published record is empty; no epoch is raised, and the silence limit applies."""
    core = CoreHarness("w0", machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    share = core.shares["w0"]
    share.sends_heartbeats = False
    facts = []
    for _ in range(40):
        facts += core.tick(1.0)
        share.damaged_epoch = 1

    assert [fact.epoch for fact in facts if isinstance(fact, f.EpochRaised)] == [1]
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]


def test_new_epoch_does_not_charge_left_published_attempts() -> None:
    """Lost while the share was unreadable; the first scan afterwards shows that it was reverted."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    left = core.farm.genomes[0].trials[0].attempts[0]
    share = core.shares[left.worker]
    core.claim_by_name(left)
    share.unknown = "network down"
    core.run(40)
    assert left.left_published
    share.unknown, share.counter = "", 0

    core.tick()

    assert core.farm.workers[left.worker].epoch == 2
    assert not left.charged


def test_trial_runs_alone_after_unexplained_loss() -> None:
    """If the share does not show which attempt was running, each lost trial runs alone next."""
    core = CoreHarness("w0", genomes=3)
    core.run_until_ready()
    core.shares["w0"].starts.clear()
    for _ in range(3):
        core.tick()
    (attempt,) = core.farm.workers["w0"].wanted.values()
    assert attempt.run_alone


def test_older_host_record_raises_epoch() -> None:
    """The share shows epoch 1 after epoch 2 was published: it was reverted."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.shares["w0"].starts.clear()
    for _ in range(2):
        core.tick()
    core.shares["w0"].owner = HostRecord(farm="f00d", worker="w0", epoch=1)
    core.tick()
    assert core.farm.workers["w0"].epoch == 3


def test_decreasing_heartbeat_counter_raises_epoch() -> None:
    """The counter of one run only increases."""
    core = CoreHarness("w0")
    core.run_until_ready()
    core.shares["w0"].counter -= 2
    core.tick()
    assert core.farm.workers["w0"].epoch == 2


def test_returning_run_raises_epoch_and_alternating_runs_quarantine() -> None:
    """Runs A, B, A are a checkpoint with memory; A, B, A, B are two agents on one share."""
    core = CoreHarness("w0")
    core.run_until_ready()
    share = core.shares["w0"]
    share.run_id = "run-2"
    core.tick()
    assert core.farm.workers["w0"].epoch == 1
    share.run_id = "run-1"
    core.tick()
    assert core.farm.workers["w0"].epoch == 2
    for run_id in ("run-2", "run-1", "run-2", "run-1"):
        share.run_id = run_id
        core.tick()
        core.tick()
    assert core.state("w0") is WorkerState.QUARANTINED
    assert "two agents" in core.farm.workers["w0"].reason


def test_share_without_host_record_is_unknown() -> None:
    """If `host.json` is missing, the share is not mounted or was emptied; its emptiness means nothing."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.shares["w0"].owner = None
    core.shares["w0"].starts.clear()
    core.shares["w0"].no_folders = True
    assert core.run(5) == []
    assert core.farm.workers["w0"].epoch == 1


@pytest.mark.parametrize(
    "owner",
    [
        HostRecord(farm="another", worker="w0", epoch=1),
        HostRecord(farm="f00d", worker="w1", epoch=1),
        HostRecord(farm="f00d", worker="w0", epoch=9),
    ],
)
def test_worker_with_foreign_share_is_excluded(owner: HostRecord) -> None:
    """Another farm's, another worker's, or one with a newer epoch; the share is not changed."""
    core = CoreHarness("w0", "w2", genomes=2)
    core.run_until_ready()
    core.shares["w0"].owner = owner
    before = set(core.shares["w0"].starts)
    core.tick()
    assert core.state("w0") is WorkerState.OUT
    assert "pipeline take-over w0" in core.farm.workers["w0"].reason
    assert core.shares["w0"].starts == before
    core.play_all()


@pytest.mark.parametrize(
    "owner", [HostRecord(farm="f00d", worker="w0", epoch=1), HostRecord(farm="another", worker="w1", epoch=1)]
)
def test_results_in_foreign_share_are_ignored(owner: HostRecord) -> None:
    """Two shares may be mounted in each other's place; the results count on their own share later."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.run_until_ready()
    (wanted,) = core.farm.workers["w0"].wanted.values()
    core.shares["w1"].owner = owner
    core.shares["w1"].results[wanted.id] = CollectedResult(attempt=wanted.id, record=core.result_record(wanted))

    facts = core.tick()

    assert [type(fact) for fact in facts] == [f.WorkerOut]
    assert wanted.outcome is None


def test_unknown_start_signal_excludes_worker() -> None:
    """A second host or an older ledger is in use; the share is not touched."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.shares["w0"].unknown_starts.add("g0001-0001-t1-a1-zzzzzzzzzzzz")
    core.tick()
    assert core.state("w0") is WorkerState.OUT


def test_missing_start_signal_counts_only_after_it_was_listed() -> None:
    """Its absence shows a revert only if an earlier listing has shown it."""
    core = CoreHarness("w0", genomes=1)
    share = core.shares["w0"]
    while not share.starts:
        core.tick()
    published, share.starts = share.starts, set()

    facts = core.tick()
    assert facts_of(facts, f.EpochRaised) == []

    share.starts = set(published)
    core.tick()
    share.starts = set()
    assert facts_of(core.tick(), f.EpochRaised) != []


def test_unconfirmed_publication_is_decided_by_next_listing() -> None:
    """If it is incomplete, its id is not used again and the trial gets a new attempt; else it was published."""
    core = CoreHarness("w0", genomes=1)
    core.publish_fails = True
    core.run_until_ready()
    core.publish_fails = False
    core.tick()
    core.tick()
    outcomes = [attempt.outcome for attempt in core.farm.genomes[0].trials[0].attempts]
    assert outcomes[0] is Outcome.UNDELIVERED
    assert outcomes[-1] is None
    core.play_all()


def test_complete_publication_of_dead_host_is_not_repeated() -> None:
    """After a restart every publication is unconfirmed; the first listing shows that this one is complete."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (attempt,) = core.farm.attempts

    core.restart_host()
    core.run_until_ready()

    assert list(core.farm.attempts) == [attempt]
    core.play_all()


def test_withdrawn_unconfirmed_publication_is_forgotten() -> None:
    """It does not matter whether it arrived."""
    core = CoreHarness("w0", genomes=1)
    core.publish_fails = True
    core.run_until_ready()
    (attempt,) = core.farm.workers["w0"].wanted.values()
    core.record(f.AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, by_host=True))
    core.publish_fails = False

    core.tick()

    assert attempt.outcome is Outcome.WITHDRAWN
    core.play_all()


# --------------------------------------------------------------------------------------------------- damaged host.json


def test_damaged_own_host_record_raises_epoch() -> None:
    """A power loss may destroy the content of the newest one; the next epoch replaces it."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.shares["w0"].damaged_epoch = 1

    core.tick()

    assert core.farm.workers["w0"].epoch == 2
    core.run_until_ready()
    core.play_all()


def test_damaged_foreign_host_record_excludes_worker() -> None:
    """Its epoch is newer than the ledger's, so another host wrote it."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.shares["w0"].damaged_epoch = 7

    core.tick()

    assert core.state("w0") is WorkerState.OUT
    assert "never wrote" in core.farm.workers["w0"].reason


def test_raised_epoch_is_published_by_next_host() -> None:
    """The host was killed before the publication; the older epoch on the share is no revert."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    older = core.shares["w0"].owner
    core.record(f.EpochRaised(worker="w0", epoch=2, reason="the share was reverted"))
    core.restart_host()
    core.shares["w0"].owner = older

    core.tick()

    assert core.farm.workers["w0"].epoch == 2
    assert core.shares["w0"].owner == HostRecord(farm="f00d", worker="w0", epoch=2)


def test_share_without_folders_is_not_written_before_epoch_opens() -> None:
    """The epoch is not open and the folders are gone; the share may be unmounted."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.record(f.EpochRaised(worker="w0", epoch=2, reason="the share went back in time"))
    core.shares["w0"].owner, core.shares["w0"].no_folders = None, True

    core.tick()

    assert core.shares["w0"].owner is None
    assert core.observed.workers["w0"].unknown == "the folders are gone"

    core.shares["w0"].no_folders = False
    core.tick()

    assert core.shares["w0"].owner == HostRecord(farm="f00d", worker="w0", epoch=2)


def test_empty_share_after_ordered_restore_raises_epoch() -> None:
    """The host ordered the restore, so it expects no `host.json`."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.run_until_ready()
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (), reverted=True)
    core.shares["w0"] = FakeShare()

    core.run_until_ready()

    assert core.farm.workers["w0"].epoch == 2
    core.play_all()


def test_restore_confirmed_between_scans_is_remembered() -> None:
    """Machines are queried more often than shares are scanned, and report a restore only once."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.run_until_ready()
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (), reverted=True)
    core.tick(scan=False)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, ())
    core.shares["w0"] = FakeShare()

    core.run_until_ready()

    assert core.farm.workers["w0"].epoch == 2


# ---------------------------------------------------------------------------------------- back in time, again and again


def patient(reverts_max: int) -> Limits:
    """Limits by which lost attempts alone have no consequence."""
    return Limits(reverts_max=reverts_max, losses_max=1000, losses_per_trial_max=1000)


def fall(core: CoreHarness, times: int) -> list[Fact]:
    """Lets the heartbeat counter of `w0` fall, again and again; returns all facts."""
    found: list[Fact] = []
    for _ in range(times):
        core.shares["w0"].counter = 0
        for _ in range(4):  # a new epoch, its `host.json`, and a heartbeat that is above the one that follows
            found += core.tick(0.01)
    return found


def test_worker_whose_counter_falls_again_and_again_is_quarantined() -> None:
    """Each epoch is a fact and a file: none begins before the probation, and then only one."""
    core = CoreHarness("w0", limits=patient(5))
    core.run_until_ready()

    facts = fall(core, 50)

    assert len(facts_of(facts, f.EpochRaised)) == 6
    assert core.state("w0") is WorkerState.QUARANTINED
    assert core.farm.workers["w0"].reason == (
        "its share went back in time 6 times; the last: the heartbeat counter fell from 4 to 1; "
        "find out what restores or rewrites it"
    )
    core.run(16)
    assert core.state("w0") is WorkerState.PROBATION
    facts = fall(core, 50)
    assert len(facts_of(facts, f.EpochRaised)) == 1
    (quarantined,) = facts_of(facts, f.WorkerQuarantined)
    assert quarantined.back_off_s == 2 * core.limits.back_off_s


@pytest.mark.parametrize("gone", ["start signals", "host.json", "damaged host.json", "runs in turn"])
def test_every_kind_of_revert_is_bounded(gone: str) -> None:
    """Whatever a guest removes, damages or repeats in its share."""
    core = CoreHarness("w0", genomes=4, limits=patient(5))
    core.run_until_ready()
    share = core.shares["w0"]

    found: list[Fact] = []
    for number in range(60):
        share.run_id = f"run-{number % 2}" if gone == "runs in turn" else "run"
        share.damaged_epoch = core.farm.workers["w0"].epoch if gone == "damaged host.json" else 0
        if gone == "start signals":
            share.starts.clear()
        elif gone == "host.json" and share.owner is not None:
            share.owner = HostRecord(farm="f00d", worker="w0", epoch=0)
        for _ in range(4):
            found += core.tick(0.01)
            share.damaged_epoch = 0

    assert core.state("w0") is WorkerState.QUARANTINED
    assert len(facts_of(found, f.EpochRaised)) <= 6


def test_honest_worker_passes_its_probation_after_many_reverts() -> None:
    """Its agent beats in the last epoch during the quarantine, also after its share went back once more."""
    core = CoreHarness("w0", limits=patient(2))
    core.run_until_ready()
    fall(core, 4)
    assert core.state("w0") is WorkerState.QUARANTINED

    core.run(16)
    core.play_all()

    assert core.state("w0") is WorkerState.READY
    assert core.farm.workers["w0"].losses == 0


def test_ordered_restores_are_not_counted() -> None:
    """The share of a restored machine is an older one, by this host's order."""
    core = CoreHarness("w0", limits=patient(1), machines=True)
    core.run_until_ready()

    for _ in range(5):
        core.record(f.RecoveryStarted(worker="w0", action=RecoveryAction.RESTORE, reason="it was stuck"))
        core.shares["w0"].owner = HostRecord(farm="f00d", worker="w0", epoch=0)
        core.run(0.5, step=0.1)

    assert core.farm.workers["w0"].epoch == 6
    assert (core.state("w0"), core.farm.workers["w0"].reverts) == (WorkerState.READY, 0)


def test_restore_that_ends_in_quarantine_begins_epoch() -> None:
    """Its share is an older one by order, however often it went back without."""
    core = CoreHarness("w0", limits=patient(2))
    core.run_until_ready()
    fall(core, 2)
    core.record(f.RecoveryStarted(worker="w0", action=RecoveryAction.RESTORE, reason="it was stuck"))
    worker = core.farm.workers["w0"]
    worker.reverts = 3
    core.record(f.WorkerQuarantined(worker="w0", back_off_s=15.0, reason="it was stuck"))
    core.shares["w0"].owner = HostRecord(farm="f00d", worker="w0", epoch=1)

    tx = core.decide(["w0"])

    assert [fact.epoch for fact in facts_of(tx.facts, f.EpochRaised)] == [worker.epoch]


def test_new_host_forgets_reverts() -> None:
    """The user may have found the cause."""
    core = CoreHarness("w0", limits=patient(2))
    core.run_until_ready()
    fall(core, 2)
    assert core.farm.workers["w0"].reverts == 2

    core.restart_host()

    assert core.farm.workers["w0"].reverts == 0
