"""Generations on the machines of two Hyper-V hosts that have machines of the same names.

The agents, the WinRM client, the SMB client and the SMB servers are real; the Hyper-V hosts are simulated. One of them
is behind a network that can be cut, with all of its machines.
"""

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.local_files import LocalFiles
from pipeline import Fitness, OpenFarm, open_farm
from pipeline.core.facts import RecoveryStarted, WorkerQuarantined
from pipeline.host import wiring
from pipeline.machines import controller
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.smb import session
from pipeline.storage.ledger import Ledger
from tests.fakes.partition import Partition
from tests.harness.farm_project import FarmProject, games
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, HyperVHarness, hyperv_harness
from tests.harness.samba import PASSWORD as SHARE_PASSWORD
from tests.harness.samba import Samba, give_to_account, samba

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
VMS = ("vm-0", "vm-1")
#: Ten minutes are 2.5 times the default boot limit and longer than every other limit but that of a game.
LIMITS: dict[str, Any] = {"silence_limit_s": 4.0, "agent_restart_limit_s": 4.0, "boot_limit_s": 4.0}
AWAY_S = 10.0


@dataclass(frozen=True, slots=True)
class TwoHosts:
    """Both hosts, and the way to the second one."""

    near: HyperVHarness
    far: HyperVHarness
    way: Partition

    def close(self) -> None:
        """Machines keep running after their host has ended."""
        self.near.hyperv.close()
        self.far.hyperv.close()

    def done_to_far(self) -> list[str]:
        """What was done to the machines of the second host."""
        return [event.what for event in self.far.hyperv.events]


@pytest.fixture
def scaled(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed limits are as much shorter than the silence limit as they are by default."""
    for name, value in (("HYPERV_SECRET", PASSWORD), ("GUEST_SECRET", GUEST_SECRET), ("SHARE_SECRET", SHARE_PASSWORD)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(controller, "STALE_AFTER_S", LIMITS["silence_limit_s"])
    monkeypatch.setattr(session, "CONNECT_LIMIT_S", 0.8)
    monkeypatch.setattr(session, "BACK_OFF_S_MAX", 2.0)
    monkeypatch.setattr(wiring, "SmbSession", partial(session.SmbSession, limit_s=0.8))
    monkeypatch.setattr(wiring, "ShareExecutor", partial(ShareExecutor, response_limit_s=1.5))
    project.root.mkdir(parents=True)


@contextmanager
def two_hosts(root: Path, *names: str, servers: Sequence[Samba] = ()) -> Iterator[TwoHosts]:
    """Hosts `lab-1` and `lab-2` with these machines; their disks are on these servers, or both in one folder each."""
    with ExitStack() as stack:
        disks = [disks_of(server) for server in servers] or [root / "disks-1", root / "disks-2"]
        near, far = (
            stack.enter_context(
                hyperv_harness(root, *names, disks=folder, host=host, first_address=11 + number * len(names))
            )
            for number, (host, folder) in enumerate(zip(("lab-1", "lab-2"), disks, strict=True))
        )
        way = Partition()
        stack.callback(way.close)
        yield TwoHosts(near, far, way)


def disks_of(server: Samba) -> Path:
    """The folder of the machines' disks, where their shares are."""
    for share in server.shares.values():
        LocalFiles(share).make_folders()
        give_to_account(share)
    return server.shares[VMS[0]].parent


class Play:
    """Genomes that are submitted to an open generation."""

    def __init__(self, project: FarmProject, farm: OpenFarm) -> None:
        self._project, self._farm = project, farm
        self._genomes = iter(games(1000, 0.3).items())

    def submit(self, count: int) -> list[Future[Fitness]]:
        """So many more genomes."""
        more = itertools.islice(self._genomes, count)
        return [self._farm.submit(json.dumps(commands).encode(), name=name) for name, commands in more]

    def until_more_is_played_by(self, host: str) -> None:
        """A few at a time, until this host's machines have played some of them."""
        before = self._project.archived(by=host)

        def is_more() -> bool:
            for future in self.submit(4):
                future.result(60)
            return self._project.archived(by=host) > before + 4

        self._project.wait_until(is_more, within_s=90)


@contextmanager
def played(project: FarmProject) -> Iterator[Play]:
    """A generation that is open in the block. The farm is in this process."""
    with open_farm(project.root) as farm, farm.open_generation(1):
        yield Play(project, farm)


def assert_nothing_was_recovered(project: FarmProject) -> None:
    ledger = Ledger(project.root / "state", read_only=True)
    facts = [entry.fact for entry in ledger.entries()]
    ledger.close()
    assert [fact for fact in facts if isinstance(fact, RecoveryStarted | WorkerQuarantined)] == []


@pytest.mark.usefixtures("scaled")
def test_host_that_vanishes_and_returns(project: FarmProject) -> None:
    """Its machines are unknown meanwhile and nothing is done to them; the other host plays on. When it is back, its
    machines play again. Each genome is counted once."""
    with samba(*VMS) as one, samba(*VMS) as other, two_hosts(project.root, *VMS, servers=(one, other)) as hosts:
        ports = {vm: hosts.way.forward(other.port, f"127.0.0.{13 + number}") for number, vm in enumerate(VMS)}
        tables = "[hyperv]\nnetwork = '127.0.0.0/8'\nstagger_s = 0.1\n" + hosts.near.tables(one)
        tables += hosts.far.tables(other, port=hosts.way.forward(hosts.far.port), smb_ports=ports)
        project.configure(workers=0, extra=tables, **LIMITS)
        with played(project) as play:
            play.submit(40)
            project.wait_until(lambda: min(project.archived(by=host) for host in ("lab-1", "lab-2")) >= 4)
            hosts.way.cut()
            threading.Event().wait(AWAY_S)
            play.until_more_is_played_by("lab-1")
            hosts.way.reconnect()
            play.until_more_is_played_by("lab-2")
        hosts.close()

        project.assert_counted_once()
        assert hosts.done_to_far() == ["start"] * 2
        assert_nothing_was_recovered(project)
        assert project.run("verify")[0] == 0


@pytest.mark.usefixtures("scaled")
def test_workers_play_on_while_their_host_cannot_be_managed(project: FarmProject) -> None:
    """Only the way to the host's WinRM is cut, and the shares of its machines can be read."""
    with two_hosts(project.root, "vm-0") as hosts:
        tables = hosts.near.tables() + hosts.far.tables(port=hosts.way.forward(hosts.far.port))
        project.configure(workers=0, extra=tables, **LIMITS)
        with played(project) as play:
            play.until_more_is_played_by("lab-2")
            hosts.way.cut()
            threading.Event().wait(1.25 * LIMITS["silence_limit_s"])
            play.until_more_is_played_by("lab-2")
            hosts.way.reconnect()
        hosts.close()

        project.assert_counted_once()
        assert hosts.done_to_far() == ["start"]
        assert_nothing_was_recovered(project)
