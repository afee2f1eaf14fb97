"""Tables as Parquet files, which keep the types of their columns."""

from pathlib import Path
from typing import Any

from inbox_agent.system.atomic_file import replace_file
from pipeline.errors import InputError, needs_extra
from pipeline.views.results import PARAM_PREFIX
from pipeline.views.table import Table


def write_parquet(table: Table, path: Path) -> None:
    """Writes a table to a file, which is complete as soon as it has its name.

    Raises:
        InputError: the file cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    data = _parquet(table)
    try:
        replace_file(path.resolve(), data)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give another place with --parquet") from error


def _parquet(table: Table) -> bytes:
    with needs_extra("table"):
        import pyarrow
        from pyarrow.parquet import write_table
    types = {name: None if _has_type(name, values) else pyarrow.float64() for name, values in table.items()}
    columns = {name: pyarrow.array(values, type=types[name]) for name, values in table.items()}
    sink = pyarrow.BufferOutputStream()
    write_table(pyarrow.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def _has_type(name: str, values: list[Any]) -> bool:
    """Whether a column's values say its type: all but fitness and metrics that no genome has."""
    return name.startswith(PARAM_PREFIX) or any(value is not None for value in values)
