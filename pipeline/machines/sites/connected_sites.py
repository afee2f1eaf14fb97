"""The sites of an open farm together: their workers, and the agents of all as one pool.

Not here: how the sites of a cluster are found (`dask_sites`), those that a farm opens with (`first_sites`), and which
may join later (`site_search`).
"""

import threading
from collections.abc import Callable, Collection, Sequence

from pipeline.core.observation import MachineStatus
from pipeline.core.requests import MachineAction
from pipeline.machines.pools import MachinePool
from pipeline.machines.sites.interface import ConnectedSite
from pipeline.machines.sites.remote_site import CLOSE_LIMIT_S, RemoteSite
from pipeline.machines.sites.site_search import SiteSearch


class ConnectedSites:
    """Implements `OpenSites` and `MachinePool`."""

    def __init__(
        self, sites: Sequence[RemoteSite], queue_depth: int, disconnect: Callable[[], None], search: SiteSearch
    ) -> None:
        """These sites listen already; `disconnect` ends the connection to the cluster."""
        self._sites, self._queue_depth, self._disconnect = [*sites], queue_depth, disconnect
        self._search = search
        self._site_of = {worker: site for site in sites for worker in site.workers}

    def sites(self) -> Sequence[ConnectedSite]:
        """The sites, also those that do not answer."""
        return self._sites

    def queue_depth(self) -> int:
        """How many attempts each of these workers may hold."""
        return self._queue_depth

    def pool(self) -> MachinePool:
        """The agents of these workers."""
        return self

    def appeared(self, taken: Collection[str]) -> Sequence[ConnectedSite]:
        """Sites that have appeared in the cluster and are connected. Does not wait."""
        return self._search.appeared(self._sites, taken)

    def admit(self, site: ConnectedSite) -> None:
        """Makes a site that has appeared one of these."""
        assert isinstance(site, RemoteSite)
        self._search.take(site)
        self._sites.append(site)
        self._site_of.update(dict.fromkeys(site.workers, site))

    def status(self) -> dict[str, MachineStatus]:
        """The state of all agents."""
        return {worker: seen for site in self._sites for worker, seen in site.status().items()}

    def execute(self, action: MachineAction) -> None:
        """Performs an action on an agent."""
        self._site_of[action.worker].act(action)

    def close(self) -> None:
        """Ends the search for sites, and the agents of all that can be reached, at the same time."""
        every = [*self._sites, *self._search.close()]
        closing = [threading.Thread(target=site.close, daemon=True) for site in every]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(CLOSE_LIMIT_S)
        self._disconnect()
