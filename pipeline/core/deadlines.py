"""Deadlines of attempts: time limit and grace, claim limit, silence. Pure.

Owns: what is overdue.
Not here: which result counts (`acceptance`).
See: law 5 of share_layout.md.
"""

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import AttemptReleased
from pipeline.core.model import TrialState, Worker
from pipeline.core.observed import ObservedWorker
from pipeline.core.transaction import Transaction


def enforce_deadlines(tx: Transaction, worker: Worker) -> None:
    """Ends the overdue attempts of one worker. Runs after `accept_results` of the same tick."""
    seen = tx.observed.workers[worker.name]
    if not seen.readable or not worker.epoch_open:
        return
    claimed = [attempt for attempt in worker.wanted.values() if attempt.id in seen.claims]
    for attempt in claimed:
        if attempt.id in seen.answers:
            continue  # its result is being read; the share client gives up after a few scans
        played_s = tx.observed.time - seen.claims[attempt.id]
        limit_s = _time_limit_s(tx)
        if played_s > limit_s + tx.limits.grace_s:
            tx.give_up(attempt, Outcome.LOST, f"no result {played_s:.0f} s after the claim, limit {limit_s:g} s")
            tx.charge(attempt)
    _enforce_claim_limit(tx, worker, seen, bool(claimed))
    _release_left_published(tx, worker, seen)


def _release_left_published(tx: Transaction, worker: Worker, seen: ObservedWorker) -> None:
    """Releases left-published attempts of a readable share: settled trials, no claim, or overdue since the claim."""
    limit_s = _time_limit_s(tx) + tx.limits.grace_s
    for attempt in list(worker.left_published.values()):
        since = seen.claims.get(attempt.id)
        overdue = since is None or tx.observed.time - since > limit_s
        if attempt.trial.state is TrialState.SETTLED or (seen.scanned and overdue):
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
    elif tx.observed.time - seen.oldest_unclaimed_since > tx.limits.claim_limit_s:
        if first.id in seen.delivered:
            reason = f"not claimed within {tx.limits.claim_limit_s:g} s by an idle worker"
            tx.give_up(first, Outcome.LOST, reason)
        else:
            reason = f"not published within {tx.limits.claim_limit_s:g} s: its share takes nothing"
            tx.give_up(first, Outcome.UNDELIVERED, reason)


def give_up_all(tx: Transaction, worker: Worker) -> None:
    """Ends all attempts of a silent worker (law 5 of share_layout.md). On a readable share the claimed one is lost
    and the others are withdrawn; on an unreadable one all are lost, and their start signals stay.
    """
    seen = tx.observed.workers[worker.name]
    silence_s = tx.observed.silence_s(worker.name)
    for attempt in sorted(worker.wanted.values(), key=lambda a: a.publication):
        if not seen.readable:
            reason = f"the share could not be read for {silence_s:.0f} s ({seen.unknown})"
            tx.give_up(attempt, Outcome.LOST, reason, left_published=True, run_alone=True)
        elif attempt.id in seen.answers:
            continue  # its result is there, and is being read
        elif attempt.id in seen.claims:
            tx.give_up(attempt, Outcome.LOST, f"its worker was silent for {silence_s:.0f} s")
            tx.charge(attempt)
        else:
            tx.withdraw(attempt, f"{worker.name} is stuck")


def all_overdue(tx: Transaction, worker: Worker) -> bool:
    """Whether the silence exceeds time limit plus grace of everything published there (law 5 of share_layout.md)."""
    held = max(1, len(worker.wanted) + len(worker.left_published))
    allowance_s = held * (_time_limit_s(tx) + tx.limits.grace_s)
    return tx.observed.silence_s(worker.name) > allowance_s


def _time_limit_s(tx: Transaction) -> float:
    return tx.farm.settings.time_limit_s if tx.farm.settings else 0.0
