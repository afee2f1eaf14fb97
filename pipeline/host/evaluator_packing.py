"""Packs the files of an evaluator, to be deployed: on request, and for the workers on sites whenever they differ.

Owns: what of `[evaluator]` is part of a deployment. Not here: the archive (`inbox_agent.evaluator_archive`).
"""

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from inbox_agent.evaluator_archive import ArchiveError, pack_evaluator
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.atomic_file import replace_file
from pipeline.config import Config
from pipeline.core.deployment import Deployment, Deployments
from pipeline.errors import ConfigError, InputError, disk_errors
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore, size_and_digest


@dataclass(frozen=True, slots=True)
class PackedEvaluator:
    """What is deployed."""

    deployment: Deployment  #: its number is 0 until it is added
    files: dict[str, str]  #: path -> SHA-256
    is_new: bool  #: whether the last deployment was another one


def pack(root: Path, config: Config, folder: Path, workers: Sequence[str], *, keep: bool) -> PackedEvaluator:
    """Packs the files that count for the evaluator.

    Args:
        folder: the folder of the files.
        workers: whom it is for; empty: all.
        keep: whether the archive is kept, to be deployed. In `DeploymentStore.changing`.

    Raises:
        InputError: the files cannot be deployed.
        HostError: the archive cannot be written.
    """
    paths, store = ProjectPaths(root), DeploymentStore(ProjectPaths(root))
    last = store.read().known[-1:]
    evaluator_files = EvaluatorFiles(config.evaluator, folder)
    with _new_archive(paths, keep=keep) as packed, disk_errors(packed):
        try:
            files = evaluator_files.read()
            version = evaluator_files.version(files)
            pack_evaluator(folder, files, packed)
        except EvaluatorFilesError as error:
            raise InputError(str(error)) from error
        except ArchiveError as error:
            raise InputError(f"{folder}: {error}; `files` in [evaluator] says which files travel") from error
        archive_bytes, archive_sha256 = size_and_digest(packed)
        if keep:
            packed.replace(store.archive(archive_sha256))
            paths.all_evaluator_files.mkdir(parents=True, exist_ok=True)
            replace_file(paths.evaluator_files(version), msgspec.json.format(msgspec.json.encode(files)))
    deployment = replace(
        _described(config.evaluator),
        evaluator=version,
        archive_bytes=archive_bytes,
        archive_sha256=archive_sha256,
        workers=tuple(workers) or None,
        deployed_at=time.time(),
    )
    return PackedEvaluator(deployment, files, not (last and last[0].is_same(deployment)))


@contextlib.contextmanager
def _new_archive(paths: ProjectPaths, *, keep: bool) -> Iterator[Path]:
    """Where an archive is packed: in the state folder only if it is kept."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="pipeline-deploy-") as place:
            yield Path(place, paths.new_archive.name)
        return
    try:
        yield paths.new_archive
    finally:
        paths.new_archive.unlink(missing_ok=True)


class SiteEvaluator:
    """The evaluator for the workers on sites: the files of the project, deployed again whenever they have changed."""

    def __init__(self, root: Path, config: Config, folder: Path, workers: Sequence[str]) -> None:
        """`folder` has the evaluator's files, `workers` are those that are there from the start."""
        self._root, self._config, self._folder, self.workers = root, config, folder, list(workers)
        self._files = EvaluatorFiles(config.evaluator, folder)
        self._store = DeploymentStore(ProjectPaths(root))

    def deploy(self) -> None:
        """Deploys the files as they are now, if these workers, or some of them, were not given the same last.

        Raises:
            InputError: the files cannot be deployed.
            ProjectBusyError: `pipeline deploy` is at work.
            HostError: the archive cannot be written.
        """
        if not self.workers:
            return
        if self._is_deployed():
            self._name(self.workers)
            return
        with self._store.changing():
            packed = pack(self._root, self._config, self._folder, self.workers, keep=True)
            self._store.add(packed.deployment)

    def admit(self, workers: Collection[str], known: Deployments) -> Deployments:
        """Names further workers in the deployment that the others were given last, whatever the files are now.

        Returns the deployments that the host knows, with these workers.

        Raises:
            InputError: the list of deployments is damaged.
            ProjectBusyError: `pipeline deploy` is at work.
            HostError: the list cannot be written.
        """
        self._name(workers)
        known = known.widened(self.workers, workers)
        self.workers += workers
        return known

    def _name(self, workers: Collection[str]) -> None:
        known = self._store.read()
        if known.widened(self.workers, workers) is not known:
            with self._store.changing():
                self._store.widen(self.workers, workers)

    def _is_deployed(self) -> bool:
        """Whether some of these workers were given these files last: the others are named with them."""
        try:
            version = self._files.version()
        except EvaluatorFilesError as error:
            raise ConfigError(str(error)) from error
        last = self._store.read().to_any(self.workers)
        if last is None or not self._store.archive(last.archive_sha256).is_file():
            return False
        expected = replace(
            _described(self._config.evaluator),
            evaluator=version,
            archive_bytes=last.archive_bytes,
            archive_sha256=last.archive_sha256,
            workers=last.workers,
        )
        return last.is_same(expected)


def require_site_evaluator(config: Config) -> None:
    """Raises ConfigError: the workers on sites cannot be given this evaluator."""
    if not config.evaluator.is_playable:
        raise ConfigError("[evaluator] does not say what the workers on sites play; give `command` or `python` there")
    if config.evaluator.version is not None:
        raise ConfigError(
            "[evaluator] has `version`, and so no files to bring to sites; say which files travel with `files` instead"
        )


def _described(table: EvaluatorTable) -> Deployment:
    """A deployment without its files."""
    return Deployment(
        number=0,
        evaluator="",
        archive_bytes=0,
        archive_sha256="",
        command=tuple(table.command) if table.command is not None else None,
        python=table.python,
        files=tuple(table.files) if table.files is not None else None,
        stall_limit_s=table.stall_limit_s,
        load_limit_s=table.load_limit_s,
        memory_limit_mb=table.memory_limit_mb,
        games_per_process=table.games_per_process,
        result_is_final=table.result_is_final,
    )
