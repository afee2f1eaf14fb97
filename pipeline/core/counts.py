"""Counts of a generation that a display or a summary needs at any moment, kept as facts are applied. Pure.

Part of the farm, so they follow from the facts. A fact costs the same however many genomes and attempts there are.
Not here: the trials by settlement and the attempts by outcome (`farm`), the fitness (`views.fitness_history`).
"""

from collections import Counter

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import ReusedResult
from pipeline.core.model import Attempt, Genome, Trial


class Counts:
    """Counts of the genomes and attempts of one run."""

    def __init__(self) -> None:
        self.completed = 0  #: genomes of which every trial has a fitness
        self.failed = 0  #: genomes of which a trial is settled without a fitness
        self.duplicated = 0  #: trials of which more than one result was accepted, counted from the attempts
        self.superseded = 0  #: attempts at genomes that were reopened since
        self.reused = 0  #: trials that were settled by a result of an earlier generation
        self.seconds = 0.0  #: in games that are over, whatever came of them
        self.workers: set[str] = set()  #: that were given attempts
        self.evaluators: Counter[str] = Counter()  #: the results that gave a fitness, by version
        self.metrics: Counter[str] = Counter()  #: the same, by metric
        self.params: dict[str, None] = {}  #: the names of the genomes' params, first by genome, then by name

    def note_added(self, genome: Genome) -> None:
        """Counts a genome that has just been added."""
        self.params |= dict.fromkeys(genome.params)

    def note_ended(self, attempt: Attempt) -> None:
        """Counts an attempt that has just ended, by a result or by the host."""
        self.seconds += attempt.seconds
        if _accepted(attempt):
            self.duplicated += sum(map(_accepted, attempt.trial.attempts)) == 2

    def note_settled(self, trial: Trial, by: Attempt | ReusedResult | None) -> None:
        """Counts a trial that has just been settled; `by` is the attempt that decided it, or the earlier result."""
        genome = trial.genome
        self.reused += trial.reused is not None
        genome.settled += 1
        genome.without_fitness += trial.fitness is None
        self.failed += genome.without_fitness == 1 and trial.fitness is None
        self.completed += genome.is_completed
        self._count(trial, by, 1)

    def note_reopened(self, trial: Trial, by: Attempt | ReusedResult | None) -> None:
        """Takes back what was counted of a settled trial, before it is reopened."""
        genome = trial.genome
        self.reused -= trial.reused is not None
        self.completed -= genome.is_completed
        self.failed -= genome.without_fitness == 1 and trial.fitness is None
        genome.settled -= 1
        genome.without_fitness -= trial.fitness is None
        self._count(trial, by, -1)

    def note_superseded(self, trial: Trial) -> None:
        """Counts the attempts of a trial whose genome is reopened, and marks them."""
        self.duplicated -= sum(map(_accepted, trial.attempts)) > 1
        for attempt in trial.attempts:
            self.superseded += not attempt.superseded
            attempt.superseded = True

    def _count(self, trial: Trial, by: Attempt | ReusedResult | None, number: int) -> None:
        if by is None or trial.fitness is None:
            return
        counters = [(self.evaluators, by.evaluator), *((self.metrics, name) for name in by.metrics or ())]
        for counter, key in counters:
            counter[key] += number
            if not counter[key]:
                del counter[key]


def _accepted(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.COMPLETED and not attempt.superseded
