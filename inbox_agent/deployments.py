"""Deployed evaluators: takes the newest deployment in the share, unpacks it and lets the agent play it.

Owns: the folder of deployed evaluators on this machine, and which of them is played, also after a restart. A deployment
that cannot be taken is tried again a few times, and what was played before stays.
Not here: the records (inbox_agent.protocol.deployment), when a deployment may be taken (planner).
"""

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from inbox_agent.evaluation.protocol import CannotLoad, EvaluationJob, EvaluationResult
from inbox_agent.evaluation.versioned import EvaluatorSource, FilesState
from inbox_agent.evaluator_archive import ArchiveError, unpack_evaluator
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import DeployRecord, archive_name, record_name
from inbox_agent.protocol.files import FileInvalid, FileMissing, FileRefused, ShareFiles
from inbox_agent.protocol.layout import INBOX, HostRecord, LayoutError
from inbox_agent.protocol.readers import read_record
from inbox_agent.settings import EvaluatorTable, SettingsError, convert
from inbox_agent.system.atomic_file import flush_names, replace_file
from inbox_agent.system.file_retry import retry_while_busy

log = logging.getLogger(__name__)

TRIES_MAX = 5  #: of one deployment
TRY_AGAIN_S = 1.0
KEPT_MAX = 3  #: deployed evaluators on this machine
_NONE_YET = "there is no evaluator yet; `pipeline deploy` on the host brings one"
_LIMITS = ("stall_limit_s", "load_limit_s", "memory_limit_mb", "games_per_process")
_CURRENT = "current.json"  #: a copy of the record of the deployment that is played
_ARCHIVE = "archive.zip"


