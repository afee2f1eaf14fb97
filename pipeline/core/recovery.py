"""Recovery of workers: escalation, quarantine, probation. Pure.

Owns: when a recovery action is requested, and when a worker is quarantined, on probation or out. Each action has a
deadline, each worker a budget; machines of workers that give signs of life are left alone.
"""

from pipeline.core.facts import (
    ProbationBegan,
    RecoveryAction,
    RecoveryStarted,
    WorkerRecovered,
)
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.observed import ObservedWorker
from pipeline.core.share_problems import NO_HEARTBEAT, in_words
from pipeline.core.transaction import Transaction
from pipeline.core.worker_actions import exclude, give_up_all, quarantine

#: Actions that cannot work in that state: no agent restart on a machine that is off, no guest request without a guest.
_USELESS_ACTIONS = {
    MachineState.OFF: {RecoveryAction.RESTART_AGENT},
    MachineState.UNHEALTHY: {RecoveryAction.RESTART_AGENT, RecoveryAction.REBOOT},
}

_PROBATION_LOSS = "it lost its attempt on probation: "
_NO_DESKTOP = "its agent has no desktop, so no game can be seen there"


def check_worker(tx: Transaction, worker: Worker) -> None:
    """Checks one worker and takes the next recovery step; called at every sweep. A worker that is out is skipped,
    and so is one whose machine is at rest: it is silent because it was asked to be.
    """
    if tx.observed.workers[worker.name].at_rest:
        return
    if worker.drained:
        _check_drained(tx, worker)
        return
    match worker.state:
        case WorkerState.READY | WorkerState.UNFIT:
            _check_ready(tx, worker)
        case WorkerState.RECOVERING:
            _check_recovering(tx, worker)
        case WorkerState.QUARANTINED:
            _check_quarantined(tx, worker)
        case WorkerState.PROBATION:
            _check_probation(tx, worker)


def _check_drained(tx: Transaction, worker: Worker) -> None:
    """Gives up what it still plays if it falls silent; its machine is left to the user, who may work on it."""
    seen = tx.observed.workers[worker.name]
    _give_up_if_silent(tx, worker)
    if worker.state is WorkerState.RECOVERING and _alive_since_recovery(worker, seen):
        tx.add(WorkerRecovered(worker=worker.name))  # after a restart that the user asked for


def _check_ready(tx: Transaction, worker: Worker) -> None:
    seen = tx.observed.workers[worker.name]
    machine = seen.machine
    coming_up = _is_booting(tx, worker, machine)
    # Losses during the silence of a boot do not count yet; losses of an agent that beats do.
    if worker.losses >= tx.limits.losses_max and not (coming_up and tx.observed.is_silent(worker.name)):
        quarantine(tx, worker, seen.write_problem or f"{worker.losses} attempts in a row were lost on it")
    elif coming_up:
        _give_up_if_silent(tx, worker)  # known from the hypervisor, also to a host that has just started
    elif machine is not None and machine.state is MachineState.OFF and seen.machine_started:
        # Give up nothing yet: an agent that is back soon reports itself what was interrupted.
        _escalate(tx, worker, None, f"its agent ended: {machine.note}")
    elif tx.observed.is_silent(worker.name):
        _handle_silence(tx, worker, None)
    elif tx.observed.lacks_desktop(worker.name):
        tx.withdraw_all(worker, _NO_DESKTOP)  # a result without a desktop would not count
        _escalate(tx, worker, None, _NO_DESKTOP)  # its logon task, if there is one, restarts it with a desktop


def _is_booting(tx: Transaction, worker: Worker, machine: MachineStatus | None) -> bool:
    """Whether the machine is still booting, so its silence does not count; bounded for one that keeps rebooting."""
    if machine is None or not machine.boots:
        return False
    uptime_s, silence_s = machine.uptime_s or 0.0, tx.observed.silence_s(worker.name)
    heard = tx.observed.workers[worker.name].alive and silence_s < uptime_s
    young = machine.state is MachineState.RUNNING and uptime_s < tx.limits.boot_limit_s and not heard
    return machine.busy or (young and silence_s < 2 * tx.limits.boot_limit_s)


def _give_up_if_silent(tx: Transaction, worker: Worker) -> None:
    """Gives up what a worker holds after the silence limit, however long its machine takes to boot."""
    if tx.observed.is_silent(worker.name):
        give_up_all(tx, worker)


def _handle_silence(tx: Transaction, worker: Worker, last: RecoveryAction | None) -> None:
    """Gives up what a silent worker holds, and escalates if its machine may be the cause."""
    seen = tx.observed.workers[worker.name]
    if seen.readable and seen.unknown_heartbeat:
        reason = f"its agent writes {seen.unknown_heartbeat}; install the same version on both"
        exclude(tx, worker, reason, withdrawal="the worker's agent is of another version")
        return
    give_up_all(tx, worker)
    silence_s = tx.observed.silence_s(worker.name)
    if seen.readable:
        _escalate(tx, worker, last, _silence_reason(worker, seen, silence_s))
    elif _is_machine_suspect(tx, worker, seen):
        _escalate(tx, worker, last, f"its share could not be read for {silence_s:.0f} s ({seen.unknown})")


