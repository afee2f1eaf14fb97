"""Failures, losses and charges: when a genome is settled without a fitness, and when it is charged."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import RecoveryAction, Settlement
from pipeline.core.limits import Limits
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.worker_actions import exclude
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_genome_fails_after_failures_max(outcome: Outcome) -> None:
    """After two failures or timeouts: with that outcome and its reason, without a fitness."""
    core = CoreHarness(genomes=1)
    core.run_until_ready()
    for _ in range(2):
        (attempt,) = [a for w in core.farm.workers.values() for a in w.wanted]
        core.publish_result(attempt, outcome, reason="no such level")
        core.tick()
    trial = core.farm.genomes[0].trials[0]
    assert trial.settlement is Settlement(outcome)
    assert (trial.fitness, trial.reason) == (None, "no such level")
    assert len({attempt.worker for attempt in trial.attempts}) == 2, "a retry prefers a worker that has not tried it"


@pytest.mark.parametrize(
    ("outcome", "new_process"),
    [
        (Outcome.FAILED, True),
        (Outcome.TIMED_OUT, True),
        (Outcome.INTERRUPTED, False),
        (Outcome.UNDELIVERED, False),
    ],
)
def test_retry_needs_new_process_after_failure_only(outcome: Outcome, new_process: bool) -> None:
    """What an earlier game left in a process may be the cause of a failure; a loss is no failure of the game."""
    core = CoreHarness(genomes=1)
    core.run_until_ready()
    (first,) = core.farm.attempts.values()

    core.publish_result(first.id, outcome)
    core.tick()

    _, second = core.farm.attempts.values()
    assert (first.new_process, second.new_process) == (False, new_process)


def test_timed_out_trial_gets_timed_out_fitness() -> None:
    """If `timed_out_fitness` is set and all attempts time out."""
    core = CoreHarness(genomes=1, settings=replace_struct(SETTINGS, timed_out_fitness=-5.0))
    core.run_until_ready()
    for _ in range(2):
        (attempt,) = [a for w in core.farm.workers.values() for a in w.wanted]
        core.publish_result(attempt, Outcome.TIMED_OUT)
        core.tick()
    assert core.farm.genomes[0].fitness == -5.0


def test_failed_trial_skips_other_trials_of_genome() -> None:
    """The genome can get no fitness any more, so its open trials are skipped; other genomes continue."""
    core = CoreHarness(genomes=2, trials=3, limits=Limits(failures_max=1))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].open_attempt
    assert first is not None
    core.publish_result(first.id, Outcome.FAILED)
    core.tick()
    assert core.settlements()[:3] == [Settlement.FAILED, Settlement.SKIPPED, Settlement.SKIPPED]
    core.play_all()
    assert core.settlements()[3:] == [Settlement.COMPLETED] * 3


# ------------------------------------------------------------------------------------------------------------ poison


def test_poison_needs_losses_on_two_workers() -> None:
    """After three interruptions on two workers the genome is settled, and its workers' losses are reset."""
    core = CoreHarness("w0", "w1", genomes=2, limits=Limits(losses_max=3))
    core.run_until_ready()
    poison = core.farm.genomes[0].trials[0]
    for _ in range(3):
        attempt = poison.open_attempt
        assert attempt is not None
        core.publish_result(attempt.id, Outcome.INTERRUPTED)
        core.tick()
    assert poison.settlement is Settlement.FAILED
    assert "poison" in poison.reason
    assert all(worker.losses == 0 for worker in core.farm.workers.values())
    assert core.farm.genomes[1].charges == ()


def test_genome_is_poison_when_only_the_worker_it_took_down_is_left() -> None:
    """It took one worker down three times and could not be tried by the other one, which is excluded now."""
    core = CoreHarness("w0", "w1", genomes=1, trials=3, limits=Limits(losses_max=9))
    core.run_until_ready()
    genome = core.farm.genomes[0]
    while len(genome.charges) < 3:
        on_first = [attempt for attempt in core.farm.workers["w0"].wanted.values() if attempt.outcome is None]
        core.publish_result(on_first[0].id, Outcome.INTERRUPTED)
        core.tick()
    assert genome.trials[0].settlement is None

    tx = core.decide([], sweep=False)
    exclude(tx, core.farm.workers["w1"], "its share belongs to another farm", withdrawal="w1 is out")

    assert core.settlements() == [Settlement.FAILED] * 3
    assert "poison" in genome.trials[0].reason
    assert core.farm.workers["w0"].losses == 0


def test_attempt_is_charged_once() -> None:
    """It was lost and charged before the restarted agent reports `interrupted`."""
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(grace_s=10))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.claim(first.worker)
    core.run(90, step=5)
    assert first.charged
    core.publish_result(first.id, Outcome.INTERRUPTED)
    core.tick()
    assert len(core.farm.genomes[0].charges) == 1


def test_trial_fails_after_losses_per_trial_max() -> None:
    """Losses without a charge are limited as well."""
    limits = Limits(losses_per_trial_max=4, losses_max=4, claim_limit_s=2, back_off_s=1)
    core = CoreHarness("w0", "w1", "w2", genomes=1, limits=limits)
    core.run_until_ready()
    core.run(60)
    trial = core.farm.genomes[0].trials[0]
    assert trial.settlement is Settlement.FAILED
    assert "gave up after 4 lost attempts" in trial.reason


