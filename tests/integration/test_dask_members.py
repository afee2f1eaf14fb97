"""Which workers of a Dask cluster become sites, by what its scheduler says of them; and what is said of the others.

The scheduler answers what a test tells it, over Dask's own protocol, and so do the sites of its workers.
"""

import asyncio
import logging
import os
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from distributed.core import Server

from inbox_agent.settings import EnvironmentTable
from pipeline.contrib.dask import DaskSites
from pipeline.core.limits import Limits
from pipeline.errors import HostError
from pipeline.machines.sites import dask_cluster, dask_sites, first_sites, remote_site, site_search
from pipeline.machines.sites.connected_sites import ConnectedSites
from pipeline.machines.sites.dask_plugin import OPERATION
from pipeline.machines.sites.interface import SitesHost
from pipeline.machines.sites.site_server import SiteServer
from pipeline.shares.artifact_room import ArtifactRoom
from tests.harness.site_harness import RecordedBells
from tests.harness.waiting import eventually


class ToldScheduler:
    """A scheduler that knows the workers of `workers`: each is a name and a number of threads.

    At the address of each something answers that has the plugin already.
    """

    def __init__(self) -> None:
        self.workers: list[tuple[Any, Any]] = []
        self.asked = 0
        self.address_of: dict[Any, str] = {}  #: name -> where nothing of this class answers
        self.ending: list[Any] = []  #: names of workers that end
        self._sites: dict[tuple[str, int], tuple[Server, SiteServer]] = {}
        self._threads = ThreadPoolExecutor(64)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(_listening(identity=self._identity), self._loop).result(30)
        self.address = str(self._server.address)

    async def _identity(self) -> dict[str, Any]:
        self.asked += 1
        known, seen = {}, Counter[str]()
        for name, threads in self.workers:
            key = repr(name), seen[repr(name)]
            seen[repr(name)] += 1
            address = self.address_of.get(name) or await self._site(key, str(name))
            status = "closing" if name in self.ending else "running"
            known[address] = {"name": address if name is None else name, "nthreads": threads, "status": status}
        return {"workers": known}

    async def _site(self, key: tuple[str, int], name: str) -> str:
        if key not in self._sites:
            site = SiteServer(name)

            async def answer(message: bytes) -> bytes:
                return await asyncio.get_running_loop().run_in_executor(self._threads, site.answer, message)

            async def add(**_plugin: Any) -> dict[str, str]:
                return {"status": "OK"}

            self._sites[key] = await _listening(**{OPERATION: answer, "plugin-add": add}), site
        return str(self._sites[key][0].address)

    def cut_off(self, name: object) -> None:
        """Nothing answers at the address of that worker any more."""
        server, _ = self._sites[repr(name), 0]
        asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(30)

    def close(self) -> None:
        for server, site in self._sites.values():
            site.close()
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(30)
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(30)
        self._threads.shutdown(wait=False)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


async def _listening(**operations: Any) -> Server:
    server = Server(operations)  # type: ignore[no-untyped-call]
    await server.listen("tcp://127.0.0.1:0")  # type: ignore[no-untyped-call]
    return server


class FarmOfScheduler:
    """A farm that opens with the sites that a scheduler knows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.scheduler = folder, ToldScheduler()
        self.taken: list[str] = []  #: names of other workers
        self.known: list[str] = []  #: sites that the farm was played on
        self._opened: ConnectedSites | None = None

    def open(self, **arguments: Any) -> ConnectedSites:
        host = SitesHost(
            farm_id="f00d",
            limits=Limits(),
            environment=EnvironmentTable(),
            hidden_variables=(),
            taken_names=frozenset(self.taken),
            genome=lambda _sha, _name: b"",
            archive=lambda sha: self.folder / sha,
            incoming=lambda worker: self.folder / worker,
            room=ArtifactRoom(Limits(), [self.folder]),
            bells=RecordedBells(),
            known_sites=frozenset(self.known),
        )
        self._opened = self._sites(**arguments).open(host)
        return self._opened

    def doctor(self) -> list[str]:
        """What is found to be the matter with sites."""
        found = self._sites().examine(self.taken, self.known)
        return [f"{each.item}: {each.found}" for each in found if not each.ok]

    def _sites(self, **arguments: Any) -> DaskSites:
        return DaskSites(self.scheduler.address, folder=str(self.folder / "sites"), **arguments)

    def search(self, sites: ConnectedSites) -> None:
        """Looks for more sites, and comes back when they were looked for."""
        until = self.scheduler.asked + 3
        assert eventually(lambda: not sites.appeared(self.taken) and self.scheduler.asked >= until)
        sites.appeared(self.taken)

    def close_sites(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def close(self) -> None:
        self.close_sites()
        self.scheduler.close()


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarmOfScheduler]:
    monkeypatch.setattr(site_search, "SEARCH_INTERVAL_S", 0.01)
    farm = FarmOfScheduler(tmp_path)
    yield farm
    farm.close()


def unused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of workers that are not used."""
    found = [record.getMessage() for record in caplog.records if record.name == site_search.__name__]
    return [text for text in found if "has appeared" not in text]


