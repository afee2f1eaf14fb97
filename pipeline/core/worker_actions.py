"""What the rules do to a worker as a whole: withdraw, give up, quarantine, exclude. Pure.

Owns: what becomes of the attempts of a worker that may run no more of them.
Not here: when a worker is silent (`deadlines`, `recovery`) or no longer this farm's (`ownership`).
"""

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import WorkerQuarantined
from pipeline.core.model import Worker, WorkerState
from pipeline.core.transaction import Transaction


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


def quarantine(tx: Transaction, worker: Worker, reason: str) -> None:
    """Quarantines a worker, for twice as long after each failed probation; after too many it is excluded."""
    withdrawal = f"{worker.name} is quarantined"
    failed = worker.probations + (worker.state is WorkerState.PROBATION)
    if failed >= tx.limits.probations_max:
        probations = "1 probation" if failed == 1 else f"{failed} probations"
        exclude(tx, worker, f"{probations} failed; the last: {reason}", withdrawal=withdrawal)
        return
    tx.withdraw_all(worker, withdrawal)
    tx.add(WorkerQuarantined(worker=worker.name, back_off_s=tx.limits.back_off_s * 2**failed, reason=reason))
    tx.observed.workers[worker.name].quarantined_at = tx.observed.time


def exclude(tx: Transaction, worker: Worker, reason: str, *, withdrawal: str) -> None:
    """Excludes a worker from this run; its attempts return to the queue with the reason `withdrawal`."""
    tx.withdraw_all(worker, withdrawal)
    tx.exclude_worker(worker.name, reason)
