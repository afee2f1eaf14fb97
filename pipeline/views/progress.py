"""The progress of a run in numbers, from `Farm` and `Observed`; for the terminal and API users. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from inbox_agent.protocol.layout import REASON_CHARS_MAX, Outcome, clean
from pipeline.core.facts import Settlement
from pipeline.core.farm import Farm
from pipeline.core.model import LOSSES, Attempt, Worker, WorkerState
from pipeline.core.observed import Observed, ObservedWorker
from pipeline.core.share_problems import FLOODED, in_words
from pipeline.views.fitness_history import FitnessHistory, GenerationFitness

UNKNOWN, AWAITED, LOADING = "unknown", "awaited", "loading"
_RECENT_MAX = 20  #: attempts per worker that are looked at for its last game


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """The progress of one worker."""

    name: str
    state: str
    genome: str  #: the genome it evaluates, or did when its share was last read; empty while it is idle
    trial: int
    playing_s: float
    waiting: int  #: attempts queued behind the running one
    losses: int  #: in a row
    recovery: str  #: the last recovery action, while it has not recovered
    note: str  #: progress that the game reported, or what is wrong with the worker
    progress: str = ""  #: progress that the game reported
    last_game_s: float | None = None  #: the duration of its last game that is over; None: not known

    @property
    def problem(self) -> str:
        """What is wrong with the worker, or what it waits for."""
        return self.note if self.note != self.progress else ""


@dataclass(frozen=True, slots=True)
class Leader:
    """One of the fittest genomes."""

    genome: str
    fitness: float


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one generation at one moment. Counts are of trials."""

    generation: int
    genomes: int
    trials: int
    completed: int
    failed: int
    skipped: int
    retried: int
    lost: int  #: attempts with an outcome of `LOSSES`
    average_s: float  #: mean duration of completed games
    elapsed_s: float  #: since this host opened the generation
    eta_s: float | None  #: None while no trial is settled since this start
    pending: int  #: open trials that no worker holds
    per_minute: float  #: trials settled since this host opened the generation
    utilisation: float  #: share of the workers' time spent in games, running ones included
    time_limit_s: float
    finished: bool
    playing: bool  #: whether a host is running it
    workers: tuple[WorkerRow, ...]
    direction: str = "maximize"  #: or "minimize": which fitness is the better one
    fitness: GenerationFitness | None = None  #: of the genomes completed so far; None while there is none
    leaders: tuple[Leader, ...] = ()  #: the fittest of them, best first
    history: tuple[GenerationFitness, ...] = ()  #: of earlier generations, oldest first
    reused: int = 0  #: of the completed trials: those with a result of an earlier generation

    @property
    def settled(self) -> int:
        """Trials that are over."""
        return self.completed + self.failed + self.skipped


def measure_progress(
    farm: Farm, observed: Observed | None, at: float, fitness: FitnessHistory | None = None
) -> Progress:
    """The progress of a run; `observed` is None outside the host that runs it, `at` is wall time as in the facts.

    Without `fitness`, no figures of fitness are known.
    """
    trials = farm.open_trials + farm.settled.total()
    completed = farm.settled[Settlement.COMPLETED]
    failed = farm.settled[Settlement.FAILED] + farm.settled[Settlement.TIMED_OUT]
    if farm.spans and (observed is None or farm.finished):
        at = farm.spans[-1][1]  # it is not running: the clock stops at its last fact
    elapsed_s = max(0.0, at - farm.spans[-1][0]) if farm.spans else 0.0
    workers = tuple(worker_rows(farm, observed, at))
    held = sum(len(worker.wanted) for worker in farm.workers.values())
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
        pending=farm.open_trials - held,
        per_minute=60 * farm.since_start.settled / elapsed_s if elapsed_s else 0.0,
        utilisation=_utilisation(farm, workers, elapsed_s, fitness),
        time_limit_s=farm.settings.time_limit_s if farm.settings is not None else 0.0,
        finished=farm.finished,
        playing=observed is not None,
        workers=workers,
        direction=fitness.direction if fitness is not None else "maximize",
        fitness=fitness.of(farm.generation).fitness(farm.generation) if fitness is not None else None,
        leaders=tuple(_leaders(farm, fitness)) if fitness is not None else (),
        history=fitness.before(farm.generation) if fitness is not None else (),
        reused=farm.counts.reused,
    )


def _leaders(farm: Farm, fitness: FitnessHistory) -> Iterator[Leader]:
    for number, value in fitness.of(farm.generation).leaders():
        yield Leader(clean(farm.genomes[number - 1].name, 200), value)


