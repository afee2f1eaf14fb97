"""The workers of a farm, and what facts change of them. Pure.

Owns: which workers the farm has now, and which it had earlier: their epochs and publication numbers are never
forgotten, because no share may see one twice.
Not here: the attempts that they hold (`farm`).
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from pipeline.core import facts as f
from pipeline.core.facts import Fact, RecoveryAction, kind_of
from pipeline.core.model import WORKER_TABLE, IllegalFact, Worker, WorkerState

#: The form of a worker's name: it is part of paths and of URLs.
WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)


class FarmWorkers:
    """All workers of a farm, by name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.current = {name: Worker(name) for name in names}
        self.retired: dict[str, Worker] = {}  #: workers in the ledger that are no longer of this farm

    def every(self) -> Iterator[Worker]:
        """The workers of this farm, then those that it had earlier."""
        yield from self.current.values()
        yield from self.retired.values()

    def find(self, name: str) -> Worker:
        """A worker of this farm, or one that it had earlier."""
        known = self.current.get(name)
        return known if known is not None else self.retired.setdefault(name, Worker(name))

    def retire_all_but(self, names: Collection[str]) -> None:
        """Retires all others than these."""
        for name in [name for name in self.current if name not in names]:
            self.retired[name] = self.current.pop(name)

    def evolve(self, fact: Fact) -> None:
        """Applies a fact about one worker. Raises IllegalFact: its state does not allow it."""
        _FOLDS[type(fact)](self, fact)

    # ------------------------------------------------------------------------------------------------------ the fold

    def _epoch_raised(self, fact: f.EpochRaised) -> None:
        worker = self.find(fact.worker)
        if fact.epoch <= worker.epoch:
            raise IllegalFact(f"{worker.name}: epoch {fact.epoch} after {worker.epoch}")
        worker.reverts += worker.epoch > 0 and not worker.reverting  # the first epoch is no revert
        worker.epoch, worker.epoch_open, worker.reverting = fact.epoch, False, False
        worker.left_published.clear()

    def _epoch_opened(self, fact: f.EpochOpened) -> None:
        self.find(fact.worker).epoch_open = True

    def _worker_out(self, fact: f.WorkerOut) -> None:
        self._move(fact, fact.worker).reason = fact.reason

    def _worker_unfit(self, fact: f.WorkerUnfit) -> None:
        before = self.find(fact.worker).state
        worker = self._move(fact, fact.worker)
        worker.reason = fact.reason
        if before is not WorkerState.UNFIT:
            worker.was_on_probation = before is WorkerState.PROBATION
            worker.restarts += 1

    def _recovery_started(self, fact: f.RecoveryStarted) -> None:
        worker = self._move(fact, fact.worker)
        worker.recovery, worker.reason = fact.action, fact.reason
        worker.restarts += 1
        worker.reverting = worker.reverting or fact.action is RecoveryAction.RESTORE
        worker.left_published.clear()  # what stayed published is released (law 5 of share_layout.md)

    def _worker_recovered(self, fact: f.WorkerRecovered) -> None:
        passed = self.find(fact.worker).state is WorkerState.PROBATION
        worker = self._move(fact, fact.worker)
        if passed:
            worker.losses = worker.probations = worker.restarts = 0
        worker.recovery, worker.reason = None, ""

    def _worker_quarantined(self, fact: f.WorkerQuarantined) -> None:
        worker = self.find(fact.worker)
        worker.probations += worker.state is WorkerState.PROBATION
        self._move(fact, fact.worker)
        worker.back_off_s, worker.reason, worker.recovery = fact.back_off_s, fact.reason, None

    def _probation_began(self, fact: f.ProbationBegan) -> None:
        worker = self._move(fact, fact.worker)
        worker.losses = worker.restarts = 0
        worker.reverts = max(0, worker.reverts - 1)

    def _worker_joined(self, fact: f.WorkerJoined) -> None:
        worker = self.find(fact.worker)
        self.retired.pop(worker.name, None)
        self.current[worker.name] = worker
        worker.site = fact.site
        worker.reset()

    def _worker_left(self, fact: f.WorkerLeft) -> None:
        # It may hold attempts of a generation that was not played when it left: the next run of that withdraws them.
        worker = self.find(fact.worker)
        worker.left_published.clear()
        self.current.pop(worker.name, None)
        self.retired[worker.name] = worker

    def _worker_drained(self, fact: f.WorkerDrained) -> None:
        self.find(fact.worker).drained = True

    def _worker_returned(self, fact: f.WorkerReturned) -> None:
        self.find(fact.worker).drained = False

    def _move(self, fact: Fact, name: str) -> Worker:
        worker = self.find(name)
        after = WORKER_TABLE.get((worker.state, type(fact)))
        if after is None:
            raise IllegalFact(f"{kind_of(fact)} for {name} in state {worker.state} ({worker.reason})")
        worker.state = after
        return worker


_FOLDS: dict[type[Fact], Callable[[FarmWorkers, Any], None]] = {
    f.EpochRaised: FarmWorkers._epoch_raised,
    f.EpochOpened: FarmWorkers._epoch_opened,
    f.WorkerOut: FarmWorkers._worker_out,
    f.WorkerUnfit: FarmWorkers._worker_unfit,
    f.RecoveryStarted: FarmWorkers._recovery_started,
    f.WorkerRecovered: FarmWorkers._worker_recovered,
    f.WorkerQuarantined: FarmWorkers._worker_quarantined,
    f.ProbationBegan: FarmWorkers._probation_began,
    f.WorkerJoined: FarmWorkers._worker_joined,
    f.WorkerLeft: FarmWorkers._worker_left,
    f.WorkerDrained: FarmWorkers._worker_drained,
    f.WorkerReturned: FarmWorkers._worker_returned,
}
