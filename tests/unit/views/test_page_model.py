"""The numbers of the page: the trend of all generations, and what is shown of a large one."""

import json
import math
import statistics
from typing import Any

import pytest
from msgspec import structs

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.farm import Farm
from pipeline.views.page_model import ATTEMPTS_MAX, GENOMES_MAX, NAME_MAX, VALUES_MAX, fitness_trend, page_model
from pipeline.views.results import PARAM_NAMES_MAX
from tests.harness.core import SETTINGS, CoreHarness

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
        assert page_model(farm, [], {}, direction="maximize", live=None)["best"]["fitness"] == max(
            genome.fitness for genome in farm.genomes if genome.fitness is not None
        )


# ------------------------------------------------------------------------------------------- of a large generation


def roster(genomes: int) -> list[f.Fact]:
    """A run with so many genomes was opened."""
    opened = f.RunOpened(generation=1, run=1, settings=SETTINGS)
    numbers = range(1, genomes + 1)
    return [opened, *(f.GenomeAdded(genome=n, name=f"g{n}", suffix="", size_bytes=1, sha256="0" * 64) for n in numbers)]


@pytest.fixture(scope="module")
def large() -> Farm:
    """3,000 genomes; every hundredth failed, the last one is open. Genome n has the fitness n, and ran for n ms."""
    farm, facts = Farm("f00d", ["w0", "w1", "w2"]), roster(3000)
    for genome in range(1, 3000):
        attempt, failed = f"g0001-{genome}", genome % 100 == 0
        issued = f.AttemptIssued(
            attempt=attempt, genome=genome, trial=1, number=1, worker=f"w{genome % 2}", epoch=1, publication=genome
        )
        outcome = Outcome.FAILED if failed else Outcome.COMPLETED
        fitness = None if failed else float(genome)
        ended = f.AttemptEnded(
            attempt=attempt, outcome=outcome, has_result=True, fitness=fitness, seconds=genome / 1000
        )
        settlement = Settlement.FAILED if failed else Settlement.COMPLETED
        settled = f.TrialSettled(genome=genome, trial=1, settlement=settlement, attempt=attempt, fitness=fitness)
        facts += [issued, ended, settled]
    for at, fact in enumerate(facts):
        farm.evolve(fact, float(at))
    return farm


def sheet_of(farm: Farm, direction: str = "maximize") -> dict[str, Any]:
    return page_model(farm, [], {}, direction=direction, live=None)


def test_counts_of_a_large_generation_are_exact(large: Farm) -> None:
    """Whatever is drawn or listed."""
    sheet = sheet_of(large)
    counts, outcomes = sheet["counts"], [worker["outcomes"] for worker in sheet["workers"]]
    assert [counts[name] for name in ("submitted", "completed", "failed", "open")] == [3000, 2970, 29, 1]
    assert (sheet["best"]["fitness"], sheet["played"]) == (2999.0, 2999)
    assert sum(sheet["spread"]["counts"]) == 2970
    assert [sum(outcome.values()) for outcome in outcomes] == [1499, 1500, 0]


@pytest.mark.parametrize(("direction", "fittest"), [("maximize", 2999), ("minimize", 1)])
def test_table_of_a_large_generation_has_the_fittest_and_what_failed(large: Farm, direction: str, fittest: int) -> None:
    """As many as are listed, sorted by number."""
    listed = sheet_of(large, direction)["genomes"]
    numbers = [int(genome["name"][1:]) for genome in listed]
    scored = sorted((n for n in range(1, 3000) if n % 100), reverse=direction == "maximize")
    assert numbers == sorted({*scored[: GENOMES_MAX - 29], *range(100, 3000, 100)})
    assert fittest in numbers


def test_picture_of_a_large_generation_has_games_of_all_times_and_all_failures(large: Farm) -> None:
    """From the first to the last one."""
    drawn = sheet_of(large)["attempts"]
    assert len(drawn["id"]) == ATTEMPTS_MAX
    assert drawn["outcome"].count("failed") == 29
    assert (drawn["genome"][0], drawn["genome"][-1]) == ("g1", "g2999")
    assert drawn["from"] == sorted(drawn["from"])


def test_boxes_of_a_large_generation_have_the_quantiles(large: Farm) -> None:
    """Least, median and largest of all games of the worker."""
    worker = sheet_of(large)["workers"][1]
    all_values = sorted(float(n) for n in range(1, 3000) if n % 2 and n % 100)
    assert len(worker["fitness"]) == VALUES_MAX
    assert (worker["fitness"][0], worker["fitness"][-1]) == (all_values[0], all_values[-1])
    assert statistics.median(worker["fitness"]) == pytest.approx(statistics.median(all_values), rel=0.01)


def test_page_does_not_grow_with_the_generation(large: Farm) -> None:
    """At most some 300 bytes for each genome and each game that is shown."""
    assert len(json.dumps(sheet_of(large))) < 300 * (GENOMES_MAX + ATTEMPTS_MAX)


def test_all_that_failed_may_be_listed_if_little_else_is_there() -> None:
    """Of more failed genomes than the table has room for, as many as fit beside the others."""
    farm = Farm("f00d", ["w0"])
    failed = range(1, GENOMES_MAX + 51)
    settled = [f.TrialSettled(genome=genome, trial=1, settlement=Settlement.FAILED) for genome in failed]
    for fact in (*roster(GENOMES_MAX + 100), *settled):
        farm.evolve(fact, 0.0)
    listed = sheet_of(farm)["genomes"]
    assert [genome["status"] for genome in listed] == ["failed"] * (GENOMES_MAX - 50) + ["open"] * 50


DISTRIBUTIONS = {
    "one": [1.0],
    "few": [float(n) for n in range(10)],
    "many": [0.1 * n for n in range(500)],
    "extreme": [-1.7e308, 1.7e308, *map(float, range(20))],
    "tiny": [5e-324 * n for n in range(20)],
}


@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_every_fitness_is_counted_in_the_distribution(values: list[float]) -> None:
    """In ranges of the same width if there are many, and each number is finite."""
    spread = sheet_of(generation_with(*values))["spread"]
    assert sum(spread["counts"]) == len(values)
    assert all(map(math.isfinite, [*spread["values"], spread["width"] or 0.0]))


def test_params_are_shown_as_they_are() -> None:
    """Texts within the length of a name; of very many, those that the tables have."""
    opened, added = roster(1)
    assert isinstance(added, f.GenomeAdded)
    many = {f"p{number:03d}": number for number in range(PARAM_NAMES_MAX)}
    farm = Farm("f00d", ["w0"])
    for fact in (opened, structs.replace(added, params={"a": "x" * 1000, "elite": True, **many})):
        farm.evolve(fact, 0.0)

    (genome,) = sheet_of(farm)["genomes"]

    assert len(genome["params"]) == PARAM_NAMES_MAX
    assert len(genome["params"]["a"]) <= NAME_MAX
    assert genome["params"]["elite"] is True
