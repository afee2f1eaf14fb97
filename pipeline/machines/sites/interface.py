"""What a host needs of sites, whichever cluster they are part of."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inbox_agent.settings import EnvironmentTable
from pipeline.core.limits import Limits
from pipeline.machines.pools import MachinePool
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.share_client import ExecuteRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesHost:
    """The host of some sites: what it knows, and where it keeps what they send."""

    farm_id: str
    limits: Limits
    environment: EnvironmentTable  #: of the games
    hidden_variables: tuple[str, ...]  #: environment variables with secrets, which no agent gets
    taken_names: frozenset[str]  #: of workers that are on no site
    genome: Callable[[str, str], bytes | Path]  #: by SHA-256 and name; raises HostError
    archive: Callable[[str], Path]  #: of a deployed evaluator, by SHA-256
    incoming: Callable[[str], Path]  #: the folder for the artifacts of a worker
    room: ArtifactRoom
    bells: "Bells"
    known_sites: frozenset[str] = frozenset()  #: those that the ledger names


class Bells(Protocol):
    """What sites report to the control loop; any thread may call."""

    def notify(self, worker: str) -> None:
        """A result has appeared in a worker's share."""

    def request_sweep(self) -> None:
        """The state of a machine has changed."""


class ConnectedSite(Protocol):
    """One site of an open farm."""

    @property
    def name(self) -> str:
        """Its name, which it keeps over restarts."""

    @property
    def workers(self) -> Sequence[str]:
        """Its workers."""

    @property
    def notifies(self) -> bool:
        """Whether it is connected now, and reports results at once."""

    @property
    def execute(self) -> ExecuteRequest:
        """Executes a request to the share of one of its workers. Each call has a deadline."""


class OpenSites(Protocol):
    """The sites of one open farm. All methods belong to the thread of the control loop."""

    def sites(self) -> Sequence[ConnectedSite]:
        """The sites, also those that do not answer."""

    def queue_depth(self) -> int:
        """How many attempts each of these workers may hold."""

    def appeared(self, taken: Collection[str]) -> Sequence[ConnectedSite]:
        """Sites that have appeared in the cluster and are connected; none is part of these before `admit`.

        Does not wait. `taken` are names that no worker may have. A site that cannot be used is named in the log, once.
        """

    def admit(self, site: ConnectedSite) -> None:
        """Makes a site that has appeared one of these."""

    def pool(self) -> MachinePool:
        """The agents of these workers."""

    def close(self) -> None:
        """Ends the agents of all sites that can be reached."""


class Sites(Protocol):
    """A cluster with sites."""

    def open(self, host: SitesHost) -> OpenSites:
        """Finds the sites that are there now, opens them, reports from now on, and looks for more of them.

        Raises:
            HostError: the cluster does not answer, or too few sites can be used.
        """
