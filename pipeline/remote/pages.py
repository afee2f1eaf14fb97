"""What a server says of genomes and generations, as the values that an open farm gives. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.control.operations import GenerationState, GenerationStatus, GenomeResult, WorkerStatus
from pipeline.host.genome_fitness import Fitness
from pipeline.remote.problems import said
from pipeline.views.fitness_history import GenerationFitness
from pipeline.views.progress import Leader, Progress, WorkerRow
from pipeline.views.table import Table, table_of

#: Those of `results.csv`; `seconds` is empty, and `attempts` are those that decided a trial.
_COLUMNS = (
    "genome", "fitness", "status", "trials", "trials_completed", "attempts", "seconds", "evaluator", "reason", "sha256"
)  # fmt: skip


def fitness_of(result: GenomeResult) -> Fitness:
    """The result of a genome. Its files are on the server's disk."""
    return Fitness(
        result.fitness,
        str(result.status),
        said(result.reason),
        list(result.trials),
        metrics=dict(result.metrics),
        attempts=list(result.attempts),
        evaluator=result.evaluator,
        params=dict(result.params),
    )


def table_of_results(results: Sequence[GenomeResult]) -> Table:
    """The genomes with the columns of `results.csv`."""
    params, metrics = _columns(results)
    columns = (*_COLUMNS, *params.values(), *metrics.values())
    return table_of(columns, (_row(result, params, metrics) for result in results))


def result_rows_of(results: Sequence[GenomeResult]) -> Iterator[dict[str, Any]]:
    """The genomes as rows of a table; none has a column that it has no value for."""
    params, metrics = _columns(results)
    return (_row(result, params, metrics) for result in results)


def _columns(results: Sequence[GenomeResult]) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of params and of metrics."""
    params = {name: f"param_{name}" for name in _names(result.params for result in results)}
    metrics = dict[str, str]()
    for name in _names(result.metrics for result in results):
        column = name
        while column in _COLUMNS or column == "generation" or column.startswith("param_"):
            column = f"metric_{column}"
        metrics[name] = column
    return params, metrics


def progress_of(
    status: GenerationStatus, workers: Iterable[WorkerStatus], elapsed_s: float, settled_before: int
) -> Progress:
    """The progress as far as a server tells it: `failed` counts genomes, and what is not known is 0.

    Args:
        elapsed_s: since this program opened the generation.
        settled_before: trials that were settled then.
    """
    done, left = max(0, status.settled - settled_before), max(0, status.trials - status.settled)
    failed = min(status.failed, status.settled)
    fitness = None
    if status.best is not None and status.mean is not None:
        fitness = GenerationFitness(status.number, status.completed, status.best, status.mean)
    return Progress(
        generation=status.number,
        genomes=status.genomes,
        trials=status.trials,
        completed=status.settled - failed,
        failed=failed,
        skipped=0,
        retried=0,
        lost=0,
        average_s=0.0,
        elapsed_s=elapsed_s,
        eta_s=left * elapsed_s / done if done else None,
        pending=left,
        per_minute=60 * done / elapsed_s if elapsed_s else 0.0,
        utilisation=0.0,
        time_limit_s=0.0,
        finished=status.state is GenerationState.FINISHED,
        playing=status.state in (GenerationState.OPEN, GenerationState.CLOSED),
        workers=tuple(map(_worker_row, workers)),
        fitness=fitness,
        leaders=(Leader(said(status.best_genome), status.best),) if status.best is not None else (),
    )


def _worker_row(worker: WorkerStatus) -> WorkerRow:
    return WorkerRow(
        name=said(worker.name),
        state=said(worker.state),
        genome=said(worker.genome),
        trial=worker.trial,
        playing_s=worker.playing_s,
        waiting=worker.waiting,
        losses=worker.losses,
        recovery="",
        note=said(worker.problem or worker.progress),
        progress=said(worker.progress),
    )


def _names(found: Iterable[Iterable[str]]) -> list[str]:
    return sorted({name for names in found for name in names})


def _row(result: GenomeResult, params: dict[str, str], metrics: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "genome": result.name,
        "fitness": result.fitness,
        "status": str(result.status),
        "trials": len(result.trials),
        "trials_completed": sum(trial is not None for trial in result.trials),
        "attempts": len(result.attempts),
        "seconds": None,
        "evaluator": said(result.evaluator),
        "reason": said(result.reason),
        "sha256": said(result.sha256),
    }
    row |= {params[name]: value for name, value in result.params.items()}
    row |= {metrics[name]: value for name, value in result.metrics.items()}
    return row
