"""The result rows and counts of a generation. Pure."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import ReusedResult, Settlement
from pipeline.core.farm import Farm
from pipeline.core.mean import mean
from pipeline.core.model import Attempt, Genome
from pipeline.views.game_times import PLAYED, game_times

RESULT_COLUMNS = (
    "genome", "fitness", "status", "trials", "trials_completed", "attempts", "seconds", "evaluator", "reason", "sha256"
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "attempt", "genome", "trial", "number", "seed", "fitness", "worker", "outcome", "reason",
    "issued", "claimed", "ended", "seconds", "evaluator", "began", "superseded",
)  # fmt: skip
ADDED_COLUMNS = ("generation",)  #: in tables with rows of several generations
METRIC_NAMES_MAX = 256  #: of a generation's tables; further metrics are in the archived results only
PARAM_NAMES_MAX = 256  #: of a generation's tables; further params are in the ledger only
PARAM_PREFIX, METRIC_PREFIX = (
    "param_",
    "metric_",
)  #: of columns: of params; of metrics that could be others
UNKNOWN_EVALUATOR = "unknown"  #: beside other versions: that of a fitness from before versions were recorded


def genome_status(genome: Genome) -> str:
    """`completed` if every trial has a fitness, `failed` if one is settled without, else `open`."""
    if genome.without_fitness:
        return "failed"
    return "completed" if genome.is_completed else "open"


def failure_reason(genome: Genome) -> str:
    """Why a genome has no fitness: number, settlement and reason of the first failed trial."""
    reasons = [
        f"trial {trial.number}: {trial.settlement}: {trial.reason}"
        for trial in genome.trials
        if trial.settlement in (Settlement.FAILED, Settlement.TIMED_OUT) and trial.fitness is None
    ]
    return reasons[0] if reasons else ""


def fittest(farm: Farm, direction: str) -> Genome | None:
    """The fittest genome; `direction` is "maximize" or "minimize". None while there is no fitness."""
    scored = [(fitness, genome) for genome in farm.genomes if (fitness := genome.fitness) is not None]
    sign = 1 if direction == "maximize" else -1
    return max(scored, key=lambda pair: sign * pair[0])[1] if scored else None


def result_rows(farm: Farm) -> Iterator[dict[str, Any]]:
    """One row per genome, by genome number; metrics are means over its trials with a fitness and a deciding attempt."""
    recorded, params, metrics = _has_versions(farm), _param_columns(farm), _metric_columns(farm)
    return (_result_row(farm, genome, params, metrics, recorded=recorded) for genome in farm.genomes)


def result_columns(farm: Farm) -> tuple[str, ...]:
    """The columns of these rows: `RESULT_COLUMNS`, and one for each param and for each metric."""
    return (*RESULT_COLUMNS, *sorted(_param_columns(farm).values()), *sorted(_metric_columns(farm).values()))


def _param_columns(farm: Farm) -> dict[str, str]:
    """The column of each param: the first ones by genome and name, for the reason that `metric_names` has."""
    return {name: f"{PARAM_PREFIX}{name}" for name in param_names(farm)}


def param_names(farm: Farm) -> list[str]:
    """The params that tables of a generation have."""
    return list(islice(farm.counts.params, PARAM_NAMES_MAX))


def _metric_columns(farm: Farm) -> dict[str, str]:
    """The column of each metric; one that could be another column's is called `metric_<name>`."""
    columns, taken = dict[str, str](), {*RESULT_COLUMNS, *ADDED_COLUMNS}
    for name in sorted(metric_names(farm)[0]):
        column = name
        while column in taken or column.startswith(PARAM_PREFIX):
            column = f"{METRIC_PREFIX}{column}"
        columns[name] = column
        taken.add(column)
    return columns


def _result_row(
    farm: Farm, genome: Genome, params: Mapping[str, str], metrics: Mapping[str, str], *, recorded: bool
) -> dict[str, Any]:
    counted = _counted(farm, genome)
    row: dict[str, Any] = {
        "genome": genome.name,
        "fitness": genome.fitness,
        "status": genome_status(genome),
        "trials": len(genome.trials),
        "trials_completed": sum(trial.fitness is not None for trial in genome.trials),
        "attempts": sum(len(trial.attempts) for trial in genome.trials),
        "seconds": round(sum(result.seconds for result in counted if isinstance(result, Attempt)), 3),
        "evaluator": _versions_text(counted) if recorded else "",
        "reason": failure_reason(genome),
        "sha256": genome.sha256,
    }
    row |= {params[name]: value for name, value in genome.params.items() if name in params}
    row |= {metrics[name]: value for name, value in mean_metrics(farm, genome, metrics).items()}
    return row


def metric_names(farm: Farm) -> tuple[frozenset[str], int]:
    """The metrics that tables of a generation have, and how many others there are.

    They are the first ones by genome, trial and name: with a new name in every game, a table with all of them would
    grow with the square of the games.
    """
    known = farm.counts.metrics
    if len(known) <= METRIC_NAMES_MAX:
        return frozenset(known), 0
    names: dict[str, None] = {}
    for genome in farm.genomes:
        for result in _counted(farm, genome):
            names |= dict.fromkeys(sorted(result.metrics or ()))
        if len(names) >= METRIC_NAMES_MAX:
            break
    return frozenset(islice(names, METRIC_NAMES_MAX)), len(known) - METRIC_NAMES_MAX