def names(sites: ConnectedSites) -> list[str]:
    return [site.name for site in sites.sites()]


@pytest.mark.parametrize(
    ("workers", "taken", "used", "said"),
    [
        ([("1", 1), ("dask-1", 1)], [], "1", "site dask-1: it is not used: there is a worker dask-1-0 already"),
        ([("alice", 1), ("bob", 1)], ["Bob-0"], "alice", "site bob: it is not used: there is a worker Bob-0 already"),
    ],
)
def test_site_whose_worker_has_the_name_of_another_is_left_out(
    farm: FarmOfScheduler,
    caplog: pytest.LogCaptureFixture,
    workers: list[tuple[str, int]],
    taken: list[str],
    used: str,
    said: str,
) -> None:
    """As of one that appears later, so a farm that was played on can be opened again. It is said once."""
    farm.scheduler.workers, farm.taken = [*workers], taken
    sites = farm.open()
    assert names(sites) == [used]

    farm.search(sites)

    (text,) = unused(caplog)
    assert text.startswith(said)


def test_farm_does_not_open_if_no_site_has_free_names(farm: FarmOfScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which worker is in the way."""
    farm.scheduler.workers, farm.taken = [("bob", 1)], ["bob-0"]
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 0.0)

    with pytest.raises(
        HostError, match=r"0 of 1 sites can be used .*: site bob: it is not used: there is a worker bob-0"
    ):
        farm.open()


@pytest.mark.parametrize("threads", [0, -1, 513, 10**12, float("inf"), "many", None])
def test_number_of_threads_that_no_site_has_is_refused(
    farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture, threads: object
) -> None:
    """Of one that is there at the start, and of one that appears; the others are used."""
    farm.scheduler.workers = [("alice", 2), ("bob", threads)]
    sites = farm.open()
    assert names(sites) == ["alice"]

    farm.search(sites)

    (text,) = unused(caplog)
    assert text.startswith("site bob: it is not used: its Dask worker has ")
    assert text.endswith("; a site has from 1 to 512 agents: start it with --nthreads, or set agents_per_site")


def test_number_of_threads_does_not_matter_if_the_number_of_agents_is_given(farm: FarmOfScheduler) -> None:
    farm.scheduler.workers = [("bob", 1000)]

    (site,) = farm.open(agents_per_site=2).sites()

    assert site.workers == ("bob-0", "bob-1")


def test_farm_does_not_open_if_no_worker_can_be_a_site(farm: FarmOfScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why not."""
    farm.scheduler.workers = [(None, 1), ("bob", 20_000)]
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 0.0)

    with pytest.raises(
        HostError, match=r"0 of 1 sites can be used after 0 s: site bob: it is not used: its Dask worker"
    ):
        farm.open()