def _utilisation(farm: Farm, workers: tuple[WorkerRow, ...], elapsed_s: float, fitness: FitnessHistory | None) -> float:
    wall_s = sum(last - first for first, last in farm.spans[:-1]) + elapsed_s
    over_s = fitness.of(farm.generation).seconds_played if fitness is not None else farm.seconds_played
    played_s = over_s + sum(row.playing_s for row in workers)
    return min(1.0, played_s / (wall_s * len(workers))) if wall_s and workers else 0.0


_NOTES = {AWAITED: "no heartbeat yet", LOADING: "its agent loads the evaluator"}
_NOT_REACHED = "its share was not reached yet"


def _eta_s(farm: Farm, elapsed_s: float) -> float | None:
    done = farm.since_start.settled
    return farm.open_trials * elapsed_s / done if done else None


def worker_rows(farm: Farm, observed: Observed | None, at: float) -> Iterator[WorkerRow]:
    """The workers of a farm; arguments as of `measure_progress`."""
    last_game_s: dict[str, float] = {}
    for attempt in islice(reversed(farm.attempts.values()), _RECENT_MAX * len(farm.workers)):
        if attempt.has_result and attempt.seconds:
            last_game_s.setdefault(attempt.worker, attempt.seconds)
    for worker in farm.workers.values():
        yield _row(worker, observed, at, last_game_s.get(worker.name))


def state_in_ledger(worker: Worker) -> str:
    """The state of a worker that follows from facts alone; empty if it also depends on what a host observes."""
    if worker.drained and worker.state is not WorkerState.OUT:
        return "draining" if is_draining(worker) else "drained"
    return str(worker.state) if worker.state is not WorkerState.READY else ""


def is_draining(worker: Worker) -> bool:
    """Whether a drained worker still plays, as far as is known: one that is lost may come back, or not."""
    return any(attempt.outcome is not Outcome.LOST for attempt in worker.may_be_playing)


def _row(worker: Worker, observed: Observed | None, at: float, last_game_s: float | None) -> WorkerRow:
    seen = observed.workers[worker.name] if observed is not None else None
    unknown, playing = _unknown(worker, seen), _played(worker, seen)
    playing_s, said = 0.0, ""
    if playing is not None:
        since = seen.claims[playing.id] if seen is not None else playing.claimed_at or at
        playing_s = (observed.time if observed is not None else at) - since
        if seen is not None and seen.heartbeat is not None and seen.heartbeat.attempt == playing.id and not unknown:
            said = clean(seen.heartbeat.progress, 200)
    state = state_in_ledger(worker) or (UNKNOWN if unknown else _observed_state(worker, seen, playing))
    waits = _NOT_REACHED if state == AWAITED and not worker.epoch else _NOTES.get(state, "")
    return WorkerRow(
        name=worker.name,
        state=state,
        genome=clean(playing.trial.genome.name, 200) if playing else "",
        trial=playing.trial.number if playing else 0,
        playing_s=playing_s,
        waiting=len(worker.wanted) - (playing is not None and playing.id in worker.wanted),
        losses=worker.losses,
        recovery=str(worker.recovery or ""),
        note=clean(
            worker.reason or unknown or said or _share_problem(worker, observed) or waits,
            REASON_CHARS_MAX,
        ),
        progress=said,
        last_game_s=last_game_s,
    )


def _unknown(worker: Worker, seen: ObservedWorker | None) -> str:
    """Why the share of a worker cannot be read; without a host, why it could not when an attempt was given up there."""
    if seen is not None:
        return "" if seen.at_rest else seen.unknown
    return next((a.reason for a in worker.left_published.values() if a.outcome is Outcome.LOST), "")


def _played(worker: Worker, seen: ObservedWorker | None) -> Attempt | None:
    """The attempt that is claimed there."""
    if seen is not None:
        return next((a for a in worker.may_be_playing if a.id in seen.claims), None)
    return next((a for a in worker.may_be_playing if a.claimed_at and a.outcome is not Outcome.LOST), None)


def _observed_state(worker: Worker, seen: ObservedWorker | None, playing: Attempt | None) -> str:
    """The state of a worker that gets work, and whose share can be read."""
    if seen is not None and seen.at_rest:
        return "at rest"
    if playing is not None:
        return "playing" if seen is not None else "was playing"
    if not (seen.alive if seen is not None else worker.epoch_open):
        return AWAITED
    return LOADING if seen is not None and seen.loading_since is not None else "idle"


def _share_problem(worker: Worker, observed: Observed | None) -> str:
    """What is wrong with a worker's share or with the heartbeat there, before a rule draws a conclusion from it."""
    if observed is None:
        return ""
    seen = observed.workers[worker.name]
    flooded = in_words(FLOODED) if observed.is_flooded(worker) else ""
    layout = f"its agent writes {seen.unknown_heartbeat}" if seen.unknown_heartbeat else ""
    return seen.write_problem or seen.heartbeat_problem or layout or flooded
