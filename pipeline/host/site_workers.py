"""The workers on sites of a running host: those that are there from the start, and those of sites that appear later.

Owns: the order in which the parts of a host learn of a site: its workers join when a deployment names them.
Not here: how sites are found (`pipeline.machines.sites`), other workers that join (`membership`).
"""

import logging
from collections.abc import Collection, Sequence

from inbox_agent.protocol.layout import clean
from pipeline.core.facts import Fact
from pipeline.errors import InputError, ProjectBusyError
from pipeline.host.control_loop import ControlLoop
from pipeline.host.evaluator_packing import SiteEvaluator
from pipeline.host.worker_links import WorkerLinks
from pipeline.machines.pools import MachinePools
from pipeline.machines.sites.interface import ConnectedSite, OpenSites

log = logging.getLogger(__name__)

SITE_CHARS_MAX = 100  #: of a site's name in a fact; a cluster may have given it any name


class SiteWorkers:
    """The workers on sites. All methods belong to the thread of the control loop."""

    def __init__(
        self,
        sites: OpenSites,
        loop: ControlLoop,
        links: WorkerLinks,
        machines: MachinePools,
        evaluator: SiteEvaluator,
    ) -> None:
        self._sites, self._loop, self._links = sites, loop, links
        self._machines, self._evaluator = machines, evaluator
        self._problem = ""  #: why none can join, as it was logged
        self.site_of: dict[str, str] = {}  #: the workers on sites, and the names of their sites as facts have them
        for site in sites.sites():
            self._note(site)

    def update(self, taken: Collection[str]) -> list[Fact]:
        """Lets the workers of sites join that have appeared; returns the facts.

        `taken` are names that none of them may have. Raises HostError: this host's disk failed.
        """
        sites = self._sites.appeared(taken)
        # All of them together: a cluster may grow by hundreds, and each change of a file on the disk takes its time.
        if not sites or not self._are_deployed_to(sites):
            return []
        for site in sites:
            self._sites.admit(site)
            self._links.connect_site(site, self._sites.queue_depth())
            for worker in site.workers:
                self._machines.add(worker, self._sites.pool())
            log.info("site %s: joins with %d workers", self._note(site), len(site.workers))
        return self._loop.admit(*_workers(sites), site_of=self.site_of)

    def _note(self, site: ConnectedSite) -> str:
        name = clean(site.name, SITE_CHARS_MAX)
        self.site_of.update(dict.fromkeys(site.workers, name))
        return name

    def _are_deployed_to(self, sites: Sequence[ConnectedSite]) -> bool:
        """Names their workers in the deployment to sites; False if that must be tried again."""
        try:
            self._loop.deployments = self._evaluator.admit(_workers(sites), self._loop.deployments)
        except ProjectBusyError:
            return False  # `pipeline deploy` is at work
        except InputError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.warning("%d sites that have appeared are not used yet: %s", len(sites), error)
            return False
        self._problem = ""
        return True


def _workers(sites: Sequence[ConnectedSite]) -> list[str]:
    return [worker for site in sites for worker in site.workers]
