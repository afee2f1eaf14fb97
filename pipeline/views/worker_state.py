"""The states of a generation's workers, in the words of all commands and pages. Pure.

Owns: which workers are current, and what is said of one that is unknown, awaited, drained, or no longer there.
Not here: the state of the workers that a host plays on, as it observes them (`progress`).
"""

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.core.facts import DatedFact, WorkerJoined, WorkerLeft
from pipeline.core.farm import Farm
from pipeline.core.model import Worker
from pipeline.views.progress import AWAITED, LOADING, UNKNOWN, Progress, state_in_ledger, worker_rows

LEFT, NOT_CONFIGURED = "left", "not configured"


class ShownState(NamedTuple):
    """What is said of a worker."""

    word: str
    why: str = ""  #: a reason, or what it waits for
    since: float | None = None  #: the wall time of its departure


class WorkerStates:
    """The workers of one generation; `live` is what the host that plays it says of them, None without a host."""

    def __init__(self, farm: Farm, history: Iterable[DatedFact], live: Progress | None) -> None:
        self._farm, self._is_live = farm, live is not None
        self._rows = {row.name: row for row in (live.workers if live is not None else worker_rows(farm, None, 0.0))}
        self._left: dict[str, ShownState] = {}
        for one in history:
            if isinstance(one.fact, WorkerLeft):
                self._left[one.fact.worker] = ShownState(LEFT, one.fact.reason, one.at)
            elif isinstance(one.fact, WorkerJoined):
                self._left.pop(one.fact.worker, None)

    def current(self) -> list[Worker]:
        """The workers that the farm has now, sorted by name.

        Without a host, also those that were given attempts and are not in the configuration: a program may have named
        them.
        """
        played = set() if self._is_live else self._farm.counts.workers
        return [self.find(name) for name in sorted(self._rows.keys() | played) if name not in self._left]

    def knows(self, name: str) -> bool:
        """Whether the farm has or had a worker of that name."""
        return name in self._rows or name in self._farm.workers or name in self._farm.retired

    def find(self, name: str) -> Worker:
        """A worker of that name, as the ledger has it; one that no fact names yet is new."""
        return self._farm.workers.get(name) or self._farm.retired.get(name) or Worker(name)

    def of(self, name: str) -> ShownState:
        """The state of a worker. Where host and ledger differ the ledger counts: the host's words are a second old."""
        if (left := self._left.get(name)) is not None:
            return left
        worker, row = self.find(name), self._rows.get(name)
        if word := state_in_ledger(worker):
            return ShownState(word, worker.reason or (row.problem if row is not None else ""))
        if row is None:  # if the farm has it, it has joined a moment ago
            return ShownState(AWAITED if name in self._farm.workers else NOT_CONFIGURED)
        return ShownState(row.state if row.state in (UNKNOWN, AWAITED, LOADING) else "ready", row.problem)

    def unknown(self) -> dict[str, str]:
        """The workers that the running host cannot observe, and why."""
        states = {name: self.of(name) for name in self._rows if self._is_live}
        return {name: state.why for name, state in states.items() if state.word == UNKNOWN}
