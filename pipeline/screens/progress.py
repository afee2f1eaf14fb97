"""Where a run stands, in numbers: made from farm and watch, shown by the terminal and handed to API users. Pure."""

from dataclasses import dataclass

from inbox_agent.share_layout import Outcome, clean
from pipeline.core.facts import Settlement
from pipeline.core.farm import Farm
from pipeline.core.roster import LOSSES, Worker, WorkerState
from pipeline.core.watch import Watch


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker's line."""

    name: str
    state: str
    genome: str  #: what it plays; empty while it does not
    trial: int
    playing_s: float
    waiting: int  #: attempts behind the one it plays
    note: str  #: progress the game reported, or what is wrong with the worker


@dataclass(frozen=True, slots=True)
class Progress:
    """One generation, at one moment. Counts are of trials."""

    generation: int
    genomes: int
    trials: int
    completed: int
    failed: int
    skipped: int
    retried: int
    lost: int  #: attempts that were lost on the way and tried again
    average_s: float  #: of the games that were completed
    elapsed_s: float  #: since this host took the generation up
    eta_s: float | None  #: None while nothing can be said
    workers: tuple[WorkerRow, ...]

    @property
    def settled(self) -> int:
        return self.completed + self.failed + self.skipped


def progress(farm: Farm, watch: Watch, at: float) -> Progress:
    """The run as farm and watch know it; `at` is wall time like that of the facts."""
    trials = farm.open_trials + farm.settled.total()
    completed = farm.settled[Settlement.COMPLETED]
    failed = farm.settled[Settlement.FAILED] + farm.settled[Settlement.TIMED_OUT]
    elapsed_s = max(0.0, at - farm.spans[-1][0]) if farm.spans else 0.0
    return Progress(
        generation=farm.generation,
        genomes=len(farm.genomes),
        trials=trials,
        completed=completed,
        failed=failed,
        skipped=farm.settled[Settlement.SKIPPED],
        retried=farm.retries_issued,
        lost=sum(farm.outcomes[outcome] for outcome in LOSSES),
        average_s=farm.seconds_played / max(1, farm.outcomes[Outcome.COMPLETED]),
        elapsed_s=elapsed_s,
        eta_s=_eta_s(farm, elapsed_s),
        workers=tuple(_row(worker, watch) for worker in farm.workers.values()),
    )


def _eta_s(farm: Farm, elapsed_s: float) -> float | None:
    done = farm.settled_since_start
    return farm.open_trials * elapsed_s / done if done else None


def _row(worker: Worker, watch: Watch) -> WorkerRow:
    watched = watch.workers[worker.name]
    playing = next((a for a in worker.wanted.values() if a.id in watched.claims), None)
    beat = watched.beat
    said = clean(beat.progress, 200) if beat is not None and playing is not None and beat.attempt == playing.id else ""
    state = str(worker.state)
    if worker.state is WorkerState.READY:
        state = "playing" if playing else ("idle" if watched.alive else "awaited")
    return WorkerRow(
        name=worker.name,
        state=state,
        genome=playing.trial.genome.name if playing else "",
        trial=playing.trial.number if playing else 0,
        playing_s=watch.time - watched.claims[playing.id] if playing else 0.0,
        waiting=len(worker.wanted) - bool(playing),
        note=worker.reason or said or watched.unknown or ("no agent was heard yet" if state == "awaited" else ""),
    )
