"""The bench: figures of several rounds, targets and the table. Made-up values, no measurement."""

import json

import pytest

from bench.idle_gap import gap_s, utilisation
from bench.rounds import figure, in_turn, note, once
from bench.samples import NotMeasured, Samples
from bench.table import HEAD, Row, render
from bench.targets import at_least, at_most


def test_figure_is_median_with_spread() -> None:
    samples = Samples((3.0, 100.0, 4.0))
    assert (samples.median, samples.least, samples.most) == (4.0, 3.0, 100.0)


def test_ratio_compares_values_of_same_round() -> None:
    """A round in which the machine was slow is slow for both, and its ratio is like the others."""
    ours, theirs = Samples((400.0, 40.0, 440.0)), Samples((100.0, 10.0, 110.0))
    assert ours.over(theirs).values == (4.0, 4.0, 4.0)


def test_ratio_to_nothing_is_no_error() -> None:
    assert Samples((1.0,)).over(Samples((0.0,))).values == (0.0,)


def test_ratio_needs_rounds_of_both() -> None:
    """A program that failed in the second round is compared in the first."""
    assert Samples((4.0, 9.0)).over(Samples((2.0,))).values == (2.0,)


def test_target_is_missed_met_or_exceeded() -> None:
    at_most_600, at_least_4 = at_most(600.0, 300.0), at_least(4.0, 5.0)
    assert [at_most_600.verdict(value) for value in (601.0, 600.0, 300.0)] == ["missed", "met", "stretch met"]
    assert [at_least_4.verdict(value) for value in (3.9, 4.0, 5.0)] == ["missed", "met", "stretch met"]
    assert (str(at_most_600), str(at_least(1.9))) == ("<= 600 (stretch 300)", ">= 1.9")


def test_target_bounds_ratio_where_there_is_reference() -> None:
    """And else the figure."""
    rate, theirs = Samples((50.0,)), Samples((100.0,))
    compared = {"figure": rate, "unit": "/s", "reference": theirs, "against": "Ray"}
    rows = [
        Row(what="a", **compared, target=at_least(0.5)),  # type: ignore[arg-type]
        Row(what="b", **compared, target=at_least(0.6)),  # type: ignore[arg-type]
        Row(what="c", figure=Samples((4.9,)), unit="ms", target=at_most(5.0)),
        Row(what="d", figure=Samples((5.1,)), unit="ms", target=at_most(5.0)),
        Row(what="e", **compared),  # type: ignore[arg-type]
        Row(what="f", figure=rate, against="Ray", target=at_least(1.0), note="ray is not installed"),
        Row(what="g", target=at_most(1.0), note="too short to measure"),
    ]
    assert [row.verdict for row in rows] == [
        "met", "missed", "met", "missed", "for information", "ray is not installed", "too short to measure"
    ]  # fmt: skip


def test_table_shows_median_spread_target_and_remark() -> None:
    """A remark is below the table, once for all rows that have it."""
    row = Row(
        what="rate",
        figure=Samples((900.0, 1000.0, 1100.0)),
        unit="/s",
        reference=Samples((300.0, 250.0, 220.0)),
        against="Ray",
        target=at_least(1.2, 2.0),
        remark="games that sleep",
    )
    single = Row(what="alone", figure=Samples((7.0,)), unit="ms")
    head, rule, line, alone, _again, *remarks = render([row, single, row]).splitlines()
    assert [head.find(word) for word in HEAD] == sorted(head.find(word) for word in HEAD)
    assert set(rule) == {"-", " "}
    shown = ["rate", "1,000/s", "900 - 1,100", "Ray 250/s", "4.00 (3.00 - 5.00)", ">= 1.2 (stretch 2)"]
    assert line.split("  ")[0] == "rate"
    assert all(cell in line for cell in shown)
    assert line.endswith("stretch met [1]")
    assert remarks == ["[1] games that sleep"]
    assert alone.split() == ["alone", "7.00", "ms", "-", "-", "-", "for", "information"]


def test_rows_as_json_have_values_of_rounds() -> None:
    row = Row(what="rate", figure=Samples((3.0, 1.0, 2.0)), reference=Samples((1.0, 1.0, 1.0)), against="floor")
    found = json.loads(json.dumps(row.as_json()))
    assert found["figure"] == {"median": 2.0, "rounds": [3.0, 1.0, 2.0]}
    assert found["ratio"]["median"] == 2.0
    assert json.loads(json.dumps(Row(what="g", note="no /dev/shm here").as_json()))["verdict"] == "no /dev/shm here"


def test_measured_programs_alternate() -> None:
    """One that cannot be measured is reported, and the others continue."""
    figures = iter([3.0, 100.0, 4.0])
    order = []

    def well() -> dict[str, float]:
        order.append("well")
        return {"rate": next(figures)}

    def ill() -> dict[str, float]:
        order.append("ill")
        raise NotMeasured("not installed")

    measured = in_turn({"well": well, "ill": ill}, 3)
    assert measured == {"well": {"rate": Samples((3.0, 100.0, 4.0))}, "ill": "not installed"}
    assert order == ["well", "ill", "well", "well"]
    assert figure(measured["well"], "rate") == Samples((3.0, 100.0, 4.0))
    assert figure(measured["ill"], "rate") is None
    assert (note(measured["well"]), note(measured["well"], measured["ill"])) == ("", "not installed")


def test_single_measurement_is_one_round() -> None:
    assert once("idle", lambda: {"percent": 0.5}) == {"percent": Samples((0.5,))}


def test_gap_is_larger_median_of_workers() -> None:
    """One long gap does not count, nor does the order in which the games are listed."""
    steady = [(0.0, 1.0), (1.5, 2.0), (2.5, 3.0)]
    other = [(3.0, 4.0), (0.0, 1.0), (14.0, 15.0), (1.25, 2.75)]
    assert gap_s([steady, other]) == 0.5


def test_utilisation_counts_all_workers_over_same_time() -> None:
    assert utilisation([[(0.0, 1.0), (1.0, 2.0)], [(0.0, 1.0)]]) == pytest.approx(0.75)
