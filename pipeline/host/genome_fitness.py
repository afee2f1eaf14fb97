"""What a program gets of a genome: its fitness, and where the rest of its results are.

Not here: the tables (`views.results`), when a genome is played (`pipeline.core`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inbox_agent.protocol.layout import Setting
from pipeline.core.farm import Farm
from pipeline.core.model import Genome, Trial
from pipeline.paths import ATTEMPT_FILES, ATTEMPTS, generation_folder
from pipeline.views.results import failure_reason, genome_evaluator, genome_status, mean_metrics


@dataclass(frozen=True, slots=True)
class Fitness:
    """The result of one genome."""

    value: float | None  #: mean over its trials; None unless every one of them has a fitness
    status: str  #: `completed`, `failed`, or `open` if the run was stopped before
    reason: str  #: why it has no fitness
    trials: list[float | None]
    metrics: Mapping[str, float] = field(default_factory=dict)  #: means over the trials with a fitness
    attempts: list[str] = field(default_factory=list)  #: ids of the attempts that decided its trials, by trial
    #: the folder with the artifacts of the last one of these that has any; None if none has
    files: Path | None = None
    evaluator: str = ""  #: the version that gave the fitness, or several with spaces between them
    params: Mapping[str, Setting] = field(default_factory=dict)  #: what it was submitted with


def genome_fitness(farm: Farm, genome: Genome, results: Path) -> Fitness:
    """The result of a genome; `results` is the results folder of its generation.

    It costs the same however many genomes there are: it looks at this genome's attempts and their folders only.
    """
    decided = [trial for trial in genome.trials if trial.decided_by]
    folders = (_files_of(trial, results) for trial in reversed(decided))
    return Fitness(
        genome.fitness,
        genome_status(genome),
        failure_reason(genome),
        [trial.fitness for trial in genome.trials],
        metrics=mean_metrics(farm, genome),
        attempts=[trial.decided_by for trial in decided],
        files=next(filter(_has_files, folders), None),
        evaluator=genome_evaluator(farm, genome),
        params=dict(genome.params),
    )


def _files_of(trial: Trial, results: Path) -> Path:
    """Where the artifacts of the attempt are that decided a trial, in this generation or an earlier one."""
    if trial.reused is not None:
        results = results.with_name(generation_folder(trial.reused.generation))
    return results / ATTEMPTS / trial.decided_by / ATTEMPT_FILES


def _has_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _entry in entries)
    except OSError:  # hardly any attempt has one
        return False
