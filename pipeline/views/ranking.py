"""`pipeline results`: ranked genomes as a text table, CSV or JSON. Pure."""

from collections.abc import Sequence
from typing import Any

import orjson

from inbox_agent.protocol.layout import clean
from inbox_agent.protocol.printable import escaped
from pipeline.core.farm import Farm
from pipeline.views import csv_table
from pipeline.views.fact_text import duration
from pipeline.views.results import result_rows
from pipeline.views.table import Table, table_of
from pipeline.views.text_table import format_table

COLUMNS = ("fitness", "genome", "generation", "status", "attempts", "seconds")
_SHOWN_MAX = 60
_NUMBERS = {0, 1, 3, 5, 6, 7}


def ranked(farms: Sequence[Farm], by: str, *, minimize: bool, reverse: bool) -> list[dict[str, Any]]:
    """The genomes of these generations, sorted; best first if `by` is fitness, those without a value always last."""
    rows = [{"generation": farm.generation, **row} for farm in farms for row in result_rows(farm)]
    return ranked_rows(rows, by, minimize=minimize, reverse=reverse)


def ranked_rows(rows: Sequence[dict[str, Any]], by: str, *, minimize: bool, reverse: bool) -> list[dict[str, Any]]:
    """Rows of results, sorted in this way."""
    known = [row for row in rows if row[by] is not None]
    unknown = [row for row in rows if row[by] is None]
    downwards = (by == "fitness" and not minimize) or by in ("attempts", "seconds")
    known.sort(key=lambda row: row[by], reverse=downwards != reverse)
    return known + unknown


def json_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a JSON array of objects."""
    return escaped(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV with a header; one column for every param and metric that any genome has."""
    names = _columns(rows)
    return csv_table.csv_text(names, ([row.get(name) for name in names] for row in rows))


def columns_of(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as columns; one for every param and metric that any genome has."""
    return table_of(_columns(rows), rows)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def table_text(rows: Sequence[dict[str, Any]], width: int | None) -> str:
    """The rows as a text table, at most `width` wide; the last column, the reason of a failure, is cut to fit.

    There is a column with the evaluator's version if several gave these fitnesses.
    """
    versions = {version for row in rows for version in row["evaluator"].split()}
    evaluator = ("evaluator",) if len(versions) > 1 else ()
    head = ("", "fitness", "genome", "gen", "status", "trials", "attempts", "time", *evaluator, "")
    cells = [_cells(number, row, evaluator) for number, row in enumerate(rows, 1)]
    return format_table([head, *cells], right=_NUMBERS, width=width)


def _cells(number: int, row: dict[str, Any], more: Sequence[str]) -> tuple[str, ...]:
    name = clean(row["genome"], 200)
    return (
        str(number),
        f"{row['fitness']:.6g}" if row["fitness"] is not None else "–",
        name if len(name) <= _SHOWN_MAX else name[: _SHOWN_MAX - 1] + "…",
        str(row["generation"]),
        row["status"],
        f"{row['trials_completed']}/{row['trials']}",
        str(row["attempts"]),
        duration(row["seconds"]),
        *(row[name] for name in more),
        clean(row["reason"], 200),
    )
