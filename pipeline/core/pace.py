"""How fast workers are, and how soon they will have played what they hold, as far as this run tells. Pure.

A worker's speed is the typical length of the games that it completed: their geometric mean, which one long game of many
hardly changes. A game that has lasted longer than that is expected to last as long again.
Not here: what follows from it (`assignment`, `stragglers`).
"""

import math
from collections.abc import Iterable

from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Worker, WorkerState
from pipeline.core.observed import Observed

FASTER = 2.0  #: another worker must be so many times faster before a trial waits for it, or is played there as well
COMPARED_MIN = 8  #: games that each of two workers has completed before their speeds are compared
_FASTEST_LOOKED_AT = 64  # bounds the cost of a tick on many workers


class Pace:
    """The expected times of one tick, in seconds of `Observed.time`; made anew when attempts were issued or ended."""

    def __init__(self, farm: Farm, observed: Observed, grace_s: float) -> None:
        self._observed, self._limit_s = observed, farm.time_limit_s + grace_s
        self._game_s = {
            worker.name: math.exp(worker.log_game_s) for worker in farm.workers.values() if worker.games_completed
        }
        self.is_known = bool(self._game_s)
        lengths = sorted(self._game_s.values())
        self._usual_s = lengths[len(lengths) // 2] if lengths else 0.0

    def game_s(self, worker: Worker) -> float:
        """The typical length of a game on a worker, or on all if it has completed none; 0 if nothing is known."""
        return self._game_s.get(worker.name, self._usual_s)

    def is_faster(self, one: Worker, other: Worker) -> bool:
        """Whether one worker is known to be much faster than another."""
        enough = min(one.games_completed, other.games_completed) >= COMPARED_MIN
        return enough and self.game_s(one) * FASTER <= self.game_s(other)

    def played_s(self, attempt: Attempt) -> float | None:
        """How long a game has been seen to run; None if it is not claimed."""
        since = self._observed.workers[attempt.worker].claims.get(attempt.id)
        return self._observed.time - since if since is not None else None

    def remaining_s(self, worker: Worker, played_s: float) -> float:
        """How much longer a game takes that has been played on a worker for some time."""
        game_s = self.game_s(worker)
        expected_s = game_s - played_s if played_s < game_s else played_s
        return max(0.0, min(expected_s, self._limit_s - played_s))

    def free_in_s(self, worker: Worker) -> float:
        """When a worker will have played what it holds."""
        total_s = 0.0
        for attempt in worker.wanted.values():
            played_s = self.played_s(attempt)
            total_s += self.game_s(worker) if played_s is None else self.remaining_s(worker, played_s)
        return total_s

    def ends_sooner(self, holder: Worker, taker: Worker) -> bool:
        """Whether a worker that is much faster will have played all that it holds before another one has one game."""
        return self.is_faster(holder, taker) and self.free_in_s(holder) <= self.game_s(taker)

    def without_slow(self, takers: Iterable[Worker], workers: Iterable[Worker], trials: int) -> list[Worker]:
        """The takers but those that would end one of so many trials when faster workers have played all of them."""
        compared = [w for w in workers if w.state is WorkerState.READY and w.games_completed >= COMPARED_MIN]
        fastest = sorted(compared, key=self.game_s)[:_FASTEST_LOOKED_AT]
        if not fastest:
            return list(takers)
        free = [(worker, self.free_in_s(worker), max(self.game_s(worker), 1e-3)) for worker in fastest]

        def leaves_all(taker: Worker) -> bool:
            if not self.is_faster(fastest[0], taker):
                return False
            end_s = self.free_in_s(taker) + self.game_s(taker)
            meanwhile = (
                int((end_s - free_s) / game_s)
                for worker, free_s, game_s in free
                if free_s < end_s and self.is_faster(worker, taker)
            )
            return sum(meanwhile) >= trials

        return [taker for taker in takers if not leaves_all(taker)]
