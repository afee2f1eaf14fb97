"""Retries after a failure: on which worker, and what becomes of the genome's other trials meanwhile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, Trial, WorkerState
from pipeline.core.pending import PendingReason, pending_reason
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

FAILURES = pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])


def ready_core(*workers: str, genomes: int = 1, trials: int = 3, depth: int = 2) -> CoreHarness:
    core = CoreHarness(*workers, genomes=genomes, trials=trials, depth=depth)
    core.run_until_ready()
    return core


def trial_of(core: CoreHarness, number: int, genome: int = 1) -> Trial:
    return core.farm.genomes[genome - 1].trials[number - 1]


def open_attempt(core: CoreHarness, number: int, genome: int = 1) -> Attempt:
    attempt = trial_of(core, number, genome).open_attempt
    assert attempt is not None
    return attempt


def fail(core: CoreHarness, number: int, outcome: Outcome = Outcome.FAILED) -> list[f.Fact]:
    """A trial of the first genome fails, as its agent reports."""
    core.publish_result(open_attempt(core, number).id, outcome)
    return core.tick()


# ------------------------------------------------------------------------------------------------- the other trials


@FAILURES
def test_queued_trials_of_failed_genome_are_withdrawn(outcome: Outcome) -> None:
    """In the tick of the failure, so that no agent plays them before it is known whether the genome is broken."""
    core = ready_core("w0", depth=3)
    core.claim("w0")

    facts = fail(core, 1, outcome)

    withdrawn = [fact for fact in facts_of(facts, f.AttemptEnded) if fact.by_host]
    assert [(fact.attempt[11:13], fact.outcome) for fact in withdrawn] == [
        ("t2", Outcome.WITHDRAWN),
        ("t3", Outcome.WITHDRAWN),
    ]
    assert {fact.reason for fact in withdrawn} == {"another trial of this genome failed and is tried again first"}
    assert [(fact.trial, fact.number) for fact in facts_of(facts, f.AttemptIssued)] == [(1, 2)]


@FAILURES
def test_broken_genome_costs_two_games(outcome: Outcome) -> None:
    """Its first trial fails twice; the others are skipped without a game."""
    core = ready_core("w0")
    for _ in range(2):
        core.publish_result(core.claim("w0"), outcome)
        core.tick()

    assert core.settlements() == [Settlement(outcome), Settlement.SKIPPED, Settlement.SKIPPED]
    assert len([a for a in core.farm.attempts.values() if a.has_result]) == 2
    assert core.farm.finished


def test_trials_return_when_retry_completes() -> None:
    """The first failure was the worker's: the genome is played to its end."""
    core = ready_core("w0")
    fail(core, 1)
    assert [(t.is_held_back, t.open_attempt is None) for t in core.farm.genomes[0].trials] == [
        (False, False),
        (True, True),
        (True, True),
    ]

    core.play_all()

    assert core.settlements() == [Settlement.COMPLETED] * 3


def test_trial_without_attempts_returns_as_fresh() -> None:
    """It has not been tried, so it is no retry."""
    core = ready_core("w0", depth=1)
    fail(core, 1)
    assert len(core.farm.pending.held_back) == 2

    core.publish_result(core.claim("w0"))
    tx = core.decide(["w0"])
    core.facts += [(fact, core.now) for fact in tx.facts]

    assert (len(core.farm.pending.held_back), len(core.farm.pending.fresh), len(core.farm.pending.retries)) == (0, 1, 0)


def test_claimed_trial_of_failed_genome_is_played_on() -> None:
    """Another worker plays it already; its result counts."""
    core = ready_core("w0", "w1", depth=1)
    core.claim("w1")
    core.tick()
    fail(core, 1)
    assert open_attempt(core, 2).claimed_at is not None

    core.publish_result(open_attempt(core, 2).id)
    core.tick()

    assert trial_of(core, 2).settlement is Settlement.COMPLETED


def test_claim_of_same_tick_is_played_on() -> None:
    """The share of the second worker is scanned after that of the first, and its claim counts all the same."""
    core = ready_core("w0", "w1", depth=1)
    core.claim("w1")

    fail(core, 1)

    assert open_attempt(core, 2).claimed_at is not None


def test_unread_result_of_other_trial_is_waited_for() -> None:
    """It was played, and its result is being read."""
    core = ready_core("w0", "w1", depth=1)
    core.shares["w1"].unread.add(open_attempt(core, 2).id)

    fail(core, 1)

    assert trial_of(core, 2).open_attempt is not None


