"""What the user asks for single workers: to drain them, to restart their machines, to remove them. Pure.

Owns: what follows from such a request, and when a machine cannot be restarted.
Not here: where requests are kept (`pipeline.storage`), how a worker is reached that joins (`pipeline.host.membership`).
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from pipeline.core.facts import (
    EpochRaised,
    Fact,
    ProbationBegan,
    RecoveryAction,
    RecoveryStarted,
    WorkerDrained,
    WorkerJoined,
    WorkerLeft,
    WorkerReturned,
)
from pipeline.core.farm import Farm
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import ShareScan
from pipeline.core.observed import ObservedWorker
from pipeline.core.recovery import useful_actions
from pipeline.core.runs import withdrawals
from pipeline.core.transaction import Transaction

REJOINED = "the worker has joined again"  #: the reason of an epoch
EPOCH_OVER = "the epoch of its share was over before a host started"  #: the reason to withdraw an attempt
SITE_GONE = "it was on no site that was there when a host started"  #: the reason to leave
ASKED_FOR = "asked for by the user"  #: the reason of a recovery action


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequests:
    """What is asked for now. Names that are no workers of the farm are ignored."""

    drained: Set[str] = frozenset()  #: the workers that are to get no attempts, for as long as they are named here
    restart: Set[str] = frozenset()  #: those whose machines are to be restarted once
    leaving: Mapping[str, str] = field(default_factory=dict)  #: worker -> why it is removed


NO_REQUESTS = WorkerRequests()
NO_SITES: Mapping[str, str] = {}


def joining_worker(farm: Farm, name: str, site: str = "") -> list[Fact]:
    """The facts of a worker that joins. If the farm had it before, its share may be another one: an epoch begins."""
    epoch = farm.worker(name).epoch
    again = [EpochRaised(worker=name, epoch=epoch + 1, reason=REJOINED)] if epoch else []
    return [*again, WorkerJoined(worker=name, site=site)]


def restored_workers(farm: Farm, names: Collection[str], site_of: Mapping[str, str] = NO_SITES) -> list[Fact]:
    """The facts that a host begins with after a replay, so that the farm has the workers that are there now.

    Those that were removed and added again while no host ran join, without what they held in this generation; those
    that are no longer configured are retired without a fact. Attempts of an epoch that ended in another generation are
    withdrawn: the agent would not play them. Only facts tell which workers sites have: `site_of` has those of the sites
    that are there, and the workers of others leave.
    """
    gone = [name for name, worker in farm.workers.items() if worker.site != site_of.get(name, "")]
    ended = [name for name in names if name not in gone and _is_epoch_over(farm, name)]
    held = [*withdrawals(farm, SITE_GONE, gone), *withdrawals(farm, EPOCH_OVER, ended)]
    farm.retire_all_but({*names} - {*gone})
    new = [name for name in names if name not in farm.workers]
    return [
        *held,
        *(WorkerLeft(worker=name, reason=SITE_GONE) for name in gone),
        *(fact for name in new for fact in joining_worker(farm, name, site_of.get(name, ""))),
    ]


def _is_epoch_over(farm: Farm, name: str) -> bool:
    """Whether what a worker holds is of an epoch that is over, perhaps since another generation was played."""
    worker = farm.worker(name)
    return name in farm.retired or any(attempt.epoch < worker.epoch for attempt in worker.wanted.values())


def carry_out_requests(tx: Transaction, asked: WorkerRequests) -> None:
    """Carries out what is asked for; called at every sweep, before anything is decided about workers."""
    leaving = {name: asked.leaving[name] for name in tx.farm.workers if name in asked.leaving}
    for name in leaving:
        tx.withdraw_all(tx.farm.workers[name], f"{name} was removed")
    tx.remove_workers(leaving)
    for worker in tx.farm.workers.values():
        if (worker.name in asked.drained) is not worker.drained:
            (_return if worker.drained else _drain)(tx, worker)
        seen = tx.observed.workers[worker.name]
        if worker.name in asked.restart and _has_looked(seen) and not restart_problem(worker, seen):
            _restart(tx, worker)


def return_queue(tx: Transaction, scan: ShareScan) -> None:
    """What a drained worker has not begun goes to others. Runs after `check_ownership` and `accept_results`.

    Only a scan that was requested after the drain shows what the agent had begun: a busy share is scanned every few
    seconds.
    """
    worker, seen = tx.farm.workers[scan.worker], tx.observed.workers[scan.worker]
    if not (worker.drained and scan.full and tx.observed.is_open(worker)) or scan.requested_at < seen.drained_at:
        return
    for attempt in list(worker.wanted.values()):
        if not seen.may_be_playing(attempt.id):
            tx.withdraw(attempt, f"{worker.name} is drained")


def restart_problem(worker: Worker, seen: ObservedWorker) -> str:
    """Why the machine of a worker cannot be restarted now; the empty string if it can."""
    machine = seen.machine
    if worker.state is WorkerState.OUT:
        return f"{worker.name} is out of this run: {worker.reason}"
    if machine is None or not machine.actions:
        return f"{worker.name} has no machine that could be restarted from here"
    if seen.at_rest or seen.woken_at is not None:
        return f"the machine of {worker.name} is at rest, or is just being woken"
    return f"the machine of {worker.name} is busy with another action" if machine.busy else ""


def _has_looked(seen: ObservedWorker) -> bool:
    """Whether this host knows what an earlier agent has left on the share, or cannot know before a restart."""
    return seen.scanned or (seen.machine is not None and seen.machine.boots and bool(seen.unknown))


def _drain(tx: Transaction, worker: Worker) -> None:
    """A worker that is drained gets no more attempts. Which of its attempts it has begun, the next scan shows."""
    tx.add(WorkerDrained(worker=worker.name))
    seen = tx.observed.workers[worker.name]
    seen.drained_at, seen.idle_since = tx.observed.time, None


def _return(tx: Transaction, worker: Worker) -> None:
    """Its silence, and the time of a recovery action, count from now: the user may have had its machine off."""
    tx.add(WorkerReturned(worker=worker.name))
    seen = tx.observed.workers[worker.name]
    seen.seen_alive_at = seen.recovery_at = tx.observed.time


def _restart(tx: Transaction, worker: Worker) -> None:
    """Its attempts are withdrawn first, so that neither the worker nor a genome is blamed for the restart."""
    tx.withdraw_all(worker, f"the machine of {worker.name} is restarted")
    if worker.state is WorkerState.QUARANTINED:
        tx.add(ProbationBegan(worker=worker.name))
    seen = tx.observed.workers[worker.name]
    actions = useful_actions(seen.machine) or list(seen.machine.actions if seen.machine is not None else ())
    action = RecoveryAction.REBOOT if RecoveryAction.REBOOT in actions else actions[0]
    tx.add(RecoveryStarted(worker=worker.name, action=action, reason=ASKED_FOR))
    seen.recovery_at, seen.recovery_ordered, seen.alive = tx.observed.time, False, False
