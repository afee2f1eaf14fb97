"""The sites of a host: those that a program gives, or those of `[sites]`.

Not here: what a site does (`pipeline.machines.sites`), which evaluator its agents get (`evaluator_packing`).
"""

import os
from collections.abc import Collection, Sequence

from pipeline.config import Config
from pipeline.host.evaluator_packing import require_site_evaluator
from pipeline.machines.pools import MachinePool, MachinePools
from pipeline.machines.sites.interface import Bells, ConnectedSite, OpenSites, Sites, SitesHost
from pipeline.machines.sites.of_table import sites_of_table
from pipeline.paths import ProjectPaths
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.storage.deployment_store import DeploymentStore
from pipeline.storage.ledger import Ledger
from pipeline.storage.site_workers import site_of_workers
from pipeline.storage.snapshots import Snapshots


class NoSites:
    """The sites of a host that has none."""

    def sites(self) -> Sequence[ConnectedSite]:
        """None."""
        return ()

    def queue_depth(self) -> int:
        """That of no worker."""
        return 1

    def appeared(self, taken: Collection[str]) -> Sequence[ConnectedSite]:
        """None."""
        return ()

    def admit(self, site: ConnectedSite) -> None:
        """Nothing appears here."""

    def pool(self) -> MachinePool:
        """No agents."""
        return MachinePools({})

    def close(self) -> None:
        """Does nothing."""


def open_sites(
    config: Config,
    given: Sites | None,
    paths: ProjectPaths,
    ledger: Ledger,
    snapshots: Snapshots,
    deployments: DeploymentStore,
    room: ArtifactRoom,
    bells: Bells,
) -> OpenSites:
    """The sites, found and opened.

    Raises:
        InputError: they cannot be given the evaluator.
        HostError: the cluster does not answer, or too few sites can be used.
        MissingExtraError: the extra `dask` is not installed.
    """
    sites = given if given is not None or config.sites is None else sites_of_table(config.sites)
    if sites is None:
        return NoSites()
    require_site_evaluator(config)
    hidden = os.environ.keys() - config.without_secrets(os.environ).keys()
    return sites.open(
        SitesHost(
            farm_id=ledger.farm_id,
            limits=config.limits,
            environment=config.evaluator.environment,
            hidden_variables=tuple(sorted(hidden)),
            taken_names=frozenset(config.worker_names()),
            genome=snapshots.content,
            archive=deployments.archive,
            incoming=lambda worker: paths.incoming / worker,
            room=room,
            bells=bells,
            known_sites=frozenset(site_of_workers(ledger).values()),
        )
    )
