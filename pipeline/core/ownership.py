"""Whose share is it, and which of its histories? Laws 4 and 7. Pure.

It decides when an epoch begins, when a share is somebody else's, and when a listing may be believed at all.
"""

from inbox_agent.protocol.layout import AgentRecord, Outcome
from pipeline.core.facts import EpochOpened, WorkerOut
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import Look
from pipeline.core.observed import WorkerWatch
from pipeline.core.recovery import quarantine
from pipeline.core.transaction import Transaction


def check_ownership(tx: Transaction, look: Look) -> None:
    """Draws the conclusions of a full look about whose share it is, which epoch it shows and who beats on it."""
    worker, watched = tx.farm.workers[look.worker], tx.watch.workers[look.worker]
    if look.unknown or not look.full or worker.state is WorkerState.OUT:
        return
    if look.damaged_epoch:
        _host_record_damaged(tx, worker, look)
    elif look.owner is None:
        _no_host_record(tx, worker, watched, look)
    elif (look.owner.farm, look.owner.worker) != (tx.farm.farm_id, worker.name):
        _exclude(
            tx,
            worker,
            f"its share belongs to worker {look.owner.worker!r} of farm {look.owner.farm}; hands off. "
            f"If that farm is gone for good: pipeline take-over {worker.name}",
        )
    elif look.owner.epoch > worker.epoch or look.strangers:
        found = f"epoch {look.owner.epoch}, the ledger knows {worker.epoch}"
        if look.owner.epoch <= worker.epoch:
            found = f"start signal {min(look.strangers)}, which the ledger never issued"
        _exclude(
            tx,
            worker,
            f"its share shows {found}: a second host, or an old ledger; hands off. "
            f"If no other host is running: pipeline take-over {worker.name}",
        )
    elif look.owner.epoch < worker.epoch:
        if worker.epoch_open:
            _raise_epoch(tx, worker, look, f"host.json of epoch {worker.epoch} is missing")
    else:
        if not worker.epoch_open:
            tx.add(EpochOpened(worker=worker.name, epoch=worker.epoch))
            watched.life_at = tx.watch.time  # nobody could beat in its name before
        _check_history(tx, worker, watched, look)


def _host_record_damaged(tx: Transaction, worker: Worker, look: Look) -> None:
    """The newest `host.json` was torn by a power cut or a full disk. If it can only be ours, it is mended.

    Of an epoch that was never seen open nothing can have been played, so its `host.json` is written again (`plan`); one
    that was begins a new epoch.
    """
    if look.damaged_epoch <= worker.epoch and not worker.epoch_open:
        return
    if look.damaged_epoch <= worker.epoch:
        reason = f"host.json of epoch {look.damaged_epoch} is damaged"
        tx.raise_epoch(worker.name, look.damaged_epoch, reason)
    else:
        reason = f"its share shows a damaged host.json of epoch {look.damaged_epoch}, which this farm never wrote"
        _exclude(tx, worker, f"{reason}; if no other host is running: pipeline take-over {worker.name}")


def _no_host_record(tx: Transaction, worker: Worker, watched: WorkerWatch, look: Look) -> None:
    if worker.epoch == 0:
        tx.raise_epoch(worker.name, 0, "first contact")
    elif worker.reverting or watched.reverted:
        tx.raise_epoch(worker.name, 0, "the machine went back to its checkpoint")
    elif worker.epoch_open:
        # An unmounted or re-created folder is empty too, so this listing says nothing (law 4).
        watched.readable = False
        watched.unknown = "no host.json in inbox/: not mounted, or emptied by hand"
    elif look.bare and worker.epoch > 1:
        watched.readable, watched.unknown = False, "the folders are gone"


def _check_history(tx: Transaction, worker: Worker, watched: WorkerWatch, look: Look) -> None:
    gone = sorted((watched.listed & worker.wanted.keys()) - look.starts)
    if gone:
        _raise_epoch(tx, worker, look, f"start signal {gone[0]} is missing")
        return
    watched.listed |= look.starts & worker.wanted.keys()
    for attempt_id in sorted(watched.uncertain):
        watched.uncertain.discard(attempt_id)
        if attempt_id in look.whole:
            watched.delivered.add(attempt_id)
        elif attempt_id in worker.wanted:
            # The id is burnt: whatever of it is there will be deleted, and the trial gets a new one (law 3).
            reason = "its publication did not arrive in full"
            tx.give_up(worker.wanted[attempt_id], Outcome.UNDELIVERED, reason)
    beat = look.beat
    if beat is not None and (beat.farm, beat.worker, beat.epoch) == (
        tx.farm.farm_id,
        worker.name,
        worker.epoch,
    ):
        _take_heartbeat(tx, worker, watched, look, beat)


def _take_heartbeat(tx: Transaction, worker: Worker, watched: WorkerWatch, look: Look, beat: AgentRecord) -> None:
    last = watched.beat
    if last is not None and (last.run_id, last.counter) == (beat.run_id, beat.counter):
        return
    if last is not None and last.run_id == beat.run_id and beat.counter < last.counter:
        _raise_epoch(tx, worker, look, f"the heartbeat counter fell from {last.counter} to {beat.counter}")
        return
    if last is not None and last.run_id != beat.run_id:
        watched.replaced_runs.add(last.run_id)
        if beat.run_id in watched.replaced_runs:
            watched.returned_runs += 1
            _old_run_returned(tx, worker, watched, look, beat)
            return
    watched.beat = beat
    tx.watch.note_life(watched, look)


def _old_run_returned(tx: Transaction, worker: Worker, watched: WorkerWatch, look: Look, beat: AgentRecord) -> None:
    if watched.returned_runs < 2 or worker.state not in (WorkerState.READY, WorkerState.RECOVERING):
        _raise_epoch(tx, worker, look, f"agent run {beat.run_id} is back, another one had followed it")
        return
    quarantine(tx, worker, "two agents take turns on this share; stop one of them")


def _raise_epoch(tx: Transaction, worker: Worker, look: Look, reason: str) -> None:
    on_share = look.owner.epoch if look.owner else 0
    tx.raise_epoch(worker.name, on_share, reason)


def _exclude(tx: Transaction, worker: Worker, reason: str) -> None:
    for attempt in list(worker.wanted.values()):
        tx.withdraw(attempt, "the share is somebody else's")
    tx.add(WorkerOut(worker=worker.name, reason=reason))
