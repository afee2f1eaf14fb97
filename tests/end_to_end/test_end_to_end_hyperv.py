"""A generation on eight Hyper-V machines that hang, crash, get stuck and boot slowly, while WinRM drops calls.

The agents are real processes and the WinRM client is the real one; the Hyper-V host is simulated
(tests.fakes.simulated_hyperv). Each genome is counted exactly once, and no healthy machine is power-cycled.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from inbox_agent.protocol.local_files import LocalFiles
from pipeline.errors import ExitCode
from tests.fakes.wsman_server import Trouble
from tests.harness.farm_project import FarmProject, games
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, HyperVHarness, hyperv_harness
from tests.harness.samba import PASSWORD as SHARE_PASSWORD
from tests.harness.samba import give_to_account, samba

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
VMS = tuple(f"vm-{number}" for number in range(8))
PATIENCE: dict[str, Any] = {
    "silence_limit_s": 4.0,
    "agent_restart_limit_s": 5.0,
    "boot_limit_s": 10.0,
    "claim_limit_s": 20.0,
}


@pytest.fixture
def pool(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[HyperVHarness]:
    monkeypatch.setenv("HYPERV_SECRET", PASSWORD)
    monkeypatch.setenv("GUEST_SECRET", GUEST_SECRET)
    project.root.mkdir(parents=True, exist_ok=True)
    with hyperv_harness(project.root, *VMS) as pool:
        yield pool


def done_to(pool: HyperVHarness, name: str) -> list[str]:
    return [event.what for event in pool.hyperv.events if event.machine == name]


def test_hyperv_machines_recover_from_every_fault(project: FarmProject, pool: HyperVHarness) -> None:
    """Eight machines start; one freezes, one crashes, one is stuck in Stopping, an agent hangs, one boots slowly, WinRM
    fails in every way: all recover, and no healthy machine is power-cycled."""
    hyperv, server = pool.hyperv, pool.server
    hyperv.boot_slowly("vm-7", 3.0)
    project.configure(workers=0, losses_max=10, extra=pool.tables(stagger_s=0.1, booting_max=4), **PATIENCE)
    project.add_genomes(games(160, 0.5))
    host = project.start()
    project.wait_until(lambda: project.archived() >= 10)

    hyperv.freeze("vm-0")
    hyperv.crash("vm-1")
    hyperv.hang_in_stopping("vm-2")
    hyperv.freeze("vm-2")
    hyperv.freeze_agent("vm-3")
    server.plan("Create", Trouble.QUOTA, Trouble.DROP_BEFORE, Trouble.HTTP_503)
    server.plan("Send", Trouble.DROP_AFTER)
    server.plan("Receive", Trouble.CLIXML, Trouble.DROP_BEFORE)
    for name in ("vm-0", "vm-1", "vm-2", "vm-3"):
        project.wait_until(partial(hyperv.is_healthy, name), within_s=60)

    code, out = project.wait_for_end(host, within_s=120)
    assert code == 0, out
    hyperv.close()  # machines keep running after their host has ended
    project.assert_counted_once()
    assert [event for event in hyperv.events if event.well] == []
    assert "cut" in done_to(pool, "vm-0")
    assert "cut" not in done_to(pool, "vm-1") + done_to(pool, "vm-3")
    assert done_to(pool, "vm-3") == ["start", "agent"]
    assert hyperv.booting_max <= 4
    assert server.shells == set()
    written = out.encode() + b"".join(path.read_bytes() for path in project.root.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in written and GUEST_SECRET.encode() not in written


def test_shares_inside_machines_are_found_by_address(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured address each share is found at the address that its machine reports, also after a power
    cycle."""
    for name, value in (("HYPERV_SECRET", PASSWORD), ("GUEST_SECRET", GUEST_SECRET), ("SHARE_SECRET", SHARE_PASSWORD)):
        monkeypatch.setenv(name, value)
    project.root.mkdir(parents=True)
    with samba("vm-0", "vm-1") as server:
        disks = server.shares["vm-0"].parent
        for share in server.shares.values():
            LocalFiles(share).make_folders()
            give_to_account(share)
        with hyperv_harness(project.root, "vm-0", "vm-1", disks=disks) as pool:
            tables = pool.tables(server, stagger_s=0.1, network="'127.0.0.0/8'")
            project.configure(workers=0, losses_max=10, extra=tables, **PATIENCE)
            project.add_genomes(games(40, 0.3))
            host = project.start()
            project.wait_until(lambda: project.archived() >= 6)
            pool.hyperv.freeze("vm-0")
            project.wait_until(lambda: pool.hyperv.is_healthy("vm-0"), within_s=40)
            code, out = project.wait_for_end(host, within_s=90)

            assert code == 0, out
            pool.hyperv.close()
            project.assert_counted_once()
            assert [event for event in pool.hyperv.events if event.well] == []


def test_host_killed_during_recovery_resumes(project: FarmProject, pool: HyperVHarness) -> None:
    """The next host reads the machines' states, starts those that are off and waits for those that boot."""
    hyperv = pool.hyperv
    project.configure(workers=0, losses_max=10, extra=pool.tables(stagger_s=0.1, booting_max=4), **PATIENCE)
    project.add_genomes(games(100, 0.4))
    host = project.start()
    project.wait_until(lambda: project.archived() >= 10)
    for name in ("vm-0", "vm-1", "vm-2"):
        hyperv.boot_slowly(name, 2.0)
        hyperv.crash(name)
    project.wait_until(lambda: any(hyperv.boots(name) > 1 for name in ("vm-0", "vm-1", "vm-2")))
    host.kill()
    host.wait()

    code, out = project.run(within_s=120)

    assert code == 0, out
    hyperv.close()
    project.assert_counted_once()
    assert [event for event in hyperv.events if event.well] == []
    assert max(hyperv.boots(name) for name in VMS) <= 2


@pytest.mark.parametrize("verb", ["restore", "remove"])
def test_manually_restored_machines_get_new_epochs(project: FarmProject, pool: HyperVHarness, verb: str) -> None:
    """Refused while their farm runs; afterwards their shares have no owner, and no silence limit has to pass."""
    project.configure(workers=0, extra=pool.tables(stagger_s=0.1), time_limit_s=600.0, silence_limit_s=20.0)
    project.add_genomes(games(200, 0.5))
    host = project.start()
    project.wait_until(lambda: project.archived() >= 10)
    code, out = project.run("vm", verb, "--all", "--yes")
    assert (code, "another process has this project open" in out) == (ExitCode.BAD_INPUT, True)
    host.kill()
    host.wait()
    for command in (("vm", verb, "--all", "--yes"), ("vm", "create", "--all")):
        code, out = project.run(*command)
        assert code == 0, out

    code, out = project.run(within_s=60)

    assert code == 0, out
    pool.hyperv.close()
    project.assert_counted_once()
    assert project.run("verify")[0] == 0