def mean_metrics(farm: Farm, genome: Genome, names: Collection[str] | None = None) -> dict[str, float]:
    """The means of a genome's metrics over the trials with a fitness and a deciding attempt, sorted by name.

    Only metrics of these names; None: of all.
    """
    found: dict[str, list[float]] = {}
    for result in _counted(farm, genome):
        for name, value in (result.metrics or {}).items():
            if names is None or name in names:
                found.setdefault(name, []).append(value)
    return {name: mean(found[name]) for name in sorted(found)}


def attempt_rows(attempts: Iterable[Attempt]) -> Iterator[tuple[Any, ...]]:
    """One row per attempt; columns are `ATTEMPT_COLUMNS`."""
    for attempt in attempts:
        trial, game = attempt.trial, game_times(attempt)
        yield (
            attempt.id,
            trial.genome.name,
            trial.number,
            attempt.number,
            trial.seed,
            attempt.fitness,
            attempt.worker,
            attempt.outcome,
            attempt.reason,
            _iso_time(attempt.issued_at),
            _iso_time(attempt.claimed_at),
            _iso_time(attempt.ended_at),
            round(attempt.seconds, 6) if attempt.has_result else None,
            played_by(attempt),
            _iso_time(game.began if game is not None else None),
            "yes" if attempt.superseded else "",
        )


def summary(farm: Farm) -> dict[str, Any]:
    """The counts of a generation. They add up: submitted = completed + failed + lost + open, and lost is 0.

    It costs the same however many genomes and attempts there are.
    """
    counts, finished = farm.counts, farm.finished
    undecided = len(farm.genomes) - counts.completed - counts.failed
    wall_s = sum(last - first for first, last in farm.spans)
    return {
        "generation": farm.generation,
        "run": farm.run,
        "finished": finished,
        "submitted": len(farm.genomes),
        "completed": counts.completed,
        "failed": counts.failed,
        "open": 0 if finished else undecided,
        "lost": undecided if finished else 0,
        "duplicated": counts.duplicated,
        "trials": {
            "submitted": farm.open_trials + farm.settled.total(),
            "open": farm.open_trials,
            **{str(settlement): farm.settled[settlement] for settlement in Settlement},
        },
        "attempts": {
            "issued": len(farm.attempts),
            "open": len(farm.attempts) - farm.outcomes.total(),
            **{str(outcome): farm.outcomes[outcome] for outcome in Outcome},
        },
        "evaluator": "" if farm.allows_any_evaluator else farm.evaluator_version,
        "evaluators": evaluators(farm),
        "trials_reused": counts.reused,
        "attempts_superseded": counts.superseded,
        "results_late": farm.late,
        "results_unexpected": farm.unexpected,
        "params_left_out": max(0, len(counts.params) - PARAM_NAMES_MAX),
        "metrics_left_out": max(0, len(counts.metrics) - METRIC_NAMES_MAX),
        "wall_s": round(wall_s, 3),
        "busy_s": round(counts.seconds, 3),
        "utilisation": round(counts.seconds / (wall_s * len(counts.workers)), 4) if wall_s and counts.workers else 0.0,
        "workers": sorted(counts.workers),
    }


def evaluators(farm: Farm) -> list[str]:
    """The versions of the evaluator that gave the fitness of this generation; more than one: it is mixed."""
    found = farm.counts.evaluators
    return sorted(version or UNKNOWN_EVALUATOR for version in found) if any(found) else []


def genome_evaluator(farm: Farm, genome: Genome) -> str:
    """The versions that gave a genome's fitness, with spaces between them; empty if the generation has none."""
    return _versions_text(_counted(farm, genome)) if _has_versions(farm) else ""


def _has_versions(farm: Farm) -> bool:
    """Whether the version of any fitness is known."""
    return any(farm.counts.evaluators)


def _versions_text(counted: list[Attempt | ReusedResult]) -> str:
    return " ".join(sorted({result.evaluator or UNKNOWN_EVALUATOR for result in counted}))


def _counted(farm: Farm, genome: Genome) -> list[Attempt | ReusedResult]:
    """The attempts that gave a fitness, and the results of earlier generations that did."""
    deciding = (farm.deciding_result(trial) for trial in genome.trials if trial.fitness is not None)
    return [result for result in deciding if result is not None]


def played_by(attempt: Attempt) -> str:
    """The version of the evaluator that played an attempt; empty if none did, or if it was not recorded."""
    return attempt.evaluator if attempt.outcome in PLAYED else ""


def evaluator_text(farm: Farm) -> str:
    """What plays this generation and with which version; says so if its fitness is of others."""
    assert farm.settings is not None
    version = version_text(farm)
    return f"{farm.settings.evaluator}, {version}" if version else farm.settings.evaluator


def version_text(farm: Farm) -> str:
    """The version that may play this generation, and those that gave its fitness if they differ; empty: not known."""
    text = "any version" if farm.allows_any_evaluator else f"version {farm.evaluator_version or 'not known yet'}"
    versions = evaluators(farm)
    if len(versions) > 1:
        return f"{text}; {mixed_text(versions)}"
    if versions and versions[0] != farm.evaluator_version:
        return f"{text}; its fitness so far is of evaluator {versions[0]}"
    return text if farm.evaluator_version or farm.open_trials else ""


def mixed_text(versions: Sequence[str]) -> str:
    """That a generation is mixed, if these versions gave its fitness; empty if it is not."""
    return f"mixed: its fitness is of evaluators {', '.join(versions)}" if len(versions) > 1 else ""


def _iso_time(at: float | None) -> str:
    """Wall time in UTC, to the millisecond: `2026-11-20T23:59:59.999Z`."""
    if at is None:
        return ""
    whole = int(at)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((at - whole) * 1000):03d}Z"
