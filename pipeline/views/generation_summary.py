"""A finished generation in numbers, for a program that records how its generations go. Pure.

Not here: the counts of `summary.json` (`results`), a generation that is being played (`progress`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.farm import Farm
from pipeline.core.mean import mean
from pipeline.views.results import evaluators, fittest, mean_metrics, metric_names, summary


@dataclass(frozen=True, slots=True)
class GenerationSummary:
    """A finished generation in numbers. Figures of fitness and metrics are of the genomes that are completed."""

    generation: int
    genomes: int
    completed: int  #: genomes of which every trial has a fitness
    failed: int  #: all other genomes
    best_genome: str  #: its name, of equal ones that of the first; empty if no genome is completed
    best: float | None  #: fitness of that genome: the highest, with the direction "minimize" the lowest
    mean: float | None
    median: float | None
    worst: float | None
    trials: int
    attempts: int  #: at these trials, whatever came of them
    retried: int  #: of these attempts: those that were not the first one at their trial
    reused: int  #: of the trials: those with a result of an earlier generation
    wall_s: float  #: how long the generation was open, in all runs of the program
    utilisation: float  #: share of this time that the workers spent in games
    evaluator: str  #: the version that gave the fitness, or several with spaces between them
    results: Path  #: the results folder of the generation
    metrics: Mapping[str, float]  #: means of the genomes' metrics

    def numbers(self) -> dict[str, float]:
        """The numbers by name, for a tracker; without the number of the generation, and without those not known.

        A metric is called `metrics/<name>`.
        """
        found: dict[str, float | None] = {
            "best": self.best,
            "mean": self.mean,
            "median": self.median,
            "worst": self.worst,
            "genomes": self.genomes,
            "completed": self.completed,
            "failed": self.failed,
            "trials": self.trials,
            "attempts": self.attempts,
            "retried": self.retried,
            "reused": self.reused,
            "wall_s": self.wall_s,
            "utilisation": self.utilisation,
        }
        found |= {f"metrics/{name}": value for name, value in self.metrics.items()}
        return {name: value for name, value in found.items() if value is not None}


def generation_summary(farm: Farm, direction: str, results: Path) -> GenerationSummary:
    """The summary of a finished generation; `direction` is "maximize" or "minimize"."""
    counts, best = summary(farm), fittest(farm, direction)
    values = sorted(fitness for genome in farm.genomes if (fitness := genome.fitness) is not None)
    middle = values[(len(values) - 1) // 2 : len(values) // 2 + 1]
    return GenerationSummary(
        generation=farm.generation,
        genomes=len(farm.genomes),
        completed=len(values),
        failed=len(farm.genomes) - len(values),
        best_genome=best.name if best is not None else "",
        best=best.fitness if best is not None else None,
        mean=mean(values) if values else None,
        median=mean(middle) if values else None,
        worst=values[0 if direction == "maximize" else -1] if values else None,
        trials=counts["trials"]["submitted"],
        attempts=counts["attempts"]["issued"],
        retried=farm.retries_issued,
        reused=farm.counts.reused,
        wall_s=counts["wall_s"],
        utilisation=counts["utilisation"],
        evaluator=" ".join(evaluators(farm)),
        results=results,
        metrics=_mean_metrics(farm),
    )


def _mean_metrics(farm: Farm) -> dict[str, float]:
    """The means over completed genomes, sorted by name; only of metrics that the tables have."""
    names, found = metric_names(farm)[0], dict[str, list[float]]()
    for genome in farm.genomes:
        if genome.is_completed:
            for name, value in mean_metrics(farm, genome, names).items():
                found.setdefault(name, []).append(value)
    return {name: mean(found[name]) for name in sorted(found)}
