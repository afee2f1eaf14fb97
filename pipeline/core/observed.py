"""What this host process has seen so far: signs of life, what is surely delivered, and for how long. Pure.

Never stored: a restarted host begins with an empty watch and looks again. All durations are measured on one fair clock
that advances with each tick by the time that passed, but never by more than a quarter of the silence limit, so that a
suspended or stalled host does not call everybody dead (law 5).
"""

from collections.abc import Set
from dataclasses import dataclass, field

from inbox_agent.protocol.layout import AgentRecord
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Worker
from pipeline.core.observation import MachineState, MachineStatus, Observation, ShareScan

REMOVE_AGAIN_S = 30.0  #: after a genome could not be removed: on Windows each try waits for who has it open


@dataclass(slots=True)
class ObservedWorker:
    """One worker, as this process has seen it. Times are on the fair clock."""

    seen_alive_at: float  #: last sign of life, or when one could have been seen first
    seen_alive_requested_at: float = 0.0  #: when the look was asked for that showed the last sign of life
    alive: bool = False  #: a beat of this epoch, or a record, was seen since the watch or the epoch began
    scanned: bool = False  #: at least one full look succeeded in this process
    readable: bool = False
    unknown: str = ""  #: why the last look failed
    heartbeat: AgentRecord | None = None
    replaced_runs: set[str] = field(default_factory=set)  #: agent lives that another one followed
    returned_runs: int = 0  #: how often such a life came back
    starts: set[str] = field(default_factory=set)  #: start signals believed to be in `inbox/`
    payloads: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)  #: attempts that are surely published in full
    listed: set[str] = field(default_factory=set)  #: start signals that a listing has shown
    unconfirmed: set[str] = field(default_factory=set)  #: attempts whose publication nobody has confirmed
    held_open: dict[str, float] = field(default_factory=dict)  #: attempt -> since when its genome cannot be removed
    handled: set[str] = field(default_factory=set)  #: results in `outbox/` that need no second reading
    answers: frozenset[str] = frozenset()  #: attempts that have a result there, read or not
    claims: dict[str, float] = field(default_factory=dict)  #: attempt -> when its claim was first seen
    #: what waits first where nothing is played, and whether it is delivered
    oldest_unclaimed: tuple[str, bool] | None = None
    oldest_unclaimed_since: float = 0.0
    recovery_at: float = 0.0
    recovery_ordered: bool = True  #: whether the climbed rung was handed to the machine by this process
    quarantined_at: float = 0.0
    machine: MachineStatus | None = None
    reverted: bool = False  #: the machine layer confirmed a revert since this epoch began
    machine_started: bool = False


class Observed:
    """The watch over all workers of a farm."""

    def __init__(self, farm: Farm, limits: Limits, now: float) -> None:
        self.time = 0.0  #: the fair clock, seconds since the watch began
        self._limits = limits
        self._now = now
        self.workers = {name: ObservedWorker(seen_alive_at=0.0) for name in farm.workers}
        for name, worker in farm.workers.items():
            # A host restart makes every publication uncertain; the next successful listing decides (law 3).
            self.workers[name].unconfirmed = set(worker.wanted)

    def update(self, farm: Farm, observation: Observation) -> None:
        """Takes in what a tick saw."""
        self.time += min(max(observation.now - self._now, 0.0), self._limits.silence_limit_s / 4)
        self._now = observation.now
        for name, machine in observation.machines.items():
            seen = self.workers[name]
            seen.machine = machine
            seen.reverted = seen.reverted or machine.reverted
            seen.machine_started = seen.machine_started or machine.state is MachineState.RUNNING
        for scan in observation.scans:
            self._take_scan(farm.workers[scan.worker], self.workers[scan.worker], scan)

    def _take_scan(self, worker: Worker, seen: ObservedWorker, scan: ShareScan) -> None:
        if scan.unknown:
            seen.readable, seen.unknown = False, scan.unknown
            return
        if scan.full:  # only who has read the `host.json` knows that it is this share (law 4)
            seen.readable, seen.unknown = True, ""
        seen.answers = scan.answers
        seen.handled &= scan.answers
        new_records = (scan.claims - seen.claims.keys()) | {
            result.attempt for result in scan.results if result.attempt not in seen.handled
        }
        for attempt in scan.claims:
            seen.claims.setdefault(attempt, self.time)
        for attempt in seen.claims.keys() - scan.claims:
            del seen.claims[attempt]
        if any(attempt in worker.wanted for attempt in new_records):
            self.note_alive(seen, scan)  # any new record of a worker is life as well
        if scan.full:
            if not seen.scanned:
                seen.seen_alive_at = self.time  # who could not be seen was not silent
            seen.scanned = True
            seen.starts, seen.payloads = set(scan.starts), set(scan.payloads)

    def note_alive(self, seen: ObservedWorker, scan: ShareScan) -> None:
        """A look shows a sign of life."""
        seen.seen_alive_at, seen.alive = self.time, True
        seen.seen_alive_requested_at = min(self.time, scan.requested_at)

    def silence_s(self, name: str) -> float:
        """For how long a worker has given no sign of life."""
        return self.time - self.workers[name].seen_alive_at

    def is_silent(self, name: str) -> bool:
        """Whether that is too long."""
        return self.silence_s(name) > self._limits.silence_limit_s

    def may_get_work(self, worker: Worker) -> bool:
        """Whether an attempt would be played: the share is ours and read, and its agent is alive."""
        seen = self.workers[worker.name]
        return (
            worker.epoch_open
            and seen.readable
            and seen.alive
            and not seen.unconfirmed
            and not self.is_silent(worker.name)
            and not self.lacks_desktop(worker.name)
        )

    def lacks_desktop(self, name: str) -> bool:
        """Whether an agent says that it could show no window, and that matters."""
        heartbeat = self.workers[name].heartbeat
        return self._limits.needs_desktop and heartbeat is not None and not heartbeat.desktop

    # --------------------------------------------------------------------------------- what the host's own acts told

    def begin_epoch(self, name: str) -> None:
        """The share's history starts anew; nothing seen before says anything about it."""
        seen = self.workers[name]
        seen.alive = False
        seen.seen_alive_at = self.time
        for memory in (seen.delivered, seen.listed, seen.unconfirmed, seen.handled):
            memory.clear()
        seen.claims.clear()
        seen.heartbeat, seen.reverted = None, False

    def note_published(self, name: str, attempt: str, *, confirmed: bool) -> None:
        """A publication was answered; without certainty the next listing decides."""
        seen = self.workers[name]
        seen.starts.add(attempt)
        seen.payloads.add(attempt)
        (seen.delivered if confirmed else seen.unconfirmed).add(attempt)

    def note_held_open(self, name: str, attempts: frozenset[str]) -> None:
        """Genomes could not be removed, because somebody has them open."""
        self.workers[name].held_open.update(dict.fromkeys(attempts, self.time))

    def removable(self, name: str, attempts: Set[str]) -> set[str]:
        """Those of these attempts of which it is time to remove what is there."""
        held_open = self.workers[name].held_open
        return {a for a in attempts if a not in held_open or self.time - held_open[a] > REMOVE_AGAIN_S}

    def note_removed(self, name: str, attempts: frozenset[str]) -> None:
        """Start signals and genomes were removed."""
        seen = self.workers[name]
        for memory in (seen.starts, seen.payloads, seen.delivered, seen.listed, seen.unconfirmed):
            memory.difference_update(attempts)
        for attempt in attempts & seen.held_open.keys():
            del seen.held_open[attempt]
