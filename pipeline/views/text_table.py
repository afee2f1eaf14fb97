"""Plain-text tables: columns as wide as their cells, lines cut to the width of the screen. Pure."""

from collections.abc import Collection, Sequence


def format_table(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), width: int | None = None) -> str:
    """The rows as aligned lines, the first row as the head; columns in `right` are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        line = "  ".join(cells).rstrip()
        lines.append(line if width is None or len(line) <= width else line[: width - 1] + "…")
    return "\n".join(lines)
