"""How much room there is for artifacts: the budgets of bytes, and the reserve of this computer's disk.

Owns: what of an artifact's size is counted, and that a shortage is told once. What a worker sends can cost it its own
artifacts, not the disk of all. The counts begin anew with each generation, and when the host starts.
Threads: those of all shares take from the same room.
"""

import contextlib
import logging
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.disk_room import reserve_bytes
from pipeline.core.limits import Limits

log = logging.getLogger(__name__)

NO_ROOM = "no room on the host"


class ArtifactRoom:
    """The room for the artifacts of one host; `folders` are on the disks that they are written to."""

    def __init__(self, limits: Limits, folders: Sequence[Path] = ()) -> None:
        self.result_bytes_max = limits.result_artifact_bytes_max
        self._limits, self._folders = limits, folders
        self._lock = threading.Lock()
        self._generation = 0
        self._by_worker: Counter[str] = Counter()  #: bytes of the generation
        self._arriving = 0  #: bytes that were taken and may not be on the disk yet
        self._warned: set[str] = set()

    def take(self, generation: int, worker: str, size_bytes: int) -> str:
        """Takes room for an artifact that will be fetched now; returns why there is none, or the empty string.

        Raises:
            OSError: the free space of this computer's disk cannot be read.
        """
        with self._lock:
            if generation != self._generation:
                self._generation = generation
                self._by_worker.clear()
                self._warned.clear()
            why = self._shortage(worker, size_bytes)
            if not why:
                self._by_worker[worker] += size_bytes
                self._arriving += size_bytes
            return why

    def note_arrived(self, size_bytes: int) -> None:
        """An artifact is on the disk now, or will not be fetched."""
        with self._lock:
            self._arriving -= size_bytes

    def give_back(self, generation: int, worker: str, size_bytes: int) -> None:
        """Gives room back that was taken for what is not kept."""
        with self._lock:
            if generation == self._generation:
                self._by_worker[worker] -= size_bytes

    def warn(self, worker: str, why: str) -> None:
        """Warns that artifacts of a worker are left out: once for each worker and reason, of a full disk once."""
        of_whom = "" if why == NO_ROOM else f"{worker}: "
        with self._lock:
            is_new = of_whom + why not in self._warned
            self._warned.add(of_whom + why)
        if is_new:
            log.warning("%sartifacts are left out: %s; results count without them", of_whom, why)

    def _shortage(self, worker: str, size_bytes: int) -> str:
        if self._by_worker[worker] + size_bytes > self._limits.worker_artifact_bytes_max:
            return "over worker_artifact_bytes_max"
        if self._by_worker.total() + size_bytes > self._limits.generation_artifact_bytes_max:
            return "over generation_artifact_bytes_max"
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):
                disk = shutil.disk_usage(folder)
                if disk.free - self._arriving - size_bytes < reserve_bytes(self._limits, disk.total):
                    return NO_ROOM
        return ""
