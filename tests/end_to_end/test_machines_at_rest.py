"""Machines at rest: idle machines of a simulated Hyper-V are saved or shut down, and go on when there is work.

The agents are real processes, which a saved machine suspends; WinRM is real.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import open_farm
from pipeline.core.facts import RecoveryStarted, WorkerQuarantined
from pipeline.storage.ledger import Ledger
from tests.harness.farm_project import games, running_attempt
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, HyperVHarness, hyperv_harness
from tests.harness.watched_project import WatchedProject

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
VMS = ("vm-0", "vm-1")
GENOMES = {name: json.dumps(commands).encode() for name, commands in games(4).items()}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[WatchedProject]:
    project = WatchedProject(tmp_path / "farm")
    yield project
    project.close()


@pytest.fixture
def pool(project: WatchedProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[HyperVHarness]:
    monkeypatch.setenv("HYPERV_SECRET", PASSWORD)
    monkeypatch.setenv("GUEST_SECRET", GUEST_SECRET)
    project.root.mkdir(parents=True, exist_ok=True)
    with hyperv_harness(project.root, *VMS) as pool:
        yield pool


def configure(project: WatchedProject, pool: HyperVHarness, action: str) -> None:
    """A farm on these machines that rest after a second; silence is noticed soon."""
    tables = pool.tables(idle_action=f"'{action}'", idle_after_s=1, stagger_s=0.0)
    project.configure(workers=0, extra=tables, silence_limit_s=4.0)


def done_to(pool: HyperVHarness, name: str) -> list[str]:
    """What was done to a machine."""
    return [event.what for event in pool.hyperv.events if event.machine == name]


def are_at_rest(pool: HyperVHarness, times: int = 1) -> bool:
    """Whether each machine was saved or shut down so many times, and does not run."""
    rests = [sum(what in ("save", "shutdown") for what in done_to(pool, name)) for name in VMS]
    return rests == [times] * len(VMS) and not any(pool.hyperv.is_healthy(name) for name in VMS)


def assert_nothing_was_lost(project: WatchedProject, pool: HyperVHarness, *generations: int) -> None:
    """Each genome was counted once, with one attempt, and no worker was recovered."""
    pool.hyperv.close()  # machines keep running after their host has ended
    for generation in generations:
        project.assert_counted_once(generation=generation)
        assert project.summary(generation)["lost"] == 0
    ledger = Ledger(project.root / "state", read_only=True)
    facts = [entry.fact for entry in ledger.entries()]
    ledger.close()
    assert [fact for fact in facts if isinstance(fact, RecoveryStarted | WorkerQuarantined)] == []


@pytest.mark.parametrize(("action", "seen"), [("save", ["save", "resume"]), ("shutdown", ["shutdown", "start"])])
def test_open_farm_puts_machines_to_rest_between_generations(
    project: WatchedProject, pool: HyperVHarness, action: str, seen: list[str]
) -> None:
    """A saved agent goes on: it is the same process, which does not boot again."""
    configure(project, pool, action)
    with open_farm(project.root) as farm:
        farm.evaluate(GENOMES, generation=1)
        guests = {name: pool.hyperv.guest_pid(name) for name in VMS}
        project.wait_until(lambda: are_at_rest(pool))
        farm.evaluate(GENOMES, generation=2)
        again = {name: pool.hyperv.guest_pid(name) for name in VMS}
        project.wait_until(lambda: are_at_rest(pool, 2))

    assert {tuple(done_to(pool, name)) for name in VMS} == {("start", *seen, seen[0])}
    assert (again == guests) == (action == "save")
    assert_nothing_was_lost(project, pool, 1, 2)


def test_machine_rests_while_another_one_plays(project: WatchedProject, pool: HyperVHarness) -> None:
    """One machine is started for one genome, another one for a file that joins, and it rests when that is played."""
    configure(project, pool, "save")
    project.add_genomes(project.gated(1))
    host = project.start()
    project.wait_until(lambda: [done_to(pool, name) for name in VMS] == [["start"], []])
    project.wait_until(lambda: running_attempt(pool.disks / "vm-0"))
    project.add_genomes({"late.json": {"n": 7}})
    project.wait_until(lambda: done_to(pool, "vm-1") == ["start", "save"])
    project.open_gate()

    code, out = project.wait_for_end(host)
    assert code == 0, out
    assert done_to(pool, "vm-0") == ["start"]
    assert_nothing_was_lost(project, pool, 1)


def test_watch_that_is_killed_finds_machines_at_rest(project: WatchedProject, pool: HyperVHarness) -> None:
    """The next one leaves them so until there is work, and then goes on with the saved memory."""
    configure(project, pool, "save")
    project.add_genomes(games(4))
    watch = project.watch()
    project.wait_until_finished(1, 4)
    project.wait_until(lambda: are_at_rest(pool))
    watch.kill()
    watch.wait()
    watch = project.watch()
    project.wait_until(lambda: len(project.lines("watching")) == 2)
    project.add_genomes(games(4), 2)
    project.wait_until_finished(2, 4)

    assert project.stop(watch) == 0
    assert {tuple(done_to(pool, name)) for name in VMS} == {("start", "save", "resume")}
    assert_nothing_was_lost(project, pool, 1, 2)


def test_watch_puts_machines_to_rest_that_a_killed_one_left(project: WatchedProject, pool: HyperVHarness) -> None:
    """Although it has nothing to play."""
    configure(project, pool, "shutdown")
    project.add_genomes(games(4))
    watch = project.watch()
    project.wait_until_finished(1, 4)
    watch.kill()
    watch.wait()
    watch = project.watch()
    project.wait_until(lambda: are_at_rest(pool))

    assert project.stop(watch) == 0
    assert_nothing_was_lost(project, pool, 1)


def test_spare_machine_takes_over_from_one_that_hangs(project: WatchedProject, pool: HyperVHarness) -> None:
    """It goes on with its saved memory, and rests until then although trials wait."""
    tables = pool.tables(idle_action="'save'", idle_after_s=1, spare=1, stagger_s=0.0)
    project.configure(workers=0, extra=tables, silence_limit_s=8.0)
    for words in (("vm", "start", "vm-1", "--wait"), ("vm", "save", "vm-1")):
        assert project.run(*words)[0] == 0
    project.add_genomes(games(24, 0.5))
    host = project.start()
    project.wait_until(lambda: project.archived() >= 4)
    assert done_to(pool, "vm-1") == ["start", "save"]
    pool.hyperv.boot_slowly("vm-0", 20.0)
    pool.hyperv.freeze("vm-0")

    code, out = project.wait_for_end(host, within_s=120)
    assert code == 0, out
    assert done_to(pool, "vm-1")[:3] == ["start", "save", "resume"]
    pool.hyperv.close()
    project.assert_counted_once()
