"""Result archive: every accepted result with its log and artifacts, by attempt id; other results are set aside.

Owns: where a result is stored, and how much is set aside. A result is written before it is recorded: one archived but
not recorded is collected again under the same name; one recorded but not archived cannot occur.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from inbox_agent.system.atomic_file import write_all
from inbox_agent.system.file_retry import retry_while_busy
from inbox_agent.system.full_disk import is_disk_full
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult
from pipeline.paths import ATTEMPT_FILES, ATTEMPT_LOG, ATTEMPT_RESULT, ATTEMPTS, SET_ASIDE, ProjectPaths

log = logging.getLogger(__name__)


class Archive:
    """Results in the results folders of their generations; fetched artifacts are in `incoming/<worker>/<attempt>/`."""

    def __init__(self, paths: ProjectPaths, set_aside_bytes_max: int = Limits().set_aside_bytes_max) -> None:
        self._paths = paths
        self._set_aside_bytes_max = set_aside_bytes_max
        self._set_aside_bytes: dict[Path, int] = {}  #: folder of results set aside -> bytes in it

    def clear_incoming(self) -> None:
        """Removes what an earlier host has fetched and not archived."""
        shutil.rmtree(self._paths.incoming, ignore_errors=True)

    def store(self, generation: int, worker: str, result: CollectedResult) -> None:
        """Archives an accepted result of a worker as `attempts/<attempt>/result.json`. Raises OSError."""
        folder = f"{self._paths.results(generation)}{os.sep}{ATTEMPTS}{os.sep}{result.attempt}"
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError:
            pass  # collected by a host that was killed before it recorded it
        _write(f"{folder}{os.sep}{ATTEMPT_RESULT}", result.data)
        if result.log:
            _write(f"{folder}{os.sep}{ATTEMPT_LOG}", result.log)
        if result.artifacts:
            self._store_artifacts(
                Path(folder) / ATTEMPT_FILES, self._paths.incoming / worker / result.attempt, result.artifacts
            )

    def set_aside(self, generation: int, worker: str, result: CollectedResult, reason: str) -> None:
        """Keeps a result that is not counted as evidence, late, corrupt or unexpected, if there is room for it.

        Raises:
            OSError: it cannot be written, for another reason than a full disk.
        """
        if not result.data:
            return
        aside = self._paths.results(generation) / SET_ASIDE
        try:
            if self._has_room(aside, len(result.data)):
                _write(str(aside / f"{result.attempt}.{reason}.json"), result.data)
        except OSError as error:
            if not is_disk_full(error):
                raise
            log.warning("%s: a result of %s that is not counted cannot be kept: %s", aside, worker, error.strerror)

    def discard(self, worker: str, attempt: str) -> None:
        """Removes what was fetched of a result, once it is judged; after `store` nothing is left of it there."""
        shutil.rmtree(self._paths.incoming / worker / attempt, ignore_errors=True)

    def _has_room(self, aside: Path, size_bytes: int) -> bool:
        """Takes room for a result in the folder of those that are set aside, which is made if it is missing."""
        try:
            aside.mkdir(parents=True)
            before = 0
        except FileExistsError:
            before = self._set_aside_bytes[aside] if aside in self._set_aside_bytes else _bytes_in(aside)
        after = self._set_aside_bytes[aside] = before + size_bytes
        if before <= self._set_aside_bytes_max < after:
            log.warning("%s: set_aside_bytes_max is reached, further results that are not counted are not kept", aside)
        return after <= self._set_aside_bytes_max

    @staticmethod
    def _store_artifacts(folder: Path, incoming: Path, names: Iterable[str]) -> None:
        """Moves artifacts; on a full disk the rest is left out."""
        for name in names:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if (incoming / name).exists():
                    retry_while_busy(partial(shutil.move, incoming / name, folder / name))
            except OSError as error:
                if not is_disk_full(error):
                    raise
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
                log.warning("%s: artifacts are left out: %s", folder, error.strerror)
                return


def _bytes_in(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    descriptor = retry_while_busy(lambda: os.open(path, flags, 0o666))
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
