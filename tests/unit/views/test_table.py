"""Results as columns."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import GenomeAdded
from pipeline.views.results import RESULT_COLUMNS, result_rows
from pipeline.views.table import SHOWN_MAX, Table, results_table, table_of
from tests.harness.core import CoreHarness


def test_table_has_the_rows_of_the_results() -> None:
    """Column by column; what a genome does not have is None."""
    core = CoreHarness("w0", genomes=1)
    core.record(GenomeAdded(genome=2, name="b", suffix="", size_bytes=1, sha256="0" * 64, params={"rate": 0.5}))
    core.run_until_ready()
    core.publish_result(core.claim("w0"), metrics={"score": 2.0})
    core.tick()

    table = results_table(core.farm)

    assert list(table) == [*RESULT_COLUMNS, "param_rate", "score"]
    assert (table["genome"], table["param_rate"], table["score"]) == (["g1", "b"], [None, 0.5], [2.0, None])
    assert table.rows() == [{"param_rate": None, "score": None} | row for row in result_rows(core.farm)]


def test_table_without_genomes_has_its_columns() -> None:
    table = results_table(CoreHarness("w0", genomes=0).farm)

    assert table == {name: [] for name in RESULT_COLUMNS}
    assert table.rows() == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 0.5, None], [1.0, 0.5, None]),
        ([True, None], [True, None]),
        ([True, 1], ["True", "1"]),
        (["x", 0.5, None], ["x", "0.5", None]),
        ([None, None], [None, None]),
    ],
)
def test_values_of_a_column_have_one_type(values: list[Any], expected: list[Any]) -> None:
    """Numbers are floats if one of them is; otherwise different types are texts."""
    (found,) = table_of(["x"], [{"x": value} for value in values]).values()

    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_seconds_are_floats_also_if_nothing_was_played() -> None:
    table = results_table(CoreHarness("w0", genomes=1).farm)

    assert list(map(type, table["seconds"])) == [float]


# ---------------------------------------------------------------------------------------------------- notebooks


def test_table_is_shown_in_a_notebook() -> None:
    """Numbers are short, nothing is shown for what is missing."""
    html = Table({"genome": ["a", "b"], "fitness": [1 / 3, None]})._repr_html_()

    assert html == (
        "<table><thead><tr><th>genome</th><th>fitness</th></tr></thead>"
        "<tbody><tr><td>a</td><td>0.333333</td></tr><tr><td>b</td><td></td></tr></tbody></table>"
    )


def test_markup_is_escaped_in_a_notebook() -> None:
    """In names of columns and in texts from games; a character that is not printable is a blank."""
    html = Table({"<b>": ["<script>\u202e&"]})._repr_html_()

    assert "<th>&lt;b&gt;</th>" in html
    assert "<td>&lt;script&gt; &amp;</td>" in html


@pytest.mark.parametrize(("rows", "more"), [(SHOWN_MAX, ""), (SHOWN_MAX + 1, "<p>60 of 61 rows</p>")])
def test_notebook_shows_the_first_rows(rows: int, more: str) -> None:
    """And how many there are."""
    html = Table({"n": list(range(rows))})._repr_html_()

    assert html.count("<tr>") == 1 + SHOWN_MAX
    assert html.endswith(f"</table>{more}")


def test_failed_genome_has_its_reason_in_the_table() -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    for _ in range(core.limits.failures_max):
        core.publish_result(core.claim("w0"), Outcome.FAILED, reason="no such level")
        core.tick()

    table = results_table(core.farm)

    assert (table["fitness"], table["status"]) == ([None], ["failed"])
    assert table["reason"] == ["trial 1: failed: no such level"]
