"""How many requests a client may make, at once and in the long run."""

import pytest

from pipeline.core.request_rate import RequestBucket, RequestRate

pytestmark = pytest.mark.rules

RATE = RequestRate(per_s=10, burst=5)


def test_burst_is_let_through_and_then_the_rate() -> None:
    bucket = RequestBucket.full(RATE, 100.0)
    assert [bucket.take(100.0) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.1)]
    assert bucket.take(100.1) == 0
    assert bucket.take(100.1) > 0


def test_who_waits_as_told_is_let_through() -> None:
    """A refused request costs nothing, however often it is repeated."""
    bucket = RequestBucket.full(RATE, 100.0)
    while not (wait_s := bucket.take(100.0)):
        pass
    assert [bucket.take(100.0) for _ in range(100)] == [wait_s] * 100
    assert bucket.take(100.0 + wait_s) == 0


def test_idle_client_gains_no_more_than_the_burst() -> None:
    bucket = RequestBucket.full(RATE, 100.0)
    assert sum(not bucket.take(10_000.0) for _ in range(100)) == RATE.burst


def test_clock_that_stands_or_goes_back_takes_nothing_away() -> None:
    bucket = RequestBucket.full(RATE, 100.0)
    assert [bucket.take(90.0) for _ in range(RATE.burst)] == [0] * RATE.burst
