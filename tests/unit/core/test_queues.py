"""The depth of queues: as configured, and on local workers as many attempts as they play in 50 ms."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, WorkerState
from pipeline.core.queues import (
    AHEAD_BYTES_MAX,
    DEPTH_MAX,
    GAMES_MEASURED_MIN,
    may_gather_results,
    room_for_trials,
)
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules


def local_farm(*workers: str, genomes: int = 500, **options: int | Limits) -> CoreHarness:
    """A farm of local workers, each with its first attempts."""
    core = CoreHarness(*(workers or ("w0",)), genomes=genomes, local=True, **options)  # type: ignore[arg-type]
    core.run_until_ready()
    return core


def held_by(core: CoreHarness, worker: str = "w0") -> list[Attempt]:
    """What a worker holds, in the order in which it plays it."""
    return list(core.farm.workers[worker].wanted.values())


def play(core: CoreHarness, games: int, seconds: float, worker: str = "w0") -> None:
    """Plays games of a length, one in each tick."""
    for _ in range(games):
        core.publish_result(held_by(core, worker)[0].id, seconds=seconds)
        core.tick(0.001, sweep=False)


# ------------------------------------------------------------------------------------------------------------- growth


@pytest.mark.parametrize(
    ("seconds", "depth"),
    [(0.0, DEPTH_MAX), (0.0001, DEPTH_MAX), (0.001, 51), (0.01, 6), (0.026, 2), (0.06, 2), (1800.0, 2)],
)
def test_local_queue_holds_fifty_milliseconds_of_play(seconds: float, depth: int) -> None:
    """Beside the running game; at least the configured depth, at most 64 attempts."""
    core = local_farm()

    play(core, GAMES_MEASURED_MIN, seconds)

    assert len(held_by(core)) == depth


def test_configured_depth_is_the_least() -> None:
    """However long the games are."""
    core = local_farm(depth=5)

    play(core, GAMES_MEASURED_MIN, 60.0)

    assert len(held_by(core)) == 5


def test_queue_grows_when_enough_games_are_measured() -> None:
    """One short game says little about the others."""
    core = local_farm()

    play(core, GAMES_MEASURED_MIN - 1, 0.001)

    assert len(held_by(core)) == 2


@pytest.mark.parametrize(
    ("seconds", "depth"), [(0.0, DEPTH_MAX), (0.001, DEPTH_MAX), (0.1, 6), (0.24, 3), (0.3, 2), (1800.0, 2)]
)
def test_queue_of_distant_worker_holds_what_it_plays_until_more_can_arrive(seconds: float, depth: int) -> None:
    """A result is collected and the next attempt published by a request each, here of 250 ms."""
    core = CoreHarness("w0", genomes=100)
    core.shares["w0"].round_trip_s = 0.25
    core.run_until_ready()

    play(core, GAMES_MEASURED_MIN, seconds)

    assert len(held_by(core)) == depth


def test_one_slow_request_hardly_makes_queue_deeper() -> None:
    core = CoreHarness("w0", genomes=100)
    core.run_until_ready()
    play(core, 16, 1.0)
    core.shares["w0"].round_trip_s = 8.0

    play(core, 1, 1.0)

    assert len(held_by(core)) == 2


def test_queue_of_near_machine_keeps_its_depth() -> None:
    """The host can send the next attempt at once."""
    core = CoreHarness("w0", genomes=100)
    core.run_until_ready()

    play(core, 2 * GAMES_MEASURED_MIN, 0.001)

    assert len(held_by(core)) == 2


def test_each_worker_is_measured_by_itself() -> None:
    """One computer may have cores of two kinds, and a farm may also have machines."""
    core = local_farm("fast", "slow")

    play(core, GAMES_MEASURED_MIN, 0.001, "fast")
    play(core, GAMES_MEASURED_MIN, 0.02, "slow")

    assert [len(held_by(core, name)) for name in ("fast", "slow")] == [51, 3]


def test_failed_games_are_not_measured() -> None:
    """What a failure costs, a new process, is not in its length."""
    core = local_farm()

    for _ in range(2 * GAMES_MEASURED_MIN):
        core.publish_result(held_by(core)[0].id, Outcome.FAILED, seconds=0.001)
        core.tick(0.001, sweep=False)

    assert len(held_by(core)) <= 2


def test_measured_length_survives_restart_of_host() -> None:
    """It follows from the facts; what a dead host left is taken back, and issued again."""
    core = local_farm()
    play(core, GAMES_MEASURED_MIN, 0.001)

    core.restart_host()
    core.run(1, step=0.1)

    assert len(held_by(core)) == 51


def test_next_run_measures_anew() -> None:
    """Its games may be other ones; a host that replays the ledger knows only those of the run."""
    core = local_farm(genomes=GAMES_MEASURED_MIN)
    play(core, GAMES_MEASURED_MIN, 0.001)
    assert core.farm.workers["w0"].games_measured == GAMES_MEASURED_MIN

    core.record(f.RunOpened(generation=2, run=1, settings=core.settings))

    assert core.farm.workers["w0"].games_measured == 0


def test_large_genomes_do_not_fill_disk() -> None:
    """A queue is deeper than configured only as long as its genomes are small together."""
    size = AHEAD_BYTES_MAX // 5
    core = local_farm(genome_bytes=size)

    play(core, GAMES_MEASURED_MIN, 0.001)

    assert len(held_by(core)) == 5


def test_huge_genomes_are_queued_as_configured() -> None:
    """The configured depth is the user's choice."""
    core = local_farm(genome_bytes=100 * 1024**2, depth=3)

    play(core, GAMES_MEASURED_MIN, 0.001)

    assert len(held_by(core)) == 3


