"""Runs the rules of one tick: from an observation to facts. Pure.

Owns: the order of the rules: ownership, acceptance, evaluator, deadlines, recovery, assignment.
Not here: the actions that follow (`reconcile`).
"""

from pipeline.core.acceptance import accept_results
from pipeline.core.assignment import assign, rebalance
from pipeline.core.deadlines import enforce_deadlines
from pipeline.core.evaluator import check_evaluator
from pipeline.core.facts import RunFinished
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import Observation
from pipeline.core.observed import Observed
from pipeline.core.ownership import check_ownership
from pipeline.core.queues import Queues
from pipeline.core.recovery import check_worker
from pipeline.core.transaction import Transaction


def decide(farm: Farm, observed: Observed, observation: Observation, limits: Limits, queues: Queues) -> Transaction:
    """Applies all rules to one observation. The farm is updated; the transaction holds the facts to record."""
    tx = Transaction(farm, observed, observation, limits)
    first_scans = [scan for scan in observation.scans if scan.full and not observed.workers[scan.worker].scanned]
    observed.update(farm, observation)
    for scan in observation.scans:
        check_ownership(tx, scan)
        accept_results(tx, scan)
        check_evaluator(tx, scan)
    for scan in first_scans:
        seen = observed.workers[scan.worker]
        if scan.worker in queues.local and seen.readable and not seen.machine_started:
            # Its agent ended with the host that was killed, so none of what it held is running.
            tx.withdraw_all(farm.workers[scan.worker], "host ended")
    if observation.sweep:
        for worker in farm.workers.values():
            enforce_deadlines(tx, worker)
            check_worker(tx, worker)
        rebalance(tx, queues)
    if farm.generation and farm.pending:
        assign(tx, queues)
    if farm.generation and not farm.open_trials and not farm.finished and not observation.is_open:
        tx.add(RunFinished())
    return tx


def stuck_reason(farm: Farm, workers: int) -> str:
    """Why the run cannot continue; the empty string while it can."""
    if farm.finished or not farm.open_trials:
        return ""
    usable = farm.usable()
    if not usable:
        return f"every worker is out ({_reasons([*farm.workers.values()])})"
    if all(worker.state is WorkerState.UNFIT for worker in usable):
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
