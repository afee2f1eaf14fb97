"""Finds the genome that crashes the host's own operating system, and with it the host and all local workers. Pure.

Nothing says which of the games was the cause, and ordinary claims of local workers are not flushed. So what may have
been played is withdrawn and next played alone in its queue, with a flushed claim. What the next crash finds claimed is
next played while no other local worker plays; a crash then is its own doing, and its genome is charged.
Owns: what becomes of the attempts that local workers held when their host ended; when local workers are kept idle.
See: law 5 of share_layout.md.
"""

from collections.abc import Collection, Iterator
from itertools import islice

from inbox_agent.protocol.layout import Outcome
from pipeline.core.farm import Farm
from pipeline.core.model import Trial, Worker, WorkerState
from pipeline.core.transaction import Transaction

_SEARCHED_MAX = 64  #: trials that are looked at for each choice: bounds the cost of a tick when many wait for a worker


def end_what_host_left(tx: Transaction, worker: Worker) -> None:
    """Ends what a local worker held at the first scan of a host: its agent ended with the host before."""
    seen = tx.observed.workers[worker.name]
    for attempt in list(worker.wanted.values()):
        # The claim of an attempt that ran alone was flushed: without one, it had not begun.
        may_have_run = attempt.id not in seen.answers and (not attempt.run_alone or attempt.id in seen.claims)
        if not attempt.is_from_before(tx.farm.boot_id):
            tx.withdraw(attempt, "host ended")
        elif not may_have_run:
            tx.withdraw(attempt, "the host's system ended")
        elif attempt.alone_on_system:
            tx.give_up(attempt, Outcome.LOST, "the host's system ended while it was played alone", run_alone=True)
        else:
            reason = "the host's system ended while it may have been played"
            tx.give_up(attempt, Outcome.WITHDRAWN, reason, by_host=True, run_alone=True)


def is_system_reserved(farm: Farm, local: Collection[str]) -> bool:
    """Whether local workers get nothing but one trial at a time: one must be played alone on their system."""
    if not local:
        return False
    held = (attempt for name in local for attempt in islice(farm.workers[name].wanted.values(), 1))
    return any(attempt.alone_on_system for attempt in held) or any(_suspects(farm))


def next_on_free_system(
    farm: Farm, assignable: Collection[Worker], local: Collection[str]
) -> tuple[Worker, Trial] | None:
    """The next trial that is played alone on the system, and its worker; None while another one may be playing."""
    usable = [worker for name in local if (worker := farm.workers[name]).state is not WorkerState.OUT]
    held = (attempt for worker in usable for attempt in (*worker.wanted.values(), *worker.left_published.values()))
    idle = [worker for worker in assignable if worker.name in local]
    trial = next(_suspects(farm), None)
    if trial is None or not idle or not all(attempt.is_from_before(farm.boot_id) for attempt in held):
        return None
    charged = [attempt.worker for attempt in trial.genome.charges]
    return min(idle, key=lambda worker: (worker.name in trial.blamed_by, charged.count(worker.name))), trial


def _suspects(farm: Farm) -> Iterator[Trial]:
    return (trial for trial in islice(farm.pending.retries.values(), _SEARCHED_MAX) if trial.alone_on_system)
