"""The deployments of a project: which evaluators were deployed, and their archives.

Owns: the folder `state/deployments/`. One process writes at a time; a host that runs reads when it begins a generation.
Not here: which worker gets which (`core.deployment`), packing (`inbox_agent.evaluator_archive`).
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from inbox_agent.system.atomic_file import replace_file
from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from pipeline.core.deployment import Deployment, Deployments
from pipeline.errors import HostError, InputError, ProjectBusyError, disk_errors
from pipeline.paths import ProjectPaths

KEPT_MAX = 5  #: deployments; older ones are forgotten with their archives
_CHUNK_BYTES = 1024 * 1024


class DeploymentStore:
    """The deployments of one project."""

    def __init__(self, paths: ProjectPaths) -> None:
        self._paths = paths

    def read(self) -> Deployments:
        """All deployments that are kept. Raises HostError: the list cannot be read. InputError: it is damaged."""
        path = self._paths.deployments
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Deployments()
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
        try:
            return Deployments(msgspec.json.decode(data, type=list[Deployment]))
        except msgspec.MsgspecError as error:
            reason = f"{path}: is damaged: {error}; remove it, and deploy the evaluator again"
            raise InputError(reason) from error

    def archive(self, sha256: str) -> Path:
        """The archive with this digest."""
        return self._paths.deployed_archive(sha256)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keeps other processes from changing the deployments during the block.

        Raises:
            ProjectBusyError: another process changes them.
            HostError: the folder cannot be written.
        """
        folder = self._paths.all_deployments
        try:
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._paths.deployments_lock)
        except AlreadyLocked as error:
            raise ProjectBusyError(f"another `pipeline deploy` is at work here: {error}; wait for it") from error
        try:
            yield
        finally:
            lock.release()

    def add(self, deployment: Deployment) -> Deployment:
        """Adds a deployment, with the next number; its archive is there. In `changing`. Raises as `read`."""
        known = self.read().known
        added = replace(deployment, number=1 + max((each.number for each in known), default=0))
        kept = [*known, added][-KEPT_MAX:]
        self._write(kept)
        archives = {self._paths.deployed_archive(each.archive_sha256) for each in kept}
        for archive in self._paths.all_deployments.glob(self._paths.deployed_archive("*").name):
            if archive not in archives:
                archive.unlink(missing_ok=True)
        return added

    def widen(self, beside: Collection[str], more: Collection[str]) -> None:
        """Names `more` in the last deployment that names any worker of `beside`. In `changing`. Raises as `read`."""
        self._write(self.read().widened(beside, more).known)

    def _write(self, deployments: Sequence[Deployment]) -> None:
        with disk_errors(self._paths.deployments):
            replace_file(self._paths.deployments, msgspec.json.format(msgspec.json.encode(deployments)), durable=True)


def size_and_digest(archive: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file. Raises OSError."""
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        return os.fstat(file.fileno()).st_size, digest.hexdigest()
