"""A genome that is reopened: its trials begin anew, and nothing of its earlier attempts counts any more."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.limits import Limits
from pipeline.core.model import IllegalFact
from pipeline.core.runs import reopening_facts
from pipeline.views.results import summary
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules

NEW_BYTES = "a" * 64


def reopened(genome: int = 1, sha256: str = NEW_BYTES) -> f.GenomeReopened:
    return f.GenomeReopened(genome=genome, size_bytes=5, sha256=sha256)


def finished(trials: int = 1) -> CoreHarness:
    """Two genomes that were counted."""
    core = CoreHarness("w0", "w1", genomes=2, trials=trials)
    core.play_all()
    return core


def given_up() -> tuple[CoreHarness, str]:
    """A genome that failed because the only attempt at it was lost, and that attempt."""
    core = CoreHarness("w0", genomes=1, limits=Limits(losses_per_trial_max=1, losses_max=1))
    core.run_until_ready()
    attempt = core.claim("w0")
    core.shares["w0"].sends_heartbeats = False
    while core.settlements() == [None]:
        core.tick(1.0)
    core.shares["w0"].sends_heartbeats = True
    assert core.settlements() == [Settlement.FAILED]
    return core, attempt


def test_reopened_genome_alone_is_played_again() -> None:
    """With the same seeds, new attempt ids and its new bytes; the other genome keeps its fitness."""
    core = finished(trials=2)
    before = dict(core.farm.attempts)
    seeds = [trial.seed for trial in core.farm.genomes[0].trials]

    core.record(reopened())
    assert (core.farm.finished, core.farm.open_trials, core.farm.genomes[0].fitness) == (False, 2, None)
    core.play_all()

    new = [attempt for attempt in core.farm.attempts.values() if attempt.id not in before]
    assert [(a.trial.genome.number, a.number, a.superseded) for a in new] == [(1, 2, False), (1, 2, False)]
    assert [trial.seed for trial in core.farm.genomes[0].trials] == seeds
    assert {core.farm.echo(attempt).genome_sha256 for attempt in new} == {NEW_BYTES}
    assert [core.farm.attempts[a].superseded for a in before] == [a.trial.genome.number == 1 for a in before.values()]
    assert core.farm.settled[Settlement.COMPLETED] == 4
    counts = summary(core.farm)
    assert (counts["completed"], counts["duplicated"], counts["attempts_superseded"]) == (2, 0, 2)


def test_result_of_a_superseded_attempt_never_counts() -> None:
    """It was lost, and its result arrives when the genome is open again, although the bytes are the same."""
    core, attempt = given_up()
    core.record(reopened(sha256=f"{1:064x}"))
    core.publish_result(attempt)

    facts = core.tick()

    assert [(fact.attempt, fact.reason) for fact in facts_of(facts, f.ResultLate)] == [
        (attempt, "its genome was reopened")
    ]
    assert core.farm.genomes[0].fitness is None
    assert core.farm.open_trials == 1


def test_superseded_attempt_charges_nothing() -> None:
    """Other bytes took that worker down."""
    core, attempt = given_up()
    core.record(reopened())
    core.publish_result(attempt, Outcome.INTERRUPTED)

    facts = core.tick()

    assert facts_of(facts, f.ResultLate)
    assert not facts_of(facts, f.GenomeCharged)
    assert core.farm.genomes[0].charges == ()


def test_failures_before_do_not_count() -> None:
    """A genome that failed has all its tries again, and no trial of it is held back."""
    core = CoreHarness("w0", "w1", genomes=1, trials=2)
    core.run_until_ready()
    for _ in range(20):
        for worker in ("w0", "w1"):
            for attempt in list(core.farm.workers[worker].wanted):
                if attempt in core.shares[worker].starts:
                    core.publish_result(attempt, Outcome.FAILED, reason="no")
        core.tick()
    assert set(core.settlements()) == {Settlement.FAILED, Settlement.SKIPPED}

    core.record(reopened())

    assert [(trial.blamed, trial.losses, trial.is_held_back) for trial in core.farm.genomes[0].trials] == [
        (0, 0, False),
        (0, 0, False),
    ]
    assert reopening_facts(core.farm) == []
    core.play_all()
    assert core.farm.genomes[0].fitness == 1.0


def test_metrics_and_evaluators_of_reopened_genomes_are_not_counted() -> None:
    """The tables have no column for a metric that only superseded attempts have."""
    core = finished()
    for genome in (1, 2):
        assert core.farm.counts.evaluators
        core.record(reopened(genome))

    assert (core.farm.counts.evaluators, core.farm.counts.metrics) == ({}, {})


def test_genome_with_an_open_attempt_cannot_be_reopened() -> None:
    """What was issued for other bytes is withdrawn first."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()

    with pytest.raises(IllegalFact, match="genome_reopened in state assigned"):
        core.record(reopened())


def test_restarted_host_knows_what_is_superseded() -> None:
    core = finished()
    core.record(reopened())
    core.restart_host()

    assert [attempt.superseded for attempt in core.farm.genomes[0].trials[0].attempts] == [True]
    assert core.farm.genomes[0].sha256 == NEW_BYTES


def test_genome_that_is_open_is_reopened_with_new_bytes() -> None:
    """A command that was killed is given again after the file was changed once more."""
    core = finished()
    core.record(reopened())
    assert core.farm.open_trials == 1

    core.record(reopened(sha256="b" * 64))

    assert core.farm.open_trials == 1
    assert core.farm.genomes[0].sha256 == "b" * 64
    core.play_all()
    assert core.settlements() == [Settlement.COMPLETED] * 2