def test_queued_trial_on_unreadable_share_stays() -> None:
    """Its agent may be playing it; if not, it is lost with its share, and held back then."""
    core = ready_core("w0", "w1", depth=1)
    core.shares["w1"].unknown = "network down"
    core.tick()

    fail(core, 1)

    assert trial_of(core, 2).open_attempt is not None


def test_attempt_of_held_back_trial_is_not_moved() -> None:
    """A worker that is idle would not get it: it would be taken back for nothing."""
    core = ready_core("w0", "w1", "w2", trials=4)
    for name in ("w0", "w1", "w2"):
        core.claim(name)
    core.tick()
    behind = open_attempt(core, 4)
    assert behind.worker == "w0"
    core.shares["w0"].unknown = "network down"
    core.tick()
    fail(core, 2)
    core.shares["w0"].unknown = ""

    core.run(5)

    assert core.farm.workers["w1"].wanted == {}
    assert behind.outcome is None


def test_second_failed_trial_waits_for_the_first() -> None:
    """Both were played at the same time: one retry shows whether the genome is broken."""
    core = ready_core("w0", "w1", depth=1)
    core.claim("w1")
    core.tick()
    fail(core, 1)
    core.publish_result(open_attempt(core, 2).id, Outcome.FAILED)
    core.tick()
    assert (trial_of(core, 2).is_held_back, trial_of(core, 2).open_attempt) == (True, None)
    assert trial_of(core, 1).open_attempt is not None

    core.publish_result(open_attempt(core, 1).id)
    core.tick()

    retry = open_attempt(core, 2)
    assert (retry.worker, retry.new_process) == ("w0", True)
    assert trial_of(core, 3).is_held_back
    core.play_all()


def test_time_outs_with_a_fitness_release_the_other_trials() -> None:
    """A genome that hangs has a fitness then, so its other trials are needed."""
    core = CoreHarness("w0", genomes=1, trials=2, settings=replace_struct(SETTINGS, timed_out_fitness=-5.0))
    core.run_until_ready()
    fail(core, 1, Outcome.TIMED_OUT)
    assert trial_of(core, 2).open_attempt is None

    fail(core, 1, Outcome.TIMED_OUT)

    assert (trial_of(core, 1).fitness, trial_of(core, 2).is_held_back) == (-5.0, False)
    assert trial_of(core, 2).open_attempt is not None


def test_late_completed_result_resolves_the_failure() -> None:
    """The attempt before the failure was given up, and came back completed: the trial needs no retry."""
    core = ready_core("w0", "w1", depth=1)
    first = open_attempt(core, 1)
    core.outage(first.worker, 40)
    core.tick()
    fail(core, 1)
    assert trial_of(core, 3).is_held_back

    core.publish_result(first.id)
    core.tick()

    assert trial_of(core, 1).settlement is Settlement.COMPLETED
    assert not core.farm.pending.held_back


def test_pending_reason_of_held_back_trial() -> None:
    """It is not the queues that it waits for."""
    core = ready_core("w0")
    fail(core, 1)

    assert pending_reason(core.farm, trial_of(core, 2), {"w0": 9}, playing=True) is PendingReason.OTHER_TRIAL_FIRST


def test_ledger_of_older_rules_is_continued() -> None:
    """There a trial failed twice and is open, and another one of its genome was issued after the failure."""
    core = ready_core("w0", depth=1)
    first = open_attempt(core, 1)
    second, other = "g0001-0001-t1-a2-older0000001", "g0001-0001-t2-a1-older0000002"
    core.record(
        f.AttemptEnded(attempt=first.id, outcome=Outcome.FAILED, has_result=True),
        f.AttemptIssued(attempt=second, genome=1, trial=1, number=2, worker="w0", epoch=1, publication=2),
        f.AttemptEnded(attempt=second, outcome=Outcome.FAILED, has_result=True),
        f.AttemptIssued(attempt=other, genome=1, trial=2, number=1, worker="w0", epoch=1, publication=3),
    )
    core.shares["w0"].starts, core.shares["w0"].payloads = {other}, {other}
    core.restart_host()
    core.run_until_ready()
    core.publish_result(open_attempt(core, 2).id)
    core.tick()

    assert trial_of(core, 2).settlement is Settlement.COMPLETED
    fail(core, 1)

    assert core.settlements() == [Settlement.FAILED, Settlement.COMPLETED, Settlement.SKIPPED]
    assert len(trial_of(core, 1).attempts) == 3


