"""The policy: from what was seen to facts (`decide`), from facts to acts (`plan`). Pure.

`decide` runs the rules in the one order that is safe: whose share, what came back, what is overdue, who is not well,
who gets what. `plan` derives every act from the farm and the watch, desired minus seen; it may be asked for ever.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

from inbox_agent.protocol.layout import HostRecord, StartRecord, attempt_id
from pipeline.core.acceptance import judge
from pipeline.core.deadlines import enforce_deadlines
from pipeline.core.facts import AttemptIssued, RunFinished, Rung
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, Trial, Worker, WorkerState
from pipeline.core.observation import MachineState, View
from pipeline.core.observed import Watch
from pipeline.core.ownership import settle_ownership
from pipeline.core.recovery import tend
from pipeline.core.transaction import Minutes

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SEARCHED_MAX = 64  # a tick stays cheap however many trials wait for another worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """How many attempts each worker may hold, playing and waiting."""

    depth: dict[str, int]
    local: frozenset[str]  #: workers whose agents end with this host


def decide(farm: Farm, watch: Watch, view: View, limits: Limits, queues: Queues) -> Minutes:
    """Everything that follows from one view. The farm is advanced; the facts are in the minutes, to be recorded."""
    minutes = Minutes(farm, watch, view, limits)
    first_looks = [look for look in view.looks if look.full and not watch.workers[look.worker].looked]
    watch.see(farm, view)
    for look in view.looks:
        settle_ownership(minutes, look)
        judge(minutes, look)
    for look in first_looks:
        if look.worker in queues.local:
            _end_what_a_dead_host_left(minutes, farm.workers[look.worker])
    if view.sweep:
        for worker in farm.workers.values():
            enforce_deadlines(minutes, worker)
            tend(minutes, worker)
        _take_back(minutes, queues)
    if farm.generation and farm.has_pending:
        _assign(minutes, queues)
    if farm.generation and not farm.open_trials and not farm.finished:
        minutes.state(RunFinished())
    return minutes


def _end_what_a_dead_host_left(minutes: Minutes, worker: Worker) -> None:
    """Local agents end with their host, so what a killed one had given them is not being played (design, §4)."""
    watched = minutes.watch.workers[worker.name]
    if watched.readable and not watched.machine_started:
        for attempt in list(worker.wanted.values()):
            minutes.withdraw(attempt, "host ended")


# -------------------------------------------------------------------------------------------------------- assigning


def _assign(minutes: Minutes, queues: Queues) -> None:
    """Fills the queues, the emptiest first, so that every worker plays before any worker waits."""
    able = _able(minutes)
    for level in range(max((queues.depth[w.name] for w in able), default=0)):
        for worker in able:
            if len(worker.wanted) > level or not _has_room(worker, queues):
                continue
            trial = _pick(minutes, worker, able, queues)
            if trial is not None:
                _issue(minutes, worker, trial)


def _able(minutes: Minutes) -> list[Worker]:
    """The workers that would play what they are given."""
    states = (WorkerState.READY, WorkerState.PROBATION)
    workers = minutes.farm.workers.values()
    return [w for w in workers if w.state in states and not w.kept and minutes.watch.may_get_work(w)]


def _has_room(worker: Worker, queues: Queues) -> bool:
    depth = 1 if worker.state is WorkerState.PROBATION else queues.depth[worker.name]
    return len(worker.wanted) < depth and not any(attempt.alone for attempt in worker.wanted.values())


def _pick(minutes: Minutes, worker: Worker, able: list[Worker], queues: Queues) -> Trial | None:
    """The first pending trial this worker should have: rather one that it has not tried than one that it has."""
    for trial in _in_its_order(minutes.farm, worker):
        if trial.alone and worker.wanted:
            continue
        if worker.name not in trial.tried_by:
            return trial
        if not worker.wanted and not _is_for_another(minutes, worker, trial, able, queues):
            return trial
    return None


def _is_for_another(minutes: Minutes, worker: Worker, trial: Trial, able: list[Worker], queues: Queues) -> bool:
    """Whether a trial waits for somebody who has not tried it. On the last try it does so even if nobody of them has
    room: a worker that fails whatever it gets is never busy, and would condemn every genome by itself.
    """
    if trial.blamed + 1 >= minutes.limits.attempts_max and worker.name in trial.blamed_by:
        return any(other.name not in trial.blamed_by for other in able)
    others = (other for other in able if other.name not in trial.tried_by)
    return any(_has_room(other, queues) and not (trial.alone and other.wanted) for other in others)


def _in_its_order(farm: Farm, worker: Worker) -> Iterable[Trial]:
    """What waits. Probation tries the worker and not the genome: rather with one that took nobody down, new first."""
    retries, fresh = (islice(trials.values(), _SEARCHED_MAX) for trials in (farm.retries, farm.fresh))
    if worker.state is not WorkerState.PROBATION:
        return chain(retries, fresh)  # a failing farm shows itself soon
    return sorted(chain(fresh, retries), key=lambda trial: trial.genome.is_suspect)


def _issue(minutes: Minutes, worker: Worker, trial: Trial) -> None:
    number = len(trial.attempts) + 1
    nonce = minutes.view.nonce + base36(len(minutes.facts), 4)  # unlike any other of this tick
    minutes.state(
        AttemptIssued(
            attempt=attempt_id(minutes.farm.generation, trial.genome.number, trial.number, number, nonce),
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


def _take_back(minutes: Minutes, queues: Queues) -> None:
    """Takes waiting attempts from workers with a long game in hand, for workers that have nothing to do."""
    farm, watch, able = minutes.farm, minutes.watch, _able(minutes)
    idle = [w for w in able if not w.wanted and _pick(minutes, w, able, queues) is None]
    for worker in farm.workers.values() if idle else ():
        claims = watch.workers[worker.name].claims
        playing = [claims[a] for a in worker.wanted if a in claims]
        waiting = [a for a in worker.wanted.values() if a.id not in claims]
        if not playing or watch.time - min(playing) <= minutes.limits.take_back_after_s:
            continue
        for last in sorted(waiting, key=lambda attempt: attempt.publication, reverse=True):
            # Who has tried it would not be given it, and it would come back at once.
            taker = next((w for w in idle if w.name not in last.trial.tried_by), None)
            if taker is not None:
                idle.remove(taker)
                minutes.withdraw(last, "an idle worker can play it sooner")
                break


# ------------------------------------------------------------------------------------------------------------- acts


@dataclass(frozen=True, slots=True)
class ShareAct:
    """What is to be done on one share, in this order: say whose it is, remove, publish."""

    worker: str
    host: HostRecord | None = None
    remove: tuple[str, ...] = ()  #: attempts: start signal first, then genome
    publish: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineAct:
    """What is to be done to one machine: a rung, or None for its first start."""

    worker: str
    rung: Rung | None


Act = ShareAct | MachineAct


def plan(farm: Farm, watch: Watch, workers: Iterable[str]) -> list[Act]:
    """The acts that bring the world of these workers to what the farm says; empty when it is there already."""
    acts: list[Act] = []
    for name in sorted(workers):
        worker = farm.workers.get(name)
        if worker is None or worker.state is WorkerState.OUT:
            continue
        # The share first: an agent that is about to start must not meet what nobody wants any more.
        share = _share_act(farm, worker, watch)
        acts += [share] if share is not None else []
        acts += _machine_acts(worker, watch)
    return acts


def _machine_acts(worker: Worker, watch: Watch) -> list[Act]:
    watched = watch.workers[worker.name]
    if watched.machine is None:
        return []
    if worker.rung is not None and not watched.rung_ordered:
        return [MachineAct(worker.name, worker.rung)]
    # The first start waits for the first look: what a dead host's agent left is collected before a new one tidies up.
    looked = watched.looked or (watched.machine.boots and watched.unknown)  # the share of a machine that is off is off
    first = not watched.machine_started and watched.machine.state is MachineState.OFF and looked
    return [MachineAct(worker.name, None)] if first else []


def _share_act(farm: Farm, worker: Worker, watch: Watch) -> ShareAct | None:
    watched = watch.workers[worker.name]
    if worker.epoch == 0 or not watched.readable:
        return None
    if not worker.epoch_open:
        return ShareAct(worker.name, host=HostRecord(farm=farm.farm_id, worker=worker.name, epoch=worker.epoch))
    wanted = worker.wanted.keys() | worker.kept.keys()
    remove = tuple(sorted(watch.removable(worker.name, (watched.starts | watched.payloads) - wanted)))
    publish = tuple(
        attempt
        for attempt in worker.wanted.values()
        if attempt.id not in watched.delivered and attempt.id not in watched.uncertain
    )
    return ShareAct(worker.name, remove=remove, publish=publish) if remove or publish else None


def start_record(farm: Farm, attempt: Attempt) -> StartRecord:
    """The start signal of an attempt; a function of the ledger alone, so it can be written again to the same bytes."""
    assert farm.settings is not None
    trial, genome = attempt.trial, attempt.trial.genome
    return StartRecord(
        farm=farm.farm_id,
        worker=attempt.worker,
        epoch=attempt.epoch,
        publication=attempt.publication,
        attempt=attempt.id,
        trial=trial.number,
        seed=trial.seed,
        time_limit_s=farm.settings.time_limit_s,
        genome_name=genome.name,
        genome_suffix=genome.suffix,
        genome_bytes=genome.size_bytes,
        genome_sha256=genome.sha256,
        settings=farm.settings.settings,
    )


def standstill(farm: Farm, workers: int) -> str:
    """Why the farm cannot go on; the empty string while it can."""
    if farm.finished or not farm.open_trials:
        return ""
    if not farm.usable():
        reasons = "; ".join(f"{w.name}: {w.reason}" for w in farm.workers.values())
        return f"every worker is out ({reasons})"
    first = max(5, 2 * workers)
    if farm.settled_since_start >= first and farm.failed_since_start == farm.settled_since_start:
        return f"the first {farm.settled_since_start} trials since this start all failed"
    return ""
