"""Results as a table of columns, which pandas, polars and pyarrow take as it is. Pure.

Owns: that the values of a column are of one type. A value that a genome does not have is None.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

from inbox_agent.protocol.layout import clean
from pipeline.core.farm import Farm
from pipeline.views.results import result_columns, result_rows

SHOWN_MAX = 60  #: rows of a table in a notebook
_CELL_CHARS_MAX = 200
_FLOATS = ("fitness", "seconds")  # a sum of no seconds is the integer 0


class Table(dict[str, list[Any]]):
    """The columns of a table by name, all of the same length: `pandas.DataFrame(table)` makes a data frame of it."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows, each with all columns."""
        return [dict(zip(self, values, strict=True)) for values in zip(*self.values(), strict=True)]

    def _repr_html_(self) -> str:
        """The table in a notebook: the first rows, and how many there are."""
        number = max(map(len, self.values()), default=0)
        head = "".join(f"<th>{_cell(name)}</th>" for name in self)
        rows = islice(zip(*self.values(), strict=True), SHOWN_MAX)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
        more = f"<p>{SHOWN_MAX} of {number} rows</p>" if number > SHOWN_MAX else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def results_table(farm: Farm) -> Table:
    """The genomes of a generation with the columns of `results.csv`."""
    return table_of(result_columns(farm), result_rows(farm))


def table_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows as columns; a row need not have all of them."""
    table = Table((name, []) for name in columns)
    for row in rows:
        for name, values in table.items():
            values.append(row.get(name))
    for name, values in table.items():
        table[name] = _of_one_type(values, as_float=name in _FLOATS)
    return table


def _of_one_type(values: list[Any], *, as_float: bool) -> list[Any]:
    """The values of a column: numbers are floats if one of them is; values of other types together are texts."""
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) <= 1 and not as_float:
        return values
    kind = float if kinds <= {int, float} else str
    return [None if value is None else kind(value) for value in values]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape(clean(f"{value:.6g}" if isinstance(value, float) else str(value), _CELL_CHARS_MAX))
