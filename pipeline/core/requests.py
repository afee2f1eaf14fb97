"""The requests to shares and machines: scans, and the actions that bring them to the farm's state. Pure.

Owns: what a request contains. Not here: which ones are due (`reconcile`, `pipeline.host.control_loop`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.layout import AgentRecord, HostRecord, StartRecord
from pipeline.core.facts import RecoveryAction
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt
from pipeline.core.observed import Observed, PowerAction


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """One scan of one share: of `outbox/`, or of everything."""

    worker: str
    full: bool = False
    generation: int = 0  #: for whose artifacts there may be room
    handled: frozenset[str] = frozenset()  #: attempts with results that need not be read again
    unanswered: frozenset[str] = frozenset()  #: attempts that this worker was issued and no result was seen of
    wanted: frozenset[str] = frozenset()  #: those whose result may count: their logs and artifacts are read as well
    reads_others: bool = True  #: whether results of other attempts are read, a few in each scan
    #: attempt with an unconfirmed publication -> sizes in bytes of its start record and genome
    expected_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendDeployment:
    """Publish a deployment, then remove the earlier ones."""

    record: DeployRecord
    earlier: tuple[int, ...]  #: numbers


@dataclass(frozen=True, slots=True)
class ShareAction:
    """The actions on one share, in this sequence: write `host.json`, remove, publish, deploy."""

    worker: str
    host: HostRecord | None = None
    remove: tuple[str, ...] = ()  #: attempts: start signal first, then genome
    publish: tuple[StartRecord, ...] = ()
    deploy: SendDeployment | None = None


ShareRequest = ScanRequest | ShareAction


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvidence:
    """What the host knew of a worker when it ordered a restore."""

    state: str
    reason: str
    held: tuple[str, ...]  #: attempts
    heartbeat: AgentRecord | None


@dataclass(frozen=True, slots=True)
class MachineAction:
    """The action on one machine: a recovery action, or None for one on its power."""

    worker: str
    recovery: RecoveryAction | None
    evidence: WorkerEvidence | None = None  #: of a restore, to be saved before it
    power: PowerAction = PowerAction.START  #: without a recovery action


def scan_request(farm: Farm, observed: Observed, worker: str, *, full: bool) -> ScanRequest:
    """The request to scan a share; a full scan also looks for the publications that are not confirmed."""
    seen = observed.workers[worker]
    held, given_up = farm.workers[worker].wanted, farm.workers[worker].given_up
    unconfirmed = [farm.attempts[a] for a in sorted(seen.unconfirmed) if a in farm.attempts] if full else []
    return ScanRequest(
        worker=worker,
        full=full,
        generation=farm.generation,
        handled=frozenset(seen.handled),
        unanswered=frozenset(held.keys() | given_up.keys()),
        wanted=frozenset([*held, *(attempt.id for attempt in given_up.values() if attempt.is_countable)]),
        reads_others=not observed.is_flooded(farm.workers[worker]),
        expected_sizes={
            a.id: (len(layout.encode(start_record(farm, a))), a.trial.genome.size_bytes) for a in unconfirmed
        },
    )


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
        evaluator=attempt.wanted_evaluator or None,
        new_process=attempt.new_process,
        alone=attempt.run_alone,
    )