def test_poison_ends_other_overdue_attempts_of_genome() -> None:
    """Two of its games are overdue in the same sweep; the first makes it poison, which ends the second."""
    core = CoreHarness("w0", genomes=1, trials=4, limits=Limits(attempts_max=1, grace_s=10))
    core.run_until_ready()
    held = {core.claim("w0"), core.claim("w0")}

    core.run(72)

    outcomes = [core.farm.attempts[attempt].outcome for attempt in held]
    assert sorted(str(outcome) for outcome in outcomes) == ["lost", "withdrawn"]


def test_interruption_by_stopped_agent_is_not_charged() -> None:
    """An administrator restarts agents: no game is the cause, however often that happens to one genome."""
    core = CoreHarness("w0", "w1", "w2", genomes=1)
    core.run_until_ready()
    trial = core.farm.genomes[0].trials[0]
    for _ in range(4):
        attempt = trial.open_attempt
        assert attempt is not None
        core.publish_result(attempt.id, Outcome.INTERRUPTED, agent_stopped=True)
        core.tick()

    assert (trial.losses, core.farm.genomes[0].charges) == (4, ())
    core.play_all()
    assert core.settlements() == [Settlement.COMPLETED]


def test_late_interruption_by_stopped_agent_is_not_charged() -> None:
    """It was lost on an unreadable share, where its agent was stopped meanwhile."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.outage(first.worker, 40)

    core.publish_result(first.id, Outcome.INTERRUPTED, agent_stopped=True)
    core.tick()

    assert core.farm.genomes[0].charges == ()


# -------------------------------------------------------------------------------------------------------------- claims


def test_claim_without_result_after_outage_is_charged() -> None:
    """Its machine was restarted during the outage; afterwards the share shows a claim without a result."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.machines = {name: MachineStatus(MachineState.RUNNING, (RecoveryAction.REBOOT,)) for name in ("w0", "w1")}
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    share = core.shares[first.worker]
    share.unknown = "network down"
    core.run(90)
    assert (first.outcome, first.charged) == (Outcome.LOST, False)
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.REBOOT]

    share.unknown = ""
    core.claim_by_name(first)
    core.tick()

    assert first.charged


def test_interrupted_result_after_outage_is_charged_once() -> None:
    """It was lost on an unreadable share; then the restarted agent reports `interrupted`."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.outage(first.worker, 40)
    core.publish_result(first.id, Outcome.INTERRUPTED)

    facts = core.tick() + core.tick()

    assert [fact.attempt for fact in facts_of(facts, f.ResultLate)] == [first.id]
    assert [fact.attempt for fact in facts_of(facts, f.GenomeCharged)] == [first.id]


def test_claim_of_collected_result_is_not_charged() -> None:
    """Its result was collected and removed before the claim, so the game is finished."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.shares[first.worker].sends_heartbeats = False
    core.run(40)
    assert first.outcome is Outcome.LOST
    core.publish_result(first.id, Outcome.FAILED)
    assert facts_of(core.tick(), f.ResultLate) != []

    core.shares[first.worker].results.clear()
    core.claim_by_name(first)
    core.tick()

    assert not first.charged


def test_claim_of_withdrawn_attempt_is_not_charged() -> None:
    """Only lost attempts may be charged."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.record(f.AttemptEnded(attempt=held.id, outcome=Outcome.WITHDRAWN, by_host=True))
    core.claim_by_name(held)

    facts = core.tick(full=False)

    assert facts_of(facts, f.GenomeCharged) == []


def test_claim_after_claim_limit_is_not_charged() -> None:
    """It was lost unclaimed; its agent claims it just before the start signal is removed."""
    core = CoreHarness("w0", "w1", genomes=2, limits=Limits(claim_limit_s=5))
    core.run_until_ready()
    facts = core.run(7)
    (lost, *_) = [fact.attempt for fact in facts_of(facts, f.AttemptEnded) if fact.outcome is Outcome.LOST]
    core.claim_by_name(core.farm.attempts[lost])

    facts = core.tick()

    assert facts_of(facts, f.GenomeCharged) == []


def test_poison_keeps_fitness_of_completed_trial() -> None:
    """Only its open trials fail."""
    core = CoreHarness("w0", genomes=1, trials=3, limits=Limits(attempts_max=1))
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.publish_result(first.id)
    core.tick()

    core.publish_result(core.farm.genomes[0].trials[1].attempts[0].id, Outcome.INTERRUPTED)
    core.tick()

    assert core.settlements() == [Settlement.COMPLETED, Settlement.FAILED, Settlement.FAILED]


def test_failure_keeps_fitness_of_completed_trial() -> None:
    """The open trials are skipped."""
    core = CoreHarness("w0", genomes=1, trials=3, depth=1, limits=Limits(failures_max=1))
    core.run_until_ready()
    core.publish_result(core.farm.genomes[0].trials[0].attempts[0].id)
    core.tick()

    core.publish_result(core.farm.genomes[0].trials[1].attempts[0].id, Outcome.FAILED)
    core.tick()

    assert core.settlements() == [Settlement.COMPLETED, Settlement.FAILED, Settlement.SKIPPED]
