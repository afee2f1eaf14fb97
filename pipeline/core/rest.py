"""Machines at rest: an idle worker's machine is put to rest, and woken when trials wait for a worker. Pure.

Owns: when a machine counts as idle, when it is put to rest, which machines are woken and how many.
Not here: whether rest means saved or shut down (`pipeline.machines.controller`).
Nothing of it is recorded: a worker at rest holds no attempt, and a host that starts sees that its machine is off.
"""

from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import MachineState
from pipeline.core.observed import ObservedWorker, PowerAction
from pipeline.core.transaction import Transaction

_MAY_REST = (WorkerState.READY, WorkerState.UNFIT)  #: not one that is recovering, or that its agent's faults keep away
_AT_REST = "its machine is at rest"


def check_rest(tx: Transaction, worker: Worker) -> None:
    """Notes what became of a machine that was put to rest or woken; called at every sweep, before `check_worker`."""
    seen = tx.observed.workers[worker.name]
    machine = seen.machine
    if tx.limits.idle_after_s is None or machine is None or not machine.boots or worker.drained:
        return
    if seen.woken_at is not None:
        _check_woken(tx, worker, seen)
    if machine.state is MachineState.OFF and not seen.machine_started and worker.state in _MAY_REST:
        # Found off by this process. With work it boots at once: a game in its memory may have been given up since.
        seen.at_rest = not (worker.wanted or worker.left_published)
    elif seen.at_rest and not machine.busy and machine.state in (MachineState.RUNNING, MachineState.UNHEALTHY):
        _note_awake(tx, seen)  # the action failed, or a user started it


def _check_woken(tx: Transaction, worker: Worker, seen: ObservedWorker) -> None:
    assert seen.machine is not None and seen.woken_at is not None
    # A scan that was requested before shows the share as it was before its machine was put to rest.
    is_back = seen.alive and seen.seen_alive_requested_at > seen.woken_at
    if is_back or worker.state not in _MAY_REST:
        seen.woken_at = None
    elif seen.machine.busy or seen.power_due is not None:
        seen.seen_alive_at = tx.observed.time  # its silence is counted from when it is up


def rest_and_wake(tx: Transaction) -> None:
    """Puts machines to rest that are idle for long while no trial waits, and wakes as many as trials wait.

    Called at every sweep, after `assign`: a trial that still waits then found no room on the workers that are awake.
    """
    if tx.limits.idle_after_s is None:
        return
    all_waiting = _trials_that_wait(tx)
    waiting = all_waiting - sum(seen.woken_at is not None for seen in tx.observed.workers.values())
    room = _room_to_wake(tx)
    for worker in tx.farm.workers.values():
        seen = tx.observed.workers[worker.name]
        if can_wake(worker, seen):
            if waiting > 0 and room > 0:
                waiting, room = waiting - 1, room - 1
                _wake(tx, seen)
        elif all_waiting or not _is_idle(tx, worker, seen):
            seen.idle_since = None
        elif seen.idle_since is None:
            seen.idle_since = tx.observed.time
        elif tx.observed.time - seen.idle_since >= tx.limits.idle_after_s:
            seen.at_rest, seen.power_due, seen.idle_since = True, PowerAction.REST, None
            _forget_signs_of_life(seen, _AT_REST)


def _trials_that_wait(tx: Transaction) -> int:
    """The trials that an idle worker could get: those without one, and those behind a game that lasts."""
    busy = (worker for worker in tx.farm.workers.values() if tx.observed.is_busy_for_long(worker))
    return len(tx.farm.pending) + sum(len(tx.observed.waiting(worker)) for worker in busy)


def _room_to_wake(tx: Transaction) -> int:
    """How many more machines may be awake: all but the spare ones, not counting those whose workers cannot play."""
    seen_of = tx.observed.workers
    machines = [w for w in tx.farm.workers.values() if (m := seen_of[w.name].machine) is not None and m.boots]
    able = sum(w.state is WorkerState.READY and not w.drained and not seen_of[w.name].at_rest for w in machines)
    return len(machines) - tx.limits.spare - able


def can_wake(worker: Worker, seen: ObservedWorker) -> bool:
    """Whether a worker's machine is at rest, and may be started now."""
    machine = seen.machine
    is_off = machine is not None and machine.state is MachineState.OFF and not machine.busy
    may_play = worker.state is not WorkerState.OUT and not worker.drained
    return seen.at_rest and is_off and seen.power_due is None and may_play


def coming_back(tx: Transaction) -> list[Worker]:
    """The workers that are waking, or that are woken for a trial that waits: at once if their machine is at rest, and
    as soon as it is if it has just been put there.
    """
    ready = [w for w in tx.farm.workers.values() if w.state is WorkerState.READY and not w.drained]
    seen_of, has_room = tx.observed.workers, _room_to_wake(tx) > 0
    return [w for w in ready if seen_of[w.name].woken_at is not None or (has_room and seen_of[w.name].at_rest)]


def _is_idle(tx: Transaction, worker: Worker, seen: ObservedWorker) -> bool:
    """Whether its agent is alive, and nothing is on its share that the agent could be busy with."""
    machine = seen.machine
    is_up = machine is not None and machine.boots and machine.state is MachineState.RUNNING and not machine.busy
    is_heard = seen.readable and seen.alive and seen.loading_since is None and not tx.observed.is_silent(worker.name)
    is_back = seen.woken_at is None  # until then it counts as waking, in place of another one
    holds = worker.wanted or worker.left_published or seen.starts or seen.claims or seen.answers
    may_rest = worker.state in _MAY_REST and not worker.drained
    return may_rest and worker.epoch_open and is_up and is_heard and is_back and not holds


def _wake(tx: Transaction, seen: ObservedWorker) -> None:
    _note_awake(tx, seen)
    seen.power_due = PowerAction.RESUME
    _forget_signs_of_life(seen, "its machine is being started")


def _note_awake(tx: Transaction, seen: ObservedWorker) -> None:
    seen.at_rest, seen.woken_at, seen.seen_alive_at = False, tx.observed.time, tx.observed.time


def _forget_signs_of_life(seen: ObservedWorker, reason: str) -> None:
    seen.alive = seen.readable = False
    seen.unknown = reason
