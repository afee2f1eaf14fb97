"""The data of the web page: of one generation, and of all of them over time. Pure.

Owns: what the page contains, and how it stays small however large the generation is. There is no markup in it; the
page inserts all of it as text.
Exact: all counts, the best genome, the trend, the distribution of the fitness, outcomes and worker states. Of more than
`GENOMES_MAX` genomes the table has the fittest, and some of those that failed; of more than `ATTEMPTS_MAX` games the
picture has every so many, of those that did not complete as many as half of the picture has room for; the boxes of a
worker with more than `VALUES_MAX` games are drawn from as many quantiles. The page says how many are shown of how many.
Not here: layout and appearance (`ui/page/`).
"""

import heapq
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import isqrt
from typing import Any, TypeVar

from inbox_agent.protocol.layout import Outcome, Setting, clean
from pipeline.core.facts import DatedFact, RecoveryStarted
from pipeline.core.farm import Farm
from pipeline.core.mean import mean
from pipeline.core.model import Attempt, Genome
from pipeline.views.explain import RECOVERY_ACTIONS, explain_genome
from pipeline.views.fact_text import describe_any
from pipeline.views.game_times import game_times
from pipeline.views.progress import Progress
from pipeline.views.results import (
    evaluator_text,
    failure_reason,
    fittest,
    genome_evaluator,
    genome_status,
    mean_metrics,
    metric_names,
    mixed_text,
    param_names,
    summary,
)
from pipeline.views.worker_state import ShownState, WorkerStates

GENOMES_MAX, FAILED_MAX = 1000, 200  #: in the table; of those that failed, while there are enough others
ATTEMPTS_MAX = 1000  #: in the picture: it is hardly as many pixels wide
VALUES_MAX, VALUES_IN_ALL_MAX, VALUES_MIN = 200, 5000, 9  #: of a worker; of all workers, if that leaves enough for each
DISTINCT_MAX, BINS_MAX = 10, 60  #: so many values are counted one by one, more in ranges
STORIES_MAX, EVENTS_MAX, NAME_MAX, REASON_MAX, EVALUATOR_MAX = 20, 200, 200, 300, 1000


