"""Reconciles shares and machines with the farm: desired minus observed gives the actions. Pure.

Owns: what is published, removed, started or restarted. `plan` may be called again at any time.
Not here: what a request contains (`requests`), executing it (`pipeline.host.control_loop`).
"""

from collections.abc import Iterable

from inbox_agent.protocol.layout import HostRecord
from pipeline.core.deployment import NO_DEPLOYMENTS, Deployment, Deployments, next_number
from pipeline.core.facts import RecoveryAction
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import MachineState
from pipeline.core.observed import Observed, ObservedWorker
from pipeline.core.requests import MachineAction, SendDeployment, ShareAction, WorkerEvidence, start_record


def plan(
    farm: Farm, observed: Observed, limits: Limits, workers: Iterable[str], deployments: Deployments = NO_DEPLOYMENTS
) -> list[ShareAction | MachineAction]:
    """The actions that bring the shares and machines of these workers to the farm's state; empty if they match."""
    actions: list[ShareAction | MachineAction] = []
    for name in sorted(workers):
        worker = farm.workers.get(name)
        if worker is None or worker.state is WorkerState.OUT:
            continue
        # The share first: an agent that is about to start must not find attempts that are over.
        share = _share_action(farm, worker, observed, deployments.due(farm, observed, limits, worker))
        actions += [share] if share is not None else []
        actions += _machine_actions(worker, observed)
    return actions


def _machine_actions(worker: Worker, observed: Observed) -> list[ShareAction | MachineAction]:
    seen = observed.workers[worker.name]
    if seen.machine is None:
        return []
    if worker.recovery is not None and not seen.recovery_ordered:
        evidence = _evidence(worker, seen) if worker.recovery is RecoveryAction.RESTORE else None
        return [MachineAction(worker.name, worker.recovery, evidence)]
    if seen.power_due is not None:
        return [MachineAction(worker.name, None, power=seen.power_due)]
    # Scan before the first start: collect what an earlier agent left before a new one cleans up.
    looked = seen.scanned or (seen.machine.boots and seen.unknown)  # the share of a machine that is off is off
    first = not seen.machine_started and seen.machine.state is MachineState.OFF and looked
    is_ours = not (seen.at_rest or worker.drained)  # the user may have switched off the machine of a drained worker
    return [MachineAction(worker.name, None)] if first and is_ours else []


def _evidence(worker: Worker, seen: ObservedWorker) -> WorkerEvidence:
    return WorkerEvidence(state=worker.state, reason=worker.reason, held=tuple(worker.wanted), heartbeat=seen.heartbeat)


def _share_action(farm: Farm, worker: Worker, observed: Observed, due: Deployment | None) -> ShareAction | None:
    seen = observed.workers[worker.name]
    if worker.epoch == 0 or not seen.readable or seen.at_rest:
        return None
    if not worker.epoch_open:
        return ShareAction(worker.name, host=HostRecord(farm=farm.farm_id, worker=worker.name, epoch=worker.epoch))
    wanted = {attempt.id for attempt in worker.may_be_playing}
    remove = tuple(sorted(observed.removable(worker.name, (seen.starts | seen.payloads) - wanted)))
    publish = tuple(
        start_record(farm, attempt)
        for attempt in worker.wanted.values()
        if attempt.id not in seen.delivered and attempt.id not in seen.unconfirmed
    )
    deploy = None
    if due is not None and not (remove or publish):
        record = due.record(farm.farm_id, worker.name, next_number(observed, worker.name))
        deploy = SendDeployment(record, tuple(sorted(seen.deployments)))
    return ShareAction(worker.name, None, remove, publish, deploy) if remove or publish or deploy else None
