"""Stragglers: games that last much longer than on an idle worker get a second copy, of which one counts."""

import math

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Fact
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, WorkerState
from pipeline.core.worker_requests import WorkerRequests
from pipeline.views.explain import explain_attempt, explain_worker
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules

COPYING = Limits(copy_stragglers=True)
ANY_GAME_S = 4.0


def farm_at_its_end(*workers: str, limits: Limits = COPYING, genomes: int | None = None) -> CoreHarness:
    """Every worker has played one game; then the first one begins the last trial, and the others are idle."""
    names = workers or ("w0", "w1", "w2")
    core = CoreHarness(*names, genomes=genomes or len(names) + 1, depth=1, limits=limits)
    core.run_until_ready()
    for name in names[1:]:
        core.publish_result(held_by(core, name).id, seconds=ANY_GAME_S)
    core.tick()
    for name in names[1:]:
        if core.farm.workers[name].wanted:
            core.publish_result(held_by(core, name).id, seconds=ANY_GAME_S)
    core.claim(names[0])
    core.tick()
    return core


def held_by(core: CoreHarness, worker: str) -> Attempt:
    (attempt,) = core.farm.workers[worker].wanted.values()
    return attempt


def copies(facts: list[Fact]) -> list[f.AttemptEnded]:
    """The ends of attempts that are played on beside a second copy."""
    return [fact for fact in facts_of(facts, f.AttemptEnded) if fact.left_published]


def copied(core: CoreHarness) -> tuple[Attempt, Attempt]:
    """The straggler on the first worker, and its second copy."""
    straggler = held_by(core, "w0")
    core.run(2 * ANY_GAME_S + 2)
    (second,) = [a for a in straggler.trial.attempts if a is not straggler]
    return straggler, second


def test_game_of_twice_the_usual_length_gets_second_copy() -> None:
    core = farm_at_its_end()
    straggler = held_by(core, "w0")

    assert copies(core.run(2 * ANY_GAME_S - 1)) == []
    (end,) = copies(core.run(3))

    assert (end.attempt, end.outcome, end.by_host) == (straggler.id, Outcome.WITHDRAWN, True)
    assert straggler.id in core.shares["w0"].starts, "it is played on"
    assert straggler.trial.open_attempt is not None
    assert straggler.trial.open_attempt.worker != "w0"


def test_nothing_is_copied_unless_it_is_configured() -> None:
    core = farm_at_its_end(limits=Limits())

    assert copies(core.run(50)) == []


def test_second_copy_that_completes_first_counts_and_stops_the_straggler() -> None:
    core = farm_at_its_end()
    straggler, second = copied(core)

    core.publish_result(second.id)
    core.run(2)

    assert second.trial.decided_by == second.id
    assert straggler.id not in core.shares["w0"].starts
    assert core.farm.workers["w0"].left_published == {}
    assert core.farm.finished


def test_straggler_is_stopped_in_the_tick_that_finishes_the_run() -> None:
    """A result that is notified is accepted before the next sweep, and no sweep follows the end of a run."""
    core = farm_at_its_end()
    straggler, second = copied(core)
    core.publish_result(second.id)

    core.tick(sweep=False)

    assert core.farm.finished
    assert core.farm.workers["w0"].left_published == {}
    assert straggler.id not in core.shares["w0"].starts


def test_last_try_waits_for_the_worker_that_plays_on() -> None:
    """The copy fails; its worker could only fail it again, and the straggler may still complete."""
    core = farm_at_its_end("w0", "w1")
    straggler, second = copied(core)
    core.claim("w1")
    core.publish_result(second.id, Outcome.FAILED)

    core.run(5)
    assert straggler.trial.open_attempt is None
    core.publish_result(straggler.id)
    core.run(2)

    assert straggler.trial.decided_by == straggler.id


def test_straggler_with_a_queue_is_not_copied() -> None:
    """What waits behind it would be overdue: only a worker that has failed it is idle, so it cannot move."""
    core = CoreHarness("w0", "w1", genomes=3, depth=2, limits=COPYING)
    core.run_until_ready()
    (straggler, _), (other,) = (list(core.farm.workers[name].wanted.values()) for name in ("w0", "w1"))
    core.claim("w0")
    core.publish_result(other.id, seconds=ANY_GAME_S)
    core.run(4)
    (moved,) = core.farm.workers["w1"].wanted.values()
    core.publish_result(moved.id, Outcome.FAILED)
    core.run(1)
    assert len(core.farm.workers["w0"].wanted) == 2, "the last try waits behind the straggler"

    assert copies(core.run(40)) == []
    assert straggler.outcome is None


def test_straggler_that_completes_first_counts_and_withdraws_its_copy() -> None:
    core = farm_at_its_end()
    straggler, second = copied(core)

    core.publish_result(straggler.id)
    core.run(2)

    assert straggler.trial.decided_by == straggler.id
    assert (second.outcome, second.by_host) == (Outcome.WITHDRAWN, True)
    assert second.id not in core.shares[second.worker].starts
    assert core.farm.finished


def test_both_completing_in_one_tick_count_once() -> None:
    core = farm_at_its_end()
    straggler, second = copied(core)

    core.publish_result(straggler.id)
    core.publish_result(second.id)
    core.run(2)

    assert [a.outcome for a in straggler.trial.attempts].count(Outcome.COMPLETED) == 1
    assert core.farm.late == 1


