"""Why a trial is not settled yet: all reasons, and the one that holds now. Pure."""

import enum
from collections.abc import Mapping

from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Trial, TrialState, Worker, WorkerState


class PendingReason(enum.StrEnum):
    """What a trial that is not settled waits for."""

    RUNNING = "running"  #: an agent has claimed its attempt
    QUEUED_FIRST = "queued_first"  #: its attempt is the first in its worker's queue
    QUEUED = "queued"  #: another attempt is before it there
    WORKER_RECOVERING = "worker_recovering"  #: its attempt is in the queue of a worker that is being recovered
    NO_WORKERS = "no_workers"  #: no worker has joined yet
    ALL_WORKERS_OUT = "all_workers_out"  #: every worker is out
    ALL_WORKERS_DRAINED = "all_workers_drained"  #: every worker that is not out is drained
    NO_WORKER_READY = "no_worker_ready"  #: the workers that are left are recovering or quarantined
    NO_SHARE_READY = "no_share_ready"  #: no ready worker's share carries its epoch's `host.json` yet
    OTHER_TRIAL_FIRST = "other_trial_first"  #: another trial of its genome failed and is tried again first
    NEEDS_IDLE_WORKER = "needs_idle_worker"  #: it must run alone, and no worker is idle
    QUEUES_FULL = "queues_full"  #: every queue is full
    NEEDS_OTHER_WORKER = "needs_other_worker"  #: every worker with a free slot has tried it already
    READY = "ready"  #: the next tick may issue it
    NO_HOST = "no_host"  #: no host is running this generation


def pending_reason(farm: Farm, trial: Trial, depth: Mapping[str, int], *, playing: bool) -> PendingReason:
    """What an unsettled trial waits for; `depth` is the queue depth by worker, `playing` whether a host is running."""
    assert trial.state is not TrialState.SETTLED
    attempt = trial.open_attempt
    if attempt is not None and attempt.claimed_at is not None:
        return PendingReason.RUNNING if playing else PendingReason.NO_HOST
    if not playing:
        return PendingReason.NO_HOST
    return _queued_reason(farm, attempt) if attempt is not None else _unassigned_reason(farm, trial, depth)


def _queued_reason(farm: Farm, attempt: Attempt) -> PendingReason:
    worker = farm.worker(attempt.worker)
    if worker.state not in (WorkerState.READY, WorkerState.PROBATION):
        return PendingReason.WORKER_RECOVERING
    first = min(worker.wanted.values(), key=lambda other: other.publication, default=attempt)
    return PendingReason.QUEUED_FIRST if first is attempt else PendingReason.QUEUED


def _unassigned_reason(farm: Farm, trial: Trial, depth: Mapping[str, int]) -> PendingReason:
    usable = farm.usable()
    active = [
        worker for worker in usable if not worker.drained and worker.state in (WorkerState.READY, WorkerState.PROBATION)
    ]
    ready = [worker for worker in active if worker.epoch_open]
    if not farm.workers:
        return PendingReason.NO_WORKERS
    if not usable:
        return PendingReason.ALL_WORKERS_OUT
    if all(worker.drained for worker in usable):
        return PendingReason.ALL_WORKERS_DRAINED
    if not active:
        return PendingReason.NO_WORKER_READY
    if not ready:
        return PendingReason.NO_SHARE_READY
    if trial.is_held_back:
        return PendingReason.OTHER_TRIAL_FIRST
    if trial.run_alone and all(worker.may_be_playing for worker in ready):
        return PendingReason.NEEDS_IDLE_WORKER
    with_room = {worker.name for worker in ready if not _is_full(worker, depth)}
    if not with_room:
        return PendingReason.QUEUES_FULL
    untried = {worker.name for worker in ready} - trial.tried_by
    return PendingReason.NEEDS_OTHER_WORKER if untried and not untried & with_room else PendingReason.READY


def _is_full(worker: Worker, depth: Mapping[str, int]) -> bool:
    room = 1 if worker.state is WorkerState.PROBATION else depth.get(worker.name, 1)
    if worker.left_published:
        return True
    return len(worker.wanted) >= room or any(attempt.trial.run_alone for attempt in worker.wanted.values())
