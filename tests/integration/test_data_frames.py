"""Tables in pandas, polars and pyarrow, as they are installed by users."""

from typing import Any

import pandas
import polars
import pyarrow
import pytest

from pipeline.core.facts import GenomeAdded
from pipeline.views.table import Table, results_table
from tests.harness.core import CoreHarness


@pytest.fixture(scope="module")
def table() -> Table:
    """Two genomes; one has params of each type, a metric and a fitness."""
    core = CoreHarness("w0", genomes=1)
    params: dict[str, Any] = {"elite": True, "kind": "x", "layers": 3, "mixed": "1", "rate": 0.5}
    core.record(GenomeAdded(genome=2, name="b", suffix="", size_bytes=1, sha256="0" * 64, params=params))
    core.record(GenomeAdded(genome=3, name="c", suffix="", size_bytes=1, sha256="0" * 64, params={"mixed": 1}))
    core.run_until_ready()
    core.publish_result(core.claim("w0"), fitness=2.0, metrics={"score": 1.0})
    core.tick()
    return results_table(core.farm)


def test_pandas_takes_a_table(table: Table) -> None:
    frame = pandas.DataFrame(table)

    assert list(frame.columns) == list(table)
    assert frame["fitness"].max() == 2.0
    assert [str(frame[name].dtype) for name in ("fitness", "trials", "score", "param_rate")] == [
        "float64",
        "int64",
        "float64",
        "float64",
    ]
    assert frame.set_index("genome")["param_kind"].to_dict()["b"] == "x"


def test_polars_takes_a_table(table: Table) -> None:
    frame = polars.DataFrame(table)

    assert frame.columns == list(table)
    assert frame.schema["fitness"] == frame.schema["param_rate"] == polars.Float64
    assert frame.schema["param_elite"] == polars.Boolean
    assert frame.schema["param_mixed"] == polars.String
    assert frame.rows(named=True) == table.rows()


def test_pyarrow_takes_a_table(table: Table) -> None:
    found = pyarrow.table(table)

    assert found.to_pydict() == table
    assert str(found.schema.field("param_layers").type) == "int64"


def test_table_without_genomes_is_taken_by_all() -> None:
    """A program may ask before its first generation."""
    empty = results_table(CoreHarness("w0", genomes=0).farm)

    assert len(pandas.DataFrame(empty)) == polars.DataFrame(empty).height == pyarrow.table(empty).num_rows == 0
