"""The input of one tick: scans of shares, status of machines, time and a nonce. Pure data.

A share that could not be read is *unknown*, not empty; a share that was not scanned in this tick is left out.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inbox_agent.protocol.layout import AgentRecord, HostRecord, ResultRecord
from pipeline.core.facts import RecoveryAction


class MachineState(enum.StrEnum):
    """The state that the machine layer reports; only OFF and UNHEALTHY are grounds for a recovery action."""

    RUNNING = "running"
    OFF = "off"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """The status of a worker's machine."""

    state: MachineState
    actions: tuple[RecoveryAction, ...] = ()  #: recovery actions it offers, least disruptive first
    note: str = ""
    reverted: bool = False  #: it was reverted to its checkpoint since the last status
    boots: bool = False  #: it is a computer that takes time to boot, and its share is inside it
    busy: bool = False  #: an action is running or queued
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedResult:
    """A result that was read completely, or given up."""

    attempt: str
    record: ResultRecord | None  #: None: present, but unreadable or invalid after several reads
    problem: str = ""
    unknown_layout: bool = False  #: complete, but of an unknown layout version
    data: bytes = b""  #: the bytes that were parsed, to be archived unchanged
    log: bytes = b""
    artifacts: tuple[str, ...] = ()  #: names of the artifacts that were fetched
    missing: tuple[str, ...] = ()  #: log or artifacts it names that could not be fetched
    issued_in_other_run: bool = False  #: issued by this ledger in another run or generation
    collected_in_other_run: bool = False  #: … and collected or noted there; its file is not removed yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareScan:
    """One scan of one share. A quick scan covers `outbox/` only, a full one everything."""

    worker: str
    full: bool = False
    #: on the clock of `Observed`; later changes of the machine may be missing
    requested_at: float = math.inf
    round_trip_s: float = 0.0  #: between request and response
    unknown: str = ""  #: why the share could not be read; the other fields are then meaningless
    no_folders: bool = False  #: there are no folders yet
    owner: HostRecord | None = None  #: the `host.json` of the highest epoch
    damaged_epoch: int = 0  #: of the highest `host.json` if that cannot be read; 0 if it can
    damage: str = ""  #: why it cannot be read
    starts: frozenset[str] = frozenset()  #: attempts with a start signal in `inbox/`
    payloads: frozenset[str] = frozenset()  #: attempts with a genome in `inbox/`
    complete: frozenset[str] = frozenset()  #: of those asked about: record and payload have their full sizes
    unknown_starts: frozenset[str] = frozenset()  #: start signals this ledger never issued
    deployments: frozenset[int] = frozenset()  #: the numbers of the deployments in `inbox/`
    heartbeat: AgentRecord | None = None
    unknown_heartbeat: str = ""  #: which layout version the heartbeat has, if it is not this program's
    heartbeat_problem: str = ""  #: why the heartbeat cannot be read, if there is one
    no_heartbeat: bool = False  #: there is none
    claims: frozenset[str] = frozenset()  #: attempts that are claimed
    answers: frozenset[str] = frozenset()  #: attempts that have a result in `outbox/`
    results: tuple[CollectedResult, ...] = ()  #: those of them that were read in this scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The input of one tick."""

    now: float  #: the host's monotonic clock, seconds
    wall: float  #: the host's wall clock, for display
    nonce: str  #: 8 characters of [0-9a-z], drawn for this tick
    sweep: bool = False  #: whether the timers asked for it: deadlines and machines are checked
    is_open: bool = False  #: more genomes may join, so the run does not finish
    scans: Sequence[ShareScan] = ()
    machines: Mapping[str, MachineStatus] = field(default_factory=dict)
