"""Which workers a host has: descriptions that come, change and go, and requests that cannot be carried out."""

import logging
import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from inbox_agent.system.folder_watcher import FolderWatcher
from pipeline.config import load_config
from pipeline.core.facts import Fact, WorkerJoined, WorkerLeft
from pipeline.core.requests import ScanRequest, ShareRequest
from pipeline.host.evaluator_packing import SiteEvaluator
from pipeline.host.membership import REMOVED, REPLACED, Membership
from pipeline.host.poll_schedule import PollSchedule
from pipeline.host.site_workers import SiteWorkers
from pipeline.host.sites import NoSites
from pipeline.host.worker_links import OpenShare, WorkerLinks
from pipeline.machines.pools import MachinePools
from pipeline.machines.sites.interface import ConnectedSite
from pipeline.paths import ProjectPaths
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ShareResponse
from pipeline.storage.deployment_store import DeploymentStore
from pipeline.storage.worker_request_files import WorkerRequestFiles
from tests.harness.control_loop import LoopHarness
from tests.harness.core import CoreHarness
from tests.harness.waiting import eventually


class AppearingSite:
    """A site whose agents do nothing."""

    def __init__(self, name: str, *workers: str) -> None:
        self.name, self.workers = name, workers
        self.notifies = True

    def execute(self, request: ShareRequest) -> ShareResponse:
        return ShareResponse(worker=request.worker)


class AppearingSites(NoSites):
    """Sites that appear when the test says so."""

    def __init__(self) -> None:
        self.ready: list[AppearingSite] = []

    def appeared(self, taken: Collection[str]) -> Sequence[ConnectedSite]:
        return [site for site in self.ready if not {*site.workers} & {*taken}]

    def admit(self, site: ConnectedSite) -> None:
        self.ready = [other for other in self.ready if other.name != site.name]


class MembershipHarness:
    """A host's membership with the shipped control loop, on a clock of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.now, self.sites = root, 1000.0, AppearingSites()
        self.shares_answer = threading.Event()  #: those of described workers, which wait for it
        (root / "pipeline.toml").write_text(
            '[evaluator]\npython = "game:play"\n[local]\nworkers = 0\n[[worker]]\nname = "vm-0"\nshare = "vm-0"\n'
        )
        (root / "workers").mkdir(mode=0o755)
        core = CoreHarness("vm-0", genomes=4)
        core.run_until_ready()
        self.loop = LoopHarness(core).loop
        self.executor = ShareExecutor({}, (), lambda: None)
        shares: dict[str, OpenShare] = {}
        wakeups = LoopHarness(core).wakeups
        self.watcher = FolderWatcher({}, wakeups.notify, suffixes=("",))
        self.links = WorkerLinks(
            root=root,
            client=lambda _name, _files: self._execute,
            shares=shares,
            smb={},
            executor=self.executor,
            folder_watcher=self.watcher,
            poll_schedule=PollSchedule({}, 30.0),
            queues=core.queues,
            wakeups=wakeups,
        )
        self.membership = self.started()

    def started(self) -> Membership:
        """The membership of a host that has just started."""
        paths = ProjectPaths(self.root)
        config = load_config(self.root)
        self.evaluator = SiteEvaluator(self.root, config, self.root, ())
        site_workers = SiteWorkers(self.sites, self.loop, self.links, MachinePools({}), self.evaluator)
        return Membership(paths, config, self.loop, self.links, site_workers, clock=lambda: self.now)

    def describe(self, name: str, text: str) -> Path:
        path = self.root / "workers" / f"{name}.toml"
        path.write_text(text)
        path.chmod(0o644)
        return path

    def look(self) -> list[Fact]:
        """A look, and the tick after it."""
        self.now += 2.0
        joined = self.membership.update()
        facts = self.loop.tick()
        self.membership.note(facts)
        return [*joined, *facts]

    def close(self) -> None:
        self.shares_answer.set()
        self.watcher.close()
        self.executor.close()

    def _execute(self, request: ShareRequest) -> ShareResponse:
        self.shares_answer.wait()
        return ShareResponse(worker=request.worker)


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> MembershipHarness:
    harness = MembershipHarness(tmp_path)
    request.addfinalizer(harness.close)
    return harness


def test_described_worker_joins_and_leaves_with_its_file(host: MembershipHarness) -> None:
    """The host is connected with its share for as long."""
    path = host.describe("p1", 'share = "p1"\n')
    assert WorkerJoined(worker="p1") in host.look()
    assert not host.links.can_connect("p1")
    assert host.membership.names() == ["vm-0", "p1"]

    path.unlink()
    host.loop._wakeups.request_sweep()
    assert WorkerLeft(worker="p1", reason=REMOVED) in host.look()
    assert host.links.can_connect("p1")
    assert host.membership.names() == ["vm-0"]


def test_worker_with_another_share_leaves_and_joins_again(host: MembershipHarness) -> None:
    """What was published on the share before is no longer waited for."""
    host.describe("p1", 'share = "p1"\n')
    host.look()
    host.describe("p1", 'share = "p1-again"\n')
    host.loop._wakeups.request_sweep()
    assert WorkerLeft(worker="p1", reason=REPLACED) in host.look()
    assert WorkerJoined(worker="p1") in host.look()


def test_site_that_appears_joins_with_its_workers(host: MembershipHarness) -> None:
    """And a description with the name of one of them is refused from then on."""
    host.sites.ready.append(AppearingSite("bob", "bob-0", "bob-1"))
    facts = host.look()
    host.describe("BOB-1", 'share = "p1"\n')
    host.look()

    joined = [WorkerJoined(worker="bob-0", site="bob"), WorkerJoined(worker="bob-1", site="bob")]
    assert [fact for fact in facts if isinstance(fact, WorkerJoined)] == joined
    assert host.membership.names() == ["vm-0", "bob-0", "bob-1"]
    assert host.links.queues.depth["bob-1"] == 1


def test_sites_that_appear_together_join_in_one_commit(
    host: MembershipHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster may grow by hundreds at once, and nothing else happens while a disk is written."""
    (host.root / "game.py").touch()
    host.evaluator.workers.append("alice-0")
    host.evaluator.deploy()
    written: list[str] = []
    record, widen = host.loop.record, DeploymentStore.widen

    def note_record(facts: list[Fact]) -> None:
        written.append("ledger")
        record(facts)

    def note_widen(store: DeploymentStore, beside: Collection[str], more: Collection[str]) -> None:
        written.append("deployments")
        widen(store, beside, more)

    monkeypatch.setattr(host.loop, "record", note_record)
    monkeypatch.setattr(DeploymentStore, "widen", note_widen)
    host.sites.ready += [AppearingSite(f"s{number}", f"s{number}-0") for number in range(40)]
    host.look()

    assert written == ["deployments", "ledger"]
    assert host.membership.names()[1:] == [f"s{number}-0" for number in range(40)]
    assert host.membership.site_of["s7-0"] == "s7"


