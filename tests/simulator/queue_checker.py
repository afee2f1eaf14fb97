"""Checks how many attempts each worker holds, from the facts of one farm alone.

It knows the rule, and uses none of the code that follows it: a queue is as deep as configured. On a local worker it may
hold 50 ms of play beside the running game, on a remote one what is played while two requests are executed, and at most
64 attempts, once four games are measured. A long game ends that.
"""

from collections import defaultdict
from typing import Any

from tests.simulator.world import World

AHEAD_S, DEPTH_MAX, MEASURED_MIN, WEIGHED = 0.05, 64, 4, 16
REQUEST_MAX_S = 7.5  #: as which a longer one counts


class QueueChecker:
    """What each worker of a farm holds, and how long its games of this generation were."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: defaultdict[str, set[str]] = defaultdict(set)  #: worker -> attempts that are not over
        self._worker_of: dict[str, str] = {}
        self._games: dict[str, list[float]] = {}  #: worker -> number of its games, and their mean length
        self._on_probation: set[str] = set()
        self.held_most = 0  #: attempts that a worker ever held
        #: worker -> how many attempts it was ever allowed to hold
        self.deepest: defaultdict[str, int] = defaultdict(lambda: world.options.depth)

    def note_fact(self, fact: dict[str, Any]) -> str:
        """Says what is wrong with a committed fact; the empty string if nothing is."""
        worker = fact.get("worker", "")
        match fact["fact"]:
            case "run_opened":
                self._games.clear()
            case "host_started":
                self._on_probation.clear()
            case "probation_began":
                self._on_probation.add(worker)
            case "worker_recovered" | "worker_quarantined" | "worker_excluded" | "worker_unfit" | "worker_joined":
                self._on_probation.discard(worker)
            case "attempt_issued":
                return self._issued(fact["attempt"], worker)
            case "attempt_ended":
                return self._ended(fact)
        return ""

    def _issued(self, attempt: str, worker: str) -> str:
        depth, held = self._depth_of(worker), self._held[worker]
        held.add(attempt)
        self._worker_of[attempt] = worker
        self.deepest[worker] = max(self.deepest[worker], depth)
        self.held_most = max(self.held_most, len(held))
        return f"{worker} holds {len(held)} attempts with {attempt}, its queue is {depth}" if len(held) > depth else ""

    def _ended(self, fact: dict[str, Any]) -> str:
        worker = self._worker_of.get(fact["attempt"], "")
        held, outcome = len(self._held[worker]), fact["outcome"]
        self._held[worker].discard(fact["attempt"])
        if outcome in ("completed", "timed_out"):
            games = self._games.setdefault(worker, [0, 0.0])
            games[0] += 1
            games[1] += (fact.get("seconds", 0.0) - games[1]) / min(games[0], WEIGHED)
        # The game took twenty seconds, which two polls and sweeps have seen.
        if outcome == "timed_out" and held > 2 * self._world.options.depth and not self._world.fired.total():
            return f"{worker} still holds {held} attempts at the end of a long game"
        return ""

    @property
    def _request_s(self) -> float:
        """The longest request of a remote share that the host may have measured."""
        is_disturbed = any(self._world.fired[kind] for kind in ("suspend", "slow operation"))
        return REQUEST_MAX_S if is_disturbed else min(self._world.longest_request_s, REQUEST_MAX_S)

    def _depth_of(self, worker: str) -> int:
        if worker in self._on_probation:
            return 1
        number, mean_s = self._games.get(worker, [0, 0.0])
        if number < MEASURED_MIN:
            return self._world.options.depth
        ahead_s = AHEAD_S if self._world.options.local else 2 * self._request_s
        ahead = 1 + int(ahead_s / mean_s) if mean_s > ahead_s / DEPTH_MAX else DEPTH_MAX if ahead_s else 1
        return max(self._world.options.depth, min(ahead, DEPTH_MAX))
