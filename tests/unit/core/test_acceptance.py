"""Acceptance of results, lost attempts and deadlines."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import HostRecord, Outcome
from pipeline.core import facts as f
from pipeline.core.facts import RecoveryAction
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules

# ------------------------------------------------------------------------------------------------------------- results


def test_late_result_is_noted_once_and_not_counted() -> None:
    """The attempt was lost and its trial completed elsewhere before its result arrived."""
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.run(8)
    assert first.outcome is Outcome.LOST
    core.publish_result(core.farm.genomes[0].trials[0].attempts[1].id, fitness=2.0)
    core.tick()
    core.publish_result(first.id, fitness=3.0)
    facts = core.tick() + core.tick()
    assert [late.attempt for late in facts_of(facts, f.ResultLate)] == [first.id]
    assert core.farm.genomes[0].fitness == 2.0


def test_late_completed_result_counts_while_trial_is_open() -> None:
    """The attempt that followed it is withdrawn."""
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.run(8)
    assert first.outcome is Outcome.LOST
    core.publish_result(first.id, fitness=3.0)
    core.tick()
    trial = core.farm.genomes[0].trials[0]
    assert (trial.fitness, trial.decided_by) == (3.0, first.id)
    assert trial.attempts[1].outcome is Outcome.WITHDRAWN


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"trial": 2},
        {"genome_sha256": "f" * 64},
        {"farm": "another"},
        {"worker": "w1"},
        {"attempt": "g0001-0001-t1-a9-000000000000"},
    ],
)
def test_result_with_wrong_echo_is_corrupt(fields: dict[str, Any]) -> None:
    """The worker is charged with a loss, and the trial is retried."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    core.publish_result(attempt.id, **fields)
    core.tick()
    assert attempt.outcome is Outcome.CORRUPT
    assert core.farm.workers["w0"].losses == 1
    core.play_all()


def test_result_in_other_workers_share_is_ignored() -> None:
    """A result counts only on the share on which its attempt was published."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    other = next(name for name in core.shares if name != attempt.worker)
    core.shares[other].results[attempt.id] = CollectedResult(attempt=attempt.id, record=core.result_record(attempt))
    core.tick()
    assert attempt.outcome is None
    core.play_all()


def test_result_with_unknown_id_is_unexpected() -> None:
    """It is noted once and not counted."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    known = core.farm.genomes[0].trials[0].attempts[0]
    unknown = "g0001-0001-t1-a7-zzzzzzzzzzzz"
    core.shares["w0"].starts.add(unknown)  # so that the harness does not remove the result
    core.shares["w0"].results[unknown] = CollectedResult(
        attempt=unknown, record=core.result_record(known, attempt=unknown)
    )
    core.observed.workers["w0"].delivered.discard(unknown)
    facts = core.tick(full=False) + core.tick(full=False)
    assert [fact.attempt for fact in facts_of(facts, f.ResultUnexpected)] == [unknown]
    assert core.farm.settled.total() == 0


# ------------------------------------------------------------------------------------------------- silence and loss


def test_silent_worker_loses_running_attempt_and_is_restarted() -> None:
    """Its running attempt is lost and charged, its queued attempt is withdrawn."""
    core = CoreHarness("w0", "w1", genomes=4, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT, RecoveryAction.RESTORE))
    core.run_until_ready()
    playing = core.claim("w0")
    core.tick()
    core.shares["w0"].sends_heartbeats = False
    facts = core.run(40)
    attempt = core.farm.attempts[playing]
    assert attempt.outcome is Outcome.LOST
    assert attempt.charged
    assert (
        next(action.recovery for action in core.machine_actions if action.worker == "w0")
        is RecoveryAction.RESTART_AGENT
    )
    waiting = [fact for fact in facts_of(facts, f.AttemptEnded) if fact.outcome is Outcome.WITHDRAWN]
    assert waiting


def test_short_outage_changes_nothing() -> None:
    """A share that cannot be read is unknown, not empty: no attempt ends, no epoch is raised."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.claim("w0")
    core.tick()
    core.shares["w0"].unknown = "network down"
    assert core.run(20) == []
    core.shares["w0"].unknown = ""
    core.play_all()
    assert all(len(genome.trials[0].attempts) == 1 for genome in core.farm.genomes)


def test_long_outage_leaves_attempts_published_without_charge() -> None:
    """The trial is retried elsewhere, alone; the first of the two results counts."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.claim(first.worker)
    core.tick()
    core.shares[first.worker].unknown = "network down"
    core.run(40)
    assert (first.outcome, first.left_published, first.charged) == (Outcome.LOST, True, False)
    assert core.shares[first.worker].starts == {first.id}
    core.shares[first.worker].unknown = ""
    core.publish_result(first.id, fitness=4.0)
    core.tick()
    assert core.farm.genomes[0].fitness == 4.0


