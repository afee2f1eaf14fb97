"""What a host needs of sites, whichever cluster they are part of."""

from collections.abc import Callable, Mapping
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


class Bells(Protocol):
    """What sites report to the control loop; any thread may call."""

    def notify(self, worker: str) -> None:
        """A result has appeared in a worker's share."""

    def request_sweep(self) -> None:
        """The state of a machine has changed."""


class SiteStatus(Protocol):
    """Whether a site is connected."""

    @property
    def notifies(self) -> bool:
        """Whether it reports results at once now."""


class OpenSites(Protocol):
    """The sites of one open farm."""

    def workers(self) -> Mapping[str, ExecuteRequest]:
        """The workers, and how a request to the share of each is executed. Each call has a deadline."""

    def statuses(self) -> Mapping[str, SiteStatus]:
        """The site of each worker."""

    def queue_depth(self) -> int:
        """How many attempts each of these workers may hold."""

    def listen(self, bells: Bells) -> None:
        """Connects to the sites, and reports from now on."""

    def pool(self) -> MachinePool:
        """The agents of these workers."""

    def close(self) -> None:
        """Ends the agents of all sites that can be reached."""


class Sites(Protocol):
    """A cluster with sites."""

    def open(self, host: SitesHost) -> OpenSites:
        """Finds the sites; which workers there are stays as it is until they are closed.

        Raises:
            InputError: there is none, or their names cannot be used.
            HostError: the cluster does not answer.
        """
