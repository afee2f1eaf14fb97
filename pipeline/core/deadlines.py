"""Deadlines of attempts: time limit and grace, claim limit. Pure.

Owns: what is overdue.
Not here: which result counts (`acceptance`), the silence of a worker (`recovery`).
See: law 5 of share_layout.md.
"""

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import AttemptReleased
from pipeline.core.model import Worker
from pipeline.core.observed import ObservedWorker
from pipeline.core.transaction import Transaction


def enforce_deadlines(tx: Transaction, worker: Worker) -> None:
    """Ends the overdue attempts of one worker. Runs after `accept_results` of the same tick."""
    seen = tx.observed.workers[worker.name]
    if not tx.observed.is_open(worker):
        return
    claimed = [attempt for attempt in worker.wanted.values() if attempt.id in seen.claims]
    for attempt in claimed:
        if attempt.id in seen.answers:
            continue  # its result is being read; the share client gives up after a few scans
        played_s = tx.observed.time - seen.claims[attempt.id]
        limit_s = tx.farm.time_limit_s
        if played_s > limit_s + tx.limits.grace_s:
            tx.give_up(attempt, Outcome.LOST, f"no result {played_s:.0f} s after the claim, limit {limit_s:g} s")
            tx.charge(attempt)
    _enforce_claim_limit(tx, worker, seen, bool(claimed))
    _release_left_published(tx, worker, seen)


def _release_left_published(tx: Transaction, worker: Worker, seen: ObservedWorker) -> None:
    """Releases left-published attempts of a readable share: not countable, no claim, or overdue since the claim."""
    limit_s = tx.farm.time_limit_s + tx.limits.grace_s
    for attempt in list(worker.left_published.values()):
        since = seen.claims.get(attempt.id)
        overdue = since is None or tx.observed.time - since > limit_s
        if not attempt.is_countable or (seen.scanned and overdue):
            tx.add(AttemptReleased(attempt=attempt.id))


def _enforce_claim_limit(tx: Transaction, worker: Worker, seen: ObservedWorker, playing: bool) -> None:
    waiting = [a for a in worker.wanted.values() if a.id not in seen.claims and a.id not in seen.unconfirmed]
    first = min(waiting, key=lambda attempt: attempt.publication, default=None)
    if playing or first is None:
        seen.oldest_unclaimed = None
        return
    unclaimed = first.id, first.id in seen.delivered
    if unclaimed != seen.oldest_unclaimed:
        seen.oldest_unclaimed, seen.oldest_unclaimed_since = unclaimed, tx.observed.time
    elif tx.observed.time - seen.oldest_unclaimed_since > _claim_limit_s(tx, seen):
        if first.id in seen.delivered:
            reason = f"not claimed within {_claim_limit_s(tx, seen):g} s by an idle worker"
            tx.give_up(first, Outcome.LOST, reason)
        else:
            why = seen.write_problem.partition("; ")[0] or "its share takes nothing"
            reason = f"not published within {tx.limits.claim_limit_s:g} s: {why}"
            tx.give_up(first, Outcome.UNDELIVERED, reason)


def _claim_limit_s(tx: Transaction, seen: ObservedWorker) -> float:
    """Longer while the agent loads its evaluator: it claims nothing before, and ends a load that takes too long."""
    loading = seen.loading_since is not None
    return tx.limits.claim_limit_s + (tx.limits.load_limit_s if loading else 0.0)
