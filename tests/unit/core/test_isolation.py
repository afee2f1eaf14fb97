"""The operating system of the host crashes: the genome that did it is found, and no other one is charged."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.model import Attempt
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.requests import start_record
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules


class CrashingSystem:
    """A farm whose workers are local, and the boots of the operating system that they share with the host."""

    def __init__(self, *workers: str, genomes: int = 4, depth: int = 1, remote: str = "") -> None:
        self.core = core = CoreHarness(*workers, *filter(None, [remote]), genomes=genomes, depth=depth, machines=True)
        core.queues = type(core.queues)(depth=core.queues.depth, local=frozenset(workers))
        self.local, self.boots = workers, 0
        self.crash()

    def crash(self, boot_id: str | None = None) -> list[f.Fact]:
        """Ends host and agents; the next host starts after a boot, or in the same one if its id is given."""
        core, self.boots = self.core, self.boots + 1
        for name in self.local:
            core.machines[name] = MachineStatus(MachineState.OFF, ())
        core.restart_host(f"boot-{self.boots}" if boot_id is None else boot_id)
        facts = core.tick()
        for name in self.local:
            core.machines[name] = MachineStatus(MachineState.RUNNING, ())
        core.run_until_ready()
        return facts

    def play_until_crash(self, *, times: int, culprit: int) -> None:
        """Crashes the system whenever a genome is played; every agent claims its first attempt before."""
        for _ in range(times):
            self.claim_until(culprit)
            self.crash()

    def claim_until(self, culprit: int) -> None:
        """Plays until the culprit is claimed, with whatever is played beside it."""
        for _ in range(20):
            claimed = [self.core.claim(name) for name in self.local if self.held_by(name)]
            if any(self.core.farm.attempts[a].trial.genome.number == culprit for a in claimed):
                return
            for attempt in claimed:
                self.core.publish_result(attempt)
            self.core.tick()
            self.core.tick()
        raise AssertionError("the culprit is not played")

    def held_by(self, worker: str) -> list[Attempt]:
        """What a worker holds."""
        return [*self.core.farm.workers[worker].wanted.values()]

    @property
    def charges(self) -> dict[int, int]:
        """How often each genome was charged, without those that never were."""
        return {g.number: len(g.charges) for g in self.core.farm.genomes if g.charges}


def test_what_was_held_when_the_system_ended_is_next_played_alone() -> None:
    """It may have been the cause or not: no genome is charged, and no loss is counted."""
    system = CrashingSystem("w0", "w1", depth=2)
    held = [attempt for name in system.local for attempt in system.held_by(name)]
    claimed = system.core.claim("w0")

    ended = facts_of(system.crash(), f.AttemptEnded)

    assert claimed in {end.attempt for end in ended}
    assert {end.attempt for end in ended} == {attempt.id for attempt in held}
    assert {(end.outcome, end.run_alone, end.by_host) for end in ended} == {(Outcome.WITHDRAWN, True, True)}
    assert system.charges == {}
    assert all(worker.losses == 0 for worker in system.core.farm.workers.values())
    (first,), (second,) = map(system.held_by, system.local)
    assert start_record(system.core.farm, first).alone
    assert start_record(system.core.farm, second).alone


@pytest.mark.parametrize(
    ("before", "after"), [("boot-1", "boot-1"), ("", "boot-2"), ("boot-1", "")], ids=["same", "new", "lost"]
)
def test_host_that_ended_alone_isolates_nothing(before: str, after: str) -> None:
    """The system was not restarted, or an older ledger or this system does not tell."""
    system = CrashingSystem("w0")
    system.crash(before)
    (held,) = system.held_by("w0")
    system.core.claim("w0")

    ended = facts_of(system.crash(after), f.AttemptEnded)

    assert [(end.attempt, end.reason, end.run_alone) for end in ended] == [(held.id, "host ended", False)]
    assert not start_record(system.core.farm, system.held_by("w0")[0]).alone


def test_suspect_without_claim_had_not_begun() -> None:
    """Its claim is flushed before it begins: without one it stays what it was."""
    system = CrashingSystem("w0", "w1", genomes=2)
    system.crash()
    claimed = system.core.claim("w0")
    (unclaimed,) = system.held_by("w1")

    system.crash()

    trials = {attempt: system.core.farm.attempts[attempt].trial for attempt in (claimed, unclaimed.id)}
    assert [(t.run_alone, t.alone_on_system) for t in trials.values()] == [(True, True), (True, False)]


def test_suspect_with_result_was_played_to_its_end() -> None:
    """Also if the crash has damaged its result: what was over did not crash the system."""
    system = CrashingSystem("w0", "w1", genomes=2)
    system.crash()
    claimed = system.core.claim("w0")
    system.core.shares["w0"].unread.add(claimed)

    system.crash()

    attempt = system.core.farm.attempts[claimed]
    assert (attempt.outcome, attempt.trial.alone_on_system) == (Outcome.WITHDRAWN, False)


def test_other_workers_are_idle_while_a_suspect_is_played_alone_on_the_system() -> None:
    """After the second crash with a claim; a worker with a system of its own gets work meanwhile."""
    system = CrashingSystem("w0", "w1", genomes=12, depth=2, remote="vm")
    system.play_until_crash(times=2, culprit=1)

    core = system.core
    held = [attempt for name in system.local for attempt in system.held_by(name)]
    assert len(held) == 1
    assert held[0].alone_on_system
    assert core.farm.workers["vm"].wanted

    core.claim(held[0].worker)
    core.publish_result(held[0].id)
    core.run_until_ready()

    assert held[0].trial.settlement is Settlement.COMPLETED


def test_genome_that_crashes_the_system_is_settled() -> None:
    """After five crashes: two that isolate it, and three that are charged to it, on different workers."""
    system = CrashingSystem("w0", "w1", "w2", genomes=6, depth=2)

    system.play_until_crash(times=5, culprit=2)

    culprit = system.core.farm.genomes[1]
    assert system.charges == {2: 3}
    assert len({attempt.worker for attempt in culprit.charges}) == 3
    assert culprit.trials[0].reason == "poison: 3 attempts took their worker down"
    system.core.play_all()
    assert system.core.settlements().count(Settlement.COMPLETED) == 5


def test_suspect_is_not_played_beside_what_a_worker_still_holds() -> None:
    """The share of the other worker cannot be read, and its agent may be playing."""
    system = CrashingSystem("w0", "w1", genomes=2)
    system.play_until_crash(times=2, culprit=1)
    core = system.core
    (suspect,) = [attempt for name in system.local for attempt in system.held_by(name)]
    core.shares[suspect.worker].unknown = "disk error"

    core.run(31)

    assert core.farm.workers[suspect.worker].left_published
    assert not any(attempt.alone_on_system for name in system.local for attempt in system.held_by(name))


def test_crash_while_files_are_published_isolates_them_as_well() -> None:
    """Its start signal was not flushed and is gone: it may have been played nevertheless."""
    system = CrashingSystem("w0", genomes=1)
    (held,) = system.held_by("w0")
    system.core.shares["w0"].starts.clear()

    (ended,) = facts_of(system.crash(), f.AttemptEnded)

    assert (ended.attempt, ended.outcome, ended.run_alone) == (held.id, Outcome.WITHDRAWN, True)


def test_share_that_cannot_be_read_after_a_crash_charges_nothing() -> None:
    """Its suspect was alone in its queue when the system ended, and another game beside it may have been the cause."""
    system = CrashingSystem("w0", "w1", genomes=2)
    system.crash()
    core = system.core
    (held,) = system.held_by("w0")
    assert held.run_alone
    core.claim("w0")
    core.shares["w0"].unknown = "disk error"
    system.crash()

    core.run(40)
    assert core.farm.attempts[held.id].outcome is Outcome.LOST
    assert system.charges == {}

    core.shares["w0"].unknown = ""
    core.publish_result(held.id, Outcome.INTERRUPTED)
    core.run(2)
    assert system.charges == {}
