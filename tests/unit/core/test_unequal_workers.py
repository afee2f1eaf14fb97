"""Workers of unequal speed: the last trials go to fast ones, unless a slow one would end first."""

import math

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.pace import COMPARED_MIN
from pipeline.core.queues import Queues
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

SLOW_S, FAST_S, TIME_LIMIT_S = 60.0, 5.0, 1800.0


def measured_farm(waiting: int, *, depth: int = 1, games: int = COMPARED_MIN) -> CoreHarness:
    """A slow worker and a fast one have played so many games each; then trials are added, before any is issued."""
    settings = replace_struct(SETTINGS, time_limit_s=TIME_LIMIT_S)
    core = CoreHarness("slow", "fast", genomes=2 * games, depth=1, settings=settings)
    core.is_open = True
    core.run_until_ready()
    for _ in range(games):
        for name, seconds in (("slow", SLOW_S), ("fast", FAST_S)):
            (attempt,) = core.farm.workers[name].wanted
            core.publish_result(attempt, seconds=seconds)
        core.tick()
    core.queues = Queues(depth=dict.fromkeys(core.farm.workers, depth), local=frozenset())
    add_genomes(core, waiting)
    return core


def add_genomes(core: CoreHarness, number: int) -> None:
    first = len(core.farm.genomes) + 1
    for genome in range(first, first + number):
        core.record(f.GenomeAdded(genome=genome, name=f"g{genome}", suffix="", size_bytes=9, sha256=f"{genome:064x}"))


def issued_to(core: CoreHarness, seconds: float = 0.1) -> list[str]:
    return [fact.worker for fact in facts_of(core.tick(seconds), f.AttemptIssued)]


def test_last_trial_goes_to_the_fast_worker() -> None:
    core = measured_farm(1)

    assert issued_to(core) == ["fast"]


def test_last_trial_waits_for_the_fast_worker_that_ends_it_sooner() -> None:
    core = measured_farm(1)
    issued_to(core)
    core.claim("fast")
    add_genomes(core, 1)

    assert issued_to(core) == []
    core.publish_result(next(iter(core.farm.workers["fast"].wanted)), seconds=FAST_S)
    assert issued_to(core) == ["fast"]


def test_slow_worker_plays_what_fast_ones_would_end_later() -> None:
    """The game of the fast one lasts and lasts."""
    core = measured_farm(1)
    issued_to(core)
    core.claim("fast")
    add_genomes(core, 1)
    assert issued_to(core) == []

    began = core.observed.time
    while "slow" not in issued_to(core, 1.0):
        assert core.observed.time - began < SLOW_S

    assert core.observed.time - began > FAST_S


def test_slow_worker_gets_a_trial_if_more_wait_than_fast_ones_can_play_meanwhile() -> None:
    core = measured_farm(int(SLOW_S / FAST_S) + 1)

    assert set(issued_to(core)) == {"fast", "slow"}


def test_slow_worker_is_used_when_no_fast_one_can_play() -> None:
    core = measured_farm(0)
    core.shares["fast"].unknown = "network down"
    core.tick()
    add_genomes(core, 1)

    assert issued_to(core) == ["slow"]


def test_retry_waits_for_no_faster_worker() -> None:
    """It may be one that only the slow worker can play."""
    core = measured_farm(1)
    issued_to(core)
    failed = core.claim("fast")
    core.publish_result(failed, Outcome.FAILED)

    assert issued_to(core) == ["slow"]


def test_idle_slow_worker_takes_nothing_that_the_fast_one_ends_sooner() -> None:
    core = measured_farm(2, depth=2)
    assert issued_to(core) == ["fast", "fast"]
    core.claim("fast")

    assert facts_of(core.run(FAST_S), f.AttemptEnded) == []


def test_workers_that_differ_little_are_used_alike() -> None:
    core = measured_farm(1)
    core.farm.workers["slow"].log_game_s = math.log(1.9 * FAST_S)
    issued_to(core)
    add_genomes(core, 1)

    assert issued_to(core) == ["slow"]


def test_few_games_say_nothing_about_a_worker() -> None:
    """Their lengths may be those of the genomes."""
    core = measured_farm(1, games=COMPARED_MIN - 1)
    issued_to(core)
    add_genomes(core, 1)

    assert issued_to(core) == ["slow"]


def test_worker_that_has_just_joined_is_used() -> None:
    core = measured_farm(1)
    core.join("new")
    core.run(3)
    issued_to(core)
    add_genomes(core, 3)

    assert "new" in issued_to(core)


def test_one_long_game_makes_no_worker_slow() -> None:
    core = measured_farm(2)
    slow = core.farm.workers["slow"]
    slow.log_game_s = math.log(FAST_S)
    assert sorted(issued_to(core)) == ["fast", "slow"]
    core.publish_result(next(iter(slow.wanted)), seconds=100 * FAST_S)
    core.tick()
    add_genomes(core, 1)

    assert issued_to(core) == ["slow"], "100 times as long, one of nine games: 1.7 times the usual length"


def test_game_that_timed_out_makes_no_worker_slow() -> None:
    """It tells about its genome."""
    core = measured_farm(100)
    slow = core.farm.workers["slow"]
    before = slow.log_game_s
    core.tick()
    core.publish_result(next(iter(slow.wanted)), Outcome.TIMED_OUT, seconds=TIME_LIMIT_S)
    core.tick()

    assert slow.log_game_s == before


def test_attempt_behind_a_hanging_game_goes_to_the_slow_worker() -> None:
    """When that one would have played it by now, although another fast worker has room now and then."""
    core = measured_farm(2, depth=2)
    assert issued_to(core) == ["fast", "fast"]
    core.claim("fast")

    moved = list[f.AttemptEnded]()
    while not moved:
        moved = facts_of(core.tick(1.0), f.AttemptEnded)
        assert core.observed.time < 2 * SLOW_S

    assert [end.reason for end in moved] == ["an idle worker can play it sooner"]
    assert [attempt.worker for attempt in core.farm.attempts.values()][-1] == "slow"
