"""Best, mean and the fittest genomes of a generation while it is played, and of the generations before."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    Entry,
    Fact,
    GenomeAdded,
    GenomeReopened,
    RunOpened,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.core.farm import Farm
from pipeline.views.fitness_history import (
    FITNESS_KINDS,
    HISTORY_MAX,
    LEADERS_MAX,
    FitnessHistory,
    GenerationFitness,
)
from pipeline.views.results import fittest
from tests.harness.core import SETTINGS, CoreHarness

pytestmark = pytest.mark.rules


def opened(trials: int = 1, generation: int = 1) -> RunOpened:
    return RunOpened(generation=generation, run=1, settings=replace(SETTINGS, trials_per_genome=trials))


def settled(genome: int, fitness: float | None, trial: int = 1) -> TrialSettled:
    settlement = Settlement.COMPLETED if fitness is not None else Settlement.FAILED
    return TrialSettled(genome=genome, trial=trial, settlement=settlement, fitness=fitness)


def history(*facts: Fact, direction: str = "maximize", generation: int = 1) -> FitnessHistory:
    found = FitnessHistory(direction)
    for fact in facts:
        found.note(generation, fact)
    return found


def fitness(found: FitnessHistory, generation: int = 1) -> GenerationFitness | None:
    return found.of(generation).fitness(generation)


def figures(found: FitnessHistory) -> tuple[float, float, float]:
    of_one = fitness(found)
    assert of_one is not None
    return of_one.completed, of_one.best, of_one.mean


def test_nothing_is_known_before_a_genome_is_completed() -> None:
    """Neither in a new generation nor in one that was never opened."""
    assert fitness(history(opened())) is None
    assert fitness(FitnessHistory("maximize")) is None
    assert history(opened()).of(1).leaders() == []


def test_genome_counts_once_all_its_trials_have_a_fitness() -> None:
    """A high fitness in the first trial is not the best while the second one is open."""
    played: list[Fact] = [opened(trials=2), settled(1, 9.0, 1), settled(2, 1.0, 1), settled(2, 3.0, 2)]
    assert fitness(history(*played)) == GenerationFitness(1, completed=1, best=2.0, mean=2.0)
    played.append(settled(1, 5.0, 2))
    found = history(*played)
    assert fitness(found) == GenerationFitness(1, completed=2, best=7.0, mean=4.5)
    assert found.of(1).leaders() == [(1, 7.0), (2, 2.0)]


def test_genome_that_failed_is_not_counted() -> None:
    """Until it was reopened and completed."""
    played: list[Fact] = [opened(trials=2), settled(1, 4.0, 1), settled(1, None, 2)]
    assert fitness(history(*played)) is None
    played += [TrialReopened(genome=1, trial=2), settled(1, 6.0, 2)]
    assert fitness(history(*played)) == GenerationFitness(1, completed=1, best=5.0, mean=5.0)


@pytest.mark.parametrize(
    ("direction", "best", "order"), [("maximize", 3.0, [2, 4, 1, 3]), ("minimize", -1.0, [3, 1, 2, 4])]
)
def test_direction_says_which_genome_is_the_fittest(direction: str, best: float, order: list[int]) -> None:
    """Of equal ones that with the lower number comes first, whichever was completed first."""
    values = {4: 3.0, 1: 1.0, 2: 3.0, 3: -1.0}
    found = history(opened(), *(settled(genome, value) for genome, value in values.items()), direction=direction)
    assert fitness(found) == GenerationFitness(1, completed=4, best=best, mean=1.5)
    assert [genome for genome, _ in found.of(1).leaders()] == order


def test_only_the_fittest_are_ranked() -> None:
    found = history(opened(), *(settled(genome, genome / 2) for genome in range(1, 101)))
    assert found.of(1).leaders() == [(genome, genome / 2) for genome in range(100, 100 - LEADERS_MAX, -1)]
    assert figures(found) == pytest.approx((100, 50.0, 25.25))


def test_huge_fitness_has_a_mean() -> None:
    """Its sum is no number that a computer has."""
    huge = 1.7e308
    found = history(opened(trials=2), *(settled(g, huge, t) for g in (1, 2, 3) for t in (1, 2)))
    assert figures(found) == pytest.approx((3, huge, huge))
    found = history(opened(), settled(1, huge), settled(2, -huge))
    assert fitness(found) == GenerationFitness(1, completed=2, best=huge, mean=0.0)


def test_fresh_run_begins_anew() -> None:
    """What the run before it counted is gone, the time in its games too."""
    ended = AttemptEnded(attempt="a", outcome=Outcome.FAILED, seconds=4.0)
    found = history(opened(), ended, settled(1, 9.0), opened(trials=2), settled(1, 1.0, 1), settled(1, 2.0, 2))
    assert fitness(found) == GenerationFitness(1, completed=1, best=1.5, mean=1.5)
    assert found.of(1).seconds_played == 0.0


def test_time_in_games_counts_failed_ones_too() -> None:
    ends: Sequence[Fact] = [
        AttemptEnded(attempt=outcome, outcome=outcome, seconds=seconds)
        for outcome, seconds in ((Outcome.COMPLETED, 1.0), (Outcome.TIMED_OUT, 60.0), (Outcome.LOST, 0.0))
    ]
    assert history(opened(), *ends).of(1).seconds_played == 61.0


def test_history_has_the_last_generations_with_a_fitness() -> None:
    """Oldest first, whichever was played last; a generation without any fitness is left out."""
    found = FitnessHistory("maximize")
    for generation in (*range(2, HISTORY_MAX + 12), 1):
        found.note(generation, opened(generation=generation))
        if generation != 20:
            found.note(generation, settled(1, float(generation)))
    before = found.before(HISTORY_MAX + 11)
    assert [one.generation for one in before] == [n for n in range(11, HISTORY_MAX + 11) if n != 20]
    assert found.before(3) == (GenerationFitness(1, 1, 1.0, 1.0), GenerationFitness(2, 1, 2.0, 2.0))
    found.forget(1)
    assert [one.generation for one in found.before(3)] == [2]


def test_condensed_generations_keep_their_figures() -> None:
    """Without their genomes, of which there may be very many; that which is played keeps all."""
    found = FitnessHistory("maximize")
    for generation in (1, 2, 4, 3):
        found.note(generation, opened(generation=generation))
        found.note(generation, settled(1, float(generation)))
    found.note(5, opened(generation=5))

    found.condense(3)
    found.condense(3)

    assert list(found._tallies) == [3]
    assert [one.generation for one in found.before(5)] == [1, 2, 3, 4]
    assert found.before(2) == (GenerationFitness(1, 1, 1.0, 1.0),)
    found.note(3, settled(2, 9.0))
    assert found.before(4)[-1] == GenerationFitness(3, completed=2, best=9.0, mean=6.0)


def test_condensed_generation_is_counted_anew_when_it_is_forgotten() -> None:
    found = history(opened(), settled(1, 1.0))
    found.condense(2)
    found.forget(1)
    assert found.before(2) == ()

    found.note(1, opened())
    found.note(1, settled(1, 2.0))

    assert found.before(2) == (GenerationFitness(1, 1, 2.0, 2.0),)


def test_watched_entries_pass_unchanged() -> None:
    """And the facts named for a reader that wants no others are enough for the fitness."""
    facts = (opened(), settled(1, 2.0), GenomeAdded(genome=1, name="a", suffix="", size_bytes=1, sha256=""))
    entries = [Entry(seq, 0.0, 3, 1, fact) for seq, fact in enumerate(facts, 1)]
    found = FitnessHistory("maximize")
    assert list(found.watch(entries)) == entries
    assert fitness(found, 3) == GenerationFitness(3, completed=1, best=2.0, mean=2.0)
    assert set(FITNESS_KINDS) == {"run_opened", "trial_settled", "genome_reopened"}


def test_figures_equal_those_of_the_farm() -> None:
    """Of a generation that was played: the same best genome, the same mean."""
    core = CoreHarness("w0", "w1", genomes=7, trials=3)
    core.run_until_ready()
    core.play_all()
    found = history(*(fact for fact, _ in core.facts))
    farm: Farm = core.farm
    values = [genome.fitness for genome in farm.genomes if genome.fitness is not None]
    best = fittest(farm, "maximize")
    assert best is not None and len(values) == 7
    assert figures(found) == pytest.approx((7, max(values), sum(values) / 7))
    assert found.of(1).leaders()[0] == (best.number, best.fitness)


def test_reopened_genome_does_not_count_until_it_is_completed_again() -> None:
    """Neither as a leader nor in the mean; a part of its trials does not count either."""
    reopened = GenomeReopened(genome=1, size_bytes=1, sha256="0" * 64)
    facts = [opened(trials=2), *(settled(genome, float(genome), trial) for genome in (1, 2) for trial in (1, 2))]
    assert figures(history(*facts)) == (2, 2.0, 1.5)

    facts += [reopened, settled(1, 5.0, 1)]
    assert figures(history(*facts)) == (1, 2.0, 2.0)

    facts.append(settled(1, 7.0, 2))
    assert figures(history(*facts)) == (2, 6.0, 4.0)

    facts += [reopened, reopened]
    assert history(*facts).of(1).leaders() == [(2, 2.0)]