def page_model(
    farm: Farm, history: Sequence[DatedFact], depth: Mapping[str, int], *, direction: str, live: Progress | None
) -> dict[str, Any]:
    """The data of one generation; `live` is what the host says that plays it, None if none does."""
    assert farm.settings is not None
    best = fittest(farm, direction)
    failed = [genome for genome in farm.genomes if genome_status(genome) == "failed"]
    counts, (metrics, _left_out) = summary(farm), metric_names(farm)
    params = param_names(farm)
    genomes, workers = _shown_genomes(farm, failed, direction), _workers(farm, history, live)
    games, played = _games(farm)
    return {
        "generation": farm.generation,
        "playing": live is not None,
        "counts": counts,
        "mixed": mixed_text(counts["evaluators"]),
        "best": {"name": _name(best), "fitness": best.fitness} if best is not None else None,
        "spread": _spread([fitness for genome in farm.genomes if (fitness := genome.fitness) is not None]),
        "genomes": [_genome(farm, genome, params, metrics) for genome in genomes],
        "attempts": _attempts(games, [worker["name"] for worker in workers]),
        "played": played,
        "workers": workers,
        "stories": [
            {
                "genome": _name(genome),
                "lines": explain_genome(farm, genome, depth, playing=live is not None),
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


def _shown_genomes(farm: Farm, failed: Sequence[Genome], direction: str) -> list[Genome]:
    """The genomes of the table, by number."""
    if len(farm.genomes) <= GENOMES_MAX:
        return farm.genomes
    some_failed = failed[: max(FAILED_MAX, GENOMES_MAX - len(farm.genomes) + len(failed))]
    sign = 1 if direction == "maximize" else -1

    def rank(genome: Genome) -> tuple[bool, float]:
        fitness = genome.fitness
        return fitness is not None, sign * fitness if fitness is not None else 0.0

    others = (genome for genome in farm.genomes if not genome.without_fitness)
    best = heapq.nlargest(GENOMES_MAX - len(some_failed), others, rank)
    return sorted([*some_failed, *best], key=lambda genome: genome.number)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """How often each fitness is, or how many are in each of some ranges of the same width. All of them are counted."""
    each = Counter(values)
    if len(each) <= DISTINCT_MAX:
        return {"values": sorted(each), "counts": [each[value] for value in sorted(each)], "width": None}
    bins = min(BINS_MAX, max(DISTINCT_MAX, isqrt(len(values))))
    # Of halves: the difference of two values may overflow.
    low, high = min(values) / 2, max(values) / 2
    width = (high - low) / bins or 1.0
    counts = Counter(min(bins - 1, int((value / 2 - low) / width)) for value in values)
    middles = [2 * (low + (number + 0.5) * width) for number in range(bins)]
    return {"values": middles, "counts": [counts[number] for number in range(bins)], "width": 2 * width}


_T = TypeVar("_T")


def _every_so_many(items: Sequence[_T], number: int) -> Sequence[_T]:
    """That many items, evenly from first to last; all if there are not more."""
    last = len(items) - 1
    return items if last < number else [items[step * last // (number - 1)] for step in range(number)]


def _games(farm: Farm) -> tuple[list[Attempt], int]:
    """The attempts of the picture, in the sequence of issue, and how many games there were."""
    played = [attempt for attempt in farm.attempts.values() if game_times(attempt) is not None]
    if len(played) <= ATTEMPTS_MAX:
        return played, len(played)
    is_completed = [attempt.outcome is Outcome.COMPLETED for attempt in played]
    others = _every_so_many([n for n, completed in enumerate(is_completed) if not completed], ATTEMPTS_MAX // 2)
    completed = _every_so_many([n for n, completed in enumerate(is_completed) if completed], ATTEMPTS_MAX - len(others))
    return [played[number] for number in sorted([*others, *completed])], len(played)


def _genome(farm: Farm, genome: Genome, params: Collection[str], metrics: Collection[str]) -> dict[str, Any]:
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
        "params": {clean(name, NAME_MAX): _shown(value) for name, value in genome.params.items() if name in params},
        "metrics": {clean(name, NAME_MAX): value for name, value in mean_metrics(farm, genome, metrics).items()},
        "attempts": sum(len(trial.attempts) for trial in genome.trials),
        "seconds": round(sum(attempt.seconds for attempt in counted), 3),
        "evaluator": genome_evaluator(farm, genome),
        "why": clean(failure_reason(genome), REASON_MAX),
    }


def _shown(param: Setting) -> Setting:
    return clean(param, NAME_MAX) if isinstance(param, str) else param


def _attempts(games: Sequence[Attempt], workers: Sequence[str]) -> dict[str, list[Any]]:
    """Attempts with a game, as one list per column."""
    number = {name: n for n, name in enumerate(workers)}
    times = [game for attempt in games if (game := game_times(attempt)) is not None]
    return {
        "id": [attempt.id for attempt in games],
        "genome": [_name(attempt.trial.genome) for attempt in games],
        "trial": [attempt.trial.number for attempt in games],
        "worker": [number[attempt.worker] for attempt in games],
        "outcome": [str(attempt.outcome or "playing") for attempt in games],
        "from": [game.began for game in times],
        "to": [game.ended for game in times],
        "fitness": [attempt.fitness for attempt in games],
        "why": [clean(attempt.reason, REASON_MAX) for attempt in games],
    }


def _workers(farm: Farm, history: Sequence[DatedFact], live: Progress | None) -> list[dict[str, Any]]:
    recoveries = Counter(one.fact.worker for one in history if isinstance(one.fact, RecoveryStarted))
    states = WorkerStates(farm, history, live)
    names = sorted(farm.counts.workers.union(worker.name for worker in states.current()))
    attempts: dict[str, list[Attempt]] = {name: [] for name in names}
    for attempt in farm.attempts.values():
        attempts[attempt.worker].append(attempt)
    number = max(VALUES_MIN, min(VALUES_MAX, VALUES_IN_ALL_MAX // max(1, len(names))))
    return [_worker(name, states.of(name), attempts[name], recoveries[name], number) for name in names]


def _worker(name: str, state: ShownState, attempts: Sequence[Attempt], recoveries: int, number: int) -> dict[str, Any]:
    completed = [attempt for attempt in attempts if attempt.outcome is Outcome.COMPLETED]
    fitness = [attempt.fitness for attempt in completed if attempt.fitness is not None]
    return {
        "name": name,
        "state": state.word,
        "why": clean(state.why, REASON_MAX),
        "outcomes": Counter(str(attempt.outcome) for attempt in attempts if attempt.outcome is not None),
        "fitness": _every_so_many(sorted(fitness), number),
        "seconds": _every_so_many(sorted(round(attempt.seconds, 3) for attempt in completed), number),
        "recoveries": recoveries,
    }


def _events(farm: Farm, history: Sequence[DatedFact]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in reversed(history):
        if len(found) == EVENTS_MAX:
            break
        if isinstance(one.fact, RecoveryStarted):
            words = f"{one.fact.worker}: {RECOVERY_ACTIONS[one.fact.action]}: {one.fact.reason}"
        else:
            words = describe_any(one.fact, farm)
        if words:
            found.append({"at": one.at, "words": clean(words, REASON_MAX)})
    return found[::-1]


def _name(genome: Genome) -> str:
    return clean(genome.name, NAME_MAX)
