"""Fitness by generation, as far as it was played: best, mean and the fittest genomes, as a fold of facts. Pure.

Owns: which genomes are counted: those of which every trial has a fitness. A fact costs the same however many genomes
there are, so a running host can keep this for its display.
Not here: the rows of all genomes (`results`), the curves of the page (`page_model`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.core.facts import AttemptEnded, Entry, Fact, GenomeReopened, RunOpened, TrialSettled
from pipeline.core.mean import mean

LEADERS_MAX = 10  #: genomes that are ranked
HISTORY_MAX = 60  #: earlier generations that are shown
#: The facts that the fitness of a generation follows from; the others only add to the time spent in games.
FITNESS_KINDS = tuple(str(kind.__struct_config__.tag) for kind in (RunOpened, TrialSettled, GenomeReopened))


@dataclass(frozen=True, slots=True)
class GenerationFitness:
    """The fitness of the genomes of one generation that are completed."""

    generation: int
    completed: int  #: genomes of which every trial has a fitness
    best: float
    mean: float


class GenerationTally:
    """What was counted of one generation so far."""

    def __init__(self, *, minimize: bool) -> None:
        self._sign = -1 if minimize else 1
        self._begin(0)

    def _begin(self, trials: int) -> None:
        self._trials = trials
        self._open: dict[int, dict[int, float]] = {}  #: genome -> trial -> fitness, until all trials have one
        self._fitness: dict[int, float] = {}  #: of the completed genomes
        self._leaders: list[tuple[float, int]] = []  #: fitness with the sign, and the genome's negative number
        self._mean = 0.0
        self.completed = 0
        self.seconds_played = 0.0  #: in games that are over, whatever came of them

    def note(self, fact: Fact) -> None:
        """Counts a fact of the generation."""
        match fact:
            case RunOpened():
                self._begin(fact.settings.trials_per_genome)
            case AttemptEnded():
                self.seconds_played += fact.seconds
            case GenomeReopened():
                self._open.pop(fact.genome, None)
                self._remove(fact.genome)
            case TrialSettled() if fact.fitness is not None:
                known = self._open.setdefault(fact.genome, {})
                known[fact.trial] = fact.fitness
                if len(known) == self._trials:
                    trials = self._open.pop(fact.genome)
                    self._add(fact.genome, mean([trials[number] for number in sorted(trials)]))

    def _remove(self, genome: int) -> None:
        if genome in self._fitness:
            others = {other: fitness for other, fitness in self._fitness.items() if other != genome}
            self._fitness, self._leaders, self._mean, self.completed = {}, [], 0.0, 0
            for other, fitness in others.items():
                self._add(other, fitness)

    def _add(self, genome: int, fitness: float) -> None:
        self._fitness[genome] = fitness
        self.completed += 1
        # Neither a sum nor a difference of fitness, which may overflow.
        self._mean += fitness / self.completed - self._mean / self.completed
        self._leaders = sorted([*self._leaders, (self._sign * fitness, -genome)], reverse=True)[:LEADERS_MAX]

    def fitness(self, generation: int) -> GenerationFitness | None:
        """Best and mean, under that generation's number; None while no genome is completed."""
        if not self._leaders:
            return None
        return GenerationFitness(generation, self.completed, self._sign * self._leaders[0][0], self._mean)

    def leaders(self) -> list[tuple[int, float]]:
        """Number and fitness of the fittest genomes, the fittest first, of equal ones that with the lower number."""
        return [(-genome, self._sign * fitness) for fitness, genome in self._leaders]


class FitnessHistory:
    """The tallies of a project's generations."""

    def __init__(self, direction: str) -> None:
        self.direction = direction  #: "maximize" or "minimize"
        self._tallies: dict[int, GenerationTally] = {}
        self._figures: dict[int, GenerationFitness | None] = {}  #: of the generations that were condensed

    def note(self, generation: int, fact: Fact) -> None:
        """Counts a fact of that generation; facts of one generation come in their order."""
        self.of(generation).note(fact)

    def watch(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The same entries; each is counted as it passes."""
        for entry in entries:
            self.note(entry.generation, entry.fact)
            yield entry

    def of(self, generation: int) -> GenerationTally:
        """The tally of a generation."""
        if generation not in self._tallies:
            self._tallies[generation] = GenerationTally(minimize=self.direction == "minimize")
        return self._tallies[generation]

    def forget(self, generation: int) -> None:
        """Forgets what was counted of a generation, before its facts are read from the first one."""
        self._tallies.pop(generation, None)
        self._figures.pop(generation, None)

    def condense(self, played: int) -> None:
        """Keeps only the figures of all generations but that one, and nothing of their genomes.

        The facts of another one may be noted again from the first one on, after `forget`.
        """
        for number in [number for number in self._tallies if number != played]:
            self._figures[number] = self._tallies.pop(number).fitness(number)

    def before(self, generation: int) -> tuple[GenerationFitness, ...]:
        """The fitness of the last generations before that one, oldest first, without those that have none."""
        earlier = sorted(number for number in self._figures.keys() | self._tallies.keys() if 0 < number < generation)
        found = (self._fitness(number) for number in earlier[-HISTORY_MAX:])
        return tuple(fitness for fitness in found if fitness is not None)

    def _fitness(self, generation: int) -> GenerationFitness | None:
        if (tally := self._tallies.get(generation)) is not None:
            return tally.fitness(generation)
        return self._figures[generation]
