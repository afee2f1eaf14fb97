"""What the user of a simulated farm changes while it plays: workers leave and join, are drained, and are restarted.

`WorkerChanges` is that user, `ChangesChecker` the independent check of what the host made of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.worker_requests import WorkerRequests
from tests.simulator.machine import SimulatedMachine
from tests.simulator.world import World

AWAY_S = (1.0, 40.0)
DRAINED_S = (2.0, 40.0)
BY_REQUEST = "asked for by the user"
HIDES_CLAIMS = ("stale listing", "revert: share")  #: after these a share does not show what its agent plays


class WorkerChanges:
    """The workers of a farm as its user wants them. It outlives the host processes."""

    def __init__(self, world: World, machines: Mapping[str, SimulatedMachine]) -> None:
        self._world, self._machines = world, machines
        self.members = list(machines)
        self._drained: set[str] = set()
        self._restart: set[str] = set()
        self._leaving: dict[str, str] = {}
        self.admit: Callable[[str], None] = lambda _name: None  #: makes a running host take a worker that joins
        #: whether a running host still waits for the last request to the share that a worker had
        self.is_connected: Callable[[str], bool] = lambda _name: False

    def plan(self) -> None:
        """Plans the changes of a history."""
        options = self._world.options
        self._world.every("worker removed", 0.0 if options.local else options.leave, self._remove)
        self._world.every("worker drained", options.drain, self._drain)
        self._world.every("restart asked for", options.restart if options.hypervisor else 0.0, self._ask_restart)

    def requests(self) -> WorkerRequests:
        """What is asked for now."""
        return WorkerRequests(drained=set(self._drained), restart=set(self._restart), leaving=dict(self._leaving))

    def host_starts(self) -> None:
        """A worker that was removed while no host ran is not there for the next one."""
        for name in list(self._leaving):
            self._left(name)

    def note_fact(self, fact: dict[str, Any]) -> None:
        """Follows a committed fact."""
        if fact["fact"] == "worker_left" and fact["worker"] in self._leaving:
            self._left(fact["worker"])
        elif fact["fact"] == "recovery_started" and fact["reason"] == BY_REQUEST:
            self._restart.discard(fact["worker"])

    def _left(self, name: str) -> None:
        del self._leaving[name]
        self.members.remove(name)
        self._world.schedule(self._world.rng.uniform(*AWAY_S), lambda: self._join(name))

    def _join(self, name: str) -> None:
        if self.is_connected(name):  # the host refuses it until then
            self._world.schedule(1.0, lambda: self._join(name))
            return
        if self._world.rng.random() < 0.4:
            self._machines[name].get_new_share()
        self.members.append(name)
        self.admit(name)

    def _remove(self) -> bool:
        if len(self.members) - len(self._leaving) < 2:
            return False
        name = self._world.rng.choice(sorted({*self.members} - self._leaving.keys()))
        self._leaving[name] = "removed"
        return True

    def _drain(self) -> None:
        name = self._world.rng.choice(sorted(self._machines))
        self._drained.add(name)
        self._world.schedule(self._world.rng.uniform(*DRAINED_S), lambda: self._drained.discard(name))

    def _ask_restart(self) -> None:
        name = self._world.rng.choice(sorted(self._machines))
        self._restart.add(name)


class ChangesChecker:
    """Checks from the facts of one farm that workers which left or are drained get no attempts, and that a drain ends
    no game that is played. `playing` tells the attempts that are played now.
    """

    def __init__(self, world: World, playing: Callable[[], set[str]]) -> None:
        self._world, self._playing = world, playing
        self._played_when_drained: set[str] = set()
        self._away: set[str] = set()
        self._drained: set[str] = set()
        self._held: dict[str, str] = {}  #: attempt -> its worker

    def note_fact(self, fact: dict[str, Any]) -> str:
        """Says what is wrong with a committed fact; the empty string if nothing is."""
        worker = fact.get("worker", "")
        match fact["fact"]:
            case "worker_joined":
                self._away.discard(worker)
            case "worker_drained":
                self._drained.add(worker)
                self._played_when_drained |= {a for a in self._playing() if self._held.get(a) == worker}
            case "worker_returned":
                self._drained.discard(worker)
            case "worker_left":
                self._away.add(worker)
                if held := [attempt for attempt, where in self._held.items() if where == worker]:
                    return f"{worker} left while it held {held[0]}"
            case "attempt_issued":
                self._held[fact["attempt"]] = worker
                if worker in self._away | self._drained:
                    return f"{worker} got {fact['attempt']}, although it {self._state_of(worker)}"
            case "attempt_ended":
                self._held.pop(fact["attempt"], None)
                if self._is_played_game_drained(fact):
                    return f"{fact['attempt']} is withdrawn by a drain, although it was played before and after"
            case "recovery_started" if worker in self._drained and fact["reason"] != BY_REQUEST:
                return f"{worker} is recovered, although it is drained"
        return ""

    def _is_played_game_drained(self, fact: dict[str, Any]) -> bool:
        by_drain = fact.get("reason", "").endswith("is drained")
        is_shown = not any(self._world.fired[kind] for kind in HIDES_CLAIMS)
        return by_drain and is_shown and fact["attempt"] in self._played_when_drained & self._playing()

    def _state_of(self, worker: str) -> str:
        return "has left" if worker in self._away else "is drained"