def test_worker_on_probation_holds_one_attempt() -> None:
    """However short its games were."""
    core = local_farm(limits=Limits(losses_max=1))
    play(core, GAMES_MEASURED_MIN, 0.001)
    core.publish_result(held_by(core)[0].id, Outcome.INTERRUPTED)

    core.run(17)

    assert core.state("w0") is WorkerState.PROBATION
    assert len(held_by(core)) == 1


def test_trial_that_runs_alone_has_nothing_behind_it() -> None:
    """Also where queues are deep; nothing else is issued before it ends."""
    core = local_farm(limits=Limits(losses_max=100, losses_per_trial_max=100))
    play(core, GAMES_MEASURED_MIN, 0.001)
    core.shares["w0"].starts.clear()
    core.run(0.5, step=0.1)
    (alone,) = held_by(core)
    assert alone.run_alone

    core.tick(0.1)

    assert held_by(core) == [alone]


# -------------------------------------------------------------------------------------------------------- taking back


def test_long_game_keeps_only_configured_queue_behind_it() -> None:
    """Fifty attempts wait behind a game of half an hour: the other worker plays them, and no more are queued there."""
    core = local_farm("w0", "w1", genomes=110)
    play(core, GAMES_MEASURED_MIN, 0.001, "w0")
    play(core, GAMES_MEASURED_MIN, 0.001, "w1")
    core.claim("w0")
    core.tick(0.01)
    while core.farm.settled.total() < 110 - len(held_by(core, "w0")):
        play(core, 1, 0.001, "w1")
    assert len(held_by(core, "w0")) > 40
    assert held_by(core, "w1") == []

    core.run(3)

    assert len(held_by(core, "w0")) <= 2
    assert len(held_by(core, "w1")) > 40


def test_queue_of_long_game_is_shortened_without_idle_worker() -> None:
    """Its attempts are pending then, for whichever worker is free first."""
    core = local_farm()
    play(core, GAMES_MEASURED_MIN, 0.001)
    running = core.farm.attempts[core.claim("w0")]

    facts = core.run(3)

    assert held_by(core)[0] is running
    assert len(held_by(core)) == 2
    ended = facts_of(facts, f.AttemptEnded)
    assert {(fact.outcome, fact.by_host) for fact in ended} == {(Outcome.WITHDRAWN, True)}
    assert len(ended) == 49


def test_queue_is_shortened_when_games_become_longer() -> None:
    """None lasts a second, and still the queue would last for minutes."""
    core = local_farm()
    play(core, GAMES_MEASURED_MIN, 0.001)

    play(core, 3, 0.9)
    core.tick(0.01)

    assert len(held_by(core)) == 2


def test_varying_length_takes_nothing_back() -> None:
    """Each attempt that is taken back costs two facts and two files."""
    core = local_farm()
    play(core, GAMES_MEASURED_MIN, 0.001)

    play(core, 16, 0.0018)
    facts = core.tick(0.01)

    assert facts_of(facts, f.AttemptEnded) == []


def test_last_trials_are_spread_evenly() -> None:
    """The emptiest queue is filled first: a worker that has played twice as many games holds as many."""
    core = local_farm("w0", "w1", "w2", genomes=200)
    while core.farm.pending:
        for name in ("w0", "w0", "w1", "w2"):
            play(core, 1, 0.001, name)

    held = sorted(len(held_by(core, name)) for name in ("w0", "w1", "w2"))
    assert held[-1] - held[0] <= 3


# ------------------------------------------------------------------------------------------------------------- losses


def test_deep_queue_of_unreadable_share_is_lost_once() -> None:
    """Each trial loses one attempt, and no genome is charged; the worker gets nothing more before its probation."""
    core = local_farm(genomes=60)
    play(core, GAMES_MEASURED_MIN, 0.001)
    held = held_by(core)
    assert len(held) == 51

    core.outage("w0", 40)
    core.run(20)

    assert {attempt.outcome for attempt in held} == {Outcome.LOST}
    assert {attempt.trial.losses for attempt in held} == {1}
    assert not facts_of([fact for fact, _at in core.facts], f.GenomeCharged)
    core.play_all(500)


# -------------------------------------------------------------------------------------------------- gathering results


@pytest.mark.parametrize(
    ("held", "gathers"),
    [((4, 4), True), ((64, 4), True), ((64, 3), False), ((5, 0), True), ((0, 0), False), ((1, 1), False)],
)
def test_results_are_gathered_while_no_worker_waits(held: tuple[int, int], gathers: bool) -> None:
    """Every worker that plays has enough to go on with; one without an attempt waits for nothing."""
    core = CoreHarness("w0", "w1", genomes=200, depth=64)
    core.run_until_ready()
    for name, count in zip(("w0", "w1"), held, strict=True):
        for attempt in held_by(core, name)[count:]:
            core.record(f.AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, by_host=True))

    assert may_gather_results(core.farm) is gathers


# ------------------------------------------------------------------------------------------------ trials that are open


def test_room_for_trials_fills_every_queue_and_keeps_one_in_reserve() -> None:
    """A worker that finishes a game gets the next one in the same tick."""
    core = local_farm("w0", "w1", depth=3)

    assert room_for_trials(core.farm, core.observed, core.queues) == 2 * (3 + 1)


def test_room_for_trials_grows_with_the_queues() -> None:
    core = local_farm("w0", depth=2)

    play(core, GAMES_MEASURED_MIN, 0.001)

    assert room_for_trials(core.farm, core.observed, core.queues) == 51 + 1


def test_one_trial_may_be_open_without_a_usable_worker() -> None:
    """So that the farm says why it cannot go on."""
    core = local_farm("w0")
    core.farm.workers["w0"].state = WorkerState.OUT

    assert room_for_trials(core.farm, core.observed, core.queues) == 1
