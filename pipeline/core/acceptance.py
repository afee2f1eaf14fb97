"""Accepts results and claims. Pure.

Owns: which result counts. A result is matched by its attempt id alone, through the attempts the ledger issued; its
fields must agree with that attempt, and none of them chooses a trial.
Not here: what is overdue (`deadlines`).
See: laws 5 and 6 of share_layout.md.
"""

from inbox_agent.protocol.layout import EVALUATOR_CHANGED, Outcome, ResultRecord, clean
from pipeline.core.echo import echo_problem
from pipeline.core.facts import (
    AttemptClaimed,
    AttemptEnded,
    Fact,
    ResultLate,
    ResultUnexpected,
    WorkerRecovered,
)
from pipeline.core.model import Attempt, WorkerState
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.transaction import Transaction
from pipeline.core.worker_actions import exclude


def accept_results(tx: Transaction, scan: ShareScan) -> None:
    """Accepts or refuses the results and claims of one scan. Runs before the deadlines: a result of this tick wins."""
    if scan.unknown or tx.farm.workers[scan.worker].state is WorkerState.OUT:
        return
    seen = tx.observed.workers[scan.worker]
    for result in scan.results:
        if result.attempt not in seen.handled:
            _accept_result(tx, scan.worker, result)
            seen.handled.add(result.attempt)
    for attempt_id in sorted(scan.claims - scan.answers):
        _note_claim(tx, scan.worker, attempt_id)


def _accept_result(tx: Transaction, worker: str, result: CollectedResult) -> None:
    farm = tx.farm
    attempt = farm.attempts.get(result.attempt)
    if attempt is None:
        _note_unknown(tx, worker, result)
        return
    if attempt.has_result or result.attempt in farm.noted:
        return  # collected before; its file is not removed yet
    if worker != attempt.worker:
        return  # swapped shares or a copied file: a result counts only in the share of its own worker
    tx.results[result.attempt] = worker, result
    problem = _result_problem(tx, attempt, result)
    completed = not problem and result.record is not None and result.record.outcome is Outcome.COMPLETED
    if attempt.outcome is None or (completed and attempt.is_countable):
        tx.end_attempt(attempt, _attempt_ended(attempt, result, problem), agent_stopped=_agent_stopped(result))
        _update_worker(tx, attempt)
    else:
        tx.add(_result_late(result, worker, "its genome was reopened" if attempt.superseded else problem))
        interrupted = result.record is not None and result.record.outcome is Outcome.INTERRUPTED
        if attempt.outcome is Outcome.LOST and interrupted and not _agent_stopped(result):
            # The share can be read again and shows which attempt was running when the worker went down.
            tx.charge(attempt)


def _note_unknown(tx: Transaction, worker: str, result: CollectedResult) -> None:
    """Notes a result that the open run did not issue, once; on a flooded share only one of an earlier run."""
    if result.attempt in tx.farm.noted or result.collected_in_other_run:
        return
    if result.issued_in_other_run:
        fact: Fact = _result_late(result, worker, "of an earlier run")
    elif not tx.observed.is_flooded(tx.farm.workers[worker]):
        fact = ResultUnexpected(attempt=result.attempt, worker=worker)
    else:
        return
    tx.results[result.attempt] = worker, result
    tx.add(fact)


def _agent_stopped(result: CollectedResult) -> bool:
    """Whether the agent was asked to stop: nothing is known against the game that it interrupted."""
    return result.record is not None and result.record.agent_stopped


def _result_problem(tx: Transaction, attempt: Attempt, result: CollectedResult) -> str:
    if result.record is None:
        return result.problem
    if (result.record.farm, result.record.worker) != (tx.farm.farm_id, attempt.worker):
        return f"worker {result.record.worker!r} of farm {result.record.farm!r} answers for {attempt.worker!r}"
    if result.record.evaluator == EVALUATOR_CHANGED:
        return "files of the evaluator were changed while it was played"
    return echo_problem(result.record, tx.farm.echo(attempt))


def _attempt_ended(attempt: Attempt, result: CollectedResult, problem: str) -> AttemptEnded:
    record: ResultRecord | None = result.record
    if result.unknown_layout:
        return AttemptEnded(attempt=attempt.id, outcome=Outcome.REJECTED, has_result=True, reason=clean(problem, 300))
    if problem or record is None:
        return AttemptEnded(attempt=attempt.id, outcome=Outcome.CORRUPT, has_result=True, reason=clean(problem, 300))
    notes = [record.reason] if record.reason else []
    notes += [f"missing: {name}" for name in result.missing]
    return AttemptEnded(
        attempt=attempt.id,
        outcome=record.outcome,
        has_result=True,
        reason=clean("; ".join(notes), 500),
        fitness=record.fitness,
        metrics=record.metrics,
        seconds=record.seconds,
        archived=True,
        evaluator="" if attempt.wanted_evaluator else record.evaluator or "",
    )


def _update_worker(tx: Transaction, attempt: Attempt) -> None:
    worker = tx.farm.worker(attempt.worker)
    if attempt.outcome is Outcome.REJECTED and worker.state is not WorkerState.OUT:
        reason = f"its agent does not speak this host's layout: {attempt.reason}; install the same version on both"
        exclude(tx, worker, reason, withdrawal="the worker's agent is of another version")
    played = attempt.outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT)
    if worker.state is WorkerState.PROBATION and played:
        tx.add(WorkerRecovered(worker=worker.name))


def _result_late(result: CollectedResult, worker: str, reason: str) -> ResultLate:
    outcome = result.record.outcome if result.record is not None else Outcome.CORRUPT
    return ResultLate(attempt=result.attempt, worker=worker, outcome=outcome, reason=clean(reason, 300))


def _note_claim(tx: Transaction, worker: str, attempt_id: str) -> None:
    farm = tx.farm
    attempt = farm.attempts.get(attempt_id)
    if attempt is None or attempt.worker != worker:
        return
    if attempt.outcome is None:
        if attempt.claimed_at is None:
            tx.add(AttemptClaimed(attempt=attempt_id))
        return
    still_played = attempt_id in farm.workers[worker].left_published
    known = attempt.charged or attempt.has_result or attempt_id in farm.noted
    if attempt.left_published and attempt.epoch == farm.workers[worker].epoch and not still_played and not known:
        # Law 5 of share_layout.md: charge the genome with a claim and no result on a share that can be read again.
        # Do not charge for a claim made while the host was ending the attempt, nor for one of an older epoch.
        tx.charge(attempt)
