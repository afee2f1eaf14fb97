"""Checks the owner and the epoch of a share. Pure.

Owns: when an epoch begins, when a share belongs to another farm, worker or host, when a listing counts, how often a
share may go back in time.
See: laws 4 and 7 of share_layout.md.
"""

from inbox_agent.protocol.layout import AgentRecord, Outcome
from pipeline.core.facts import EpochOpened
from pipeline.core.model import Worker, WorkerState
from pipeline.core.observation import ShareScan
from pipeline.core.observed import ObservedWorker
from pipeline.core.transaction import Transaction
from pipeline.core.worker_actions import exclude, quarantine

_OTHER_OWNER = "the share has another owner"


def check_ownership(tx: Transaction, scan: ShareScan) -> None:
    """Evaluates a full scan: the share's owner, its epoch, and the agent that beats on it."""
    worker, seen = tx.farm.workers[scan.worker], tx.observed.workers[scan.worker]
    if scan.unknown or not scan.full or worker.state is WorkerState.OUT:
        return
    if scan.damaged_epoch:
        _host_record_damaged(tx, worker, scan)
    elif scan.owner is None:
        _no_host_record(tx, worker, seen, scan)
    elif (scan.owner.farm, scan.owner.worker) != (tx.farm.farm_id, worker.name):
        reason = f"its share belongs to worker {scan.owner.worker!r} of farm {scan.owner.farm}"
        fix = f"this run does not touch it. If that farm is gone for good: pipeline take-over {worker.name}"
        exclude(tx, worker, f"{reason}; {fix}", withdrawal=_OTHER_OWNER)
    elif scan.owner.epoch > worker.epoch or scan.unknown_starts:
        found = f"epoch {scan.owner.epoch}, the ledger knows {worker.epoch}"
        if scan.owner.epoch <= worker.epoch:
            found = f"start signal {min(scan.unknown_starts)}, which the ledger never issued"
        reason = f"its share shows {found}: a second host, or an old ledger"
        fix = f"this run does not touch it. If no other host is running: pipeline take-over {worker.name}"
        exclude(tx, worker, f"{reason}; {fix}", withdrawal=_OTHER_OWNER)
    elif scan.owner.epoch < worker.epoch:
        if worker.epoch_open:
            _note_revert(tx, worker, scan.owner.epoch, f"host.json of epoch {worker.epoch} is missing")
    else:
        if not worker.epoch_open:
            tx.add(EpochOpened(worker=worker.name, epoch=worker.epoch))
            seen.seen_alive_at = tx.observed.time  # no agent could beat in this epoch before
        _check_history(tx, worker, seen, scan)


def _host_record_damaged(tx: Transaction, worker: Worker, scan: ShareScan) -> None:
    """Handles a newest `host.json` that a power cut or a full disk has damaged.

    In an epoch that was never open nothing was evaluated, so `plan` writes its `host.json` again. In an open one a new
    epoch begins. An epoch above the ledger's is not ours: the worker is out.
    """
    if scan.damaged_epoch <= worker.epoch and not worker.epoch_open:
        return
    if scan.damaged_epoch <= worker.epoch:
        reason = f"host.json of epoch {scan.damaged_epoch} cannot be used: {scan.damage}"
        _note_revert(tx, worker, scan.damaged_epoch, reason)
    else:
        found = f"a host.json of epoch {scan.damaged_epoch} that cannot be used ({scan.damage})"
        reason = f"its share shows {found}, which this farm never wrote"
        fix = f"if no other host is running: pipeline take-over {worker.name}"
        exclude(tx, worker, f"{reason}; {fix}", withdrawal=_OTHER_OWNER)


