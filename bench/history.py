"""The figures of every run, kept in a file with a JSON object per line, and their trend as text."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.apart import ROOT
from bench.machine import one_line
from bench.table import Row, aligned, shown

RUNS_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the trend shows of a run."""

    commit: str
    date: str
    machine: str
    kind: tuple[object, ...]  #: equal for runs that can be compared
    figures: dict[str, tuple[float, str]]  #: value and unit, by the name of the row


def entry(rows: Sequence[Row], machine: dict[str, Any], at: datetime, commit: str, *, quick: bool) -> dict[str, Any]:
    """What the history keeps of a run: of each row that was measured the value that its target bounds."""
    figures = {
        row.name: {"value": row.value.median, "unit": "x" if row.against else row.unit, "verdict": row.verdict}
        for row in rows
        if row.value is not None
    }
    date = at.astimezone(UTC).isoformat(timespec="seconds")
    return {"commit": commit, "date": date, "quick": quick, "machine": machine, "figures": figures}


def append(path: Path, run: dict[str, Any]) -> None:
    """Adds a run to the file, which may be missing."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")


def read(path: Path) -> list[Run]:
    """The runs, in the order of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is not a run; the message says which.
    """
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            runs.append(_run(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is not a run of the bench") from error
    return runs


def trend(runs: Sequence[Run]) -> str:
    """The last runs, and each figure in all of them with its change from the run before the last to the last.

    Only runs like the last one are shown: quick or not, with the same cores, Python and system.
    """
    if not runs:
        return "no run yet"
    alike = [run for run in runs if run.kind == runs[-1].kind][-RUNS_SHOWN_MAX:]
    names = list(dict.fromkeys(name for run in reversed(alike) for name in run.figures))
    columns = [f"{number}: {run.commit}" for number, run in enumerate(alike, 1)]
    head = [f"{number}: {run.date}  {run.machine}" for number, run in enumerate(alike, 1)]
    lines = [["what", *columns, "change"], *(_line(name, alike) for name in names)]
    left_out = len(runs) - len(alike)
    also = [f"{left_out} other runs are not shown: older, or not comparable"] if left_out else []
    return "\n".join([*head, *also, "", aligned(lines)])


def commit() -> str:
    """The commit of this checkout, marked if files differ from it; `unknown` without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _run(kept: dict[str, Any]) -> Run:
    machine = kept["machine"]
    return Run(
        commit=kept["commit"],
        date=kept["date"],
        machine=one_line(machine),
        kind=(kept["quick"], machine["cores"], machine["python"], machine["system"]),
        figures={name: (float(each["value"]), each["unit"]) for name, each in kept["figures"].items()},
    )


def _line(name: str, runs: Sequence[Run]) -> list[str]:
    found = [run.figures.get(name) for run in runs]
    cells = [shown(*each) if each is not None else "-" for each in found]
    known = [each[0] for each in found if each is not None]
    changed = found[-1] is not None and len(known) > 1 and known[-2]
    change = f"{100 * (known[-1] / known[-2] - 1):+.0f} %" if changed else "-"
    return [name, *cells, change]