class NoEvaluator:
    """The evaluator of an agent that has none yet. Implements the `GenomeEvaluator` protocol."""

    progress = ""
    reads_files_at_each_game = False
    loads = 0
    is_unused = True

    def load(self, timeout_s: float) -> bool:
        """Raises CannotLoad."""
        raise CannotLoad(_NONE_YET)

    def unload(self) -> None:
        """Does nothing."""

    def prepare(self, suffix: str) -> Path:
        """Never called: nothing is claimed before an evaluator is loaded."""
        raise AssertionError

    def start(self, job: EvaluationJob) -> None:
        """Never called."""
        raise AssertionError

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        """No evaluation runs."""
        return None

    def stop(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def no_evaluator() -> EvaluatorSource:
    """The evaluator of an agent that waits for its first deployment."""
    return EvaluatorSource(NoEvaluator(), lambda: FilesState("", 0, {}))


class DeploymentRefused(ValueError):
    """A deployment cannot be taken; the message is one line."""


class DeployedEvaluators:
    """The folder of deployed evaluators."""

    def __init__(self, folder: Path, own: EvaluatorTable) -> None:
        """`own` is the agent's own table, whose environment holds for deployed evaluators as well."""
        self._folder, self._own = folder, own

    def current(self) -> DeployRecord | None:
        """The deployment that was taken last; None if there is none, or if its files are gone."""
        path = self._folder / _CURRENT
        try:
            record = layout.decode(DeployRecord, path.read_bytes(), _CURRENT)
        except (OSError, LayoutError):
            return None
        return record if self.folder_of(record).is_dir() else None

    def folder_of(self, record: DeployRecord) -> Path:
        """The folder with the files of a deployed evaluator."""
        return self._folder / f"v-{record.evaluator.replace(':', '_')}"

    def table_of(self, record: DeployRecord) -> EvaluatorTable:
        """The table to play it with. Raises DeploymentRefused: it says nothing to play, or something that cannot be."""
        fields = {name: getattr(record, name) for name in ("command", "python", "files", "result_is_final", *_LIMITS)}
        environment = msgspec.to_builtins(self._own.environment)
        try:
            table = convert(
                {**fields, "environment": environment},
                EvaluatorTable,
                "the deployment",
            )
        except SettingsError as error:
            raise DeploymentRefused(str(error)) from error
        if not table.is_playable:
            raise DeploymentRefused("it does not say what is played")
        return table

    def install(self, record: DeployRecord, fetch: Callable[[Path], str]) -> None:
        """Unpacks a deployment if its files are not there yet, and notes it as the current one.

        Args:
            fetch: copies the archive to a file and returns its SHA-256; raises as `ShareFiles.fetch`.

        Raises:
            DeploymentRefused: its archive or its version is wrong.
            OSError: the folder cannot be written.
        """
        table, folder = self.table_of(record), self.folder_of(record)
        if not self._has_version(table, folder, record.evaluator):
            self._folder.mkdir(parents=True, exist_ok=True)
            archive, staged = self._folder / _ARCHIVE, self._folder / "new"
            _remove_tree(staged)
            with contextlib.ExitStack() as closing:
                closing.callback(_remove_tree, staged)
                closing.callback(archive.unlink, missing_ok=True)
                if fetch(archive) != record.archive_sha256 or archive.stat().st_size != record.archive_bytes:
                    raise DeploymentRefused("its archive is incomplete or damaged")
                try:
                    unpack_evaluator(archive, staged)
                except ArchiveError as error:
                    raise DeploymentRefused(f"its archive: {error}") from error
                if (version := EvaluatorFiles(table, staged).version()) != record.evaluator:
                    raise DeploymentRefused(f"its files have version {version}, announced is {record.evaluator}")
                _remove_tree(folder)
                retry_while_busy(lambda: staged.rename(folder))
        flush_names(self._folder)
        replace_file(self._folder / _CURRENT, layout.encode(record), durable=True)
        self._remove_old(folder)

    def _has_version(self, table: EvaluatorTable, folder: Path, version: str) -> bool:
        try:
            return folder.is_dir() and EvaluatorFiles(table, folder).version() == version
        except ValueError:  # the files cannot be read
            return False

    def _remove_old(self, current: Path) -> None:
        """Removes all but the newest ones; what another process has open stays until the next deployment."""
        with contextlib.suppress(OSError):
            current.touch()
            found = sorted(self._folder.glob("v-*"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in [path for path in found if path != current][KEPT_MAX - 1 :]:
                _remove_tree(old)


class DeploymentIntake:
    """Takes deployments from a share."""

    def __init__(
        self,
        files: ShareFiles,
        evaluators: DeployedEvaluators,
        make: Callable[[EvaluatorTable, Path], EvaluatorSource],
        clock: Callable[[], float],
    ) -> None:
        """`make` makes the evaluator of a table and the folder with its files."""
        self._files, self._evaluators, self._make, self._clock = files, evaluators, make, clock
        current = evaluators.current()
        self.taken = current.number if current is not None else 0  #: the number of the last one; 0: none
        self._tries: dict[int, int] = {}
        self._again_at = 0.0

    def due(self, newest: int) -> int | None:
        """The deployment to take now, given the highest number in the share; None if there is none."""
        if newest in (0, self.taken) or self._tries.get(newest, 0) >= TRIES_MAX or self._clock() < self._again_at:
            return None
        return newest

    def take(self, number: int, owner: HostRecord) -> EvaluatorSource | None:
        """Takes a deployment of the share's owner; returns its evaluator, or None if it cannot be taken.

        Raises:
            Unavailable: the share cannot be asked.
        """
        try:
            record = read_record(self._files, DeployRecord, INBOX, record_name(number))
            if (record.farm, record.worker, record.number) != (owner.farm, owner.worker, number):
                raise DeploymentRefused(f"it is number {record.number} of worker {record.worker} of another farm")
            name = f"{INBOX}/{archive_name(number)}"
            self._evaluators.install(record, lambda path: self._files.fetch(name, path, record.archive_bytes))
            source = self._make(self._evaluators.table_of(record), self._evaluators.folder_of(record))
        except (FileMissing, FileInvalid, FileRefused, LayoutError, ValueError, OSError) as error:
            self._tries = {number: self._tries.get(number, 0) + 1}
            self._again_at = self._clock() + TRY_AGAIN_S
            if self._tries[number] in (1, TRIES_MAX):
                log.warning("deployment %d cannot be taken: %s", number, error)
            return None
        self.taken, self._tries = number, {}
        log.info("deployment %d is taken: evaluator %s", number, record.evaluator)
        return source


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
