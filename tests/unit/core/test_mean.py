"""The mean of fitnesses and metrics."""

import decimal
import statistics
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.mean import mean

pytestmark = pytest.mark.rules


@given(values=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=9), places=st.integers(0, 6))
def test_mean_is_that_of_the_decimal_numbers(values: list[int], places: int) -> None:
    """The float nearest to it, which is also its shortest form."""
    exact = Fraction(sum(values), len(values) * 10**places)

    assert mean([value / 10**places for value in values]) == float(exact)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_mean_is_finite_and_between_its_values(values: list[float]) -> None:
    """Also if their sum is not a float."""
    found = mean(values)

    scale = max(map(abs, values))
    assert min(values) <= found <= max(values)
    assert abs(Fraction(found) - Fraction(statistics.mean(map(Fraction, values)))) <= Fraction(
        scale
    ) / 10**15 + Fraction(sys.float_info.min)


@given(value=st.floats(allow_nan=False, allow_infinity=False), count=st.integers(1, 1000))
def test_mean_of_equal_values_is_their_value(value: float, count: int) -> None:
    assert mean([value] * count) == value


def test_mean_does_not_depend_on_the_precision_of_others() -> None:
    """A program that evolves genomes may have set the precision of its own decimals."""
    with decimal.localcontext(prec=2):
        assert mean([0.123456, 0.123458]) == 0.123457
