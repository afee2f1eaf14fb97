"""When a request is sent again, and after which pause."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.remote.retry import BACKOFF_MAX_S, TRIES_MAX, Patience, backoff_s, is_transient, retry_after_s

pytestmark = pytest.mark.rules


@pytest.mark.parametrize(
    ("failures", "longest_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 32), (99, 32)]
)
def test_pause_doubles_up_to_its_maximum(failures: int, longest_s: float) -> None:
    """It is a random part of that: many clients of a server that was away do not come at the same moment."""
    assert backoff_s(failures, 1.0) == longest_s
    assert backoff_s(failures, 0.25) == longest_s / 4
    assert backoff_s(failures, 0.0) == 0


@given(failures=st.integers(1, 10**6), draw=st.floats(0, 1), asked=st.none() | st.integers(0, 10**9).map(str))
def test_pause_is_never_longer_than_the_maximum(failures: int, draw: float, asked: str | None) -> None:
    """Whatever the server asks for."""
    assert 0 <= backoff_s(failures, draw, retry_after_s(asked)) <= BACKOFF_MAX_S


@pytest.mark.parametrize(("draw", "pause_s"), [(0.0, 1.5), (0.5, 2.0), (1.0, 4.0)])
def test_server_is_not_asked_again_before_it_said(draw: float, pause_s: float) -> None:
    assert backoff_s(3, draw, 1.5) == pause_s


@pytest.mark.parametrize(
    ("header", "asked_s"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("33", 32.0),
        ("999999999", 32.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Tue, 01 Dec 2026 02:00:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_of_seconds(header: str | None, asked_s: float | None) -> None:
    """Anything else is as if it were not there."""
    assert retry_after_s(header) == asked_s


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_overload_and_absence_are_transient(status: int) -> None:
    assert is_transient(status)


@pytest.mark.parametrize("status", [200, 201, 301, 400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_other_answers_are_final(status: int) -> None:
    assert not is_transient(status)


def test_three_tries_are_made() -> None:
    """Of a request that does not belong to a generation, however long each takes."""
    pauses = [Patience().pause_s(failures, 1000.0, 1.0) for failures in (1, 2, 3, 4)]
    assert pauses == [1, 2, None, None]
    assert TRIES_MAX == 3


def test_generation_is_waited_for_until_its_time_is_over() -> None:
    """The last try is at the end of that time, not before."""
    patience = Patience(tries_max=None, away_s_max=60.0)

    assert patience.pause_s(100, 10.0, 1.0) == 32
    assert patience.pause_s(101, 50.0, 1.0) == 10
    assert patience.pause_s(102, 60.0, 1.0) is None
    assert patience.pause_s(103, 61.0, 0.0) is None


def test_server_that_answers_is_waited_for_without_end() -> None:
    """It has no room yet: nothing is away."""
    assert Patience(tries_max=None, away_s_max=1.0).pause_s(1, 0.0, 0.0, 30.0) == 1
    assert Patience(tries_max=None, away_s_max=math.inf).pause_s(1, 0.0, 0.0, 30.0) == 30
