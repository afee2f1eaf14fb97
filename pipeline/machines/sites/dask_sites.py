"""`DaskSites`: the workers of a Dask cluster as sites. Needs the extra `dask`."""

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from inbox_agent.identity import agent_version
from pipeline.errors import ConfigError, HostError, InputError
from pipeline.machines.sites.connected_sites import ConnectedSites
from pipeline.machines.sites.dask_cluster import DaskCluster, DaskLink, DaskWorker
from pipeline.machines.sites.examination import SiteFinding, examined
from pipeline.machines.sites.interface import SitesHost
from pipeline.machines.sites.messages import OpenSite
from pipeline.machines.sites.remote_site import RemoteSite, call_limit_s
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_search import SITES_MAX, FoundSite, has_room

FIND_LIMIT_S = 60.0  #: for the scheduler to answer, and for so many sites to be there
_LOOK_INTERVAL_S = 0.5
_PREFIX_CHARS_MAX = 48  #: of the names of workers, which have 63 at most
AGENTS_PER_SITE_MAX = 512


class DaskSites:
    """Each worker of a Dask cluster is a site, which keeps shares on its own disk and runs agents.

    Args:
        cluster: a Dask client, whose scheduler and security are used, or the address of a scheduler.
        agents_per_site: None: as many as the Dask worker has threads.
        queue_depth: attempts that a worker holds: one runs, the others wait.
        sites_min: how many sites to wait for when a farm is opened; others join while it is open.
        folder: of the sites, on their own computers; empty: in the state folder of the user who runs the Dask worker.
        security: of Dask, for the address of a scheduler; None: of Dask's configuration.
    """

    def __init__(
        self,
        cluster: Client | str,
        *,
        agents_per_site: int | None = None,
        queue_depth: int = 2,
        sites_min: int = 1,
        folder: str = "",
        security: Security | None = None,
    ) -> None:
        if agents_per_site is not None and not 1 <= agents_per_site <= AGENTS_PER_SITE_MAX:
            raise ConfigError(f"DaskSites: agents_per_site={agents_per_site}: from 1 to {AGENTS_PER_SITE_MAX}")
        if sites_min < 1 or queue_depth < 1:
            raise ConfigError("DaskSites: sites_min and queue_depth are at least 1")
        if sites_min > SITES_MAX:
            raise ConfigError(f"DaskSites: sites_min={sites_min}: a farm has at most {SITES_MAX} sites")
        if folder and not (PurePath(folder).is_absolute() or folder.startswith("~")):
            raise ConfigError(f"DaskSites: folder={folder!r}: expected an absolute path, or one that begins with ~")
        if isinstance(cluster, str):
            self._address, self._security = scheduler_address(cluster), security or Security()  # type: ignore[no-untyped-call]
        else:
            self._address, self._security = _of_client(cluster)
        self._agents_per_site, self._queue_depth = agents_per_site, queue_depth
        self._sites_min, self._folder = sites_min, folder

    def open(self, host: SitesHost) -> ConnectedSites:
        """Finds the sites. Raises as `Sites.open`."""
        cluster = DaskCluster(self._address, self._security)
        with contextlib.ExitStack() as failing:
            failing.callback(cluster.close)
            sites: list[RemoteSite] = []
            for worker in self._find(cluster):
                if has_room(sites, site := self._site(cluster, worker, host)):
                    sites.append(site)  # of the others the first search says that there is no room for them
            _refuse_equal_names([worker for site in sites for worker in site.workers], host.taken_names)
            failing.pop_all()
        return ConnectedSites(sites, self._queue_depth, cluster.close, lambda: self._members(cluster, host))

    def examine(self) -> Iterator[SiteFinding]:
        """What is found of the cluster and of each site in it."""
        cluster = DaskCluster(self._address, self._security)
        try:
            known = cluster.workers()
            if len(known) < self._sites_min:
                few = f"{len(known)} of {self._sites_min} Dask workers are there"
                yield SiteFinding("[sites]", False, few, "start the others, or lower `sites_min`")
            for worker in known:
                if worker.is_named:
                    yield examined(worker.name, DaskLink(cluster, worker.name, worker.address), self._folder)
                else:
                    fix = "start it with `dask worker --name NAME`: by its name a site finds its shares again"
                    yield SiteFinding(f"Dask worker {worker.address}", False, "it has no name of its own", fix)
        except SiteUnavailable as error:
            fix = "start `dask scheduler` there, or correct `cluster`"
            yield SiteFinding("[sites]", False, f"no Dask scheduler at {self._address}: {error}", fix)
        finally:
            cluster.close()

    def _find(self, cluster: DaskCluster) -> list[DaskWorker]:
        """The workers with names of their own, when there are enough."""
        deadline, problem = time.monotonic() + FIND_LIMIT_S, ""
        while True:
            try:
                known = cluster.workers()
                named = [worker for worker in known if worker.is_named]
                if len(named) >= self._sites_min:
                    return named
                problem = f"{len(named)} of {self._sites_min} sites are there"
                if unnamed := len(known) - len(named):
                    problem += f", and {unnamed} Dask workers without a name; start them with --name"
            except SiteUnavailable as error:
                problem = f"its Dask scheduler: {error}"
            if time.monotonic() >= deadline:
                raise HostError(f"{self._address}: {problem}, after {FIND_LIMIT_S:g} s; run again when it is there")
            threading.Event().wait(_LOOK_INTERVAL_S)

    def _members(self, cluster: DaskCluster, host: SitesHost) -> list[FoundSite]:
        """The workers of the cluster now. Raises SiteUnavailable."""
        return [
            FoundSite(
                worker.name,
                partial(self._site, cluster, worker, host),
                "" if worker.is_named else "its Dask worker has no name of its own; start it with --name",
            )
            for worker in cluster.workers()
        ]

    def _site(self, cluster: DaskCluster, worker: DaskWorker, host: SitesHost) -> RemoteSite:
        prefix = worker_prefix(worker.name)
        settings = OpenSite(
            version=agent_version(),
            farm=host.farm_id,
            folder=self._folder,
            workers=tuple(f"{prefix}-{number}" for number in range(self._agents_per_site or worker.threads)),
            environment=host.environment,
            hidden_variables=host.hidden_variables,
            limits=host.limits,
            silence_limit_s=call_limit_s(host.limits),
        )
        return RemoteSite(worker.name, settings, DaskLink(cluster, worker.name, worker.address), host)


