"""The reasons why a trial is pending, and the texts of `explain`."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import DatedFact, RecoveryAction, Settlement
from pipeline.core.model import Trial, WorkerState
from pipeline.core.pending import PendingReason, pending_reason
from pipeline.views import explain
from pipeline.views.explain import explain_attempt, explain_genome, explain_worker
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules

DEPTH = {"w0": 2, "w1": 2}


def reason_of(core: CoreHarness, trial: Trial, *, playing: bool = True) -> PendingReason:
    return pending_reason(core.farm, trial, DEPTH, playing=playing)


def trial_of(core: CoreHarness, number: int) -> Trial:
    return core.farm.genomes[number - 1].trials[0]


def ready_core(**options: Any) -> CoreHarness:
    core = CoreHarness("w0", **options)
    core.run_until_ready()
    return core


def test_pending_reason_of_queued_trial() -> None:
    """The first in the queue, the others, and after a claim."""
    core = ready_core(genomes=3)
    assert reason_of(core, trial_of(core, 1)) is PendingReason.QUEUED_FIRST
    assert reason_of(core, trial_of(core, 2)) is PendingReason.QUEUED
    core.claim("w0")
    core.tick()

    assert reason_of(core, trial_of(core, 1)) is PendingReason.RUNNING


def test_pending_reason_when_queues_are_full() -> None:
    """With space in a queue the trial is ready."""
    core = ready_core(genomes=3)
    assert reason_of(core, trial_of(core, 3)) is PendingReason.QUEUES_FULL

    assert pending_reason(core.farm, trial_of(core, 3), {"w0": 9}, playing=True) is PendingReason.READY


def test_pending_reason_when_other_worker_is_needed() -> None:
    """The idle worker has failed it, and the other one is busy."""
    core = CoreHarness("w0", "w1", genomes=8)
    core.run_until_ready()
    core.claim("w1")
    for _ in range(20):
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.FAILED)
        core.tick()

    assert {reason_of(core, trial) for trial in core.farm.pending.retries.values()} == {
        PendingReason.NEEDS_OTHER_WORKER
    }


def test_pending_reason_with_recovering_worker() -> None:
    core = ready_core(genomes=3)
    core.record(f.RecoveryStarted(worker="w0", action=RecoveryAction.REBOOT, reason="silent"))

    assert reason_of(core, trial_of(core, 1)) is PendingReason.WORKER_RECOVERING
    assert reason_of(core, trial_of(core, 3)) is PendingReason.NO_WORKER_READY


def test_pending_reason_without_usable_worker() -> None:
    """No share was scanned yet, or every worker is excluded."""
    fresh = CoreHarness("w0", genomes=1)
    assert reason_of(fresh, trial_of(fresh, 1)) is PendingReason.NO_SHARE_READY
    fresh.record(f.WorkerOut(worker="w0", reason="its share belongs to another farm"))

    assert reason_of(fresh, trial_of(fresh, 1)) is PendingReason.ALL_WORKERS_OUT


def test_pending_reason_while_workers_are_drained_or_have_left() -> None:
    """The user has taken them away for a while, or none has joined yet."""
    core = CoreHarness("w0", genomes=1)
    core.record(f.WorkerDrained(worker="w0"))
    assert reason_of(core, trial_of(core, 1)) is PendingReason.ALL_WORKERS_DRAINED
    core.record(f.WorkerLeft(worker="w0", reason="removed"))

    assert reason_of(core, trial_of(core, 1)) is PendingReason.NO_WORKERS


def test_pending_reason_of_run_alone_trial() -> None:
    core = ready_core(genomes=3)
    trial_of(core, 3).run_alone = True
    assert reason_of(core, trial_of(core, 3)) is PendingReason.NEEDS_IDLE_WORKER

    trial_of(core, 1).run_alone = True
    trial_of(core, 3).run_alone = False
    assert reason_of(core, trial_of(core, 3)) is PendingReason.QUEUES_FULL, (
        "nothing is put behind one that is played alone"
    )


def test_probation_queue_holds_one_attempt() -> None:
    core = ready_core(genomes=3)
    core.farm.workers["w0"].state = WorkerState.PROBATION

    assert pending_reason(core.farm, trial_of(core, 3), {"w0": 9}, playing=True) is PendingReason.QUEUES_FULL


def test_worker_that_plays_on_has_no_free_slot() -> None:
    """Its attempt is over for the host, and its game is not."""
    core = ready_core(genomes=3)
    played = core.claim("w0")
    core.tick()
    for attempt in list(core.farm.workers["w0"].wanted):
        end = f.AttemptEnded(
            attempt=attempt,
            outcome=Outcome.WITHDRAWN,
            reason="a second copy is played",
            by_host=True,
            left_published=attempt == played,
        )
        core.record(end)

    assert reason_of(core, trial_of(core, 3)) is PendingReason.QUEUES_FULL


def test_pending_reason_without_host() -> None:
    """Whether it is pending, queued or running."""
    core = ready_core(genomes=3)
    core.claim("w0")
    core.tick()

    assert {reason_of(core, trial_of(core, number), playing=False) for number in (1, 2, 3)} == {PendingReason.NO_HOST}


# ------------------------------------------------------------------------------------------------------------- explain


def test_every_state_has_a_text() -> None:
    """Each outcome, settlement, pending reason, worker state and recovery action has a text of its own."""
    for texts, kind in (
        (explain.OUTCOMES, Outcome),
        (explain.SETTLEMENTS, Settlement),
        (explain.PENDING_REASONS, PendingReason),
        (explain.WORKERS, WorkerState),
        (explain.RECOVERY_ACTIONS, RecoveryAction),
    ):
        assert texts.keys() == set(kind)
        assert len(set(texts.values())) == len(texts)


@pytest.mark.parametrize("outcome", Outcome)
def test_explain_describes_each_outcome(outcome: Outcome) -> None:
    """With the worker, the reason and the duration."""
    core = ready_core(genomes=1)
    (held,) = core.farm.attempts.values()
    claimed, ended = (
        f.AttemptClaimed(attempt=held.id),
        f.AttemptEnded(
            attempt=held.id, outcome=outcome, reason="because\x1b[31m", has_result=True, seconds=2.0, fitness=1.0
        ),
    )
    core.record(claimed, ended)

    text = "\n".join(explain_attempt(core.farm, held, DEPTH, playing=True))

    assert explain.OUTCOMES[outcome] in text
    assert "because [31m" in text and "after 2.0 s" in text
    assert "try 1 at trial 1 of g1" in text


@pytest.mark.parametrize("settlement", Settlement)
def test_explain_genome_lists_fitness_charges_and_trials(settlement: Settlement) -> None:
    """Without a fitness it says why."""
    core = ready_core(genomes=1)
    (held,) = core.farm.attempts.values()
    fitness = 2.5 if settlement is Settlement.COMPLETED else None
    genome = core.farm.genomes[0]
    assert "settled, so it has no fitness yet" in "\n".join(explain_genome(core.farm, genome, DEPTH, playing=True))
    core.record(
        f.AttemptEnded(attempt=held.id, outcome=Outcome.INTERRUPTED),
        f.GenomeCharged(attempt=held.id, genome=1, worker="w0"),
        f.TrialSettled(genome=1, trial=1, settlement=settlement, attempt=held.id, fitness=fitness, reason="enough"),
    )

    text = "\n".join(explain_genome(core.farm, genome, DEPTH, playing=True))

    assert explain.SETTLEMENTS[settlement] in text
    assert ("Its fitness is 2.5" in text) == (fitness is not None)
    assert f"charged with the loss of {held.id} on w0" in text
    assert f"decided by {held.id}: enough" in text


def test_explain_tells_pending_reason_and_next_step() -> None:
    """For a trial that is open."""
    core = ready_core(genomes=3)

    text = "\n".join(explain_genome(core.farm, core.farm.genomes[2], DEPTH, playing=True))

    assert "is open: every worker's queue is full. Next: an attempt ends." in text


def test_explain_names_workers_that_tried_trial() -> None:
    core = ready_core(genomes=1)
    (held,) = core.farm.attempts.values()
    core.record(f.AttemptEnded(attempt=held.id, outcome=Outcome.LOST, reason="silent"))
    core.tick()
    second = list(core.farm.attempts.values())[-1]

    assert f"was tried as {held.id} as well" in "\n".join(explain_attempt(core.farm, second, DEPTH, playing=True))


def test_explain_worker_lists_history_and_state() -> None:
    """Its attempts, what happened to it, its state and the next step."""
    core = ready_core(genomes=3)
    core.claim("w0")
    core.tick()
    first = trial_of(core, 1).open_attempt
    assert first is not None
    before = [DatedFact(at, fact) for fact, at in core.facts]
    assert "Nothing else happened to it." in explain_worker(core.farm, "w0", before[:1])
    live = measure_progress(core.farm, core.observed, core.now)
    text = "\n".join(explain_worker(core.farm, "w0", before, live))
    assert f"It plays trial 1 of g1 as {first.id}." in text and "has in its queue trial 1 of g2" in text

    core.record(
        f.AttemptEnded(attempt=first.id, outcome=Outcome.LOST, reason="silent"),
        f.RecoveryStarted(worker="w0", action=RecoveryAction.RESTORE, reason="its agent was silent"),
        f.WorkerQuarantined(worker="w0", back_off_s=15, reason="3 attempts in a row were lost on it"),
    )
    text = "\n".join(explain_worker(core.farm, "w0", [DatedFact(at, fact) for fact, at in core.facts]))

    assert text.startswith("w0 is quarantined: 3 attempts in a row were lost on it; after its back-off")
    assert "trial 1 of g1: lost: silent" in text
    assert "its machine's clean checkpoint was restored: its agent was silent" in text
    assert "quarantined for 15 s" in text
