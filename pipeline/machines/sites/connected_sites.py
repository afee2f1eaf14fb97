"""The sites of an open farm together: their workers, and the agents of all as one pool.

Not here: how the sites of a cluster are found (`dask`).
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pipeline.core.observation import MachineStatus
from pipeline.core.requests import MachineAction
from pipeline.errors import InputError
from pipeline.machines.pools import MachinePool
from pipeline.machines.sites.interface import Bells, SiteStatus
from pipeline.machines.sites.remote_site import CLOSE_LIMIT_S, OPEN_LIMIT_S, RemoteSite
from pipeline.shares.share_client import ExecuteRequest

_NAMED_MAX = 3
_LOOK_INTERVAL_S = 0.05


class ConnectedSites:
    """Implements `OpenSites` and `MachinePool`."""

    def __init__(self, sites: Sequence[RemoteSite], queue_depth: int, disconnect: Callable[[], None]) -> None:
        """`disconnect` ends the connection to the cluster."""
        self._sites, self._queue_depth, self._disconnect = sites, queue_depth, disconnect
        self._site_of = {worker: site for site in sites for worker in site.workers}

    def workers(self) -> Mapping[str, ExecuteRequest]:
        """The workers, and how a request to the share of each is executed."""
        return {worker: site.execute for worker, site in self._site_of.items()}

    def statuses(self) -> Mapping[str, SiteStatus]:
        """The site of each worker."""
        return self._site_of

    def queue_depth(self) -> int:
        """How many attempts each of these workers may hold."""
        return self._queue_depth

    def pool(self) -> MachinePool:
        """The agents of these workers."""
        return self

    def listen(self, bells: Bells) -> None:
        """Opens the sites, and waits for the first one.

        Raises:
            InputError: every one of them refuses; it says what to change there.
        """
        for site in self._sites:
            site.listen(bells)
        deadline = time.monotonic() + OPEN_LIMIT_S
        while not all(site.refusal for site in self._sites):
            if any(site.notifies for site in self._sites) or time.monotonic() >= deadline:
                return
            threading.Event().wait(_LOOK_INTERVAL_S)
        refused = {site.name: site.refusal for site in self._sites}
        named = "; ".join(f"site {name}: {why}" for name, why in list(refused.items())[:_NAMED_MAX])
        raise InputError(f"none of {len(refused)} sites can be used: {named}")

    def status(self) -> dict[str, MachineStatus]:
        """The state of all agents."""
        return {worker: seen for site in self._sites for worker, seen in site.status().items()}

    def execute(self, action: MachineAction) -> None:
        """Performs an action on an agent."""
        self._site_of[action.worker].act(action)

    def close(self) -> None:
        """Ends the agents of all sites that can be reached, at the same time."""
        closing = [threading.Thread(target=site.close, daemon=True) for site in self._sites]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(CLOSE_LIMIT_S)
        self._disconnect()
