"""The results folder of a generation: `results.csv`, `attempts.csv`, `summary.json`, and results of an earlier run.

Rewritten while the generation runs; the same facts give the same bytes. A file that another program holds open causes
one warning and is retried at the next write.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from inbox_agent.system.atomic_file import replace_file
from pipeline.core.farm import Farm
from pipeline.errors import HostError, disk_errors
from pipeline.paths import ATTEMPTS, ATTEMPTS_CSV, RESULTS_CSV, RESULTS_JSONL, SET_ASIDE, SUMMARY_JSON
from pipeline.views.csv_table import ENCODING, csv_text
from pipeline.views.results import ATTEMPT_COLUMNS, RESULT_COLUMNS, attempt_rows, result_rows, summary

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
TIME_FRACTION_MAX = 0.02  #: of the host's time is spent on writing them


class Outputs:
    """The output files in one generation's results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.earlier: Path | None = None  #: the folder that `move_aside` has moved this one to
        self._due = time.monotonic() + INTERVAL_S
        self._warned: set[str] = set()

    @property
    def is_due(self) -> bool:
        """Whether to write again while the generation runs."""
        return time.monotonic() >= self._due

    def move_aside(self) -> None:
        """Renames the folder if it has results of an earlier run or farm. Raises HostError: it cannot be renamed."""
        try:
            if not any((self.folder / name).exists() for name in (RESULTS_JSONL, ATTEMPTS, SET_ASIDE)):
                return
            number = 1
            while (aside := self.folder.with_name(f"{self.folder.name}.before-{number}")).exists():
                number += 1
            os.rename(self.folder, aside)
        except OSError as error:
            reason = f"{self.folder}: cannot be moved aside: {error}; close what has it open and run again"
            raise HostError(reason) from error
        self.earlier = aside

    def write(self, farm: Farm) -> None:
        """Writes all three files, each atomically. Raises HostError: their folder cannot be created."""
        begun = time.monotonic()
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        rows = result_rows(farm)
        metrics = sorted({name for row in rows for name in row} - set(RESULT_COLUMNS))
        columns = (*RESULT_COLUMNS, *metrics)
        self._write_file(RESULTS_CSV, _csv(columns, ([row.get(name) for name in columns] for row in rows)))
        self._write_file(ATTEMPTS_CSV, _csv(ATTEMPT_COLUMNS, attempt_rows(farm)))
        text = orjson.dumps(summary(farm), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        self._write_file(SUMMARY_JSON, text)
        took_s = time.monotonic() - begun
        self._due = begun + max(INTERVAL_S, took_s / TIME_FRACTION_MAX)

    def _write_file(self, name: str, data: bytes) -> None:
        path = self.folder / name
        try:
            replace_file(path, data)
        except OSError as error:
            if name not in self._warned:
                log.warning("%s cannot be written (%s); is it open in another program? It is tried again", path, error)
            self._warned.add(name)
        else:
            self._warned.discard(name)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    return csv_text(columns, rows).encode(ENCODING, "replace")
