"""Why a trial is not settled yet: every reason there is, and which one it is now. Pure; it decides nothing else."""

import enum
from collections.abc import Mapping

from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Trial, TrialState, Worker, WorkerState


class Waiting(enum.StrEnum):
    """What a trial that is not settled waits for."""

    PLAYED = "played"  #: an agent has claimed its attempt
    NEXT = "next"  #: its attempt is the first in its worker's queue
    BEHIND = "behind"  #: another attempt is before it there
    WORKER_UNWELL = "worker_unwell"  #: its attempt lies with a worker that is being recovered
    NOBODY_LEFT = "nobody_left"  #: every worker is out
    NOBODY_WELL = "nobody_well"  #: those that are left recover or rest
    NOBODY_AT_HOME = "nobody_at_home"  #: no worker's share was seen to be ours yet
    ALONE = "alone"  #: it is played with nothing beside it, and no such worker is idle
    NO_ROOM = "no_room"  #: every queue is full
    ANOTHER = "another"  #: who has room has tried it, and who has not has none
    TURN = "turn"  #: the next tick may issue it
    NO_HOST = "no_host"  #: nobody plays this generation at the moment


def why_waiting(farm: Farm, trial: Trial, depth: Mapping[str, int], *, playing: bool) -> Waiting:
    """What an unsettled trial waits for; `depth` is each worker's queue, `playing` whether a host is at work."""
    assert trial.state is not TrialState.SETTLED
    attempt = trial.open_attempt
    if attempt is not None and attempt.claimed_at is not None:
        return Waiting.PLAYED if playing else Waiting.NO_HOST
    if not playing:
        return Waiting.NO_HOST
    return _in_a_queue(farm, attempt) if attempt is not None else _without_a_worker(farm, trial, depth)


def _in_a_queue(farm: Farm, attempt: Attempt) -> Waiting:
    worker = farm.worker(attempt.worker)
    if worker.state not in (WorkerState.READY, WorkerState.PROBATION):
        return Waiting.WORKER_UNWELL
    first = min(worker.wanted.values(), key=lambda other: other.publication, default=attempt)
    return Waiting.NEXT if first is attempt else Waiting.BEHIND


def _without_a_worker(farm: Farm, trial: Trial, depth: Mapping[str, int]) -> Waiting:
    usable = farm.usable()
    well = [worker for worker in usable if worker.state in (WorkerState.READY, WorkerState.PROBATION)]
    at_home = [worker for worker in well if worker.epoch_open]
    if not usable:
        return Waiting.NOBODY_LEFT
    if not well:
        return Waiting.NOBODY_WELL
    if not at_home:
        return Waiting.NOBODY_AT_HOME
    if trial.run_alone and all(worker.wanted or worker.left_published for worker in at_home):
        return Waiting.ALONE
    with_room = {worker.name for worker in at_home if not _is_full(worker, depth)}
    if not with_room:
        return Waiting.NO_ROOM
    untried = {worker.name for worker in at_home} - trial.tried_by
    return Waiting.ANOTHER if untried and not untried & with_room else Waiting.TURN


def _is_full(worker: Worker, depth: Mapping[str, int]) -> bool:
    room = 1 if worker.state is WorkerState.PROBATION else depth.get(worker.name, 1)
    return len(worker.wanted) >= room or any(attempt.trial.run_alone for attempt in worker.wanted.values())