def test_site_waits_for_the_share_of_a_worker_that_had_its_name(host: MembershipHarness) -> None:
    """The last request to that share may hang, and what it answers must not be taken for an answer of the site."""
    description = host.describe("bob-0", 'share = "bob-0"\n')
    host.look()
    host.executor.submit(ScanRequest(worker="bob-0", full=True))
    host.sites.ready.append(AppearingSite("bob", "bob-0"))
    description.unlink()
    host.loop._wakeups.request_sweep()
    assert WorkerLeft(worker="bob-0", reason=REMOVED) in host.look()
    host.look()
    assert host.membership.names() == ["vm-0"]

    host.shares_answer.set()
    assert eventually(lambda: host.executor.completed() or not host.executor.is_busy("bob-0"))

    assert WorkerJoined(worker="bob-0", site="bob") in host.look()


def test_site_waits_until_a_deployment_can_name_its_workers(host: MembershipHarness) -> None:
    """`pipeline deploy` may be writing the list."""
    (host.root / "game.py").touch()
    host.evaluator.workers.append("alice-0")
    host.evaluator.deploy()
    store = DeploymentStore(ProjectPaths(host.root))
    host.sites.ready.append(AppearingSite("bob", "bob-0"))
    with store.changing():
        host.look()
        assert host.membership.names() == ["vm-0"]

    host.look()

    assert host.membership.names() == ["vm-0", "bob-0"]
    assert [each.workers for each in store.read().known] == [("alice-0", "bob-0")]


