"""`DaskSites`: the workers of a Dask cluster as sites. Needs the extra `dask`."""

import contextlib
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import PurePath
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from inbox_agent.identity import agent_version
from pipeline.errors import ConfigError
from pipeline.machines.sites.connected_sites import ConnectedSites
from pipeline.machines.sites.dask_cluster import NAME_CHARS_MAX, SEVERAL, DaskCluster, DaskLink, DaskWorker
from pipeline.machines.sites.examination import SiteFinding, examined
from pipeline.machines.sites.first_sites import FIND_LIMIT_S, first_sites, more_sites
from pipeline.machines.sites.interface import SitesHost
from pipeline.machines.sites.messages import OpenSite
from pipeline.machines.sites.remote_site import RemoteSite, call_limit_s
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_search import SITES_MAX, FoundSite, SiteSearch, lower_names, problem_of_names

log = logging.getLogger(__name__)

_NOTICE_AFTER_S = 1.0  #: without an answer of the scheduler, before the user is told that it is waited for
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
        """Finds the sites and opens them. Raises as `Sites.open`."""
        cluster = DaskCluster(self._address, self._security)
        search = SiteSearch(lambda: self._members(cluster, host), host.bells, host.known_sites)
        with contextlib.ExitStack() as failing:
            failing.callback(ConnectedSites((), self._queue_depth, cluster.close, search).close)
            if not cluster.answers(_NOTICE_AFTER_S):
                log.warning("waits up to %g s for a Dask scheduler at %s", FIND_LIMIT_S, self._address)
            sites = first_sites(search, self._address, self._sites_min, host.taken_names)
            failing.pop_all()
        search.start()
        return ConnectedSites(sites, self._queue_depth, cluster.close, search)

    def examine(self, taken: Collection[str] = (), known_sites: Collection[str] = ()) -> Iterator[SiteFinding]:
        """What is found of the cluster and of each site in it; `taken` and `known_sites` as those of `SitesHost`."""
        cluster, usable = DaskCluster(self._address, self._security), 0
        names = lower_names((), taken)
        try:
            known = sorted(cluster.workers(), key=lambda worker: worker.name not in known_sites)
            for worker, why in self._with_problems(known):
                own = () if why else self._worker_names(worker)
                finding = self._examined(cluster, worker, why or problem_of_names(own, names))
                names |= {name.lower(): name for name in own}
                usable += finding.ok
                yield finding
            if usable < self._sites_min:
                few = f"{usable} of {self._sites_min} sites can be used"
                yield SiteFinding("[sites]", False, few, more_sites(self._sites_min))
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

    def _worker_names(self, worker: DaskWorker) -> tuple[str, ...]:
        prefix = worker_prefix(worker.name)
        return tuple(f"{prefix}-{number}" for number in range(self._agents_per_site or worker.threads))

    def _site(self, cluster: DaskCluster, worker: DaskWorker, host: SitesHost) -> RemoteSite:
        settings = OpenSite(
            version=agent_version(),
            farm=host.farm_id,
            folder=self._folder,
            workers=self._worker_names(worker),
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