def test_suspended_host_does_not_give_up_attempts() -> None:
    """However long a tick takes, the fair clock advances by at most a quarter of the silence limit."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.claim("w0")
    core.shares["w0"].sends_heartbeats = False
    facts = core.tick(8 * 3600.0)
    assert facts_of(facts, f.AttemptEnded) == []


def test_attempt_beyond_time_limit_and_grace_is_lost() -> None:
    """Its agent sends heartbeats but does not end the game."""
    core = CoreHarness("w0", genomes=1, limits=Limits(grace_s=10))
    core.run_until_ready()
    playing = core.claim("w0")
    core.run(60, step=5)
    assert core.farm.attempts[playing].outcome is None
    core.run(30, step=5)
    assert core.farm.attempts[playing].outcome is Outcome.LOST


def test_result_wins_over_deadline_in_same_tick() -> None:
    """Results are accepted before deadlines are checked."""
    core = CoreHarness("w0", genomes=1, limits=Limits(grace_s=10))
    core.run_until_ready()
    playing = core.claim("w0")
    core.run(65, step=5)
    core.publish_result(playing)
    core.tick(7.0)
    assert core.farm.attempts[playing].outcome is Outcome.COMPLETED


def test_attempt_with_unread_result_is_not_overdue() -> None:
    """Its log is incomplete and is read again at the next scans, without a deadline or a charge."""
    core = CoreHarness("w0", genomes=1, limits=Limits(grace_s=10))
    core.run_until_ready()
    playing = core.claim("w0")
    core.run(65, step=5)
    core.shares["w0"].unread = {playing}
    assert facts_of(core.run(20), f.AttemptEnded) == []
    core.shares["w0"].unread = set()
    core.publish_result(playing)
    core.tick()
    assert core.farm.attempts[playing].outcome is Outcome.COMPLETED


def test_unread_result_of_ended_worker_still_counts() -> None:
    """Its agent ended after publishing; the queued attempts are withdrawn."""
    core = CoreHarness("w0", "w1", genomes=4, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT, RecoveryAction.RESTORE))
    core.run_until_ready()
    playing = core.claim("w0")
    core.tick()
    core.shares["w0"].sends_heartbeats = False
    core.shares["w0"].unread = {playing}
    core.run(40)
    assert set(core.farm.workers["w0"].wanted) == {playing}
    core.shares["w0"].unread = set()
    core.publish_result(playing, fitness=2.0)
    core.tick()
    assert core.farm.attempts[playing].outcome is Outcome.COMPLETED
    assert not core.farm.attempts[playing].charged


def test_unclaimed_attempt_of_idle_worker_is_lost() -> None:
    """Whatever state the agent reports, it must claim the first attempt within the claim limit."""
    core = CoreHarness("w0", genomes=2, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    first, second = core.farm.workers["w0"].wanted.values()
    core.run(7)
    assert (first.outcome, second.outcome) == (Outcome.LOST, None)


def test_claim_limit_starts_at_publication() -> None:
    """The share refused the publication for most of the claim limit."""
    core = CoreHarness("w0", genomes=1, limits=Limits(claim_limit_s=10))
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.observed.note_removed("w0", frozenset({held.id}))  # as it was before anything was sent
    for _ in range(9):
        core.now += 1
        tx = core.decide(["w0"])
        core.facts += [(fact, core.now) for fact in tx.facts]

    core.run(9)
    assert held.outcome is None
    core.run(5)
    assert held.outcome is Outcome.LOST


def test_unpublishable_attempt_is_undelivered() -> None:
    """The share can be read and its agent sends heartbeats, but every publication fails at once."""
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.observed.note_removed(first.worker, frozenset({first.id}))  # as it was before anything was sent
    for _ in range(7):
        core.now += 1
        tx = core.decide([*core.shares])
        core.facts += [(fact, core.now) for fact in tx.facts]

    assert first.outcome is Outcome.UNDELIVERED
    assert "takes nothing" in first.reason


def test_unpublishable_attempt_names_why_its_share_takes_nothing() -> None:
    """The share has refused a publication."""
    core = CoreHarness("w0", genomes=1, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.observed.note_removed("w0", frozenset({first.id}))
    core.observed.note_written("w0", "inbox/ cannot be written: disk full; make room")
    for _ in range(7):
        core.now += 1
        tx = core.decide(["w0"])
        core.facts += [(fact, core.now) for fact in tx.facts]

    assert first.reason == "not published within 5 s: inbox/ cannot be written: disk full"


# ------------------------------------------------------------------------------------------------------ after an outage


def test_left_published_attempt_without_claim_is_released() -> None:
    """When the share can be read again, the start signal is removed and the worker gets work."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.outage(first.worker, 40)

    core.run(3)

    assert core.farm.workers[first.worker].left_published == {}
    assert first.id not in core.shares[first.worker].starts
    core.play_all()


