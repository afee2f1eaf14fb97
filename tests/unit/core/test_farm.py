"""The farm as a fold of facts: which facts it refuses, and the state that the others lead to."""

import sys

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import IllegalFact, TrialState, WorkerState
from tests.harness.core import SETTINGS, CoreHarness, snapshot

pytestmark = pytest.mark.rules


def test_illegal_fact_is_refused_with_trial_history() -> None:
    """A fact that is no valid transition is a defect; the error contains the history of the trial."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    with pytest.raises(IllegalFact, match=attempt.id):
        core.farm.evolve(f.TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED, attempt=attempt.id), 0.0)
    assert core.farm.genomes[0].trials[0].state is TrialState.ASSIGNED


HELD = "g0001-0001-t1-a1-000000020001"
ISSUED = f.AttemptIssued(attempt=HELD, genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1)


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        (f.RunOpened(generation=2, run=1, settings=SETTINGS), "opened while w0 holds attempts"),
        (f.GenomeAdded(genome=9, name="g9", suffix="", size_bytes=1, sha256="0" * 64), "cannot join a roster of 1"),
        (f.RunFinished(), "1 open trials"),
        (ISSUED, "was issued before"),
        (f.AttemptClaimed(attempt="g0001-0001-t1-a9-unknown00000"), "was never issued"),
        (f.TrialSettled(genome=1, trial=1, settlement=Settlement.FAILED, attempt=HELD), "trial_settled in state"),
        (f.EpochRaised(worker="w0", epoch=1, reason="again"), "epoch 1 after 1"),
        (f.WorkerRecovered(worker="w0"), "worker_recovered for w0 in state ready"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, f.Fact) else "",
)
def test_impossible_fact_is_refused(fact: f.Fact, message: str) -> None:
    """It comes from another program or a defect, so the ledger is not used."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    assert list(core.farm.attempts) == [HELD]

    with pytest.raises(IllegalFact, match=message):
        core.farm.evolve(fact, 0.0)


def test_attempt_ends_once_and_is_charged_once() -> None:
    """After the end only a late result may follow (law 6)."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    lost = f.AttemptEnded(attempt=HELD, outcome=Outcome.LOST)
    charged = f.GenomeCharged(attempt=HELD, genome=1, worker="w0")
    core.farm.evolve(lost, 0.0)
    core.farm.evolve(charged, 0.0)

    with pytest.raises(IllegalFact, match="ended before"):
        core.farm.evolve(lost, 0.0)
    with pytest.raises(IllegalFact, match="charged before"):
        core.farm.evolve(charged, 0.0)


def test_reopened_trial_has_no_losses_or_charges() -> None:
    """`--retry-failed` resets failures, losses and charges, and the run is open again."""
    core = CoreHarness("w0", genomes=1, limits=Limits(failures_max=1))
    core.run_until_ready()
    core.publish_result(HELD, Outcome.FAILED)
    core.tick()
    assert core.farm.finished

    core.record(f.TrialReopened(genome=1, trial=1))

    trial = core.farm.genomes[0].trials[0]
    assert (trial.state, trial.settlement, trial.blamed, trial.losses) == (TrialState.PENDING, None, 0, 0)
    assert not core.farm.finished
    assert core.farm.settled.total() == 0
    core.play_all()


def test_removed_worker_keeps_its_attempts() -> None:
    """Its attempts are in the ledger, so the farm has it as retired, but not as usable."""
    farm = Farm("f00d", ["w1"])
    farm.evolve(f.RunOpened(generation=1, run=1, settings=SETTINGS), 0.0)
    farm.evolve(f.GenomeAdded(genome=1, name="g1", suffix="", size_bytes=1, sha256="0" * 64), 0.0)
    farm.evolve(ISSUED, 0.0)

    assert list(farm.retired) == ["w0"]
    assert list(farm.retired["w0"].wanted) == [HELD]
    assert [worker.name for worker in farm.usable()] == ["w1"]


def test_host_stopped_changes_nothing() -> None:
    """The fact is informational."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    before = snapshot(core.farm)

    core.farm.evolve(f.HostStopped(reason="done"), 0.0)

    assert snapshot(core.farm) == before


def test_quarantined_worker_may_be_removed_from_configuration() -> None:
    """Two hosts quarantined it before the user removed it."""
    facts: list[f.Fact] = [f.RunOpened(generation=1, run=1, settings=SETTINGS)]
    for pid in (1, 2):
        facts += [
            f.HostStarted(pid=pid, workers=1),
            f.WorkerQuarantined(worker="w0", back_off_s=15.0, reason="it froze"),
        ]
    configured, without = Farm("f00d", ["w0", "w1"]), Farm("f00d", ["w1"])
    for farm in (configured, without):
        for fact in facts:
            farm.evolve(fact, 0.0)

    assert without.retired["w0"].state is configured.workers["w0"].state is WorkerState.QUARANTINED


def test_epoch_fact_does_not_extend_activity_span() -> None:
    """Epochs are replayed with every generation, and may be raised long after it was played."""
    farm = Farm("f00d", ["w0"])
    farm.evolve(f.RunOpened(generation=1, run=1, settings=SETTINGS), 100.0)
    farm.evolve(f.RunFinished(), 160.0)

    farm.evolve(f.EpochRaised(worker="w0", epoch=1, reason="first contact"), 9000.0)
    farm.evolve(f.EpochOpened(worker="w0", epoch=1), 9001.0)

    assert farm.spans == [[100.0, 160.0]]


@pytest.mark.parametrize("fitness", [1.5e308, sys.float_info.max, -sys.float_info.max])
def test_mean_of_finite_fitnesses_is_finite(fitness: float) -> None:
    """The sum may overflow, or the rounded mean. No result has these values, but ledgers from before that limit do."""
    genome = CoreHarness("w0", genomes=1, trials=3).farm.genomes[0]
    for trial in genome.trials:
        trial.fitness = fitness

    assert genome.fitness == pytest.approx(fitness)


def test_fitness_is_mean_of_trials() -> None:
    """There is none before all trials are settled."""
    core = CoreHarness("w0", genomes=1, trials=2)
    core.run_until_ready()
    first, second = core.farm.workers["w0"].wanted
    core.publish_result(first, fitness=1.0)
    core.tick()
    assert core.farm.genomes[0].fitness is None
    core.publish_result(second, fitness=4.0)
    core.tick()

    assert core.farm.genomes[0].fitness == 2.5
