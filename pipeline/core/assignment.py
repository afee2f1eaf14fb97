"""Assigns pending trials to workers, and withdraws queued attempts for idle workers. Pure.

Owns: which worker gets which trial, and when.
Not here: the order of the rules (`dispatcher`).
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from inbox_agent.protocol.layout import attempt_id
from pipeline.core.evaluator import can_play
from pipeline.core.facts import AttemptIssued
from pipeline.core.farm import Farm
from pipeline.core.isolation import is_system_reserved, next_on_free_system
from pipeline.core.model import Trial, TrialState, Worker, WorkerState
from pipeline.core.pace import Pace
from pipeline.core.queues import Queues, Rooms
from pipeline.core.rest import coming_back
from pipeline.core.transaction import Transaction

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SEARCHED_MAX = 64  # bounds the cost of a tick when many trials wait for another worker


def assign(tx: Transaction, queues: Queues) -> None:
    """Fills the queues, shortest first, so that every worker gets its first attempt before any gets a second."""
    assignable = assignable_workers(tx)
    if is_system_reserved(tx.farm, queues.local):
        if (chosen := next_on_free_system(tx.farm, assignable, queues.local)) is not None:
            _issue(tx, *chosen)
        assignable = [worker for worker in assignable if worker.name not in queues.local]
    rooms = Rooms(queues, tx.observed, assignable)
    takers = _takers(tx, assignable, rooms)
    found_nothing: dict[str, int] = {}  # worker -> facts of this tick when there was no trial for it
    least = min((len(worker.wanted) for worker in takers), default=0)
    for level in range(least, max((len(worker.wanted) + rooms.of(worker) for worker in takers), default=0)):
        for worker in takers:
            is_next = rooms.of(worker) and len(worker.wanted) <= level
            if not is_next or found_nothing.get(worker.name) == len(tx.facts):
                continue
            trial = _pick(tx, worker, assignable, rooms)
            if trial is None:
                found_nothing[worker.name] = len(tx.facts)
            elif rooms.take(worker, trial):
                _issue(tx, worker, trial)
        if not tx.farm.pending:
            return


def assignable_workers(tx: Transaction) -> list[Worker]:
    """The workers that may get an attempt now."""
    states = (WorkerState.READY, WorkerState.PROBATION)
    workers = tx.farm.workers.values()
    able = (w for w in workers if w.state in states and not w.drained)
    candidates = [w for w in able if not w.left_published and not _lost_too_many(tx, w)]
    return [w for w in candidates if tx.observed.may_get_work(w) and can_play(tx.farm, tx.observed.workers[w.name])]


def _takers(tx: Transaction, assignable: list[Worker], rooms: Rooms) -> list[Worker]:
    """The workers with room; the fastest first if not every one gets a trial, and without those that are so slow that
    faster ones will have played all that waits. A retry may need the very worker that is slow: it waits for no other.
    """
    trials, takers = len(tx.farm.pending), [worker for worker in assignable if rooms.of(worker)]
    if trials > _SEARCHED_MAX * len(assignable):
        return takers
    pace = Pace(tx.farm, tx.observed, tx.limits.grace_s)
    if trials < len(takers):
        takers.sort(key=lambda worker: (worker.state is WorkerState.PROBATION, pace.game_s(worker)))
    return takers if tx.farm.pending.retries else pace.without_slow(takers, assignable, trials)


def _loading(tx: Transaction) -> list[Worker]:
    """The workers that will be assignable once they have loaded their evaluator."""
    workers = (w for w in tx.farm.workers.values() if w.state is WorkerState.READY and not w.drained)
    return [
        worker
        for worker in workers
        if tx.observed.workers[worker.name].loading_since is not None and tx.observed.may_get_work(worker)
    ]


def _playing_on(tx: Transaction) -> list[Worker]:
    """The workers that will be assignable when a game is over that they play on (law 5 of share_layout.md)."""
    able = (w for w in tx.farm.workers.values() if w.state is WorkerState.READY and not w.drained)
    return [worker for worker in able if worker.left_published and tx.observed.may_get_work(worker)]


def _lost_too_many(tx: Transaction, worker: Worker) -> bool:
    """Whether the next sweep quarantines it: between two sweeps it would lose more."""
    return worker.losses >= (1 if worker.state is WorkerState.PROBATION else tx.limits.losses_max)


def _pick(tx: Transaction, worker: Worker, assignable: list[Worker], rooms: Rooms) -> Trial | None:
    """The next pending trial for this worker; trials it has not tried are preferred."""
    for trial in _candidates(tx.farm, worker):
        if trial.run_alone and worker.wanted:
            continue
        if worker.name not in trial.tried_by:
            return trial
        # It is queued only if it failed on every worker that is left: before it begins another one may come back.
        failed_by = trial.blamed_by
        queued = worker.name in failed_by and all(other.name in failed_by for other in tx.farm.usable())
        if (queued or not worker.wanted) and not _waits_for_other_worker(tx, worker, trial, assignable, rooms):
            return trial
    return None


def _waits_for_other_worker(
    tx: Transaction, worker: Worker, trial: Trial, assignable: list[Worker], rooms: Rooms
) -> bool:
    """Whether a trial waits for a worker that has not tried it. Before the last try it waits even for a full one:
    a worker that fails or loses every genome is never busy, and alone would fail each genome for good.
    """
    last_choice = set[str]()  # one set for both reasons, or workers of the two would wait for each other without an end
    if trial.blamed + 1 >= tx.limits.failures_max:
        last_choice |= trial.blamed_by
    if trial.losses + 1 >= tx.limits.losses_per_trial_max:
        last_choice |= trial.lost_by
    if worker.name in last_choice:
        later = (*_loading(tx), *_playing_on(tx), *coming_back(tx))
        return any(other.name not in last_choice for other in (*assignable, *later))
    others = (other for other in assignable if other.name not in trial.tried_by)
    return any(rooms.of(other) and not (trial.run_alone and other.wanted) for other in others)


def _candidates(farm: Farm, worker: Worker) -> Iterable[Trial]:
    """Pending trials by preference; on probation unsuspected genomes first, fresh trials before retries.

    Until a trial completes or three genomes fail, genomes that did not fail come first: if three fail for the same
    reason the evaluator is broken, and a retry of one of them cannot tell.
    """
    retries, fresh = (islice(trials.values(), _SEARCHED_MAX) for trials in (farm.pending.retries, farm.pending.fresh))
    if worker.state is WorkerState.PROBATION:
        return sorted(chain(fresh, retries), key=lambda trial: trial.genome.is_suspect)
    # Retries before fresh trials: a farm on which everything fails is noticed early.
    return chain(_of_other_genomes(farm) if farm.since_start.tries_new_genomes else (), retries, fresh)


def _of_other_genomes(farm: Farm) -> Iterator[Trial]:
    """The trials that were lost and did not fail, then one trial of each genome that was not tried."""
    yield from (
        trial for trial in islice(farm.pending.retries.values(), _SEARCHED_MAX) if trial.losses and not trial.blamed
    )
    for genome in islice(farm.untried.values(), _SEARCHED_MAX):
        yield from islice((trial for trial in genome.trials if trial.state is TrialState.PENDING), 1)


def _issue(tx: Transaction, worker: Worker, trial: Trial) -> None:
    number = len(trial.attempts) + 1
    nonce = tx.observation.nonce + base36(len(tx.facts), 4)  # unlike any other of this tick
    tx.add(
        AttemptIssued(
            attempt=attempt_id(tx.farm.generation, trial.genome.number, trial.number, number, nonce),
            genome=trial.genome.number,
            trial=trial.number,
            number=number,
            worker=worker.name,
            epoch=worker.epoch,
            publication=worker.publications + 1,
        )
    )


def base36(number: int, width: int) -> str:
    """A number below 36^width as exactly `width` characters of [0-9a-z]."""
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def rebalance(tx: Transaction, queues: Queues) -> None:
    """Withdraws queued attempts: from queues that are too deep for their games by now, and for workers without any."""
    for worker in tx.farm.workers.values():
        _shorten(tx, worker, queues.depth_of(tx.observed, worker))
    _give_to_idle(tx, queues)


def _shorten(tx: Transaction, worker: Worker, depth: int) -> None:
    """Withdraws what a queue grew by while games were shorter. A depth that only varies withdraws nothing."""
    if len(worker.wanted) > 2 * depth:
        for attempt in tx.observed.waiting(worker)[: len(worker.wanted) - depth]:
            tx.withdraw(attempt, "the games before it take longer than earlier ones")


def _give_to_idle(tx: Transaction, queues: Queues) -> None:
    """Withdraws an attempt from a worker that is busy for long, for each one that has none."""
    assignable = assignable_workers(tx)
    rooms = Rooms(queues, tx.observed, assignable)
    takers = {worker.name for worker in _takers(tx, assignable, rooms)}
    free = [worker for worker in assignable if not worker.wanted]
    idle = [worker for worker in free if worker.name not in takers or _pick(tx, worker, assignable, rooms) is None]
    if not idle:
        return
    pace = Pace(tx.farm, tx.observed, tx.limits.grace_s)
    idle.sort(key=pace.game_s)
    for worker in tx.farm.workers.values():
        for last in tx.observed.waiting(worker) if tx.observed.is_busy_for_long(worker) else ():
            # A worker that has tried it would not get it, and it would return to the same queue.
            taker = next((w for w in idle if w.name not in last.trial.tried_by), None)
            if taker is not None and not pace.ends_sooner(worker, taker):
                idle.remove(taker)
                tx.withdraw(last, "an idle worker can play it sooner")
                break
