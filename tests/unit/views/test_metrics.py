"""The metrics of a farm: which facts count, which labels there are, and that nothing of a guest becomes one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    Entry,
    Fact,
    HostStarted,
    RecoveryAction,
    RecoveryStarted,
    ResultLate,
    ResultUnexpected,
    ReusedResult,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.views.fitness_history import FitnessHistory
from pipeline.views.metrics import (
    GAME_BUCKETS_S,
    WORKER_STATES,
    Disk,
    HistogramMetric,
    LedgerCounts,
    Metric,
    Surroundings,
    farm_metrics,
)
from pipeline.views.progress import Progress, measure_progress
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules
AROUND = Surroundings(version="1.2", at=1000.0, disks={"state": Disk(30, 70), "results": Disk(5, 6)}, ledger_bytes=4096)
SETTLED = TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED, fitness=1.0)
HOSTILE = '"} pipeline_generation 99\n# \\'


def counted(*facts: Fact | tuple[Fact, float]) -> LedgerCounts:
    """The counts of these facts, some of them with their time."""
    counts = LedgerCounts()
    for seq, one in enumerate(facts, 1):
        fact, at = one if isinstance(one, tuple) else (one, 0.0)
        counts.note(Entry(seq, at, 1, 1, fact))
    return counts


def value(metrics: Sequence[Metric | HistogramMetric], name: str, *labels: str) -> float | None:
    """The value of a sample; None if there is none."""
    metric = next((one for one in metrics if one.name == name), None)
    return metric.samples.get(labels) if isinstance(metric, Metric) else None


def metrics_of(core: CoreHarness) -> list[Metric | HistogramMetric]:
    """The metrics of a farm whose host is running."""
    fitness = FitnessHistory("maximize")
    for fact, _ in core.facts:
        fitness.note(core.farm.generation, fact)
    now = measure_progress(core.farm, core.observed, core.now, fitness)
    return farm_metrics(counted(*core.facts), now, AROUND)


def test_trials_and_attempts_of_a_played_generation_are_counted() -> None:
    core = CoreHarness("w0", genomes=3, depth=1)
    core.run_until_ready()
    core.publish_result(core.claim("w0"), fitness=2.0, seconds=0.02)
    core.tick()
    core.publish_result(core.claim("w0"), fitness=4.0, seconds=5.0)
    core.tick()
    found = metrics_of(core)

    assert value(found, "pipeline_trials_settled_total", "completed") == 2
    assert value(found, "pipeline_attempts_ended_total", "completed") == 2
    assert value(found, "pipeline_attempts_issued_total") == 3
    assert [value(found, "pipeline_generation_trials", state) for state in ("settled", "assigned", "pending")] == [
        2,
        1,
        0,
    ]
    assert value(found, "pipeline_generation_best_fitness") == 4.0
    assert value(found, "pipeline_generation_mean_fitness") == 3.0
    assert value(found, "pipeline_generation") == 1
    assert value(found, "pipeline_host_playing") == 1


def test_counters_never_fall() -> None:
    """A trial that is reopened is settled once more; a new generation adds to the ones before."""
    before = counted(SETTLED)
    after = counted(SETTLED, TrialReopened(genome=1, trial=1), SETTLED)

    assert (before.settled[Settlement.COMPLETED], after.settled[Settlement.COMPLETED]) == (1, 2)


def test_reused_results_are_part_of_the_settled_trials() -> None:
    reused = TrialSettled(
        genome=1,
        trial=1,
        settlement=Settlement.COMPLETED,
        fitness=1.0,
        reused=ReusedResult(generation=1, evaluator="v"),
    )
    found = farm_metrics(counted(SETTLED, reused), None, AROUND)

    assert value(found, "pipeline_trials_settled_total", "completed") == 2
    assert value(found, "pipeline_trials_reused_total") == 1


def test_rare_events_are_counted_by_kind() -> None:
    found = farm_metrics(
        counted(
            HostStarted(pid=1, workers=1),
            HostStarted(pid=2, workers=1),
            RecoveryStarted(worker="w0", action=RecoveryAction.REBOOT, reason=HOSTILE),
            ResultLate(attempt=HOSTILE, worker="w0", outcome=Outcome.COMPLETED),
            ResultUnexpected(attempt=HOSTILE, worker="w0"),
            ResultUnexpected(attempt="b", worker="w0"),
        ),
        None,
        AROUND,
    )

    assert value(found, "pipeline_host_starts_total") == 2
    assert value(found, "pipeline_recovery_actions_total", "reboot") == 1
    assert value(found, "pipeline_recovery_actions_total", "restore") == 0
    assert value(found, "pipeline_results_late_total") == 1
    assert value(found, "pipeline_results_unexpected_total") == 2


def test_games_are_in_the_bucket_of_their_length() -> None:
    """A game as long as a bound belongs to it; a game without a result, or without a game, is in none."""

    def ended(seconds: float, outcome: Outcome = Outcome.COMPLETED, *, has_result: bool = True) -> AttemptEnded:
        return AttemptEnded(attempt="a", outcome=outcome, has_result=has_result, seconds=seconds)

    games = counted(
        ended(0.001),
        ended(0.0011, Outcome.FAILED),
        ended(1800.0, Outcome.TIMED_OUT),
        ended(7200.0),
        ended(9.0, Outcome.LOST, has_result=False),
        ended(9.0, Outcome.REJECTED),
    ).game_lengths()

    assert list(games.buckets) == [*GAME_BUCKETS_S, float("inf")]
    assert (games.buckets[0.001], games.buckets[0.003], games.buckets[1200.0]) == (1, 2, 2)
    assert (games.buckets[1800.0], games.buckets[float("inf")]) == (3, 4)
    assert games.sum == pytest.approx(9000.0021)


def test_age_is_that_of_the_last_result() -> None:
    """A loss is none; a clock that went back makes no negative age; without any result there is no age."""
    result = AttemptEnded(attempt="a", outcome=Outcome.FAILED, has_result=True)
    loss = AttemptEnded(attempt="b", outcome=Outcome.LOST)
    name = "pipeline_last_result_age_seconds"

    assert value(farm_metrics(counted((result, 400.0), (loss, 900.0)), None, AROUND), name) == 600.0
    assert value(farm_metrics(counted((result, 1500.0)), None, AROUND), name) == 0.0
    assert value(farm_metrics(counted((loss, 900.0)), None, AROUND), name) is None


def test_every_state_has_a_sample() -> None:
    """So that a rate or an alert finds a number before the first event."""
    core = CoreHarness("w0", "w1")
    core.run_until_ready()
    core.claim("w0")
    core.tick()
    found = metrics_of(core)

    assert {state: value(found, "pipeline_workers", state) for state in WORKER_STATES} == {
        **dict.fromkeys(WORKER_STATES, 0.0),
        "playing": 1.0,
        "idle": 1.0,
    }
    assert value(found, "pipeline_worker_state", "w0", "playing") == 1.0
    for outcome in Outcome:
        assert value(found, "pipeline_attempts_ended_total", str(outcome)) is not None


def test_state_of_another_version_is_not_a_new_label() -> None:
    """The status file may be of a host of another version."""
    core = CoreHarness("w0")
    now: Progress = measure_progress(core.farm, core.observed, core.now)
    now = replace(now, workers=(replace(now.workers[0], state=HOSTILE),))

    assert value(farm_metrics(LedgerCounts(), now, AROUND), "pipeline_worker_state", "w0", "other") == 1.0


def test_without_a_generation_there_are_counters_only() -> None:
    found = farm_metrics(LedgerCounts(), None, AROUND)

    assert value(found, "pipeline_host_playing") == 0
    assert value(found, "pipeline_build_info", "1.2") == 1
    assert value(found, "pipeline_trials_settled_total", "completed") == 0
    assert value(found, "pipeline_disk_free_bytes", "results") == 5
    assert value(found, "pipeline_disk_used_bytes", "state") == 70
    assert not [one for one in found if one.name.startswith(("pipeline_generation", "pipeline_worker"))]


def test_names_and_units_are_those_of_the_conventions() -> None:
    """A counter ends in `_total`, a gauge does not; every metric has a help text that is a sentence."""
    found = metrics_of(CoreHarness("w0"))

    assert len({metric.name for metric in found}) == len(found)
    for metric in found:
        assert metric.name.startswith("pipeline_") and metric.help.endswith(".")
        if isinstance(metric, Metric):
            assert (metric.kind == "counter") == metric.name.endswith("_total")
            assert all(len(labels) == len(metric.labels) for labels in metric.samples)
