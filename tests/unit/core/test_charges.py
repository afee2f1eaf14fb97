"""Who pays, as stories: a genome that fails or kills, and the many that only happened to be there."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import RecoveryAction, Settlement
from pipeline.core.limits import Limits
from pipeline.core.observation import MachineState, MachineStatus
from tests.harness.core_table import SETTINGS, Table, named, replace_struct

pytestmark = pytest.mark.rules

# ---------------------------------------------------------------------------------------------- the genome's fault


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_failing_genome_is_given_up_after_attempts_max(outcome: Outcome) -> None:
    """failed or timed out three times: settled with that outcome, without a fitness, with its reason."""
    table = Table(genomes=1)
    table.settle_in()
    for _ in range(3):
        (attempt,) = [a for w in table.farm.workers.values() for a in w.wanted]
        table.answer(attempt, outcome, reason="no such level")
        table.tick()
    trial = table.farm.genomes[0].trials[0]
    assert trial.settlement == outcome
    assert (trial.fitness, trial.reason) == (None, "no such level")
    assert len({attempt.worker for attempt in trial.attempts}) == 2, "a retry prefers a worker that has not tried it"


def test_a_time_out_may_have_a_score() -> None:
    """With timed_out_fitness set, a trial that times out to the end is settled with that fitness."""
    table = Table(genomes=1, settings=replace_struct(SETTINGS, timed_out_fitness=-5.0))
    table.settle_in()
    for _ in range(3):
        (attempt,) = [a for w in table.farm.workers.values() for a in w.wanted]
        table.answer(attempt, Outcome.TIMED_OUT)
        table.tick()
    assert table.farm.genomes[0].fitness == -5.0


def test_one_failed_trial_skips_the_others_of_its_genome() -> None:
    """No fitness can come of the genome any more, so its open trials are skipped and taken back; others go on."""
    table = Table(genomes=2, trials=3, limits=Limits(attempts_max=1))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].open_attempt
    assert first is not None
    table.answer(first.id, Outcome.FAILED)
    table.tick()
    assert table.settlements()[:3] == [Settlement.FAILED, Settlement.SKIPPED, Settlement.SKIPPED]
    table.play_all()
    assert table.settlements()[3:] == [Settlement.COMPLETED] * 3


# ------------------------------------------------------------------------------------------------------------ poison


def test_poison_needs_two_workers_if_there_are_two() -> None:
    """Three interruptions on two workers: the genome is poison, its worker is forgiven, the neighbour not charged."""
    table = Table("w0", "w1", genomes=2, limits=Limits(losses_max=3))
    table.settle_in()
    poison = table.farm.genomes[0].trials[0]
    for _ in range(3):
        attempt = poison.open_attempt
        assert attempt is not None
        table.answer(attempt.id, Outcome.INTERRUPTED)
        table.tick()
    assert poison.settlement is Settlement.FAILED
    assert "poison" in poison.reason
    assert all(worker.losses == 0 for worker in table.farm.workers.values())
    assert table.farm.genomes[1].charges == []


def test_a_genome_is_not_charged_twice_for_one_attempt() -> None:
    """Lost and charged, then the restarted agent says `interrupted` as well: one charge."""
    table = Table("w0", "w1", genomes=1, limits=Limits(grace_s=10))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.claim(first.worker)
    table.run(90, step=5)
    assert first.charged
    table.answer(first.id, Outcome.INTERRUPTED)
    table.tick()
    assert len(table.farm.genomes[0].charges) == 1


def test_a_trial_is_given_up_after_too_many_losses() -> None:
    """Nothing waits for ever: losses that are nobody's in particular have their own cap."""
    limits = Limits(losses_per_trial_max=4, losses_max=4, claim_limit_s=2, back_off_s=1)
    table = Table("w0", "w1", "w2", genomes=1, limits=limits)
    table.settle_in()
    table.run(60)
    trial = table.farm.genomes[0].trials[0]
    assert trial.settlement is Settlement.FAILED
    assert "gave up after 4 lost attempts" in trial.reason


