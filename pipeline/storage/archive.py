"""Result archive: every accepted result with its log and artifacts, by attempt id; other results are set aside.

Owns: where a result is stored. It is written before the result is recorded: one archived but not recorded is collected
again under the same name; one recorded but not archived cannot occur.
"""

import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from inbox_agent.system.atomic_file import write_all
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.core.observation import CollectedResult
from pipeline.paths import ATTEMPT_FILES, ATTEMPT_LOG, ATTEMPT_RESULT, ATTEMPTS, SET_ASIDE, ProjectPaths


class Archive:
    """Results in the results folders of their generations; fetched artifacts are in `incoming/<worker>/<attempt>/`."""

    def __init__(self, paths: ProjectPaths) -> None:
        self._paths = paths

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
        """Keeps a result that is not counted as evidence: late, corrupt or unexpected. Raises OSError."""
        if result.data:
            aside = self._paths.results(generation) / SET_ASIDE
            aside.mkdir(parents=True, exist_ok=True)
            _write(str(aside / f"{result.attempt}.{reason}.json"), result.data)
        shutil.rmtree(self._paths.incoming / worker / result.attempt, ignore_errors=True)

    @staticmethod
    def _store_artifacts(folder: Path, incoming: Path, names: Iterable[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (incoming / name).exists():
                retry_while_busy(partial(shutil.move, incoming / name, folder / name))
        shutil.rmtree(incoming, ignore_errors=True)


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    descriptor = retry_while_busy(lambda: os.open(path, flags, 0o666))
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
