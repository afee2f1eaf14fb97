"""`DaskSites`: the workers of a Dask cluster as sites. Needs the extra `dask`."""

import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from inbox_agent.identity import agent_version
from pipeline.errors import ConfigError, HostError, InputError
from pipeline.machines.sites.connected_sites import ConnectedSites
from pipeline.machines.sites.dask_cluster import NAME_CHARS_MAX, SEVERAL, DaskCluster, DaskLink, DaskWorker
from pipeline.machines.sites.examination import SiteFinding, examined
from pipeline.machines.sites.interface import SitesHost
from pipeline.machines.sites.messages import OpenSite
from pipeline.machines.sites.remote_site import RemoteSite, call_limit_s
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_search import SITES_MAX, FoundSite, has_room, lower_names, problem_of_names

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
            sites = self._usable(cluster, host)
            failing.pop_all()
        return ConnectedSites(sites, self._queue_depth, cluster.close, lambda: self._members(cluster, host))

    def _usable(self, cluster: DaskCluster, host: SitesHost) -> list[RemoteSite]:
        """Those of the sites that a farm can open with; the first search says why the others are not used."""
        found = [self._site(cluster, worker, host) for worker in self._find(cluster)]
        sites: list[RemoteSite] = []
        problems: list[str] = []
        names = lower_names((), host.taken_names)
        for site in found:
            if problem := problem_of_names(site, names):
                problems.append(f"site {site.name}: {problem}")
            elif has_room(sites, site):
                sites.append(site)
                names |= lower_names([site])
        if not sites:
            raise InputError(f"none of {len(found)} sites can be used: {problems[0]}")
        return sites

    def examine(self) -> Iterator[SiteFinding]:
        """What is found of the cluster and of each site in it."""
        cluster, usable = DaskCluster(self._address, self._security), 0
        try:
            for worker, problem in self._with_problems(cluster.workers()):
                finding = self._examined(cluster, worker, problem)
                usable += finding.ok
                yield finding
            if usable < self._sites_min:
                few = f"{usable} of {self._sites_min} sites can be used"
                yield SiteFinding("[sites]", False, few, "start others, or lower `sites_min`")
        except SiteUnavailable as error:
            fix = "start `dask scheduler` there, or correct `cluster`"
            yield SiteFinding("[sites]", False, f"no Dask scheduler at {self._address}: {error}", fix)
        finally:
            cluster.close()

    def _examined(self, cluster: DaskCluster, worker: DaskWorker, problem: str) -> SiteFinding:
        if not worker.is_named:
            fix = "start it with `dask worker --name NAME`: by its name a site finds its shares again"
            return SiteFinding(f"Dask worker {worker.address}", False, "it has no name of its own", fix)
        if problem:
            return SiteFinding(f"site {worker.name}", False, problem)
        return examined(worker.name, DaskLink(cluster, worker.name, worker.address), self._folder)

    def _find(self, cluster: DaskCluster) -> list[DaskWorker]:
        """The workers that can be sites, when there are enough."""
        deadline, problem = time.monotonic() + FIND_LIMIT_S, ""
        while True:
            try:
                known = self._with_problems(cluster.workers())
                if len(usable := [worker for worker, why in known if not why]) >= self._sites_min:
                    return usable
                problem = f"{len(usable)} of {self._sites_min} sites are there"
                if others := [f"{worker.name}: {why}" for worker, why in known if why]:
                    problem += f", and {len(others)} Dask workers that can be none, e.g. {others[0]}"
            except SiteUnavailable as error:
                problem = f"its Dask scheduler: {error}"
            if time.monotonic() >= deadline:
                raise HostError(f"{self._address}: {problem}, after {FIND_LIMIT_S:g} s; run again when it is there")
            threading.Event().wait(_LOOK_INTERVAL_S)

    def _members(self, cluster: DaskCluster, host: SitesHost) -> list[FoundSite]:
        """The workers of the cluster now. Raises SiteUnavailable."""
        return [
            FoundSite(worker.name, partial(self._site, cluster, worker, host), problem)
            for worker, problem in self._with_problems(cluster.workers())
        ]

    def _with_problems(self, known: list[DaskWorker]) -> list[tuple[DaskWorker, str]]:
        """The workers of a cluster, and why each can be no site; the empty string if it can."""
        named = Counter(worker.name for worker in known)
        return [(worker, SEVERAL if named[worker.name] > 1 else self._problem(worker)) for worker in known]

    def _problem(self, worker: DaskWorker) -> str:
        if not worker.is_named:
            return f"its Dask worker has no name of its own in {NAME_CHARS_MAX} printable characters; use --name"
        if self._agents_per_site is None and not 1 <= worker.threads <= AGENTS_PER_SITE_MAX:
            threads = f"its Dask worker has {worker.threads} threads"
            limit = f"a site has from 1 to {AGENTS_PER_SITE_MAX} agents"
            return f"{threads}; {limit}: start it with --nthreads, or set agents_per_site"
        return ""

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
    """What the names of a site's workers begin with.

    Names that differ in case only, and few others, have the same one, as "1" and "dask-1" have: then only the first of
    these sites is used.
    """
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
