"""What a user may do with single workers of a project, whether a host runs or not: each is a file that the host reads.

Owns: which workers that is possible for. Not here: what the host makes of it (`pipeline.host.membership`).
"""

import json
from collections.abc import Mapping
from pathlib import Path

from inbox_agent.system.atomic_file import replace_file
from pipeline.config import Config, described_worker, load_config, with_described
from pipeline.config.worker_descriptions import SUFFIX
from pipeline.errors import ConflictError, InputError, NotFoundError, disk_errors
from pipeline.paths import ProjectPaths
from pipeline.storage.site_workers import read_site_workers
from pipeline.storage.worker_request_files import WorkerRequestFiles


class WorkerControl:
    """The workers of the project in a folder. Any thread and any process may call; each method reads the project anew.

    Every method raises ConfigError if the project cannot be read, and HostError if its disk fails.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._paths = root, ProjectPaths(root)
        self._requests = WorkerRequestFiles(self._paths)

    def drained(self) -> frozenset[str]:
        """The workers that are drained, or being drained."""
        return self._requests.drained()

    def site_of(self) -> dict[str, str]:
        """The workers on sites, and their sites. Raises LedgerError."""
        return read_site_workers(self._paths)

    def drain(self, name: str) -> None:
        """Has a worker get no more work; it finishes its game. Raises NotFoundError."""
        self._configured(name)
        self._requests.drain(name)

    def give_back(self, name: str) -> None:
        """Has a drained worker get work again. Raises NotFoundError."""
        self._configured(name)
        self._requests.give_back(name)

    def restart(self, name: str) -> str:
        """Has the machine of a worker restarted, or its agent on this computer or on a site; returns which.

        Raises:
            NotFoundError: there is no such worker. ConflictError: it has no machine.
        """
        config = self._configured(name)
        has_machine = name in config.machine_of()
        if not has_machine and name not in config.local_names() and name not in self.site_of():
            raise ConflictError(f"{name} has no machine that could be restarted from here; restart its agent there")
        self._requests.ask_restart(name)
        return "machine" if has_machine else "agent"

    def add(self, name: str, table: Mapping[str, str | int | bool]) -> Path:
        """Adds a worker; returns the file that describes it. `table` has keys of a `[[worker]]`.

        Raises:
            ConflictError: there is one of that name. InputError: it cannot be used as described.
        """
        config = load_config(self._root, check=False)
        if name.lower() in (known.lower() for known in self._names(config)):
            raise ConflictError(f"there is a worker {name} already; choose another name")
        path = self._path(name)
        if path.name != f"{name}{SUFFIX}" or name.startswith("."):
            raise InputError(f"worker name {name!r}: letters, digits, - and _ only, at most 63")
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in table.items()]  # such JSON is TOML
        trial = path.with_name(f".{name}{SUFFIX}")  # not read by a host
        with disk_errors(path):
            path.parent.mkdir(mode=0o755, exist_ok=True)
            replace_file(trial, "".join(lines).encode())
            trial.chmod(0o600 if table.get("secret") else 0o644)  # whatever the mask is: others may not write it
            try:
                with_described(config, [described_worker(trial, name=name).table], self._root)
                trial.replace(path)
            finally:
                trial.unlink(missing_ok=True)
        return path

    def refuse_to_remove(self, name: str) -> None:
        """Raises NotFoundError: there is no such worker. ConflictError: it was not added, or is on a site."""
        config = self._configured(name)
        if not self._path(name).is_file():
            if name not in config.worker_names():
                site = self.site_of().get(name, "")
                raise ConflictError(f"{name} belongs to site {site}: drain it, and end the Dask worker {site}")
            where = "[local] workers" if name in config.local_names() else "a [[worker]] table"
            raise ConflictError(f"{name} stands in {where} of pipeline.toml; take it out there, or drain it")

    def remove(self, name: str) -> None:
        """Removes a worker that was added, at once; what it holds goes to others. Raises as `refuse_to_remove`."""
        self.refuse_to_remove(name)
        with disk_errors(path := self._path(name)):
            path.unlink(missing_ok=True)
        self._requests.give_back(name)

    def _path(self, name: str) -> Path:
        return self._paths.workers / f"{name}{SUFFIX}"

    def _names(self, config: Config) -> list[str]:
        return [*config.worker_names(), *self.site_of()]

    def _configured(self, name: str) -> Config:
        config = load_config(self._root, check=False)
        if name not in config.worker_names() and name not in (names := self._names(config)):
            raise NotFoundError(f"{name}: no worker of that name; there are {', '.join(names) or 'none'}")
        return config