def test_held_back_trials_do_not_hide_fresh_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, an idle worker finds a trial of another genome."""
    monkeypatch.setattr("pipeline.core.assignment._SEARCHED_MAX", 2)
    core = ready_core("w0", "w1", genomes=2, trials=9, depth=1)
    core.claim("w1")

    fail(core, 1)

    (attempt,) = core.farm.workers["w0"].wanted.values()
    assert attempt.trial.genome.number == 2


# ------------------------------------------------------------------------------------------------------- the retry


def test_retry_waits_for_other_worker() -> None:
    """Even for a busy one: the worker that failed it may be the cause."""
    core = ready_core("w0", "w1", genomes=2, trials=1, depth=1)
    core.claim("w1")
    core.tick()

    fail(core, 1)
    core.run(3)
    assert trial_of(core, 1).open_attempt is None
    core.publish_result(open_attempt(core, 1, genome=2).id)
    core.tick()

    assert open_attempt(core, 1).worker == "w1"


def test_retry_runs_on_same_worker_without_another() -> None:
    """A farm of one worker goes on."""
    core = ready_core("w0", trials=1)

    fail(core, 1)

    assert open_attempt(core, 1).worker == "w0"


def test_worker_with_too_many_losses_gets_nothing_more() -> None:
    """Nor in the tick of its last loss: it is quarantined at the next sweep only."""
    core = ready_core("w0", genomes=9, trials=1, depth=1)
    for number in range(3):
        core.publish_result(core.claim("w0"), Outcome.UNDELIVERED)
        core.tick(sweep=False)
        assert bool(core.farm.workers["w0"].wanted) == (number < 2)
    assert core.state("w0") is WorkerState.READY

    core.tick()

    assert core.state("w0") is WorkerState.QUARANTINED


def test_worker_that_loses_its_probation_gets_nothing_more() -> None:
    """One loss ends a probation."""
    core = ready_core("w0", genomes=9, trials=1, depth=1)
    for _ in range(3):
        core.publish_result(core.claim("w0"), Outcome.UNDELIVERED)
        core.tick()
    core.run(16)
    assert core.state("w0") is WorkerState.PROBATION

    core.publish_result(core.claim("w0"), Outcome.UNDELIVERED)
    core.tick(sweep=False)

    assert (core.state("w0"), core.farm.workers["w0"].wanted) == (WorkerState.PROBATION, {})


def test_retry_is_queued_if_it_failed_on_every_worker() -> None:
    """Otherwise the only worker would play every other genome first."""
    core = ready_core("w0", genomes=9, trials=1)
    core.publish_result(core.claim("w0"))
    core.tick()

    core.publish_result(core.claim("w0"), Outcome.FAILED)
    core.tick()

    assert [a.trial.genome.number for a in core.farm.workers["w0"].wanted.values()] == [3, 2]


@pytest.mark.parametrize("failures_max", [1, 3])
def test_failures_max_bounds_tries(failures_max: int) -> None:
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(failures_max=failures_max))
    core.run_until_ready()
    for _ in range(failures_max):
        assert trial_of(core, 1).settlement is None
        fail(core, 1)

    assert trial_of(core, 1).settlement is Settlement.FAILED
    assert len(trial_of(core, 1).attempts) == failures_max


@settings(max_examples=20, deadline=None)
@given(failing=st.integers(1, 40), workers=st.integers(1, 2), turns=st.lists(st.integers(0, 1), min_size=1))
def test_failing_genome_costs_other_genomes_nothing(failing: int, workers: int, turns: list[int]) -> None:
    """One of forty fails, at any place, and the workers play in any order, one game at a time."""
    names = [f"w{number}" for number in range(workers)]
    core = ready_core(*names, genomes=40, trials=3)
    for number in range(40 * 3 * 2):
        if core.farm.finished:
            break
        turn = turns[number % len(turns)]
        busy = [name for name in names if core.farm.workers[name].wanted]
        attempt = core.claim(busy[turn % len(busy)])
        fails = core.farm.attempts[attempt].trial.genome.number == failing
        core.publish_result(attempt, Outcome.FAILED if fails else Outcome.COMPLETED)
        core.tick(0.001)

    assert core.farm.finished
    for genome in core.farm.genomes:
        attempts = [attempt for trial in genome.trials for attempt in trial.attempts]
        if genome.number == failing:
            assert [a.outcome for a in attempts if not a.by_host] == [Outcome.FAILED] * core.limits.failures_max
            assert {a.worker for a in attempts if not a.by_host} == set(names)
            assert genome.fitness is None
        else:
            assert [a.outcome for a in attempts] == [Outcome.COMPLETED] * 3
