"""Which workers a running host has: those that are described in `workers/` or on sites, and what is asked for them.

Owns: when descriptions and requests are read, and that one that cannot be used is said once and changes nothing.
Not here: what the core makes of it (`core.worker_requests`), how a worker is reached (`worker_links`).
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec.structs import replace

from pipeline.config import Config, DescribedWorker, described_worker, with_described
from pipeline.config.worker_descriptions import SUFFIX, description_files
from pipeline.core.facts import Fact, RecoveryStarted, WorkerLeft
from pipeline.core.worker_requests import ASKED_FOR, WorkerRequests, restart_problem
from pipeline.errors import ConfigError
from pipeline.host.control_loop import ControlLoop
from pipeline.host.site_workers import SiteWorkers
from pipeline.host.worker_links import WorkerLinks
from pipeline.paths import ProjectPaths
from pipeline.storage.worker_request_files import WorkerRequestFiles

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
REMOVED = "its description was removed"
REPLACED = "its description was replaced"


class Membership:
    """The workers of one host. All methods belong to the thread of the control loop."""

    def __init__(
        self,
        paths: ProjectPaths,
        config: Config,
        loop: ControlLoop,
        links: WorkerLinks,
        site_workers: SiteWorkers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._requests = paths.workers, WorkerRequestFiles(paths)
        self._loop, self._links, self._clock = loop, links, clock
        self._site_workers = site_workers
        self._files: dict[Path, tuple[int, ...]] = {}  #: the descriptions, as they were when they were read
        self._wanted: dict[str, DescribedWorker] = {}  #: the workers that they describe
        self._refused: dict[str, str] = {}  #: worker, or the folder's name -> why it cannot join, as it was said
        self._looked_at = float("-inf")
        self._read_descriptions()
        known = {table.name: table for table in config.worker}
        #: the workers that were described and have joined
        self._joined = {name: known[name] for name in self._wanted if name in known}
        fixed = [table for table in config.worker if table.name not in self._joined]
        self._configured = replace(config, worker=fixed)

    def update(self) -> list[Fact]:
        """Lets workers join, and passes on what is asked for the others; to be called before each tick.

        Returns:
            The facts of those that have joined.

        Raises:
            HostError: this host's disk failed.
        """
        now = self._clock()
        if now - self._looked_at < LOOK_INTERVAL_S:
            return []
        self._looked_at = now
        self._read_descriptions()
        self._forget_silent()
        joined = [fact for worker in list(self._wanted.values()) for fact in self._join(worker)]
        # A request to the share of a worker that has left may still be in progress under its name.
        joined += self._site_workers.update({*self.not_on_sites(), *self._wanted, *self._links.shares})
        wanted = {name: worker.table for name, worker in self._wanted.items()}
        leaving = {name: REPLACED if name in wanted else REMOVED for name in self._joined}
        self._loop.requests = WorkerRequests(
            drained=self._requests.drained(),
            restart=self._possible_restarts(),
            leaving={name: why for name, why in leaving.items() if wanted.get(name) != self._joined[name]},
        )
        return joined

    @property
    def site_of(self) -> Mapping[str, str]:
        """The workers on sites, which stay as long as the host runs, and their sites."""
        return self._site_workers.site_of

    def names(self) -> list[str]:
        """The workers that it has now."""
        return [*self.not_on_sites(), *self.site_of]

    def not_on_sites(self) -> list[str]:
        """Those of them that are on no site."""
        return [*self._configured.worker_names(), *self._joined]

    def note(self, facts: Iterable[Fact]) -> None:
        """Follows the facts of a tick: workers that have left, and machines that are restarted. Raises HostError."""
        for fact in facts:
            if isinstance(fact, WorkerLeft):
                self._links.disconnect(fact.worker)
                del self._joined[fact.worker]
                if fact.reason == REMOVED:
                    self._requests.give_back(fact.worker)  # another one of that name is not drained
                log.info("%s: left, %s", fact.worker, fact.reason)
            elif isinstance(fact, RecoveryStarted) and fact.reason == ASKED_FOR:
                self._requests.note_restart(fact.worker)
                asked = self._loop.requests
                self._loop.requests = dataclasses.replace(asked, restart=asked.restart - {fact.worker})

    # ---------------------------------------------------------------------------------------------------- descriptions

    def _read_descriptions(self) -> None:
        """Reads the files that are new or have changed. One that cannot be used leaves its worker as it is."""
        try:
            files = description_files(self._folder) or {}
        except ConfigError as error:
            self._refuse(self._folder.name, str(error))
            return
        self._refused.pop(self._folder.name, None)
        for path, stamp in list(files.items()):
            if self._files.get(path) != stamp:
                try:
                    self._wanted[path.stem] = described_worker(path)
                except FileNotFoundError:
                    del files[path]  # it was removed since the folder was listed
                except ConfigError as error:
                    self._refuse(path.stem, str(error))
                    files[path] = ()  # it is read again: its rights may be corrected
        for path in self._files.keys() - files.keys():
            self._wanted.pop(path.stem, None)
            self._refused.pop(path.stem, None)
        self._files = files

    def _forget_silent(self) -> None:
        """Removes the descriptions of workers whose lease is over: a pilot that was killed cannot do it."""
        for name in list(self._joined):
            worker, farm_worker = self._wanted.get(name), self._loop.farm.workers[name]
            if worker is None or worker.lease_s is None or farm_worker.wanted:
                continue
            silence_s = self._loop.observed.silence_s(name)
            # A share that cannot be read says nothing about its agent, unless it is gone.
            is_known = self._loop.observed.workers[name].readable or not Path(worker.table.place).is_dir()
            if is_known and silence_s > worker.lease_s:
                self._forget(name, silence_s)

    def _forget(self, name: str, silence_s: float) -> None:
        path = self._folder / f"{name}{SUFFIX}"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._refuse(name, f"{path}: its lease is over, and it cannot be removed: {error.strerror}")
            return
        log.warning("%s: silent for %.0f s, its lease is over; %s is removed", name, silence_s, path)
        self._wanted.pop(name)
        self._files.pop(path, None)

    def _join(self, worker: DescribedWorker) -> list[Fact]:
        name = worker.table.name
        if name in self._joined:
            return []
        if not self._links.can_connect(name):
            self._refuse(name, f"{name}: a worker of that name stands in pipeline.toml, or is still being removed")
            return []
        if name.lower() in {other.lower() for other in self.site_of}:
            self._refuse(name, f"{name}: a worker on a site has this name; describe it under another one")
            return []
        try:
            config = with_described(self._configured, [*self._joined.values(), worker.table], self._links.root)
        except ConfigError as error:
            self._refuse(name, str(error))
            return []
        self._refused.pop(name, None)
        self._links.connect(config, worker.table)
        self._joined[name] = worker.table
        log.info("%s: joins, its share is %s", name, worker.table.place)
        return self._loop.admit(name)

    def _refuse(self, what: str, reason: str) -> None:
        if self._refused.get(what) != reason:
            self._refused[what] = reason
            log.warning("%s", reason)

    # -------------------------------------------------------------------------------------------------------- requests

    def _possible_restarts(self) -> frozenset[str]:
        asked = self._requests.restarts()
        for name in asked:
            worker = self._loop.farm.workers.get(name)
            known = self._loop.observed.workers.get(name)
            problem = f"{name}: no worker of this farm"
            if worker is not None and known is not None:
                problem = restart_problem(worker, known)
            is_scanned = known is None or known.scanned or known.machine is not None
            if problem and is_scanned and not (known is not None and known.machine is not None and known.machine.busy):
                log.warning("no restart: %s", problem)
                self._requests.note_restart(name)
        return asked
