"""A generation over real SMB shares with real agents, while the server fails in every way.

The test ends like all others: each genome is counted exactly once, with the fitness that follows from its bytes.
"""

import itertools
import os
import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from inbox_agent.protocol.local_files import LocalFiles
from tests.fakes.smb_proxy import Proxy
from tests.harness.farm_project import FarmProject, games
from tests.harness.samba import ACCOUNT, PASSWORD, Samba, exchange, give_to_account, samba, worker_table
from tests.harness.smb_relay import Link, Relay
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
VMS = ("vm-0", "vm-1", "vm-2", "vm-3")
CANARY = PASSWORD


@pytest.fixture
def server() -> Iterator[Samba]:
    """A server with a share for each of four machines."""
    with exchange(*VMS) as server:
        yield server


@pytest.fixture
def farm(project: FarmProject, server: Samba, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarmProject]:
    """Its host reads the password from the environment; its agents use the server's disk."""
    monkeypatch.setenv("FARM_SECRET", PASSWORD)
    yield project


def start_agents(farm: FarmProject, server: Samba) -> "list[subprocess.Popen[bytes]]":
    return [farm.start_agent(server.shares[name]) for name in VMS]


def stop(agents: "list[subprocess.Popen[bytes]]") -> None:
    for agent in agents:
        agent.terminate()
        agent.wait(10)


def test_generation_runs_on_smb_and_local_workers(farm: FarmProject, server: Samba) -> None:
    """Local and SMB workers in one farm; no written file contains the password."""
    farm.configure(workers=2, extra="\n".join(worker_table(name, server.port) for name in VMS))
    farm.add_genomes(games(60, 0.4))
    agents = start_agents(farm, server)
    code, out = farm.run()
    stop(agents)
    assert code == 0, out
    farm.assert_counted_once()
    played = {row["worker"] for row in farm.attempts() if row["outcome"] == "completed"}
    assert played == {"local-0", "local-1", *VMS}
    for path in [*farm.root.rglob("*"), *(p for share in server.shares.values() for p in share.rglob("*"))]:
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    assert CANARY not in out


def test_generation_survives_server_faults(farm: FarmProject, server: Samba) -> None:
    """The server is killed, restarted and frozen, rights are removed and restored, a response is lost: each genome
    counts once."""
    proxy = Proxy(server.port)
    farm.configure(
        workers=0,
        silence_limit_s=12.0,
        losses_max=10,
        extra="\n".join(worker_table(name, proxy.port if name == "vm-0" else server.port) for name in VMS),
    )
    farm.add_genomes(games(120, 0.25))
    agents = start_agents(farm, server)
    host = farm.start()
    farm.wait_until(lambda: farm.archived() >= 10)

    server.kill()
    assert not eventually(lambda: False, 1.0)
    server.start()
    farm.wait_until(lambda: farm.archived() >= 30)

    assert proxy.lose_next_answer().wait(20)
    server.freeze()
    assert not eventually(lambda: False, 2.0)
    server.thaw()
    farm.wait_until(lambda: farm.archived() >= 60)

    inbox = server.shares["vm-1"] / "inbox"
    inbox.chmod(0o000)
    os.chown(inbox, 0, 0)
    assert not eventually(lambda: False, 2.0)
    inbox.chmod(0o755)
    give_to_account(inbox)
    server.drop_connections()

    code, out = farm.wait_for_end(host, within_s=120)
    stop(agents)
    proxy.close()
    assert code == 0, out
    farm.assert_counted_once()


def test_changed_answers_do_not_end_generation(farm: FarmProject, server: Samba) -> None:
    """One bit of every thirtieth message of a server is changed on the way: its share is unknown for a moment, and the
    host goes on."""
    numbers = itertools.count(1)

    def change(message: bytes, link: Link) -> None:
        changed = message if next(numbers) % 30 else message[:-1] + bytes([message[-1] ^ 1])
        link.to_client(changed)

    relay = Relay(server.port, on_answer=change)
    farm.configure(workers=1, extra=worker_table("vm-0", relay.port))
    farm.add_genomes(games(30, 0.1))
    agent = farm.start_agent(server.shares["vm-0"])
    code, out = farm.run()
    stop([agent])
    relay.close()
    assert code == 0, out
    assert next(numbers) > 60
    farm.assert_counted_once()
    assert {row["worker"] for row in farm.attempts() if row["outcome"] == "completed"} == {"local-0", "vm-0"}


