"""CSV files that are written a slice at a time, so that the control loop is not held up by a long table."""

from collections.abc import Generator, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from inbox_agent.system.atomic_file import replacement, write_all
from pipeline.views.csv_table import ENCODING, csv_lines

ROWS_PER_SLICE = 250  #: a few milliseconds


def write_in_slices(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Generator[None, None, int]:
    """Replaces a file by a table; after each slice the caller may do something else. Returns the file's size in bytes.

    A caller that ends it early keeps the old file. Raises OSError: the old file is kept.
    """
    size_bytes, lines = 0, chain([columns], rows)
    with replacement(path) as file:
        while part := list(islice(lines, ROWS_PER_SLICE)):
            data = csv_lines(part).encode(ENCODING if not size_bytes else "utf-8", "replace")
            write_all(file.fileno(), data)
            size_bytes += len(data)
            if len(part) < ROWS_PER_SLICE:
                break
            yield
    return size_bytes


def encoded_rows(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows for the middle of a file."""
    return csv_lines(rows).encode(errors="replace")