def test_site_does_not_join_while_the_list_of_deployments_is_damaged(
    host: MembershipHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and the farm plays on."""
    paths = ProjectPaths(host.root)
    paths.all_deployments.mkdir(parents=True)
    paths.deployments.write_text("[")
    host.sites.ready.append(AppearingSite("bob", "bob-0"))
    host.look()
    host.look()
    assert [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()] == [
        caplog.records[0].getMessage()
    ]
    assert host.membership.names() == ["vm-0"]

    paths.deployments.unlink()
    host.look()

    assert host.membership.names() == ["vm-0", "bob-0"]


def test_folder_is_read_once_a_second(host: MembershipHarness) -> None:
    """Ticks are more frequent than that."""
    host.look()
    host.describe("p1", 'share = "p1"\n')
    host.now += 0.5
    assert host.membership.update() == []


@pytest.mark.parametrize(
    ("text", "said"), [("share = 7\n", "p1.toml"), ('share = "../vm-0"\n', "has the share of worker 'vm-0'")]
)
def test_description_that_cannot_be_used_is_said_once(
    host: MembershipHarness, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    """And again only if the reason is another one."""
    host.describe("p1", text)
    with caplog.at_level(logging.WARNING, "pipeline.host.membership"):
        host.look()
        host.look()
    assert [said in record.getMessage() for record in caplog.records] == [True]
    assert host.membership.names() == ["vm-0"]


def test_broken_edit_leaves_the_worker_as_it_is(host: MembershipHarness) -> None:
    """The user may be writing it."""
    host.describe("p1", 'share = "p1"\n')
    host.look()
    host.describe("p1", "share = ")
    host.look()
    assert host.membership.names() == ["vm-0", "p1"]


def test_silent_pilot_is_forgotten_when_its_lease_is_over(
    host: MembershipHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """It was killed, and could not take its file away."""
    path = host.describe("p1", 'share = "p1"\nlease_s = 10\n')
    host.look()
    host.loop.observed.workers["p1"].seen_alive_at = host.loop.observed.time - 9.0
    host.look()
    assert path.exists()
    host.loop.observed.workers["p1"].seen_alive_at = host.loop.observed.time - 11.0
    with caplog.at_level(logging.WARNING, "pipeline.host.membership"):
        host.look()
    assert not path.exists()
    assert "its lease is over" in caplog.text


def test_corrected_rights_are_noticed(host: MembershipHarness) -> None:
    """Neither size nor time of the file has changed with them."""
    path = host.describe("p1", 'share = "p1"\n')
    path.chmod(0o666)
    if os.name != "nt":
        assert host.look() == [] or "p1" not in host.membership.names()
    path.chmod(0o644)
    host.look()
    assert "p1" in host.membership.names()


def test_pilot_on_a_share_that_cannot_be_read_keeps_its_lease(host: MembershipHarness) -> None:
    """Its disk is away for the host, and it plays on."""
    path = host.describe("p1", 'share = "p1"\nlease_s = 10\n')
    (host.root / "workers" / "p1").mkdir()
    host.look()
    seen = host.loop.observed.workers["p1"]
    seen.readable, seen.seen_alive_at = False, host.loop.observed.time - 100.0
    host.look()
    assert path.exists()


def test_restarted_host_has_the_described_workers_from_its_start(host: MembershipHarness) -> None:
    """They are part of the configuration that it reads."""
    host.describe("p1", 'share = "p1"\n')
    again = host.started()
    assert again.names() == ["vm-0", "p1"]


@pytest.mark.parametrize(
    ("worker", "said"),
    [("vm-7", "vm-7: no worker of this farm"), ("vm-0", "vm-0 has no machine that could be restarted from here")],
)
def test_restart_that_is_not_possible_is_said_and_dropped(
    host: MembershipHarness, caplog: pytest.LogCaptureFixture, worker: str, said: str
) -> None:
    """It would stay for ever otherwise."""
    requests = WorkerRequestFiles(ProjectPaths(host.root))
    requests.ask_restart(worker)
    with caplog.at_level(logging.WARNING, "pipeline.host.membership"):
        host.look()
    assert f"no restart: {said}" in caplog.text
    assert requests.restarts() == frozenset()


def test_share_is_closed_when_its_last_request_has_ended() -> None:
    """A request that is in progress uses its connection."""
    closed: list[str] = []

    def execute(request: ShareRequest) -> ShareResponse:
        return ShareResponse(worker=request.worker)

    executor = ShareExecutor({}, (), lambda: None)
    executor.add("p1", execute)
    executor._submitted_at["p1"] = 0.0  # a request that lasts
    executor.remove("p1", lambda: closed.append("p1"))
    assert closed == []
    executor._responses.put(ShareResponse(worker="p1"))
    assert executor.completed() == []
    assert closed == ["p1"]
    executor.close()