def scheduler_address(url: str) -> str:
    """The address of a scheduler as Dask writes it: `dask://HOST:PORT`, with TLS `dask+tls://HOST:PORT`.

    Raises ConfigError: it is none.
    """
    protocols = {"dask": "tcp", "tcp": "tcp", "dask+tls": "tls", "tls": "tls"}
    try:
        parts = urlsplit(url)
        known = parts.scheme in protocols and parts.hostname and parts.port
    except ValueError:
        known = None
    if not known or parts.path or parts.query or parts.fragment or parts.username:
        raise ConfigError(f"{url!r}: expected dask://HOST:PORT of a Dask scheduler, or dask+tls://HOST:PORT")
    return f"{protocols[parts.scheme]}://{parts.netloc}"


def worker_prefix(dask_name: str) -> str:
    """What the names of a site's workers begin with, different for different sites."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", dask_name).lstrip("-_")[:_PREFIX_CHARS_MAX]
    if plain != dask_name:
        plain = f"{plain or 'site'}-{hashlib.sha256(dask_name.encode()).hexdigest()[:6]}"
    return f"dask-{plain}" if plain.isdecimal() else plain


def _of_client(client: object) -> tuple[str, Security]:
    if not isinstance(client, Client):
        raise ConfigError(f"DaskSites: {client!r}: expected a Dask client, or the address of a scheduler")
    if client.scheduler is None:
        raise ConfigError("DaskSites: the Dask client is not connected, or is closed")
    return str(client.scheduler.address), client.security


def _refuse_equal_names(workers: list[str], taken: frozenset[str]) -> None:
    known = {name.lower() for name in taken}
    for name in workers:
        if name.lower() in known:
            raise InputError(f"two workers are named {name!r}; give the Dask worker another name")
        known.add(name.lower())
