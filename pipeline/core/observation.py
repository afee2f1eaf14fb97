"""What one tick saw: looks at shares, machines and the dice. Pure data, made by the edges, read by the rules.

A share that could not be read is *unknown*, not empty; a share that was not looked at in this tick is simply not here.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inbox_agent.protocol.layout import AgentRecord, HostRecord, ResultRecord
from pipeline.core.facts import RecoveryAction


class MachineState(enum.StrEnum):
    """What the machine layer says; only OFF and UNHEALTHY are opinions."""

    RUNNING = "running"
    OFF = "off"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """A worker's machine."""

    state: MachineState
    actions: tuple[RecoveryAction, ...] = ()  #: what it can do to recover, gentlest first; empty: nothing
    note: str = ""
    reverted: bool = False  #: it confirms that it went back to its checkpoint since the last question
    boots: bool = False  #: it is a computer: it takes minutes to come up, and its share is inside of it
    busy: bool = False  #: an order is still being carried out, or waits for its turn
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedResult:
    """A result that was read in full, or given up on."""

    attempt: str
    record: ResultRecord | None  #: None: present, but unreadable or wrong after several reads
    problem: str = ""
    unknown_layout: bool = False  #: it is complete, and of a layout version this host does not speak
    data: bytes = b""  #: the bytes as they were read; what is archived is what was parsed
    log: bytes = b""
    artifacts: tuple[str, ...] = ()  #: names of those that were fetched
    missing: tuple[str, ...] = ()  #: log or artifacts it speaks for that could not be had
    issued_in_other_run: bool = False  #: issued by this ledger in another run or generation
    collected_in_other_run: bool = False  #: … and collected or noted there; its file has only not been cleaned up


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareScan:
    """One look at one share. A quick look sees `outbox/` only; a full one everything."""

    worker: str
    full: bool = False
    #: on the watch's clock; what has happened to the machine since, it may not have seen
    requested_at: float = math.inf
    unknown: str = ""  #: why the share could not be read; the rest is then empty and says nothing
    no_folders: bool = False  #: there are no folders yet
    owner: HostRecord | None = None  #: the `host.json` of the highest epoch
    damaged_epoch: int = 0  #: of the highest `host.json` if that cannot be read; 0 if it can
    starts: frozenset[str] = frozenset()  #: attempts whose start signal is in `inbox/`
    payloads: frozenset[str] = frozenset()  #: attempts whose genome is in `inbox/`
    complete: frozenset[str] = frozenset()  #: of those asked about: record and payload are there in full size
    unknown_starts: frozenset[str] = frozenset()  #: start signals this ledger never issued
    heartbeat: AgentRecord | None = None
    claims: frozenset[str] = frozenset()  #: attempts that are claimed
    answers: frozenset[str] = frozenset()  #: attempts that have a result in `outbox/`
    results: tuple[CollectedResult, ...] = ()  #: those of them that were read in this look


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything one tick saw."""

    now: float  #: the host's monotonic clock, seconds
    wall: float  #: the host's wall clock, for people
    nonce: str  #: 8 characters of [0-9a-z], drawn for this tick
    sweep: bool = False  #: whether the metronome asked: deadlines and machines are checked
    scans: Sequence[ShareScan] = ()
    machines: Mapping[str, MachineStatus] = field(default_factory=dict)