def test_a_genome_that_turns_out_poison_ends_what_else_of_it_is_overdue() -> None:
    """Two of its games are overdue in the same sweep; the first makes it poison, which ends the second."""
    table = Table("w0", genomes=1, trials=4, limits=Limits(attempts_max=1, grace_s=10))
    table.settle_in()
    held = {table.claim("w0"), table.claim("w0")}

    table.run(72)

    outcomes = [table.farm.attempts[attempt].outcome for attempt in held]
    assert sorted(str(outcome) for outcome in outcomes) == ["lost", "withdrawn"]


# -------------------------------------------------------------------------------------- a claim, and whose fault it was


def test_a_claim_that_shows_after_an_outage_charges_its_genome() -> None:
    """Its machine was restarted while nobody could say what it did; then a claim stands there without a result."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.machines = {name: MachineStatus(MachineState.RUNNING, (RecoveryAction.REBOOT,)) for name in ("w0", "w1")}
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    share = table.shares[first.worker]
    share.unknown = "network down"
    table.run(90)
    assert (first.outcome, first.charged) == (Outcome.LOST, False)
    assert [action.recovery for action in table.orders] == [RecoveryAction.REBOOT]

    share.unknown = ""
    table.claim_by_name(first)
    table.tick()

    assert first.charged


def test_an_agent_that_says_so_itself_is_believed() -> None:
    """Lost on a share that could not be read; then the restarted agent reports `interrupted`: charged, once."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.outage(first.worker, 40)
    table.answer(first.id, Outcome.INTERRUPTED)

    facts = table.tick() + table.tick()

    assert [fact.attempt for fact in named(facts, f.ResultLate)] == [first.id]
    assert [fact.attempt for fact in named(facts, f.GenomeCharged)] == [first.id]


def test_half_cleaned_files_charge_nobody() -> None:
    """A claim that is still there when its result was collected and removed is no unfinished game."""
    table = Table("w0", "w1", genomes=1)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.shares[first.worker].beating = False
    table.run(40)
    assert first.outcome is Outcome.LOST
    table.answer(first.id, Outcome.FAILED)
    assert named(table.tick(), f.ResultLate) != []

    table.shares[first.worker].results.clear()
    table.claim_by_name(first)
    table.tick()

    assert not first.charged


def test_a_claim_of_what_was_taken_back_charges_nobody() -> None:
    """Only what was lost may be charged."""
    table = Table("w0", genomes=1)
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.state(f.AttemptEnded(attempt=held.id, outcome=Outcome.WITHDRAWN, by_host=True))
    table.claim_by_name(held)

    facts = table.tick(full=False)

    assert named(facts, f.GenomeCharged) == []


def test_a_claim_that_crosses_the_hosts_verdict_charges_nobody() -> None:
    """Lost because nobody claimed it; its agent claims it in the moment before its start signal is removed."""
    table = Table("w0", "w1", genomes=2, limits=Limits(claim_limit_s=5))
    table.settle_in()
    facts = table.run(7)
    (lost, *_) = [fact.attempt for fact in named(facts, f.AttemptEnded) if fact.outcome is Outcome.LOST]
    table.claim_by_name(table.farm.attempts[lost])

    facts = table.tick()

    assert named(facts, f.GenomeCharged) == []


def test_poison_leaves_the_fitness_of_a_finished_trial() -> None:
    """Its open trials fail; what was played before stays what it was."""
    table = Table("w0", genomes=1, trials=3, limits=Limits(attempts_max=1))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.answer(first.id)
    table.tick()

    table.answer(table.farm.genomes[0].trials[1].attempts[0].id, Outcome.INTERRUPTED)
    table.tick()

    assert table.settlements() == [Settlement.COMPLETED, Settlement.FAILED, Settlement.FAILED]


def test_a_failure_leaves_the_fitness_of_a_finished_trial() -> None:
    """The others are skipped, the finished one keeps its fitness."""
    table = Table("w0", genomes=1, trials=3, depth=1, limits=Limits(attempts_max=1))
    table.settle_in()
    table.answer(table.farm.genomes[0].trials[0].attempts[0].id)
    table.tick()

    table.answer(table.farm.genomes[0].trials[1].attempts[0].id, Outcome.FAILED)
    table.tick()

    assert table.settlements() == [Settlement.COMPLETED, Settlement.FAILED, Settlement.SKIPPED]
