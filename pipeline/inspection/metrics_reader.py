"""The metrics of a project, read from its ledger and the status of its host, also while these are replaced.

Owns: how much is read for one answer.
Not here: names and labels (`views.metrics`), the text format (`ui.metrics_text`).
"""

import contextlib
import shutil
import time
from pathlib import Path

from inbox_agent.identity import agent_version
from pipeline.core.model import IllegalFact
from pipeline.errors import PipelineError
from pipeline.inspection.current_reader import CurrentReader
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import LEDGER_FILE, ProjectPaths
from pipeline.views.metrics import Disk, HistogramMetric, LedgerCounts, Metric, Surroundings, farm_metrics
from pipeline.views.progress import Progress

READ_TIME_S = 3.0  #: for the facts of one answer: a scraper waits ten seconds by default


class MetricsReader:
    """Reads the metrics again and again; an answer costs in proportion to the facts that are new since the last one."""

    def __init__(self, root: Path) -> None:
        self._root, self._paths = root, ProjectPaths(root)
        self._ledger = self._paths.state / LEDGER_FILE
        self._current = CurrentReader(root)
        self._counted: ProjectReader | None = None  #: whose facts are counted
        self._counts, self._seq = LedgerCounts(), 0
        self._had_ledger = False

    def read(self) -> list[Metric | HistogramMetric] | str:
        """The metrics as they are now, or one line that says why they cannot be told: the next call may succeed."""
        try:
            now = self._read()
        except PipelineError as error:
            self.close()
            return str(error)
        except IllegalFact:  # these facts do not follow from those read before: another ledger was written over it
            self.close()
            return f"{self._ledger}: its facts contradict each other; `pipeline verify` says more"
        return now if isinstance(now, str) else farm_metrics(self._counts, now, self._surroundings())

    def close(self) -> None:
        """Closes the ledger; the next call opens it again."""
        self._current.close()

    def _read(self) -> Progress | str | None:
        """Counts what is new. Returns the progress of the generation that is played, or was played last."""
        reader = self._current.get()
        if reader is None and self._had_ledger:
            return f"{self._ledger}: it is not there any more; restore it, or restart `pipeline serve` for a new farm"
        if reader is not self._counted:
            self._counted, self._counts, self._seq = reader, LedgerCounts(), 0
        if reader is None:
            return None
        self._had_ledger = True
        if not self._count(reader):
            return f"{self._ledger}: {self._seq} of {reader.facts} facts are read so far; ask again"
        known = reader.generations()
        if not known:
            return None  # a refused first run left an empty ledger
        generation = reader.playing()
        if generation not in known:
            generation = reader.latest()
        reader.forget_others(generation)
        return reader.progress(generation, with_history=False)

    def _count(self, reader: ProjectReader) -> bool:
        """Counts new facts for a limited time. Returns whether all of them are counted."""
        until = time.monotonic() + READ_TIME_S
        for entry in reader.entries(after=self._seq):
            self._counts.note(entry)
            self._seq = entry.seq
            if time.monotonic() >= until:
                return self._seq >= reader.facts
        return True

    def _surroundings(self) -> Surroundings:
        size = 0
        with contextlib.suppress(OSError):
            size = self._ledger.stat().st_size
        folders = {"state": self._paths.state, "results": self._paths.all_results}
        disks = {name: disk for name, folder in folders.items() if (disk := _disk(folder, self._root)) is not None}
        return Surroundings(version=agent_version(), at=time.time(), disks=disks, ledger_bytes=size)


def _disk(folder: Path, root: Path) -> Disk | None:
    """The file system of a folder, or of the project if it does not exist yet."""
    for place in (folder, root):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(place)
            return Disk(usage.free, usage.used)
    return None
