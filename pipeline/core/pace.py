"""How soon workers will have played what they hold, as far as the games of this run tell. Pure.

A worker's games take as long as they did so far; a game that has lasted longer than that is expected to last as long
again. While nothing was measured, all workers are equally fast and nothing is expected.
Not here: what follows from it (`assignment`, `stragglers`).
"""

from collections.abc import Collection

from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Worker, WorkerState
from pipeline.core.observed import Observed

FASTER = 2.0  #: another worker must be so many times faster before a trial waits for it, or is played there as well
_GAME_MIN_S = 1e-6  # an agent may say that a game took no time


class Pace:
    """The expected times of one tick, in seconds of `Observed.time`."""

    def __init__(self, farm: Farm, observed: Observed, grace_s: float) -> None:
        self._observed, self._limit_s = observed, farm.time_limit_s + grace_s
        measured = [worker.game_s for worker in farm.workers.values() if worker.games_measured]
        self._usual_s = sum(measured) / len(measured) if measured else 0.0
        self._fastest_s = min(measured, default=0.0)
        self.is_known = bool(measured)

    def game_s(self, worker: Worker) -> float:
        """How long a game takes on a worker; 0 while no game was measured on any."""
        return worker.game_s if worker.games_measured else self._usual_s

    def played_s(self, attempt: Attempt) -> float | None:
        """How long a game has been seen to run; None if it is not claimed."""
        since = self._observed.workers[attempt.worker].claims.get(attempt.id)
        return self._observed.time - since if since is not None else None

    def remaining_s(self, worker: Worker, played_s: float) -> float:
        """How much longer a game takes that has been played on a worker for some time."""
        return max(0.0, min(max(self.game_s(worker) - played_s, played_s), self._limit_s - played_s))

    def free_in_s(self, worker: Worker, without: Attempt | None = None) -> float:
        """When a worker will have played what it holds, apart from one attempt that it may give away."""
        total_s = 0.0
        for attempt in worker.wanted.values():
            if attempt is not without:
                played_s = self.played_s(attempt)
                total_s += self.game_s(worker) if played_s is None else self.remaining_s(worker, played_s)
        return total_s

    def may_leave_to_faster(self, workers: Collection[Worker], trials: int) -> bool:
        """Whether `leaves_to_faster` can hold for any of these workers: they are many, and this is counted once."""
        slowest_s = max(map(self.game_s, workers), default=0.0)
        if slowest_s < FASTER * self._fastest_s or not self.is_known:
            return False
        return sum(slowest_s / max(self.game_s(worker), _GAME_MIN_S) for worker in workers) >= trials

    def leaves_to_faster(
        self, worker: Worker, others: Collection[Worker], trials: int, without: Attempt | None = None
    ) -> bool:
        """Whether faster workers will have played so many more trials before this one would have played one more."""
        if not self.is_known or self.game_s(worker) < FASTER * self._fastest_s:
            return False
        end_s, left = self.free_in_s(worker) + self.game_s(worker), trials
        for other in others:
            if other.state is WorkerState.READY and self.game_s(other) * FASTER <= self.game_s(worker):
                left -= self._more_until(end_s, other, without)
                if left <= 0:
                    return True
        return False

    def _more_until(self, end_s: float, worker: Worker, without: Attempt | None) -> int:
        """How many games more than it holds a worker ends by then."""
        return max(0, int((end_s - self.free_in_s(worker, without)) / max(self.game_s(worker), _GAME_MIN_S)))
