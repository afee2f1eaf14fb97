"""The summary of a generation, as trackers get it."""

from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.views.generation_summary import GenerationSummary, generation_summary
from pipeline.views.results import METRIC_NAMES_MAX
from tests.harness.core import VERSION, CoreHarness

pytestmark = pytest.mark.rules
RESULTS = Path("results/gen-0001")


def played(*results: dict[str, Any] | None, direction: str = "maximize") -> GenerationSummary:
    """The summary after one worker has played a genome for each of these results; None: it fails."""
    core = CoreHarness("w0", genomes=len(results))
    core.run_until_ready()
    while not core.farm.finished:
        attempt = core.claim("w0")
        result = results[core.farm.attempts[attempt].trial.genome.number - 1]
        if result is None:
            core.publish_result(attempt, Outcome.FAILED, reason="no such level")
        else:
            core.publish_result(attempt, **result)
        core.tick()
    return generation_summary(core.farm, direction, RESULTS)


def test_fitness_is_that_of_completed_genomes() -> None:
    """A failed genome is counted, and changes no figure of fitness."""
    done = played({"fitness": 1.0}, None, {"fitness": 7.0}, {"fitness": 2.5})

    assert (done.genomes, done.completed, done.failed) == (4, 3, 1)
    assert (done.best_genome, done.best, done.mean, done.median, done.worst) == ("g3", 7.0, 3.5, 2.5, 1.0)


def test_lowest_fitness_is_best_when_minimizing() -> None:
    done = played({"fitness": 1.0}, {"fitness": 7.0}, direction="minimize")

    assert (done.best_genome, done.best, done.worst) == ("g1", 1.0, 7.0)


def test_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    """Also if their sum is beyond what a float can hold."""
    done = played(*({"fitness": fitness} for fitness in (1e300, 2.0, 4.0, -1e300)))

    assert done.median == 3.0


def test_first_of_equal_genomes_is_best() -> None:
    assert played({"fitness": 2.0}, {"fitness": 2.0}).best_genome == "g1"


def test_attempts_after_the_first_one_are_retries() -> None:
    done = played(None, {"fitness": 1.0}, None)

    assert done.trials == 3
    assert done.retried == done.attempts - 3 > 0


def test_metrics_are_means_over_completed_genomes() -> None:
    """A genome without a metric does not count for it."""
    done = played({"metrics": {"score": 1.0, "fps": 60.0}}, {"metrics": {"score": 2.0}}, None)

    assert done.metrics == {"fps": 60.0, "score": 1.5}
    assert list(done.metrics) == ["fps", "score"]


def test_metrics_are_those_of_the_tables() -> None:
    """An evaluator that invents names does not make a tracker's page endless."""
    done = played(*({"metrics": {f"{game}-{n}": 1.0 for n in range(64)}} for game in range(5)))

    assert len(done.metrics) == METRIC_NAMES_MAX


def test_summary_names_evaluator_and_results() -> None:
    done = played({"fitness": 1.0, "seconds": 0.05})

    assert (done.generation, done.evaluator, done.results) == (1, VERSION, RESULTS)
    assert done.wall_s > 0
    assert 0 < done.utilisation <= 1


def test_numbers_are_what_a_tracker_takes() -> None:
    """All are numbers; metrics are in a group of their own, so that none hides another number."""
    numbers = played({"fitness": 3.0, "metrics": {"best": 1.0}}, None).numbers()

    assert numbers["best"] == 3.0
    assert numbers["metrics/best"] == 1.0
    assert numbers["failed"] == 1
    assert {type(value) for value in numbers.values()} <= {int, float}
    assert "generation" not in numbers


def test_generation_without_completed_genome_has_no_fitness() -> None:
    """The numbers lack it too: a tracker would draw 0."""
    done = played(None)

    assert (done.best_genome, done.best, done.mean, done.median, done.worst) == ("", None, None, None, None)
    assert not {"best", "mean", "median", "worst"} & set(done.numbers())
