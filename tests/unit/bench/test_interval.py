"""The bench: when a rate begins and ends, which results it counts, and when there is none. The clock is a list."""

from collections.abc import Sequence

import pytest

from bench.cpu import CpuTime
from bench.interval import Interval
from bench.samples import NotMeasured
from bench.tenths import Tenths
from pipeline.core.facts import AttemptClaimed, Fact, Settlement, TrialSettled


def results(count: int, settlement: Settlement = Settlement.COMPLETED) -> list[Fact]:
    return [TrialSettled(genome=number, trial=1, settlement=settlement) for number in range(count)]


def interval(count: int, at_s: Sequence[float], cpu_s: Sequence[tuple[float, float]] = ((1, 5), (2, 9))) -> Interval:
    """One that is begun at the first time, and marked at the next two."""
    times, cpu = iter(at_s), iter(CpuTime(*each) for each in cpu_s)
    return Interval(count, lambda: next(times), lambda: next(cpu))


def test_rate_is_from_first_tick_with_result_to_last() -> None:
    """The results of the first tick began before the interval, so they are not counted."""
    measured = interval(104, [0.0, 10.0, 12.0])
    for facts in ([], [AttemptClaimed(attempt="a")], results(4), results(60), [], results(40)):
        measured.on_facts(facts)
    assert measured.figures() == {"rate": 50.0, "whole_rate": 104 / 12, "host_us": 1e4, "all_us": 4e4}


def test_run_with_all_results_in_one_tick_is_too_short() -> None:
    measured = interval(4, [0.0, 10.0])
    measured.on_facts(results(4))
    with pytest.raises(NotMeasured, match="too short to measure: one tick had all 4 results"):
        measured.figures()


@pytest.mark.parametrize("later_s", [0.0, 0.05])
def test_interval_of_no_length_has_no_rate(later_s: float) -> None:
    measured = interval(4, [0.0, 10.0, 10.0 + later_s])
    measured.on_facts(results(2))
    measured.on_facts(results(2))
    with pytest.raises(NotMeasured, match="too short to measure: 2 results in"):
        measured.figures()


def test_incomplete_run_has_no_rate() -> None:
    measured = interval(4, [0.0, 10.0])
    measured.on_facts(results(3))
    with pytest.raises(AssertionError, match="3 of 4"):
        measured.figures()


def test_failed_evaluation_is_not_counted_as_fast_one() -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        interval(4, [0.0, 10.0]).on_facts(results(1, Settlement.FAILED))


def tenths(count: int, ticks: Sequence[tuple[float, int]]) -> Tenths:
    times = iter([at for at, _results in ticks])
    found = Tenths(count, lambda: next(times))
    for _at, number in ticks:
        found.on_tick(number)
    return found


def test_tenths_have_rates_of_their_own() -> None:
    """It gets slower half-way. Nothing before the first result counts."""
    fast = [(float(second), 10) for second in range(100, 106)]
    slow = [(105.0 + 2 * number, 10) for number in range(1, 6)]
    found = tenths(110, [(0.0, 0), *fast, *slow])
    assert found.over
    assert found.rates() == [10.0] * 4 + [10.0] + [5.0] * 5


def test_tick_that_is_larger_than_tenth_is_too_short_to_measure() -> None:
    with pytest.raises(NotMeasured, match="too short to measure: 20 results"):
        tenths(20, [(0.0, 1), (1.0, 19)]).rates()


def test_generation_that_is_not_over_has_no_rates() -> None:
    found = tenths(20, [(0.0, 1), (1.0, 5)])
    assert not found.over
    with pytest.raises(NotMeasured):
        found.rates()


def test_pause_counts_before_results_only() -> None:
    """Before the first result the agents start, and a tick without results had nothing to take."""
    found = tenths(100, [(0.0, 0), (50.0, 1), (50.25, 1), (51.0, 1), (60.0, 0), (60.5, 1)])
    assert found.longest_pause_s == 0.75
