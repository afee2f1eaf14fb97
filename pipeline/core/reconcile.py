"""Reconciles shares and machines with the farm: desired minus observed gives the actions. Pure.

Owns: what is published, removed, started or restarted. `plan` may be called again at any time.
Not here: executing the actions (`pipeline.host.control_loop`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from inbox_agent.protocol.layout import HostRecord, StartRecord
from pipeline.core.facts import RecoveryAction
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Worker, WorkerState
from pipeline.core.observation import MachineState
from pipeline.core.observed import Observed


@dataclass(frozen=True, slots=True)
class ShareAction:
    """The actions on one share, in this sequence: write `host.json`, remove, publish."""

    worker: str
    host: HostRecord | None = None
    remove: tuple[str, ...] = ()  #: attempts: start signal first, then genome
    publish: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineAction:
    """The action on one machine: a recovery action, or None for its first start."""

    worker: str
    recovery: RecoveryAction | None


Action = ShareAction | MachineAction


def plan(farm: Farm, observed: Observed, workers: Iterable[str]) -> list[Action]:
    """The actions that bring the shares and machines of these workers to the farm's state; empty if they match."""
    actions: list[Action] = []
    for name in sorted(workers):
        worker = farm.workers.get(name)
        if worker is None or worker.state is WorkerState.OUT:
            continue
        # The share first: an agent that is about to start must not find attempts that are over.
        share = _share_action(farm, worker, observed)
        actions += [share] if share is not None else []
        actions += _machine_actions(worker, observed)
    return actions


def _machine_actions(worker: Worker, observed: Observed) -> list[Action]:
    seen = observed.workers[worker.name]
    if seen.machine is None:
        return []
    if worker.recovery is not None and not seen.recovery_ordered:
        return [MachineAction(worker.name, worker.recovery)]
    # Scan before the first start: collect what an earlier agent left before a new one cleans up.
    looked = seen.scanned or (seen.machine.boots and seen.unknown)  # the share of a machine that is off is off
    first = not seen.machine_started and seen.machine.state is MachineState.OFF and looked
    return [MachineAction(worker.name, None)] if first else []


def _share_action(farm: Farm, worker: Worker, observed: Observed) -> ShareAction | None:
    seen = observed.workers[worker.name]
    if worker.epoch == 0 or not seen.readable:
        return None
    if not worker.epoch_open:
        return ShareAction(worker.name, host=HostRecord(farm=farm.farm_id, worker=worker.name, epoch=worker.epoch))
    wanted = worker.wanted.keys() | worker.left_published.keys()
    remove = tuple(sorted(observed.removable(worker.name, (seen.starts | seen.payloads) - wanted)))
    publish = tuple(
        attempt
        for attempt in worker.wanted.values()
        if attempt.id not in seen.delivered and attempt.id not in seen.unconfirmed
    )
    return ShareAction(worker.name, remove=remove, publish=publish) if remove or publish else None


def start_record(farm: Farm, attempt: Attempt) -> StartRecord:
    """The start signal of an attempt. Depends on the ledger alone, so it can be rebuilt byte for byte."""
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
