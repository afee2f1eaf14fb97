"""A site in this process, without a cluster: its server, and the host's side of it over a link that can be cut."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inbox_agent.identity import agent_version
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import PayloadRef
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EnvironmentTable
from pipeline.core.limits import Limits
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.machines.sites.connected_sites import ConnectedSites
from pipeline.machines.sites.interface import SitesHost
from pipeline.machines.sites.messages import OpenSite
from pipeline.machines.sites.remote_site import RemoteSite
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_server import SiteServer, folder_name
from pipeline.paths import SitePaths
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.share_client import ShareResponse
from tests.harness import records
from tests.harness.records import FARM, attempt, sha256
from tests.harness.waiting import eventually

WORKER = "alice-0"


class CutLink:
    """A link to a server in this process."""

    def __init__(self, server: SiteServer) -> None:
        self.server = server
        self.problem = ""  #: why no call is answered; empty: they are
        self.altered: Callable[[bytes], object] = lambda answer: answer  #: what becomes of an answer on its way
        self.messages: list[bytes] = []
        self._cut = threading.Event()

    def call(self, message: bytes, timeout_s: float) -> object:
        if self.problem:
            raise SiteUnavailable(self.problem)
        self.messages.append(message)
        answer = self.server.answer(message)
        if self.problem:  # cut meanwhile: what the site has done is unknown
            raise SiteUnavailable(self.problem)
        return self.altered(answer)

    def reset(self) -> None:
        pass


class RecordedBells:
    """The bells that a host hears."""

    def __init__(self) -> None:
        self.notified: set[str] = set()
        self.sweeps = 0
        self.on_sweep: Callable[[], object] = lambda: None

    def notify(self, worker: str) -> None:
        self.notified.add(worker)

    def request_sweep(self) -> None:
        self.sweeps += 1
        self.on_sweep()


class SiteHarness:
    """One site with one worker. The test acts as its agent, unless it starts the agent."""

    def __init__(self, folder: Path, name: str = "alice", **settings: Any) -> None:
        self.folder, self.name = folder, name
        self.server = SiteServer(name)
        self.link = CutLink(self.server)
        self.bells = RecordedBells()
        self.genomes: dict[str, bytes | Path] = {}
        self.settings = OpenSite(
            **{
                "version": agent_version(),
                "farm": FARM,
                "folder": str(folder / "sites"),
                "workers": (WORKER,),
                "environment": EnvironmentTable(),
                "hidden_variables": (),
                "limits": Limits(),
                "silence_limit_s": 2.0,
                **settings,
            }
        )
        self.limit()

    def limit(self, **limits: Any) -> None:
        """Begins with another host, and with these budgets."""
        self.room = ArtifactRoom(Limits(**limits), [self.folder])
        host = SitesHost(
            farm_id=FARM,
            limits=Limits(**limits),
            environment=EnvironmentTable(),
            hidden_variables=(),
            taken_names=frozenset(),
            genome=lambda sha, _name: self.genomes[sha],
            archive=lambda sha: self.folder / sha,
            incoming=lambda worker: self.folder / "incoming" / worker,
            room=self.room,
        )
        self.site = RemoteSite(self.name, self.settings, self.link, host)
        self.sites = ConnectedSites([self.site], 2, lambda: None, lambda: ())

    def open(self) -> None:
        """Opens the site and takes its share: the folders are there."""
        self.site.listen(self.bells)
        assert eventually(lambda: self.site.notifies)
        response = self.act(host=records.host(worker=WORKER))
        assert not response.error

    @property
    def incoming(self) -> Path:
        """Where this host keeps artifacts."""
        return self.folder / "incoming" / WORKER

    @property
    def paths(self) -> SitePaths:
        """What the site has on its disk."""
        return SitePaths(self.folder / "sites" / folder_name(FARM) / self.name)

    @property
    def files(self) -> LocalFiles:
        """The share, as the agent sees it."""
        return LocalFiles(self.paths.project.share(WORKER))

    def act(self, **action: Any) -> ShareResponse:
        return self.site.execute(ShareAction(WORKER, **action))

    def scan(self, *attempts: int) -> ShareResponse:
        """Scans the share, in which results of these attempts are wanted."""
        wanted = frozenset(map(attempt, attempts))
        request = ScanRequest(worker=WORKER, full=True, generation=1, unanswered=wanted, wanted=wanted)
        return self.site.execute(request)

    def publish_result(self, number: int = 1, **artifacts: bytes) -> None:
        """Writes a result with artifacts, as the agent does."""
        for name, data in artifacts.items():
            self.files.write(f"outbox/{attempt(number)}.files/{name}", data)
        refs = [PayloadRef(name=name, size_bytes=len(data), sha256=sha256(data)) for name, data in artifacts.items()]
        record = records.result(number, worker=WORKER, artifacts=refs)
        self.files.publish(f"outbox/{attempt(number)}.result.json", layout.encode(record))

    def restart(self) -> None:
        """The process of the site is another one from now on."""
        self.server.close()
        self.server = self.link.server = SiteServer(self.name)

    def close(self) -> None:
        self.link.problem, self.link.altered = "", lambda answer: answer
        self.sites.close()
        self.server.close()
