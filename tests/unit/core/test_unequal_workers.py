"""Workers of unequal speed: the last trials go to fast ones, unless a slow one would end first."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

SLOW_S, FAST_S = 60.0, 5.0


def measured_farm(waiting: int, *, fast: tuple[str, ...] = ("fast",), depth: int = 1) -> CoreHarness:
    """A slow worker and fast ones have played; then so many new trials are added, before any is issued."""
    names = ("slow", *fast)
    settings = replace_struct(SETTINGS, time_limit_s=1800.0)
    core = CoreHarness(*names, genomes=len(names), depth=depth, settings=settings)
    core.is_open = True
    core.run_until_ready()
    for name in names:
        (attempt,) = core.farm.workers[name].wanted
        core.publish_result(attempt, seconds=SLOW_S if name == "slow" else FAST_S)
    core.tick()
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
    core = measured_farm(int(SLOW_S / FAST_S) + 2)

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
    core.farm.workers["slow"].game_s = 1.9 * FAST_S
    issued_to(core)
    add_genomes(core, 1)

    assert issued_to(core) == ["slow"]
