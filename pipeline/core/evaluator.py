"""Which agents can play the open generation: their evaluator is loaded, and it is the generation's. Pure.

Owns: what follows from the evaluator that a heartbeat reports.
Not here: whether a result was played by the right evaluator (`acceptance`), what a version is made of
(`inbox_agent.evaluation.version`).
"""

from inbox_agent.protocol.layout import AgentState, clean
from pipeline.core.deployment import Deployments
from pipeline.core.facts import EvaluatorFixed, ProbationBegan, WorkerRecovered, WorkerUnfit
from pipeline.core.farm import Farm
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import ShareScan
from pipeline.core.observed import ObservedWorker
from pipeline.core.since_start import without_numbers
from pipeline.core.transaction import Transaction
from pipeline.core.worker_actions import quarantine

EDIT_NOTICED_S = 4.0  #: after another version is asked for: twice what an idle agent needs to load changed files


def check_evaluator(tx: Transaction, scan: ShareScan, deployments: Deployments) -> None:
    """Evaluates what the agent on a share reports of its evaluator. Runs after `check_ownership` of the same scan."""
    worker, seen = tx.farm.workers[scan.worker], tx.observed.workers[scan.worker]
    heartbeat = seen.heartbeat
    if not scan.full:
        return
    if seen.asked_version != tx.farm.evaluator_version:
        # What the agent has reported before may be of the files of an earlier generation, or of an ended agent.
        seen.asked_version, seen.asked_since, seen.new_heartbeats = tx.farm.evaluator_version, tx.observed.time, 0
        return
    if heartbeat is None or not seen.new_heartbeats or not tx.farm.open_trials:
        return
    idle = heartbeat.state is AgentState.IDLE
    is_asked = not (tx.farm.evaluator_version or tx.farm.allows_any_evaluator or worker.drained)
    if is_asked and idle and heartbeat.evaluator:
        tx.add(EvaluatorFixed(version=heartbeat.evaluator, worker=worker.name))
    if deployments.awaited(tx.farm, tx.observed, tx.limits, worker) is not None:
        return  # it is about to get what the generation is played with
    reason = _unfit_reason(tx, seen)
    if reason and worker.state in (WorkerState.READY, WorkerState.PROBATION, WorkerState.UNFIT):
        _mark_unfit(tx, worker, seen, reason)
    elif worker.state is WorkerState.UNFIT and can_play(tx.farm, seen):
        tx.add(ProbationBegan(worker=worker.name) if worker.was_on_probation else WorkerRecovered(worker=worker.name))


def can_play(farm: Farm, seen: ObservedWorker) -> bool:
    """Whether the agent has loaded the evaluator of the open generation, by its last heartbeat."""
    heartbeat = seen.heartbeat
    if heartbeat is None or heartbeat.evaluator is None:
        return False
    return farm.allows_any_evaluator or heartbeat.evaluator == farm.evaluator_version


def _unfit_reason(tx: Transaction, seen: ObservedWorker) -> str:
    heartbeat, limits = seen.heartbeat, tx.limits
    assert heartbeat is not None
    match heartbeat.state:
        case AgentState.BROKEN:
            return f"its evaluator cannot be loaded: {clean(heartbeat.problem, 300)}"
        case AgentState.LOADING if seen.loading_since is not None:
            limit_s = limits.load_limit_s + limits.claim_limit_s
            too_long = tx.observed.time - seen.loading_since > limit_s
            return f"its evaluator is not loaded after {limit_s:g} s" if too_long else ""
        case AgentState.IDLE if not can_play(tx.farm, seen):  # a game that was withdrawn may still be running
            if seen.new_heartbeats < 2 or tx.observed.time < seen.asked_since + EDIT_NOTICED_S:
                return ""
            asked = tx.farm.evaluator_version
            return f"it plays evaluator {heartbeat.evaluator}, this generation is played by {asked}"
    return ""


def _mark_unfit(tx: Transaction, worker: Worker, seen: ObservedWorker, reason: str) -> None:
    if worker.state is not WorkerState.UNFIT:
        if worker.restarts >= tx.limits.restarts_max:  # it recovers and fails in turn, without finishing an attempt
            quarantine(tx, worker, reason)
            return
        tx.add(WorkerUnfit(worker=worker.name, reason=reason))
    elif without_numbers(worker.reason) != without_numbers(reason):
        tx.add(WorkerUnfit(worker=worker.name, reason=reason))
    for attempt in list(worker.wanted.values()):
        if not seen.may_be_playing(attempt.id):
            tx.withdraw(attempt, f"{worker.name} cannot play it")
