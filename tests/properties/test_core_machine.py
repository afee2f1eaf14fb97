"""A stateful property test of the core: its rules under any sequence of events.

After every step `CoreHarness` checks the invariants and compares the farm with a replay of its facts. At the end all
faults stop, and the run must finish. `FARM_EXAMPLES=5000 pytest -k test_core_machine.py` tries more examples.
"""

import os
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inbox_agent.protocol.layout import HostRecord, Outcome
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import HostStarted, Settlement
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from pipeline.core.observed import Observed
from tests.harness.core import FARM, CoreHarness

pytestmark = pytest.mark.properties

EXAMPLES = int(os.environ.get("FARM_EXAMPLES", "80"))
WORKERS = st.integers(0, 2)
PLAYED = (Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT)


def fitness_of(attempt: Attempt) -> float:
    """The only correct fitness of a trial."""
    return attempt.trial.genome.number * 10.0 + attempt.trial.number


class FarmMachine(RuleBasedStateMachine):
    """A farm with its shares; the rules are the actions of hosts, agents, machines and faults."""

    core: CoreHarness

    @initialize(
        workers=st.integers(1, 3),
        genomes=st.integers(1, 4),
        trials=st.integers(1, 2),
        depth=st.integers(1, 3),
        machines=st.booleans(),
    )
    def begin(self, workers: int, genomes: int, trials: int, depth: int, machines: bool) -> None:
        names = [f"w{number}" for number in range(workers)]
        self.core = CoreHarness(*names, genomes=genomes, trials=trials, depth=depth, machines=machines)
        self.core.run_until_ready()

    def worker_name(self, worker: int) -> str:
        return f"w{worker % len(self.core.shares)}"

    def attempt_of_number(self, number: int) -> Attempt:
        attempts = list(self.core.farm.attempts.values())
        return attempts[number % len(attempts)]

    # ---------------------------------------------------------------------------------------------------------- time

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 40.0, 90000.0]), sweep=st.booleans(), full=st.booleans())
    def tick(self, seconds: float, sweep: bool, full: bool) -> None:
        self.core.tick(seconds, sweep=sweep, full=full)

    @rule()
    def minute_passes(self) -> None:
        self.core.run(60, step=6)

    @rule()
    def host_is_killed(self) -> None:
        """Only the facts survive."""
        core = self.core
        farm = Farm(FARM, list(core.farm.workers))
        for fact, at in core.facts:
            farm.evolve(fact, at)
        core.farm = farm
        core.record(HostStarted(pid=2, workers=len(farm.workers)))
        core.observed = Observed(farm, core.limits, core.now)

    # -------------------------------------------------------------------------------------------------------- agents

    @rule(worker=WORKERS)
    def agent_claims(self, worker: int) -> None:
        name = self.worker_name(worker)
        share, wanted = self.core.shares[name], self.core.farm.workers[name].wanted
        if any(attempt in share.starts - share.claims for attempt in wanted):
            self.core.claim(name)

    @precondition(lambda self: self.core.farm.attempts)
    @rule(number=st.integers(0, 99), outcome=st.sampled_from(PLAYED))
    def result_is_published(self, number: int, outcome: Outcome) -> None:
        """In time, late, or long after the attempt was given up."""
        attempt = self.attempt_of_number(number)
        fitness = fitness_of(attempt) if outcome is Outcome.COMPLETED else None
        self.core.publish_result(attempt.id, outcome, fitness=fitness)

    @precondition(lambda self: self.core.farm.attempts)
    @rule(number=st.integers(0, 99), field=st.sampled_from(["seed", "trial", "genome_sha256", "worker", "farm"]))
    def forged_result_is_published(self, number: int, field: str) -> None:
        forged: Any = {"seed": 4711, "trial": 99, "genome_sha256": "f" * 64, "worker": "w9", "farm": "abcd"}[field]
        self.core.publish_result(self.attempt_of_number(number).id, fitness=1e9, **{field: forged})

    @precondition(lambda self: self.core.farm.attempts)
    @rule(number=st.integers(0, 99))
    def torn_result_is_published(self, number: int) -> None:
        attempt = self.attempt_of_number(number)
        self.core.shares[attempt.worker].results[attempt.id] = CollectedResult(
            attempt=attempt.id, record=None, problem="torn"
        )

    @rule(worker=WORKERS)
    def unknown_result_is_published(self, worker: int) -> None:
        unknown = "g0001-0001-t1-a9-zzzzzzzzzzzz"
        self.core.shares[self.worker_name(worker)].results[unknown] = CollectedResult(
            attempt=unknown, record=None, problem="odd"
        )

    @rule(worker=WORKERS, damaged=st.booleans())
    def agent_restarts(self, worker: int, damaged: bool) -> None:
        """Claimed attempts are reported as interrupted, damaged ones as undelivered."""
        share = self.core.shares[self.worker_name(worker)]
        share.run_id, share.counter, share.sends_heartbeats = f"{share.run_id}'", 0, True
        known = self.core.farm.attempts
        for attempt in sorted((share.claims & known.keys()) - share.results.keys()):
            self.core.publish_result(attempt, Outcome.INTERRUPTED)
        if damaged:
            for attempt in sorted((share.starts & known.keys()) - share.results.keys() - share.claims):
                self.core.publish_result(attempt, Outcome.UNDELIVERED)

    @rule(worker=WORKERS)
    def agent_is_silent(self, worker: int) -> None:
        self.core.shares[self.worker_name(worker)].sends_heartbeats = False

    @rule(worker=WORKERS)
    def machine_stops(self, worker: int) -> None:
        name = self.worker_name(worker)
        if self.core.machines:
            self.core.machines[name] = MachineStatus(MachineState.OFF, ())
            self.core.shares[name].sends_heartbeats = False

    # -------------------------------------------------------------------------------------------------------- shares

    @rule(worker=WORKERS, unavailable=st.booleans())
    def share_changes_availability(self, worker: int, unavailable: bool) -> None:
        self.core.shares[self.worker_name(worker)].unknown = "network down" if unavailable else ""

    @rule(fails=st.booleans())
    def publications_fail(self, fails: bool) -> None:
        self.core.publish_fails = fails

    @rule(worker=WORKERS, how=st.sampled_from(["emptied", "older epoch", "counter", "outbox"]))
    def share_is_reverted(self, worker: int, how: str) -> None:
        name = self.worker_name(worker)
        share = self.core.shares[name]
        if how == "emptied":
            share.starts.clear()
            share.payloads.clear()
        elif how == "older epoch" and share.owner is not None and share.owner.epoch > 1:
            share.owner = HostRecord(farm=FARM, worker=name, epoch=share.owner.epoch - 1)
        elif how == "counter":
            share.counter = max(0, share.counter - 2)
        share.claims.clear()
        share.results.clear()

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def fitness_is_correct(self) -> None:
        """A fitness is that of its trial, from an attempt of this trial that has a result."""
        if not hasattr(self, "core"):
            return
        for genome in self.core.farm.genomes:
            for trial in genome.trials:
                if trial.settlement is Settlement.COMPLETED:
                    attempt = self.core.farm.attempts[trial.decided_by]
                    assert attempt.trial is trial
                    assert (trial.fitness, attempt.has_result) == (fitness_of(attempt), True)
                else:
                    assert trial.fitness is None
                spent = [a for a in trial.attempts if not a.by_host]
                limits = self.core.limits
                assert len(spent) <= limits.failures_max + limits.losses_per_trial_max

    def teardown(self) -> None:
        """Without faults, and with a new run of a stuck farm, every trial is settled."""
        if not hasattr(self, "core"):
            return
        core = self.core
        core.publish_fails = False
        for name, share in core.shares.items():
            share.unknown, share.sends_heartbeats = "", True
            if core.machines:
                core.machines[name] = MachineStatus(MachineState.RUNNING, ())
        for _ in range(120):
            if core.farm.finished:
                return
            if stuck_reason(core.farm, len(core.shares)) or all(
                worker.state is WorkerState.OUT for worker in core.farm.workers.values()
            ):
                self.host_is_killed()
            for name, share in core.shares.items():
                for attempt_id in sorted(share.starts - share.results.keys()):
                    if attempt_id in core.farm.workers[name].wanted:
                        core.publish_result(attempt_id, fitness=fitness_of(core.farm.attempts[attempt_id]))
            core.tick(6.0)
        histories = [core.farm.story(trial) for genome in core.farm.genomes for trial in genome.trials]
        raise AssertionError("the run does not finish\n" + "\n".join(histories))


TestFarmMachine = FarmMachine.TestCase
TestFarmMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