def test_any_result_of_left_published_attempt_frees_worker() -> None:
    """Not only a completed one."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.run_until_ready()
    held = set(core.farm.workers["w0"].wanted)
    core.shares["w0"].unknown = "network down"
    core.run(60)
    assert set(core.farm.workers["w0"].left_published) == held
    core.shares["w0"].unknown = ""
    for attempt in held:
        core.publish_result(attempt, Outcome.FAILED)

    core.run(3)

    assert core.farm.workers["w0"].left_published == {}
    core.play_all()


def test_claimed_left_published_attempt_is_waited_for() -> None:
    """When the share can be read again, it shows the claim; the result counts when it arrives."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.claim_by_name(first)
    core.outage(first.worker, 40)

    core.run(10)
    assert set(core.farm.workers[first.worker].left_published) == {first.id}
    core.publish_result(first.id, fitness=7.0)
    core.tick()

    assert core.farm.genomes[0].fitness == 7.0


# -------------------------------------------------------------------------------- results and claims that do not count


def test_result_of_earlier_run_is_late_once() -> None:
    """The ledger has issued its id in another run of the generation."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    known = core.farm.genomes[0].trials[0].attempts[0]
    older = "g0001-0001-t1-a7-000000000000"
    core.shares["w0"].starts.add(older)
    seen = CollectedResult(attempt=older, record=core.result_record(known, attempt=older), issued_in_other_run=True)
    core.shares["w0"].results[older] = seen

    facts = core.tick(full=False) + core.tick(full=False)

    assert [fact.attempt for fact in facts_of(facts, f.ResultLate)] == [older]
    assert core.farm.settled.total() == 0


def test_result_noted_by_earlier_process_is_not_noted_again() -> None:
    """The ledger contains the fact."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    known = core.farm.genomes[0].trials[0].attempts[0]
    older = "g0001-0001-t1-a7-000000000000"
    seen = CollectedResult(
        attempt=older,
        record=core.result_record(known, attempt=older),
        issued_in_other_run=True,
        collected_in_other_run=True,
    )
    core.shares["w0"].starts.add(older)
    core.shares["w0"].results[older] = seen

    assert core.tick(full=False) == []


def test_collected_result_is_ignored_by_next_host() -> None:
    """It was counted before its host was killed, and its file was not removed."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    core.publish_result(attempt.id, fitness=2.0)
    core.tick()
    share = core.shares["w0"]
    share.starts.add(attempt.id)
    share.results[attempt.id] = CollectedResult(attempt=attempt.id, record=core.result_record(attempt, fitness=2.0))
    core.restart_host()

    facts = core.tick(full=False)

    assert not facts_of(facts, f.AttemptEnded) + facts_of(facts, f.ResultLate)


def test_unknown_layout_of_result_excludes_worker() -> None:
    """The host cannot read its agent's records; its attempts are withdrawn and retried elsewhere."""
    core = CoreHarness("w0", "w1", genomes=3)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    seen = CollectedResult(attempt=first.id, record=None, problem="layout 9, this program knows 1", unknown_layout=True)
    core.shares[first.worker].results[first.id] = seen

    core.tick()

    assert first.outcome is Outcome.REJECTED
    assert core.farm.workers[first.worker].state is WorkerState.OUT
    assert core.farm.workers[first.worker].wanted == {}
    core.play_all()


def test_archived_result_is_the_accepted_one() -> None:
    """Two shares show a result of one attempt in the same tick; the one of its own worker counts."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.run_until_ready()
    (attempt,) = core.farm.workers["w1"].wanted.values()
    core.publish_result(attempt.id, fitness=2.0)
    core.shares["w0"].results[attempt.id] = CollectedResult(
        attempt=attempt.id, record=core.result_record(attempt, fitness=1e9)
    )

    for name in ("w0", "w1"):
        tx = core.decide(workers=[name, *(other for other in core.shares if other != name)])
        worker, seen = tx.results[attempt.id]
        assert worker == "w1"
        assert seen.record is not None
        assert seen.record.fitness == 2.0
        core.restart_host()


def test_unreadable_result_is_corrupt() -> None:
    """The share client has given it up; the worker is charged with a loss, and the trial is retried."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    core.shares["w0"].results[attempt.id] = CollectedResult(attempt=attempt.id, record=None, problem="not JSON")

    core.tick()

    assert (attempt.outcome, attempt.reason) == (Outcome.CORRUPT, "not JSON")
    core.play_all()


def test_irrelevant_claims_are_ignored() -> None:
    """Of an unknown id, of another worker's attempt, of an attempt that is claimed already."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.run_until_ready()
    claimed = core.claim("w0")
    core.tick()
    (other,) = core.farm.workers["w1"].wanted
    core.shares["w0"].starts |= {other, "g0001-0001-t1-a7-zzzzzzzzzzzz"}
    core.shares["w0"].claims |= {other, "g0001-0001-t1-a7-zzzzzzzzzzzz"}

    assert core.tick(full=False) == []
    assert core.farm.attempts[claimed].claimed_at is not None
    assert core.farm.attempts[other].claimed_at is None


def test_results_of_excluded_worker_are_ignored() -> None:
    """They may belong to another farm or have another layout."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted
    core.shares["w0"].owner = HostRecord(farm="another", worker="w0", epoch=1)
    core.tick()
    core.publish_result(held)

    assert core.tick() == []
