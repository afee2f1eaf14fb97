"""What the user asks for single workers, `state/drained/` and `state/restarts/`: an empty file for each.

A file for each request, so that the commands that make them and the host that carries them out need no lock.
Not here: what follows from a request (`core.worker_requests`).
"""

import os
from pathlib import Path

from pipeline.errors import disk_errors
from pipeline.paths import ProjectPaths


class WorkerRequestFiles:
    """The requests of one project. Any thread and any process may call; the names are those of configured workers."""

    def __init__(self, paths: ProjectPaths) -> None:
        self._drained, self._restarts = paths.drained, paths.restarts

    def drained(self) -> frozenset[str]:
        """The workers that get no attempts. Raises HostError."""
        return _names(self._drained)

    def drain(self, worker: str) -> None:
        """Has a worker get no more attempts, until `give_back`. Raises HostError."""
        _make(self._drained / worker)

    def give_back(self, worker: str) -> None:
        """Has a worker get attempts again. Raises HostError."""
        _remove(self._drained / worker)

    def restarts(self) -> frozenset[str]:
        """The workers whose machines are to be restarted. Raises HostError."""
        return _names(self._restarts)

    def ask_restart(self, worker: str) -> None:
        """Has a worker's machine restarted once. Raises HostError."""
        _make(self._restarts / worker)

    def note_restart(self, worker: str) -> None:
        """Removes the request for a restart: it was carried out, or refused. Raises HostError."""
        _remove(self._restarts / worker)


def _names(folder: Path) -> frozenset[str]:
    with disk_errors(folder):
        try:
            return frozenset(os.listdir(folder))
        except FileNotFoundError:
            return frozenset()


def _make(path: Path) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _remove(path: Path) -> None:
    with disk_errors(path):
        path.unlink(missing_ok=True)
