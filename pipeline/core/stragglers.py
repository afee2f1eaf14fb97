"""Second copies of games that last much longer than a game on an idle worker would. Pure.

The straggler is over for the host, and its start signal stays, so it is played on: the first of the two to complete
counts, and the other one is withdrawn (laws 5 and 6 of share_layout.md). Its worker gets nothing new meanwhile.

Owns: which games get a second copy. Not here: which worker plays it (`assignment`).
"""

from pipeline.core.assignment import assignable_workers
from pipeline.core.isolation import is_system_reserved
from pipeline.core.model import Attempt, WorkerState
from pipeline.core.pace import FASTER, Pace
from pipeline.core.queues import Queues
from pipeline.core.transaction import Transaction


def copy_stragglers(tx: Transaction, queues: Queues) -> None:
    """Gives games of which a second copy is expected to end first to idle workers, while nothing else waits for one."""
    if not tx.limits.copy_stragglers or tx.farm.pending or is_system_reserved(tx.farm, queues.local):
        return
    pace = Pace(tx.farm, tx.observed, tx.limits.grace_s)
    idle = [w for w in assignable_workers(tx) if not w.wanted and w.state is WorkerState.READY]
    idle.sort(key=pace.game_s)
    for remaining_s, played_s, attempt in _games_that_last(tx, pace) if idle and pace.is_known else ():
        if not idle or remaining_s <= FASTER * pace.game_s(idle[0]):
            return
        tried_by = attempt.trial.tried_by
        taker = next((worker for worker in idle if worker.name not in tried_by), None)
        if taker is not None and remaining_s > FASTER * pace.game_s(taker):
            idle.remove(taker)
            tx.give_up_to_copy(attempt, f"a second copy is played as well, since this one took {played_s:.0f} s so far")


def _games_that_last(tx: Transaction, pace: Pace) -> list[tuple[float, float, Attempt]]:
    """The games that may get a copy, those that are expected to last longest first: remaining and played seconds.

    What waits behind a game would neither be played nor be moved, so a worker that holds more has none.
    """
    found = []
    for worker in tx.farm.workers.values():
        seen = tx.observed.workers[worker.name]
        if len(worker.wanted) == 1 and worker.state is WorkerState.READY and seen.readable:
            attempt = next(iter(worker.wanted.values()))
            played_s = pace.played_s(attempt)
            is_over = attempt.id in seen.answers
            if (
                played_s is not None
                and tx.observed.is_busy_for_long(worker)
                and not is_over
                and _may_be_copied(attempt)
            ):
                found.append((pace.remaining_s(worker, played_s), played_s, attempt))
    return sorted(found, key=lambda game: (-game[0], game[2].id))


def _may_be_copied(attempt: Attempt) -> bool:
    """Not what may take its worker down, or failed before; and a trial is played by two workers at most."""
    trial = attempt.trial
    is_copied = any(earlier.left_published and not earlier.superseded for earlier in trial.attempts)
    return not (attempt.run_alone or trial.blamed or trial.genome.is_suspect or trial.is_held_back or is_copied)
