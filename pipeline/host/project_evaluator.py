"""The project's evaluator as the host sees it: its version, and which files differ from an earlier version.

Owns: the record of the files of each version that was used, in the state folder.
Not here: which files count (`inbox_agent.evaluator_files`), what a change means for a generation (`core.runs`).
"""

from pathlib import Path

import msgspec

from inbox_agent.evaluation.version import changed_files, in_one_line
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.system.atomic_file import replace_file
from pipeline.config import Config
from pipeline.errors import ConfigError, disk_errors
from pipeline.host.evaluator_packing import SiteEvaluator
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore

_NAMED_MAX = 5  # files that are named in a message


class ProjectEvaluator:
    """The evaluator of a project; `folder` has its files."""

    def __init__(
        self,
        config: Config,
        paths: ProjectPaths,
        folder: Path,
        deployments: DeploymentStore,
        on_sites: SiteEvaluator,
    ) -> None:
        """`on_sites` deploys the files to the workers on sites."""
        self._config, self._paths, self._deployments = config, paths, deployments
        self._on_sites = on_sites
        self._files = EvaluatorFiles(config.evaluator, folder)

    def version(self, begun_with: str = "") -> str:
        """The version that must be played; empty if this computer does not have what the workers play.

        What was deployed to all workers counts before the files of the project, which may have been edited since. A
        generation that was begun with a deployed version keeps it.

        Raises:
            ConfigError: the files cannot be read.
            InputError: the list of deployments is damaged.
            HostError: the state folder cannot be written.
        """
        if (deployed := self._deployed(begun_with)) is not None:
            return deployed
        if not (self._config.knows_evaluator or self._on_sites.workers):
            return ""
        try:
            files = self._files.read()
            version = self._files.version(files)
        except EvaluatorFilesError as error:
            raise ConfigError(str(error)) from error
        if self._config.evaluator.version is not None:
            return version  # which need not be a file name, and says nothing of files
        record = self._paths.evaluator_files(version)
        with disk_errors(record):
            if not record.exists():
                record.parent.mkdir(parents=True, exist_ok=True)
                replace_file(record, msgspec.json.format(msgspec.json.encode(files)))
        return version

    def deploy_to_sites(self) -> None:
        """Deploys the files as they are now to the workers on sites. Raises as `SiteEvaluator.deploy`."""
        self._on_sites.deploy()

    def _deployed(self, begun_with: str) -> str | None:
        if self._config.local_names():  # they play the files of the project
            return None
        known = self._deployments.read()
        newest = known.newest()
        kept = known.of_version(begun_with) or newest
        return kept.evaluator if newest is not None and kept is not None else None

    def changes_since(self, version: str) -> str:
        """Which files differ from those of an earlier version, in one line; empty if that is not known."""
        if self._config.evaluator.version is not None:
            return "`version` in [evaluator] was changed" if self._config.evaluator.version != version else ""
        try:
            before = msgspec.json.decode(self._paths.evaluator_files(version).read_bytes(), type=dict[str, str])
            return in_one_line(changed_files(before, self._files.read()), _NAMED_MAX)
        except (OSError, msgspec.MsgspecError, EvaluatorFilesError):
            return ""
