"""What commands show of a project elsewhere, as text. No I/O. All words of a server are made printable."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.control.operations import GenerationStatus, GenomeResult, ProjectStatus
from pipeline.remote.pages import result_rows_of
from pipeline.remote.problems import said
from pipeline.views.fact_text import counted
from pipeline.views.ranking import ranked_rows
from pipeline.views.text_table import format_table


def remote_status_text(project: ProjectStatus, generation: GenerationStatus) -> str:
    """The state of a generation, and the workers."""
    lines = [
        f"generation {generation.number}: {generation.state}"
        + (f": {reason}" if (reason := said(generation.reason)) else ""),
        f"evaluator: {said(generation.evaluator) or 'not known'}",
        f"genomes: {generation.genomes} submitted, {generation.completed} completed, {generation.failed} failed",
        f"waiting: {counted(generation.waiting, 'genome')}",
        f"trials: {generation.settled} of {generation.trials} settled{_fitness(generation)}",
        f"project: {said(project.name)}, served by version {said(project.version)}",
    ]
    head = ("worker", "state", "genome", "queue", "")
    workers = [
        (said(one.name), said(one.state), said(one.genome), str(one.waiting), said(one.problem or one.progress))
        for one in project.workers
    ]
    return "\n".join([*lines, *([format_table([head, *workers], right={3})] if workers else [])])


def remote_progress_text(generation: GenerationStatus) -> str:
    """The progress of a generation in one line."""
    return (
        f"generation {generation.number}: {generation.settled}/{generation.trials} trials, "
        f"{generation.completed} of {counted(generation.genomes, 'genome')} completed, {generation.failed} failed, "
        f"{generation.waiting} waiting{_fitness(generation)}, {generation.state}"
    )


def remote_rows(
    generations: Iterable[tuple[GenerationStatus, Sequence[GenomeResult]]], by: str, *, reverse: bool
) -> list[dict[str, Any]]:
    """The genomes of generations, sorted, as rows of `pipeline results`."""
    rows, is_minimized = list[dict[str, Any]](), False
    for status, results in generations:
        rows += [{"generation": status.number, **row} for row in result_rows_of(results)]
        values = [result.fitness for result in results if result.fitness is not None]
        is_minimized = is_minimized or (status.best is not None and bool(values) and status.best < max(values))
    return ranked_rows(rows, by, minimize=is_minimized, reverse=reverse)


def _fitness(generation: GenerationStatus) -> str:
    if generation.best is None or generation.mean is None:
        return ""
    return f", best {generation.best:g} of {said(generation.best_genome)}, mean {generation.mean:g}"
