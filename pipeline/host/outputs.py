"""The results folder of a generation: `results.csv`, `attempts.csv`, `summary.json`, and results of an earlier run.

At the end all three are written from the farm, so the same facts give the same bytes. While the generation runs, no
step costs in proportion to it: `summary.json` has only counts, `attempts.csv` is appended to, `results.csv` is written
in slices between ticks and then replaced. A row of it is as its genome was when its slice was written.
A file that another program holds open causes one warning and is retried later.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from math import inf
from pathlib import Path

import orjson

from inbox_agent.system.atomic_file import replace_file
from pipeline.core.facts import AttemptEnded, Fact
from pipeline.core.farm import Farm
from pipeline.errors import HostError, disk_errors
from pipeline.host.attempts_table import AttemptsTable
from pipeline.host.csv_file import ROWS_PER_SLICE, write_in_slices
from pipeline.paths import ATTEMPTS, ATTEMPTS_CSV, RESULTS_CSV, RESULTS_JSONL, SET_ASIDE, SUMMARY_JSON
from pipeline.views.results import result_columns, result_rows, summary

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
TIME_FRACTION_MAX = 0.02  #: of the host's time is spent on writing tables
SLICE_TIME_FRACTION_MAX = 0.1  #: of the time while one is written


class Outputs:
    """The output files in one generation's results folder."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self._clock = folder, clock
        self.earlier: Path | None = None  #: the folder that `move_aside` has moved this one to
        self._attempts = AttemptsTable(folder / ATTEMPTS_CSV)
        self._due = self._tables_due = clock() + INTERVAL_S
        self._writing: Generator[None, None, None] | None = None  #: tables, a slice at each step
        self._begun = self._spent_s = self._slice_due = 0.0
        self._warned: set[str] = set()

    @property
    def wait_s(self) -> float:
        """How long until the next slice is due; infinite if no table is being written."""
        return max(0.0, self._slice_due - self._clock()) if self._writing is not None else inf

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
        if self._writing is not None:
            self._writing.close()
            self._writing = None
        for _slice in self._tables(farm, anew=True):
            pass
        self._write_summary(farm)

    def update(self, farm: Farm, facts: Iterable[Fact]) -> None:
        """Brings the files closer to the farm after a tick with these facts; for a few milliseconds at most.

        Raises HostError: their folder cannot be created.
        """
        self._attempts.note_over([farm.attempts[fact.attempt] for fact in facts if isinstance(fact, AttemptEnded)])
        now = self._clock()
        is_due = now >= self._due
        if self._attempts.appendable >= (1 if is_due else ROWS_PER_SLICE):
            with self._one_warning(ATTEMPTS_CSV):
                self._attempts.append()
        if is_due:
            self._due = now + INTERVAL_S
            self._write_summary(farm)
        if self._writing is None and now >= self._tables_due:
            self._writing, self._begun, self._spent_s = self._tables(farm), now, 0.0
        if self._writing is not None and now >= self._slice_due:
            is_written = next(self._writing, _END) is _END
            took_s = self._clock() - now
            self._spent_s += took_s
            self._slice_due = now + took_s / SLICE_TIME_FRACTION_MAX
            if is_written:
                self._writing = None
                self._tables_due = self._begun + max(INTERVAL_S, self._spent_s / TIME_FRACTION_MAX)

    def _tables(self, farm: Farm, *, anew: bool = False) -> Generator[None, None, None]:
        """Writes `results.csv`, and `attempts.csv` if it must be written `anew`, a slice at each step."""
        self._make_folder()
        with self._one_warning(RESULTS_CSV):
            columns = result_columns(farm)
            rows = ([row.get(name) for name in columns] for row in result_rows(farm))
            yield from write_in_slices(self.folder / RESULTS_CSV, columns, rows)
        if anew or self._attempts.must_be_written(farm):
            with self._one_warning(ATTEMPTS_CSV):
                yield from self._attempts.write_anew(farm)

    def _make_folder(self) -> None:
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def _write_summary(self, farm: Farm) -> None:
        self._make_folder()
        with self._one_warning(SUMMARY_JSON):
            text = orjson.dumps(summary(farm), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            replace_file(self.folder / SUMMARY_JSON, text)

    @contextlib.contextmanager
    def _one_warning(self, name: str) -> Iterator[None]:
        """Warns if a block cannot write a file, once until it can."""
        try:
            yield
        except OSError as error:
            if name not in self._warned:
                reason = f"({error}); is it open in another program? It is tried again"
                log.warning("%s cannot be written %s", self.folder / name, reason)
            self._warned.add(name)
        else:
            self._warned.discard(name)


_END = object()
