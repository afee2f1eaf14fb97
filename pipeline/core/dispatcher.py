"""Runs the rules of one tick: from an observation to facts. Pure.

Owns: the order of the rules: ownership, acceptance, evaluator, machines found at rest, requests for workers, deadlines,
recovery, queues, stragglers, reuse, assignment, rest of machines.
Not here: the actions that follow (`reconcile`).
"""

from pipeline.core.acceptance import accept_results
from pipeline.core.assignment import assign, rebalance
from pipeline.core.deadlines import enforce_deadlines
from pipeline.core.deployment import NO_DEPLOYMENTS, Deployments
from pipeline.core.evaluator import check_evaluator
from pipeline.core.facts import RunFinished
from pipeline.core.farm import Farm
from pipeline.core.isolation import end_what_host_left
from pipeline.core.limits import Limits
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import Observation, ShareScan
from pipeline.core.observed import Observed
from pipeline.core.ownership import check_ownership
from pipeline.core.queues import Queues
from pipeline.core.recovery import check_worker
from pipeline.core.rest import check_rest, rest_and_wake
from pipeline.core.reuse import EarlierResults
from pipeline.core.stragglers import copy_stragglers
from pipeline.core.transaction import Transaction
from pipeline.core.worker_requests import NO_REQUESTS, WorkerRequests, carry_out_requests, return_queue


def decide(
    farm: Farm,
    observed: Observed,
    observation: Observation,
    limits: Limits,
    queues: Queues,
    earlier: EarlierResults | None = None,
    deployments: Deployments = NO_DEPLOYMENTS,
    requests: WorkerRequests = NO_REQUESTS,
) -> Transaction:
    """Applies all rules to one observation. The farm is updated; the transaction holds the facts to record."""
    tx = Transaction(farm, observed, observation, limits)
    first_scans = [scan for scan in observation.scans if scan.full and not observed.workers[scan.worker].scanned]
    observed.update(farm, observation)
    left = [scan.worker for scan in first_scans if _agent_ended_with_host(observed, scan, queues)]
    for name in left:
        observed.workers[name].unconfirmed.clear()  # all of it is ended below, whether it arrived or not
    for scan in observation.scans:
        check_ownership(tx, scan)
        accept_results(tx, scan)
        check_evaluator(tx, scan, deployments)
    for name in left:
        end_what_host_left(tx, farm.workers[name])
    for scan in observation.scans:
        return_queue(tx, scan)
    if observation.sweep:
        for worker in farm.workers.values() if farm.generation else ():
            check_rest(tx, worker)
        carry_out_requests(tx, requests)  # a machine that was found at rest is not restarted
    if observation.sweep and farm.generation:
        for worker in farm.workers.values():
            enforce_deadlines(tx, worker)
            check_worker(tx, worker)
        rebalance(tx, queues)
        copy_stragglers(tx, queues)
    if farm.generation and farm.pending:
        if earlier is not None:
            earlier.settle(tx)  # before anything of it is issued
        assign(tx, queues)
    if observation.sweep:
        rest_and_wake(tx)
    if farm.generation and not farm.open_trials and not farm.finished and not observation.is_open:
        tx.add(RunFinished())
    return tx


def _agent_ended_with_host(observed: Observed, scan: ShareScan, queues: Queues) -> bool:
    """Whether none of what a worker holds is running: its agent ended with the host before this one."""
    is_share = scan.owner is not None  # not an empty folder in its place
    return scan.worker in queues.local and is_share and not observed.workers[scan.worker].machine_started


def stuck_reason(farm: Farm, workers: int) -> str:
    """Why the run cannot continue; the empty string while it can."""
    if farm.finished or not farm.open_trials:
        return ""
    usable = farm.usable()
    may_return = not farm.workers or any(worker.drained for worker in usable)  # one may also join
    if not usable and not may_return:
        return f"every worker is out ({_reasons([*farm.workers.values()])})"
    if not may_return and all(worker.state is WorkerState.UNFIT for worker in usable):
        return f"no worker can play: {_reasons(usable)}"
    first = max(5, 2 * workers)
    settled = farm.since_start.settled
    if settled >= first and farm.since_start.failed == settled:
        return f"the first {settled} trials since this start all failed"
    return farm.since_start.common_failure(len(usable))


def _reasons(workers: list[Worker]) -> str:
    """Why workers cannot play; what holds for all of them is said once."""
    if len({worker.reason for worker in workers}) == 1:
        return workers[0].reason
    return "; ".join(f"{worker.name}: {worker.reason}" for worker in workers)
