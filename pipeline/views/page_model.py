"""The data of the web page: of one generation, and of all of them over time. Pure.

Owns: what the page contains. There is no markup in it; the page inserts all of it as text.
Not here: layout and appearance (`ui/page/`).
"""

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from inbox_agent.protocol.layout import Outcome, clean
from pipeline.core.facts import DatedFact, RecoveryStarted
from pipeline.core.farm import Farm
from pipeline.core.mean import mean
from pipeline.core.model import Genome, Worker
from pipeline.views.explain import RECOVERY_ACTIONS, explain_genome
from pipeline.views.fact_text import describe_any
from pipeline.views.game_times import game_times
from pipeline.views.results import (
    evaluator_text,
    failure_reason,
    fittest,
    genome_evaluators,
    genome_status,
    mean_metrics,
    metric_names,
    mixed_text,
    summary,
)

STORIES_MAX, EVENTS_MAX, NAME_MAX, REASON_MAX, EVALUATOR_MAX = 20, 200, 200, 300, 1000


def page_model(
    farm: Farm, history: Sequence[DatedFact], depth: Mapping[str, int], *, direction: str, playing: bool
) -> dict[str, Any]:
    """The data of one generation."""
    assert farm.settings is not None
    names = sorted({attempt.worker for attempt in farm.attempts.values()} | set(farm.workers))
    best = fittest(farm, direction)
    failed = [genome for genome in farm.genomes if genome_status(genome) == "failed"]
    recoveries = Counter(one.fact.worker for one in history if isinstance(one.fact, RecoveryStarted))
    counts, evaluator, (metrics, _left_out) = summary(farm), genome_evaluators(farm), metric_names(farm)
    return {
        "generation": farm.generation,
        "playing": playing,
        "counts": counts,
        "mixed": mixed_text(counts["evaluators"]),
        "best": {"name": _name(best), "fitness": best.fitness} if best is not None else None,
        "genomes": [_genome(farm, genome, metrics, evaluator[genome.number]) for genome in farm.genomes],
        "attempts": _attempts(farm, names),
        "workers": [_worker(farm, name, recoveries[name]) for name in names],
        "stories": [
            {
                "genome": _name(genome),
                "lines": explain_genome(farm, genome, depth, playing=playing),
                "archived": [a.id for trial in genome.trials for a in trial.attempts if a.archived],
            }
            for genome in failed[:STORIES_MAX]
        ],
        "events": _events(farm, history),
        "settings": {
            "evaluator": clean(evaluator_text(farm), EVALUATOR_MAX),
            "trials per genome": farm.settings.trials_per_genome,
            "seed": farm.settings.seed,
            "time limit": f"{farm.settings.time_limit_s:g} s",
            "fitness of a time-out": farm.settings.timed_out_fitness,
            **{f"settings.{key}": value for key, value in farm.settings.settings.items()},
        },
    }


def fitness_trend(farms: Sequence[Farm], direction: str) -> list[dict[str, Any]]:
    """Fitness by generation; generations without any fitness are left out."""
    found = []
    for farm in farms:
        values = sorted(fitness for genome in farm.genomes if (fitness := genome.fitness) is not None)
        if values:
            found.append(
                {
                    "generation": farm.generation,
                    "best": values[-1] if direction == "maximize" else values[0],
                    "mean": mean(values),
                    "quarters": _quarters(values),
                }
            )
    return found


def _quarters(values: Sequence[float]) -> list[float]:
    """The quartiles, also of values that ledgers of earlier versions have: their products are not finite."""
    if len(values) == 1:
        return [*values] * 3
    return [4 * found for found in statistics.quantiles([value / 4 for value in values], n=4, method="inclusive")]


def _genome(farm: Farm, genome: Genome, metrics: Collection[str], evaluator: str) -> dict[str, Any]:
    counted = [attempt for trial in genome.trials for attempt in trial.attempts if attempt.id == trial.decided_by]
    archived = [[attempt.id for attempt in trial.attempts if attempt.archived] for trial in genome.trials]
    return {
        "name": _name(genome),
        "fitness": genome.fitness,
        "status": genome_status(genome),
        "trials": [trial.fitness for trial in genome.trials],
        #: of each trial the attempt whose files show what happened: that which decided it, or else the last one
        "files": [
            trial.decided_by if trial.decided_by in ids else ids[-1] if ids else None
            for trial, ids in zip(genome.trials, archived, strict=True)
        ],
        "metrics": {clean(name, NAME_MAX): value for name, value in mean_metrics(farm, genome, metrics).items()},
        "attempts": sum(len(trial.attempts) for trial in genome.trials),
        "seconds": round(sum(attempt.seconds for attempt in counted), 3),
        "evaluator": evaluator,
        "why": clean(failure_reason(genome), REASON_MAX),
    }


def _attempts(farm: Farm, workers: Sequence[str]) -> dict[str, list[Any]]:
    """The attempts with a game, as one list per column: the longest table."""
    number = {name: n for n, name in enumerate(workers)}
    games = [(attempt, game) for attempt in farm.attempts.values() if (game := game_times(attempt)) is not None]
    played = [attempt for attempt, _game in games]
    return {
        "id": [attempt.id for attempt in played],
        "genome": [attempt.trial.genome.number - 1 for attempt in played],
        "trial": [attempt.trial.number for attempt in played],
        "worker": [number[attempt.worker] for attempt in played],
        "outcome": [str(attempt.outcome or "playing") for attempt in played],
        "from": [game.began for _attempt, game in games],
        "to": [game.ended for _attempt, game in games],
        "fitness": [attempt.fitness for attempt in played],
        "why": [clean(attempt.reason, REASON_MAX) for attempt in played],
    }


def _worker(farm: Farm, name: str, recoveries: int) -> dict[str, Any]:
    worker: Worker = farm.worker(name)
    mine = [attempt for attempt in farm.attempts.values() if attempt.worker == name]
    outcomes = Counter(str(attempt.outcome) for attempt in mine if attempt.outcome is not None)
    completed = [attempt for attempt in mine if attempt.outcome is Outcome.COMPLETED]
    return {
        "name": name,
        "state": str(worker.state),
        "why": clean(worker.reason, REASON_MAX),
        "outcomes": outcomes,
        "fitness": [attempt.fitness for attempt in completed],
        "seconds": [round(attempt.seconds, 3) for attempt in completed],
        "recoveries": recoveries,
    }


def _events(farm: Farm, history: Sequence[DatedFact]) -> list[dict[str, Any]]:
    found = []
    for one in history:
        if isinstance(one.fact, RecoveryStarted):
            words = f"{one.fact.worker}: {RECOVERY_ACTIONS[one.fact.action]}: {one.fact.reason}"
        else:
            words = describe_any(one.fact, farm)
        if words:
            found.append({"at": one.at, "words": clean(words, REASON_MAX)})
    return found[-EVENTS_MAX:]


def _name(genome: Genome) -> str:
    return clean(genome.name, NAME_MAX)
