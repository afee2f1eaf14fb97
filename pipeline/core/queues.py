"""How many attempts a worker may hold: as configured, and more while its games are short. Pure.

A worker with short games would wait for the host after each of them, so its queue grows to what it plays until the
host can send more, as long as the genomes in it are small: `AHEAD_S` for a local worker, and for another one the time
of the two requests that collect a result and publish the next attempt, as they were measured.

Owns: the depth of a queue, the room in it, and how many trials all queues together need.
Not here: which trial is queued (`assignment`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.farm import Farm
from pipeline.core.model import Trial, Worker, WorkerState
from pipeline.core.observed import Observed

AHEAD_S = 0.05  #: of play in the queue of a local worker
DEPTH_MAX = 64
AHEAD_BYTES_MAX = 16 * 1024**2  #: genomes in a queue that is deeper than configured
GAMES_MEASURED_MIN = 4  #: of a worker, before its queue grows
HELD_WHILE_GATHERING_MIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """How many attempts each worker may hold, running and queued."""

    depth: dict[str, int]  #: as configured: the least that a queue may hold
    local: frozenset[str]  #: workers with agents that end with this host

    def depth_of(self, observed: Observed, worker: Worker) -> int:
        """How many attempts it may hold now."""
        if worker.state is WorkerState.PROBATION:
            return 1
        configured = self.depth[worker.name]
        round_trips_s = 2 * observed.workers[worker.name].round_trip_s
        ahead = _games_ahead(worker, AHEAD_S if worker.name in self.local else round_trips_s)
        # The games in a queue were measured by those before them, and one that lasts is not like those.
        return ahead if ahead > configured and not observed.is_busy_for_long(worker) else configured


def _games_ahead(worker: Worker, ahead_s: float) -> int:
    """The running game, and as many as it plays in that time."""
    if worker.games_measured < GAMES_MEASURED_MIN or not ahead_s:
        return 1
    return min(1 + int(ahead_s / max(worker.game_s, ahead_s / DEPTH_MAX)), DEPTH_MAX)


class Rooms:
    """What more workers may hold: counted once, and kept while attempts are issued."""

    def __init__(self, queues: Queues, observed: Observed, workers: Iterable[Worker]) -> None:
        self._queues = queues
        self._attempts = {worker.name: _room(worker, queues.depth_of(observed, worker)) for worker in workers}
        self._bytes: dict[str, int] = {}  #: of genomes in queues that are deeper than configured

    def of(self, worker: Worker) -> int:
        """How many more attempts it may hold."""
        return self._attempts[worker.name]

    def take(self, worker: Worker, trial: Trial) -> bool:
        """Takes the room for an attempt; False, and none is left, if its genome is too large for a deeper queue."""
        fits = len(worker.wanted) < self._queues.depth[worker.name] or self._has_bytes_for(worker, trial)
        self._attempts[worker.name] = self._attempts[worker.name] - 1 if fits and not trial.run_alone else 0
        return fits

    def _has_bytes_for(self, worker: Worker, trial: Trial) -> bool:
        held = self._bytes.get(worker.name)
        if held is None:
            held = sum(attempt.trial.genome.size_bytes for attempt in worker.wanted.values())
        self._bytes[worker.name] = held + trial.genome.size_bytes
        return self._bytes[worker.name] <= AHEAD_BYTES_MAX


def _room(worker: Worker, depth: int) -> int:
    first = next(iter(worker.wanted.values()), None)
    plays_alone = first is not None and first.run_alone  # it began with an empty queue
    return 0 if plays_alone else max(0, depth - len(worker.wanted))


def room_for_trials(farm: Farm, observed: Observed, queues: Queues) -> int:
    """How many trials are to be open so that every queue is full, and one more for each worker waits; at least one."""
    return max(1, sum(queues.depth_of(observed, worker) + 1 for worker in farm.usable() if not worker.drained))


def may_gather_results(farm: Farm) -> bool:
    """Whether every worker that plays holds enough to play on while the host waits for more results of this tick."""
    held = [len(worker.wanted) for worker in farm.workers.values() if worker.wanted]
    return min(held, default=0) >= HELD_WHILE_GATHERING_MIN
