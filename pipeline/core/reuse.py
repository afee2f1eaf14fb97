"""Results of the generation before that count again: with `reuse = "same-seeds"` an unchanged genome is not played.

A completed trial counts for another one with the same bytes, suffix, number and seed that the same version of the
evaluator would play with the same settings. Failures and time-outs are played again. Pure.

Owns: which results these are, and which trials they settle.
Not here: reading the ledger (`host.generation_opener`), whether a result was rightly reused (`inspection.audit`, which
uses nothing of this).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.core.facts import Entry, ReusedResult, RunSettings, Settlement, TrialSettled
from pipeline.core.farm import Farm
from pipeline.core.model import Genome, Trial, TrialState
from pipeline.core.runs import replay
from pipeline.core.transaction import Transaction


class _Game(NamedTuple):
    """What a game is for its evaluator, beside the settings of the generation."""

    sha256: str
    suffix: str
    trial: int
    seed: int
    evaluator: str  #: its version


@dataclass(frozen=True, slots=True)
class _Result:
    attempt: str
    fitness: float
    source: ReusedResult


class EarlierResults:
    """The completed trials of one generation, and how far the open one was compared with them."""

    def __init__(self, settings: RunSettings | None, results: dict[_Game, _Result]) -> None:
        self._settings, self._results = settings, results
        self._compared = 0  #: genomes of the open generation

    def settle(self, tx: Transaction) -> None:
        """Settles trials of genomes that joined since the last call. Waits until the evaluator's version is known."""
        farm = tx.farm
        if not self._results or not farm.evaluator_version or not self._fits(farm):
            return
        for genome in farm.genomes[self._compared :]:
            for trial in genome.trials if not genome.reopened else ():
                found = self._results.get(_game(genome, trial, farm.evaluator_version))
                if found is not None and trial.state is TrialState.PENDING and not trial.attempts:
                    tx.add(_settled(trial, found))
        self._compared = len(farm.genomes)

    def _fits(self, farm: Farm) -> bool:
        """Whether equal games have equal results in both generations."""
        before, now = self._settings, farm.settings
        if before is None or now is None or now.reuse != "same-seeds" or farm.allows_any_evaluator:
            return False
        return (before.settings, before.evaluator, before.time_limit_s) == (
            now.settings,
            now.evaluator,
            now.time_limit_s,
        )


def earlier_results(entries: Iterable[Entry], generation: int) -> EarlierResults:
    """The completed trials of the last run of a generation, from its facts."""
    farm, results = Farm("", []), dict[_Game, _Result]()
    replay(entries, farm, generation)
    for genome in farm.genomes:
        for trial in genome.trials:
            source = _source(farm, trial)
            if source is not None and trial.fitness is not None:
                results[_game(genome, trial, source.evaluator)] = _Result(trial.decided_by, trial.fitness, source)
    return EarlierResults(farm.settings, results)


def _source(farm: Farm, trial: Trial) -> ReusedResult | None:
    """Where the fitness of a completed trial comes from; None if it is not completed, or by an unknown evaluator."""
    if trial.settlement is not Settlement.COMPLETED:
        return None
    if trial.reused is not None:
        return trial.reused
    attempt = farm.attempts[trial.decided_by]
    if not attempt.evaluator:
        return None
    return ReusedResult(generation=farm.generation, evaluator=attempt.evaluator, metrics=attempt.metrics or {})


def _game(genome: Genome, trial: Trial, evaluator: str) -> _Game:
    return _Game(genome.sha256, genome.suffix, trial.number, trial.seed, evaluator)


def _settled(trial: Trial, found: _Result) -> TrialSettled:
    return TrialSettled(
        genome=trial.genome.number,
        trial=trial.number,
        settlement=Settlement.COMPLETED,
        attempt=found.attempt,
        fitness=found.fitness,
        reused=found.source,
    )