def test_straggler_that_fails_leaves_its_trial_to_the_copy() -> None:
    """Its end is not asked for any more, so it blames no genome."""
    core = farm_at_its_end()
    straggler, second = copied(core)

    core.publish_result(straggler.id, Outcome.FAILED)
    core.run(2)

    assert (straggler.trial.blamed, straggler.trial.open_attempt) == (0, second)
    assert core.farm.workers["w0"].left_published == {}


def test_copy_that_is_lost_leaves_the_straggler_playing() -> None:
    core = farm_at_its_end()
    straggler, second = copied(core)
    core.shares[second.worker].sends_heartbeats = False

    core.run(core.limits.silence_limit_s + 2)

    assert second.outcome in (Outcome.LOST, Outcome.WITHDRAWN)
    assert straggler.id in core.shares["w0"].starts


def test_trial_is_copied_once() -> None:
    """A third worker stays idle, however long both take."""
    core = farm_at_its_end()
    straggler, second = copied(core)
    core.claim(second.worker)

    core.run(30)

    assert len(straggler.trial.attempts) == 2


def test_worker_of_straggler_gets_nothing_new() -> None:
    core = farm_at_its_end()
    straggler, _second = copied(core)
    core.record(f.GenomeAdded(genome=len(core.farm.genomes) + 1, name="new", suffix="", size_bytes=9, sha256="a" * 64))

    core.run(3)

    assert core.farm.workers["w0"].wanted == {}
    assert straggler.id in core.farm.workers["w0"].left_published


def test_queued_attempt_moves_to_the_idle_worker_first() -> None:
    """One idle worker, and a queue behind the straggler."""
    core = CoreHarness("w0", "w1", genomes=4, depth=2, limits=COPYING)
    core.run_until_ready()
    for attempt in list(core.farm.workers["w1"].wanted.values()):
        core.publish_result(attempt.id, seconds=ANY_GAME_S)
    straggler = core.claim("w0")
    core.tick()
    core.observed.workers["w0"].claims[straggler] = core.observed.time - 10 * ANY_GAME_S

    moved = facts_of(core.tick(), f.AttemptEnded)

    assert [(end.left_published, end.reason) for end in moved] == [(False, "an idle worker can play it sooner")]


def test_suspected_genome_is_not_copied() -> None:
    """It may take a second worker down."""
    core = farm_at_its_end()
    straggler = held_by(core, "w0")
    core.farm.evolve(f.GenomeCharged(attempt=straggler.id, genome=straggler.trial.genome.number, worker="w0"), core.now)
    core.facts.append((f.GenomeCharged(attempt=straggler.id, genome=1, worker="w0"), core.now))

    assert copies(core.run(20)) == []


def test_copy_goes_to_the_fastest_idle_worker() -> None:
    core = farm_at_its_end("w0", "w1", "w2", "w3")
    core.farm.workers["w3"].log_game_s = math.log(ANY_GAME_S / 2)

    _straggler, second = copied(core)

    assert second.worker == "w3"


def test_slow_worker_copies_nothing_of_a_fast_one() -> None:
    """It would not end first."""
    core = farm_at_its_end("w0", "w1")
    core.farm.workers["w1"].log_game_s = math.log(100.0)

    assert copies(core.run(30)) == []


def test_displays_show_the_straggler_as_played() -> None:
    """A user who drains its worker waits for the end of the game."""
    core = farm_at_its_end()
    straggler, second = copied(core)
    core.requests = WorkerRequests(drained={"w0"})
    core.tick()

    live = measure_progress(core.farm, core.observed, core.now)
    row = live.workers[0]
    told = "\n".join(explain_worker(core.farm, "w0", [], live))
    story = "\n".join(explain_attempt(core.farm, straggler, {}, playing=True))

    assert (row.state, row.genome, row.waiting) == ("draining", straggler.trial.genome.name, 0)
    assert row.playing_s > 2 * ANY_GAME_S
    assert f"It plays trial 1 of {straggler.trial.genome.name}" in told
    assert "the host gave its trial to another worker as well" in story
    assert second.id in story


def test_restarted_host_knows_both_copies() -> None:
    core = farm_at_its_end()
    straggler, second = copied(core)

    core.restart_host()
    core.run(3)
    core.publish_result(straggler.id)
    core.run(2)

    assert core.farm.finished
    assert core.farm.attempts[second.id].outcome is Outcome.WITHDRAWN


def test_worker_that_has_played_the_genome_before_gets_no_copy() -> None:
    """It would not be issued there at once, since another worker has not tried it."""
    core = CoreHarness("w0", "w1", genomes=1, limits=COPYING)
    core.run_until_ready()
    (first,) = core.farm.attempts.values()
    core.publish_result(first.id, seconds=ANY_GAME_S)
    core.tick()
    core.record(f.GenomeReopened(genome=1, size_bytes=9, sha256="a" * 64))
    core.run(1)
    core.claim(next(name for name in core.farm.workers if name != first.worker))

    assert copies(core.run(30)) == []


def test_nothing_is_copied_before_a_game_was_measured() -> None:
    core = CoreHarness("w0", "w1", genomes=1, limits=COPYING)
    core.run_until_ready()
    core.claim("w0")

    assert copies(core.run(30)) == []


def test_worker_on_probation_copies_nothing() -> None:
    core = farm_at_its_end("w0", "w1")
    core.farm.workers["w1"].state = WorkerState.PROBATION
    core.observed.workers["w0"].claims[held_by(core, "w0").id] = -50.0

    assert copies(core.decide(["w0", "w1"]).facts) == []
