"""Result archive: a line for every accepted result, a folder for its log and artifacts; other results are set aside.

Owns: where a result is stored, and how much is set aside. A result is written before it is recorded: one archived but
not recorded is collected and archived again; one recorded but not archived cannot occur.
Not here: the form of a line (`result_lines`).
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from inbox_agent.system.atomic_file import write_all
from inbox_agent.system.file_retry import retry_while_busy
from inbox_agent.system.full_disk import is_disk_full
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult
from pipeline.paths import ATTEMPT_FILES, ATTEMPT_LOG, ATTEMPTS, RESULTS_JSONL, SET_ASIDE, ProjectPaths
from pipeline.storage.line_file import LineFile
from pipeline.storage.result_lines import encode_line

log = logging.getLogger(__name__)


class Archive:
    """Results in the results folders of their generations; fetched artifacts are in `incoming/<worker>/<attempt>/`."""

    def __init__(self, paths: ProjectPaths, set_aside_bytes_max: int = Limits().set_aside_bytes_max) -> None:
        self._paths = paths
        self._set_aside_bytes_max = set_aside_bytes_max
        self._set_aside_bytes: dict[Path, int] = {}  #: folder of results set aside -> bytes in it
        self._lines: LineFile | None = None  #: of the generation that is played

    def clear_incoming(self) -> None:
        """Removes what an earlier host has fetched and not archived."""
        shutil.rmtree(self._paths.incoming, ignore_errors=True)

    def store(self, generation: int, results: Iterable[tuple[str, CollectedResult]]) -> None:
        """Archives accepted results, each with its worker: logs and artifacts, then the lines of all in one write.

        Raises:
            OSError: none of them may be recorded.
        """
        folder = self._paths.results(generation)
        lines = [self._store_files(folder, worker, result) for worker, result in results]
        if self._lines is None or self._lines.path.parent != folder:
            self.close()
            self._lines = LineFile(folder / RESULTS_JSONL)
        self._lines.append(b"".join(lines))

    def close(self) -> None:
        """Closes the file of lines until the next result: on Windows its folder can be renamed only then.

        Raises:
            OSError: a disk in the network reports now that something could not be written.
        """
        if self._lines is not None:
            self._lines.close()

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

    def _store_files(self, results: Path, worker: str, result: CollectedResult) -> bytes:
        """Stores log and artifacts of a result; returns its line."""
        if not (result.log or result.artifacts):
            return encode_line(result.attempt, result.data, log=False, files=[])
        folder, files = results / ATTEMPTS / result.attempt, list[str]()
        if result.log:
            folder.mkdir(parents=True, exist_ok=True)
            _write(str(folder / ATTEMPT_LOG), result.log)
        if result.artifacts:
            incoming = self._paths.incoming / worker / result.attempt
            files += self._store_artifacts(folder / ATTEMPT_FILES, incoming, result.artifacts)
        return encode_line(result.attempt, result.data, log=bool(result.log), files=files)

    @staticmethod
    def _store_artifacts(folder: Path, incoming: Path, names: Iterable[str]) -> Iterator[str]:
        """Moves artifacts, and names those that are there then; on a full disk the rest is left out."""
        for name in names:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if (incoming / name).exists():
                    retry_while_busy(partial(shutil.move, incoming / name, folder / name))
                if (folder / name).exists():  # moved now, or before a host was killed
                    yield name
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
