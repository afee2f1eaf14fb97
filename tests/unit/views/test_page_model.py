"""The numbers of the page: the trend of all generations."""

import math
import statistics

import pytest

from pipeline.core.farm import Farm
from pipeline.views.page_model import fitness_trend, page_model
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules


def generation_with(*fitness: float) -> Farm:
    """A generation whose genomes have these fitnesses, in their order."""
    farm = CoreHarness("w0", genomes=len(fitness)).farm
    for genome, value in zip(farm.genomes, fitness, strict=True):
        genome.trials[0].fitness = value
    return farm


def test_trend_has_best_mean_and_quartiles() -> None:
    """Of each generation, in the order given."""
    found = fitness_trend([generation_with(3.0, 1.0, 2.0, 4.0), generation_with(5.0)], "minimize")

    quarters = statistics.quantiles([1.0, 2.0, 3.0, 4.0], n=4, method="inclusive")
    assert found[0] == {"generation": 1, "best": 1.0, "mean": 2.5, "quarters": quarters}
    assert found[1]["quarters"] == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("other", [1.7e308, -1.7e308, 0.0])
def test_one_extreme_generation_leaves_the_page_of_others(other: float) -> None:
    """As in a ledger from before fitness had a limit: sums and products of two of its values are not finite."""
    farms = [generation_with(1.7e308, 1.7e308, other), generation_with(1.0)]

    trend = fitness_trend(farms, "maximize")
    numbers = [value for row in trend for value in (row["best"], row["mean"], *row["quarters"])]

    assert all(map(math.isfinite, numbers))
    assert numbers[0] == max(1.7e308, other)
    for farm in farms:
        assert page_model(farm, [], {}, direction="maximize", playing=False)["best"]["fitness"] == max(
            genome.fitness for genome in farm.genomes if genome.fitness is not None
        )