def _no_host_record(tx: Transaction, worker: Worker, seen: ObservedWorker, scan: ShareScan) -> None:
    if worker.epoch == 0:
        tx.raise_epoch(worker.name, 0, "first contact")
    elif worker.reverting or seen.reverted:
        _note_revert(tx, worker, 0, "the machine went back to its checkpoint")
    elif worker.epoch_open:
        # An unmounted or re-created folder is empty too: draw no conclusion (law 4 of share_layout.md).
        seen.readable = False
        seen.unknown = "no host.json in inbox/: not mounted, or emptied by hand"
    elif scan.no_folders and worker.epoch > 1:
        seen.readable, seen.unknown = False, "the folders are gone"


def _check_history(tx: Transaction, worker: Worker, seen: ObservedWorker, scan: ShareScan) -> None:
    gone = sorted((seen.listed & worker.wanted.keys()) - scan.starts)
    if gone:
        _note_revert(tx, worker, worker.epoch, f"start signal {gone[0]} is missing")
        return
    seen.listed |= scan.starts & worker.wanted.keys()
    for attempt_id in sorted(seen.unconfirmed):
        seen.unconfirmed.discard(attempt_id)
        if attempt_id in scan.complete:
            seen.delivered.add(attempt_id)
        elif attempt_id in worker.wanted:
            # Do not reuse the id: its files are deleted, and the trial gets a new one (law 3 of share_layout.md).
            why = seen.write_problem.partition("; ")[0]
            reason = f"its publication did not arrive in full{f': {why}' if why else ''}"
            tx.give_up(worker.wanted[attempt_id], Outcome.UNDELIVERED, reason)
    heartbeat = scan.heartbeat
    if heartbeat is not None and (heartbeat.farm, heartbeat.worker, heartbeat.epoch) == (
        tx.farm.farm_id,
        worker.name,
        worker.epoch,
    ):
        _take_heartbeat(tx, worker, seen, scan, heartbeat)


def _take_heartbeat(
    tx: Transaction, worker: Worker, seen: ObservedWorker, scan: ShareScan, heartbeat: AgentRecord
) -> None:
    last = seen.heartbeat
    if last is not None and (last.run_id, last.counter) == (heartbeat.run_id, heartbeat.counter):
        return
    if last is not None and last.run_id == heartbeat.run_id and heartbeat.counter < last.counter:
        reason = f"the heartbeat counter fell from {last.counter} to {heartbeat.counter}"
        if _note_revert(tx, worker, worker.epoch, reason):
            return
    if last is not None and last.run_id != heartbeat.run_id:
        seen.replaced_runs.add(last.run_id)
        if heartbeat.run_id in seen.replaced_runs:
            seen.returned_runs += 1
            if _old_run_returned(tx, worker, seen, heartbeat):
                return
    tx.observed.note_heartbeat(seen, scan, heartbeat)


def _old_run_returned(tx: Transaction, worker: Worker, seen: ObservedWorker, heartbeat: AgentRecord) -> bool:
    """Handles a run that another one had replaced; False if its heartbeat counts."""
    if seen.returned_runs < 2 or worker.state not in (WorkerState.READY, WorkerState.RECOVERING):
        reason = f"agent run {heartbeat.run_id} is back, another one had followed it"
        return _note_revert(tx, worker, worker.epoch, reason)
    quarantine(tx, worker, "two agents take turns on this share; stop one of them")
    return True


def _note_revert(tx: Transaction, worker: Worker, on_share: int, reason: str) -> bool:
    """Begins a new epoch of a share that went back in time; False if none begins.

    Each costs a fact and a file, so a share that goes back again and again has its worker quarantined. None begins
    until its probation: nothing is published meanwhile, and ids are never used again.
    """
    is_quarantined = worker.state is WorkerState.QUARANTINED
    if is_quarantined and worker.reverts > tx.limits.reverts_max and not worker.reverting:
        return False
    tx.raise_epoch(worker.name, on_share, reason)
    if worker.reverts > tx.limits.reverts_max and not is_quarantined:
        found = f"its share went back in time {worker.reverts} times; the last: {reason}"
        quarantine(tx, worker, f"{found}; find out what restores or rewrites it")
    return True