def test_publication_on_full_disk_is_retried(farm: FarmProject, tiny_disk: Path) -> None:
    """Writes fail while renames work: the attempt id is used up, and the trial is run when there is room again."""
    tiny_disk.chmod(0o755)
    with samba("vm-0", disk=tiny_disk) as server:
        share = server.shares["vm-0"]
        LocalFiles(share).make_folders()
        give_to_account(share)
        farm.configure(workers=0, claim_limit_s=30, extra=worker_table("vm-0", server.port))
        farm.add_genomes({f"g{n:03d}.json": {"n": n, "seconds": 0.1, "pad": "x" * 100_000} for n in range(30)})
        agent = farm.start_agent(share)
        host = farm.start()
        farm.wait_until(lambda: farm.archived() >= 3)
        hog = tiny_disk / "hog"
        with pytest.raises(OSError, match="No space"), hog.open("wb", buffering=0) as pig:
            while True:
                pig.write(b"x" * 4096)
        assert not eventually(lambda: False, 2.0)
        hog.unlink()
        code, out = farm.wait_for_end(host, within_s=100)
        agent.terminate()
        agent.wait(10)
    assert code == 0, out
    farm.assert_counted_once()


def test_take_over_works_over_smb(farm: FarmProject, server: Samba) -> None:
    """The command accesses the share in the same way as the host."""
    farm.configure(workers=0, extra=worker_table("vm-0", server.port))
    farm.add_genomes(games(3, 0.0))
    share = server.shares["vm-0"]
    (share / "inbox/3.host.json").write_text('{"layout": 1, "farm": "another", "worker": "vm-0", "epoch": 3}')
    agents = start_agents(farm, server)
    code, out = farm.run()
    assert code == 4
    assert "pipeline take-over vm-0" in out

    assert farm.run("take-over", "vm-0")[0] == 0
    code, out = farm.run()
    stop(agents)

    assert code == 0, out
    farm.assert_counted_once()


def test_wrong_password_stops_farm(farm: FarmProject, server: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """The farm stops with a reason that does not contain the password."""
    monkeypatch.setenv("FARM_SECRET", "Wr0ng-canary")
    farm.configure(
        workers=0, silence_limit_s=2, claim_limit_s=2, probations_max=1, extra=worker_table("vm-0", server.port)
    )
    farm.add_genomes(games(3, 0.0))

    code, out = farm.run()

    assert code == 4
    assert "no such account, or it has another password (status 0xc000006d); check `account` and `secret`" in out
    assert "Wr0ng-canary" not in out


def test_messages_per_delivery_are_bounded(server: Samba) -> None:
    """The proxy counts one request each for a delivery, for reading result and log, and for a removal."""
    from pipeline.shares.smb.files import SmbFiles
    from pipeline.shares.smb.session import SmbAccess, SmbSession

    proxy = Proxy(server.port)
    access = SmbAccess(server="127.0.0.1", share="vm-0", port=proxy.port, account=ACCOUNT, password=lambda: PASSWORD)
    session = SmbSession(access)
    files = SmbFiles(session)
    files.names("inbox")
    asked = []

    def count() -> None:
        asked.append(proxy.asked)

    count()
    files.deliver("inbox/x.genome", b"g" * 4096, "inbox/x.start.json", b"{}")
    count()
    files.read_all([("inbox/x.start.json", 65536), ("inbox/x.genome", 65536)])
    count()
    files.remove(["inbox/x.start.json", "inbox/x.genome"])
    count()
    session.drop()
    proxy.close()

    assert [after - before for before, after in pairwise(asked)] == [1, 1, 1]
    assert threading.active_count() < 50
