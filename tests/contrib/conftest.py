"""The table at the end of `make test-contrib`."""

from collections import defaultdict
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Row:
    """One run of a library on a farm."""

    library: str
    version: str
    evaluations: int
    seconds: float
    kills: int = 0


ROWS = pytest.StashKey[list[Row]]()
NOTES = pytest.StashKey[list[str]]()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Rows of the table."""
    return request.config.stash.setdefault(ROWS, [])


@pytest.fixture
def notes(request: pytest.FixtureRequest) -> list[str]:
    """Lines below the table."""
    return request.config.stash.setdefault(NOTES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    runs = defaultdict[tuple[str, str], list[Row]](list)
    for row in terminalreporter.config.stash.get(ROWS, []):
        runs[row.library, row.version].append(row)
    lines = [("library", "version", "runs", "evaluations", "kills", "seconds")]
    for (library, version), found in sorted(runs.items()):
        lines.append((library, version, str(len(found)), *totals(found)))
    lines.append(
        ("all", "", str(sum(map(len, runs.values()))), *totals([row for found in runs.values() for row in found]))
    )
    if runs:
        terminalreporter.section("optimisers on the farm")
        for line in lines:
            terminalreporter.write_line("{:36}{:>10}{:>6}{:>13}{:>7}{:>9}".format(*line))
    for note in terminalreporter.config.stash.get(NOTES, []):
        terminalreporter.write_line(note)


def totals(rows: list[Row]) -> tuple[str, str, str]:
    """Evaluations, kills and seconds."""
    return (
        str(sum(row.evaluations for row in rows)),
        str(sum(row.kills for row in rows)),
        f"{sum(row.seconds for row in rows):.1f}",
    )
