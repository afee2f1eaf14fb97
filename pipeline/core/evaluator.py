"""Which agents can play the open generation: their evaluator is loaded, and it is the generation's. Pure.

Owns: what follows from the evaluator that a heartbeat reports.
Not here: whether a result was played by the right evaluator (`acceptance`), what a version is made of
(`inbox_agent.evaluation.version`).
"""

from inbox_agent.protocol.layout import AgentState, clean
from pipeline.core.facts import EvaluatorFixed, WorkerRecovered, WorkerUnfit
from pipeline.core.farm import Farm
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import ShareScan
from pipeline.core.observed import ObservedWorker
from pipeline.core.transaction import Transaction

EDIT_NOTICED_S = 4.0  #: since the first scan, before another version is believed: twice what an idle agent needs


def check_evaluator(tx: Transaction, scan: ShareScan) -> None:
    """Evaluates what the agent on a share reports of its evaluator. Runs after `check_ownership` of the same scan."""
    worker, seen = tx.farm.workers[scan.worker], tx.observed.workers[scan.worker]
    heartbeat = seen.heartbeat
    if not scan.full or heartbeat is None or not tx.farm.open_trials:
        return
    if not tx.farm.evaluator_version and heartbeat.evaluator is not None and not tx.farm.allows_any_evaluator:
        tx.add(EvaluatorFixed(version=heartbeat.evaluator, worker=worker.name))
    reason = _unfit_reason(tx, seen)
    if reason and worker.state in (WorkerState.READY, WorkerState.PROBATION, WorkerState.UNFIT):
        _exclude_for_now(tx, worker, seen, reason)
    elif worker.state is WorkerState.UNFIT and can_play(tx.farm, seen):
        tx.add(WorkerRecovered(worker=worker.name))


def can_play(farm: Farm, seen: ObservedWorker) -> bool:
    """Whether the agent has loaded the evaluator of the open generation, by its last heartbeat."""
    heartbeat = seen.heartbeat
    if heartbeat is None or heartbeat.evaluator is None:
        return False
    return farm.allows_any_evaluator or heartbeat.evaluator == farm.evaluator_version


def _unfit_reason(tx: Transaction, seen: ObservedWorker) -> str:
    farm, heartbeat = tx.farm, seen.heartbeat
    assert heartbeat is not None
    if heartbeat.state is AgentState.BROKEN and seen.new_heartbeats:
        return f"its evaluator cannot be loaded: {clean(heartbeat.problem, 300)}"
    if heartbeat.evaluator is None or can_play(farm, seen):
        return ""
    # An idle agent notices within about two seconds that its files were changed between two generations.
    if seen.new_heartbeats < 2 or tx.observed.time < seen.first_scan_at + EDIT_NOTICED_S:
        return ""
    return f"it plays evaluator {heartbeat.evaluator}, this generation is played by {farm.evaluator_version}"


def _exclude_for_now(tx: Transaction, worker: Worker, seen: ObservedWorker, reason: str) -> None:
    if (worker.state, worker.reason) != (WorkerState.UNFIT, reason):
        tx.add(WorkerUnfit(worker=worker.name, reason=reason))
    for attempt in list(worker.wanted.values()):
        if attempt.id not in seen.claims and attempt.id not in seen.answers:
            tx.withdraw(attempt, f"{worker.name} cannot play it")