def _silence_reason(worker: Worker, seen: ObservedWorker, silence_s: float) -> str:
    """Why a worker with a readable share gave no sign of life, as far as the share shows it."""
    if seen.write_problem and not worker.epoch_open:
        return seen.write_problem  # its agent waits for the `host.json` of this epoch
    if seen.heartbeat_problem:
        return seen.heartbeat_problem
    if seen.no_heartbeat and seen.machine is None:
        return in_words(NO_HEARTBEAT)
    return f"its agent was silent for {silence_s:.0f} s"


def _is_machine_suspect(tx: Transaction, worker: Worker, seen: ObservedWorker) -> bool:
    """Whether the machine may be the cause of an unreadable share (law 5 of share_layout.md): it reports OFF or
    UNHEALTHY, or everything is overdue.
    """
    if seen.machine is None:
        return True  # nothing to restart: straight to quarantine
    return seen.machine.state in (MachineState.OFF, MachineState.UNHEALTHY) or _is_everything_overdue(tx, worker)


def _is_everything_overdue(tx: Transaction, worker: Worker) -> bool:
    """Whether the silence exceeds time limit plus grace of everything published there (law 5 of share_layout.md)."""
    held = max(1, len(worker.wanted) + len(worker.left_published))
    return tx.observed.silence_s(worker.name) > held * (tx.farm.time_limit_s + tx.limits.grace_s)


def _check_recovering(tx: Transaction, worker: Worker) -> None:
    seen = tx.observed.workers[worker.name]
    _give_up_if_silent(tx, worker)
    if seen.machine is not None and seen.machine.busy:
        seen.recovery_at = tx.observed.time  # an action's time starts when it has been executed
    elif _alive_since_recovery(worker, seen) and not tx.observed.lacks_desktop(worker.name):
        tx.add(WorkerRecovered(worker=worker.name))
    elif seen.machine is not None and seen.machine.state is MachineState.OFF and seen.recovery_ordered:
        # It ended again before its first heartbeat: the first action once more, while the budget of restarts lasts.
        _escalate(tx, worker, None, f"its agent ended again: {seen.machine.note}")
    elif tx.observed.time - seen.recovery_at > _action_limit_s(tx, worker, seen):
        _escalate(tx, worker, worker.recovery, f"{worker.recovery} did not help: {worker.reason}")


def _action_limit_s(tx: Transaction, worker: Worker, seen: ObservedWorker) -> float:
    boots = seen.machine is not None and seen.machine.boots and worker.recovery is not RecoveryAction.RESTART_AGENT
    return tx.limits.boot_limit_s if boots else tx.limits.agent_restart_limit_s


def _check_quarantined(tx: Transaction, worker: Worker) -> None:
    seen = tx.observed.workers[worker.name]
    if tx.observed.time - seen.quarantined_at > worker.back_off_s:
        tx.add(ProbationBegan(worker=worker.name))
        seen.recovery_at = tx.observed.time
        _check_probation(tx, worker)


def _check_probation(tx: Transaction, worker: Worker) -> None:
    """One attempt tests the worker. A silent one gets all recovery actions; after the last the probation has failed."""
    seen = tx.observed.workers[worker.name]
    untried = worker.recovery is None and seen.machine is not None and bool(seen.machine.actions)
    waited = tx.observed.time - seen.recovery_at > _action_limit_s(tx, worker, seen)
    if worker.losses:
        quarantine(tx, worker, _PROBATION_LOSS + worker.reason.removeprefix(_PROBATION_LOSS))
    elif seen.machine is not None and seen.machine.busy:
        seen.recovery_at = tx.observed.time
        _give_up_if_silent(tx, worker)
    elif tx.observed.lacks_desktop(worker.name):
        quarantine(tx, worker, _NO_DESKTOP)
    elif tx.observed.is_silent(worker.name) and (untried or waited):
        _handle_silence(tx, worker, worker.recovery)


def _alive_since_recovery(worker: Worker, seen: ObservedWorker) -> bool:
    # A scan requested before a restore may show the share as it was before.
    seen_at = seen.seen_alive_requested_at if worker.recovery is RecoveryAction.RESTORE else seen.seen_alive_at
    return seen.alive and seen_at > seen.recovery_at


def useful_actions(machine: MachineStatus | None) -> list[RecoveryAction]:
    """The recovery actions that can work on a machine in its state, least disruptive first."""
    if machine is None:
        return []
    useless = _USELESS_ACTIONS.get(machine.state, set()) if machine.boots else set()
    return [action for action in machine.actions if action not in useless]


def _escalate(tx: Transaction, worker: Worker, last: RecoveryAction | None, reason: str) -> None:
    """Requests the machine's next recovery action; without one the worker is quarantined."""
    seen = tx.observed.workers[worker.name]
    machine = seen.machine
    harder = [
        action
        for action in useful_actions(machine)
        if last is None or list(RecoveryAction).index(action) > list(RecoveryAction).index(last)
    ]
    if not harder or (worker.restarts >= tx.limits.restarts_max):
        quarantine(tx, worker, reason)
        return
    tx.add(RecoveryStarted(worker=worker.name, action=harder[0], reason=reason))
    seen.recovery_at, seen.recovery_ordered, seen.alive = tx.observed.time, False, False