def test_scheduler_that_is_waited_for_is_named_at_once(
    farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time that it is waited for at most; at the end there is what to do."""
    monkeypatch.setattr(dask_sites, "_NOTICE_AFTER_S", 0.1)
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 0.0)
    monkeypatch.setattr(dask_cluster, "CONNECT_LIMIT_S", 0.5)
    farm.scheduler.address = "tcp://127.0.0.1:1"

    with pytest.raises(
        HostError, match="nothing listens at port 1 there; start `dask scheduler` there, or correct `cluster`"
    ):
        farm.open()

    assert caplog.messages == ["waits up to 60 s for a Dask scheduler at tcp://127.0.0.1:1"]


def test_worker_that_ends_is_no_site(farm: FarmOfScheduler) -> None:
    """It takes no plugin any more."""
    farm.scheduler.workers, farm.scheduler.ending = [("alice", 1), ("bob", 1)], ["bob"]

    assert names(farm.open()) == ["alice"]


def test_names_that_differ_in_case_only_are_a_clash(farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture) -> None:
    """The site that the farm was played on stays. Doctor and the run say the same of the other one."""
    farm.scheduler.workers, farm.known = [("BOB", 1), ("bob", 1)], ["bob"]
    clash = "there is a worker bob-0 already; give the Dask worker another name"

    assert farm.doctor() == [f"site BOB: {clash}"]
    assert names(farm.open()) == ["bob"]
    assert unused(caplog) == [f"site BOB: it is not used: {clash}"]


def test_doctor_names_a_clash_with_a_worker_on_no_site(farm: FarmOfScheduler) -> None:
    """As the run does."""
    farm.scheduler.workers, farm.taken = [("alice", 1), ("bob", 1)], ["Bob-0"]

    assert farm.doctor() == ["site bob: there is a worker Bob-0 already; give the Dask worker another name"]


def test_workers_of_one_name_are_no_sites(farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture) -> None:
    """To Dask the number 1 and the text "1" are different names, but a site must find its shares again by its name."""
    farm.scheduler.workers = [("1", 1), (1, 1), ("alice", 1)]
    sites = farm.open()
    assert names(sites) == ["alice"]

    farm.search(sites)

    several = "several Dask workers have this name; give each another one"
    assert unused(caplog) == [f"site 1: it is not used: {several}"]


def test_worker_with_the_name_of_a_site_that_is_used_is_named(
    farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site is not asked at the address of the other one."""
    farm.scheduler.workers = [("1", 1)]
    sites = farm.open()
    farm.scheduler.workers.insert(0, (1, 1))
    monkeypatch.setattr(remote_site, "RETRY_MAX_S", 0.01)
    farm.scheduler.cut_off("1")

    farm.search(sites)

    several = "several Dask workers have this name; give each another one"
    assert unused(caplog) == [f"site 1: {several}"]
    assert eventually(lambda: several in sites.status()["dask-1-0"].note)


@pytest.mark.parametrize("name", ["\n", " ", "a\x1b[2J", "x" * 101, 1.5])
def test_name_that_cannot_be_shown_is_none(
    farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture, name: object
) -> None:
    """The worker is named by its address."""
    farm.scheduler.workers = [(name, 1), ("alice", 1)]
    sites = farm.open()
    assert names(sites) == ["alice"]

    farm.search(sites)

    (text,) = unused(caplog)
    assert re.match(r"site tcp://127\.0\.0\.1:\d+: it is not used: its Dask worker has no name of its own", text)


def test_many_workers_that_cannot_be_used_are_not_all_named(
    farm: FarmOfScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster may have thousands that were started without a name."""
    farm.scheduler.workers = [("alice", 1)] + 100 * [(None, 1)]
    with caplog.at_level(logging.WARNING):
        farm.search(farm.open())

    assert len(unused(caplog)) == site_search.NAMED_MAX + 1
    assert unused(caplog)[-1] == "further members of the cluster cannot be used; they are not named"


@pytest.mark.skipif(sys.platform != "linux", reason="where the descriptors of a process can be counted")
def test_farm_that_is_closed_while_a_site_is_opened_leaves_nothing(
    farm: FarmOfScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a thread nor a descriptor: the site takes the connection, and never answers."""
    farm.scheduler.workers = [("alice", 1)]
    farm.open()
    farm.close_sites()
    monkeypatch.setattr(first_sites, "OPEN_LIMIT_S", 0.0)
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        farm.scheduler.address_of["bob"] = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        farm.scheduler.workers.append(("bob", 1))
        assert names(farm.open()) == ["alice"]
        connection, _ = silent.accept()
        farm.close_sites()
        connection.close()

    assert eventually(lambda: not {"site-bob", "site-search", "dask"} & {each.name for each in threading.enumerate()})
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
