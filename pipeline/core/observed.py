"""What this host process has observed so far: signs of life, confirmed deliveries, and since when. Pure.

Not stored: a restarted host begins empty and scans again. Durations are measured on one clock that advances per tick
by the time that passed, but at most by a quarter of the silence limit, so that a suspended or stalled host does not
count all workers as silent.
See: law 5 of share_layout.md.
"""

import enum
from collections.abc import Set
from dataclasses import dataclass, field

from inbox_agent.protocol.layout import AgentRecord, AgentState
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, Worker
from pipeline.core.observation import MachineState, MachineStatus, Observation, ShareScan

_SCANS_WEIGHED = 16  # in their mean round trip
REMOVE_AGAIN_S = 30.0  #: between tries to remove a genome: on Windows each waits while a process has it open


@dataclass(frozen=True, slots=True)
class SentDeployment:
    """The deployment that was sent last to a worker, in this epoch."""

    evaluator: str  #: its version
    number: int  #: on the share
    at: float  #: by `Observed.time`
    count: int  #: how often this version was sent


class PowerAction(enum.StrEnum):
    """What is done with a machine's power, other than to recover its worker."""

    START = "start"  #: it boots, whatever memory was saved
    RESUME = "resume"  #: it goes on with its saved memory; without any it boots
    REST = "rest"  #: it is saved or shut down, as configured


@dataclass(slots=True)
class ObservedWorker:
    """What this process has observed of one worker. Times are those of `Observed.time`."""

    seen_alive_at: float  #: last sign of life, or when one could first have been seen
    seen_alive_requested_at: float = 0.0  #: request time of the scan that showed the last sign of life
    alive: bool = False  #: a heartbeat or a new record was seen in this process and epoch
    scanned: bool = False  #: at least one full scan succeeded in this process
    readable: bool = False
    round_trip_s: float = 0.0  #: mean of its scans, in which the latest weigh most
    unknown: str = ""  #: why the last scan failed
    heartbeat: AgentRecord | None = None
    unknown_heartbeat: str = ""  #: which layout version the newest one has, if it is not this program's
    heartbeat_problem: str = ""  #: why the newest one cannot be read
    no_heartbeat: bool = False  #: there was none at the last full scan
    write_problem: str = ""  #: why `inbox/` cannot be written
    #: heartbeats in this epoch, since the evaluator version that is asked for changed, and since the first full scan of
    #: this process, whose heartbeat may be of an agent that has ended
    new_heartbeats: int = 0
    scans_measured: int = 0
    is_first_scan: bool = True  #: whether the last full scan was the first one of this process
    asked_version: str | None = None  #: of the evaluator, at the last full scan
    asked_since: float = 0.0
    loading_since: float | None = None  #: when a heartbeat first said that the agent loads its evaluator
    replaced_runs: set[str] = field(default_factory=set)  #: run ids of the agent that another one replaced
    returned_runs: int = 0  #: how often one of them came back
    starts: set[str] = field(default_factory=set)  #: start signals in `inbox/`, by the last full scan and later actions
    payloads: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)  #: attempts that are confirmed to be published completely
    listed: set[str] = field(default_factory=set)  #: start signals that a full scan has shown
    unconfirmed: set[str] = field(default_factory=set)  #: attempts with an unconfirmed publication
    held_open: dict[str, float] = field(default_factory=dict)  #: attempt -> when its genome last could not be removed
    handled: set[str] = field(default_factory=set)  #: results in `outbox/` that are processed
    answers: frozenset[str] = frozenset()  #: attempts with a result in `outbox/`, read or not
    claims: dict[str, float] = field(default_factory=dict)  #: attempt -> when its claim was first seen
    drained_at: float = 0.0
    #: the first attempt in the queue of an idle worker, and whether it is delivered
    oldest_unclaimed: tuple[str, bool] | None = None
    oldest_unclaimed_since: float = 0.0
    deployments: frozenset[int] = frozenset()  #: their numbers in `inbox/`, at the last full scan
    sent_deployment: SentDeployment | None = None
    recovery_at: float = 0.0
    recovery_ordered: bool = True  #: whether this process handed the recovery action to the machine
    quarantined_at: float = 0.0
    machine: MachineStatus | None = None
    reverted: bool = False  #: the machine layer confirmed a revert since this epoch began
    machine_started: bool = False
    idle_since: float | None = None  #: since when its machine could be put to rest
    at_rest: bool = False  #: its machine was put to rest, or was found off; it is neither scanned nor checked
    woken_at: float | None = None  #: when its machine was woken, until its agent is seen alive
    power_due: PowerAction | None = None  #: decided, and not handed to the machine yet

    def may_be_playing(self, attempt: str) -> bool:
        """Whether the last scan showed an attempt as claimed, or its result, which may still be read."""
        return attempt in self.claims or attempt in self.answers


class Observed:
    """What this process has observed of all workers."""

    def __init__(self, farm: Farm, limits: Limits, now: float) -> None:
        self.time = 0.0  #: seconds since this object was created, by the clock described above
        self._limits = limits
        self._now = now
        self.workers = {name: ObservedWorker(seen_alive_at=0.0) for name in farm.workers}
        for name, worker in farm.workers.items():
            # A host restart makes every publication uncertain; the next listing decides (law 3 of share_layout.md).
            self.workers[name].unconfirmed = set(worker.wanted)

    def admit(self, name: str) -> None:
        """Begins to observe a worker that has joined; its silence is counted from now."""
        self.workers[name] = ObservedWorker(seen_alive_at=self.time)

    def dismiss(self, name: str) -> None:
        """Forgets a worker that has left."""
        del self.workers[name]

    def update(self, farm: Farm, observation: Observation) -> None:
        """Applies the observation of one tick."""
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
        seen.scans_measured += 1
        trip_s = min(scan.round_trip_s, self._limits.silence_limit_s / 4)
        seen.round_trip_s += (trip_s - seen.round_trip_s) / min(seen.scans_measured, _SCANS_WEIGHED)
        if scan.full:  # only a full scan reads the `host.json` (law 4 of share_layout.md)
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
            self.note_alive(seen, scan)  # a new record is a sign of life too
        if scan.full:
            seen.is_first_scan = not seen.scanned
            if not seen.scanned:
                seen.seen_alive_at = self.time  # silence is counted from the first successful scan
            seen.scanned = True
            seen.starts, seen.payloads = set(scan.starts), set(scan.payloads)
            seen.deployments = scan.deployments
            seen.unknown_heartbeat = scan.unknown_heartbeat
            seen.heartbeat_problem, seen.no_heartbeat = scan.heartbeat_problem, scan.no_heartbeat

    def note_alive(self, seen: ObservedWorker, scan: ShareScan) -> None:
        """Records that a scan shows a sign of life."""
        seen.seen_alive_at, seen.alive = self.time, True
        seen.seen_alive_requested_at = min(self.time, scan.requested_at)

    def note_heartbeat(self, seen: ObservedWorker, scan: ShareScan, heartbeat: AgentRecord) -> None:
        """Records a new heartbeat of this epoch."""
        seen.heartbeat = heartbeat
        seen.new_heartbeats += not seen.is_first_scan
        if heartbeat.state is not AgentState.LOADING:
            if seen.loading_since is not None:
                seen.oldest_unclaimed_since = self.time  # from now on the shorter limit holds
            seen.loading_since = None
        elif seen.loading_since is None:
            seen.loading_since = self.time
        self.note_alive(seen, scan)

    def silence_s(self, name: str) -> float:
        """Seconds since a worker's last sign of life."""
        return self.time - self.workers[name].seen_alive_at

    def is_silent(self, name: str) -> bool:
        """Whether that exceeds the silence limit."""
        return self.silence_s(name) > self._limits.silence_limit_s

    def is_busy_for_long(self, worker: Worker) -> bool:
        """Whether its game, or the loading of its evaluator, takes so long that what waits behind it may move."""
        seen = self.workers[worker.name]
        playing = [since for attempt, since in seen.claims.items() if attempt in worker.wanted]
        busy_since = min(playing, default=seen.loading_since)
        # A claim is shown until the next scan, which may be two requests away.
        return (
            busy_since is not None and self.time - busy_since > self._limits.take_back_after_s + 2 * seen.round_trip_s
        )

    def is_open(self, worker: Worker) -> bool:
        """Whether the share can be read, and is known to be this farm's."""
        return worker.epoch_open and self.workers[worker.name].readable

    def waiting(self, worker: Worker) -> list[Attempt]:
        """The attempts of a worker that are not claimed and that another one may play, the newest first."""
        claims = self.workers[worker.name].claims
        waiting = [a for a in worker.wanted.values() if a.id not in claims and not a.trial.is_held_back]
        return sorted(waiting, key=lambda attempt: attempt.publication, reverse=True)

    def may_get_work(self, worker: Worker) -> bool:
        """Whether a worker may get attempts: its share is ours and readable, its agent alive and fit to run them."""
        seen = self.workers[worker.name]
        return (
            worker.epoch_open
            and seen.readable
            and seen.alive
            and not (seen.at_rest or seen.woken_at is not None)
            and not seen.unconfirmed
            and not self.is_silent(worker.name)
            and not self.lacks_desktop(worker.name)
        )

    def is_flooded(self, worker: Worker) -> bool:
        """Whether its share showed as many results of attempts that were never issued as are noted."""
        return worker.unexpected >= self._limits.unknown_results_max

    def lacks_desktop(self, name: str) -> bool:
        """Whether the agent reports no desktop although `needs_desktop` is set."""
        heartbeat = self.workers[name].heartbeat
        return self._limits.needs_desktop and heartbeat is not None and not heartbeat.desktop

    # ------------------------------------------------------------------------------ outcomes of the host's own actions

    def begin_epoch(self, name: str) -> None:
        """Forgets what was observed in older epochs."""
        seen = self.workers[name]
        seen.alive = False
        seen.seen_alive_at = self.time
        for memory in (seen.delivered, seen.listed, seen.unconfirmed, seen.handled):
            memory.clear()
        seen.claims.clear()
        seen.heartbeat, seen.reverted, seen.sent_deployment = None, False, None
        seen.new_heartbeats, seen.loading_since = 0, None

    def note_written(self, name: str, problem: str) -> None:
        """Records whether the last writing to `inbox/` succeeded."""
        self.workers[name].write_problem = problem

    def note_published(self, name: str, attempt: str, *, confirmed: bool) -> None:
        """Records a publication; if it is not confirmed, the next full scan decides."""
        seen = self.workers[name]
        seen.starts.add(attempt)
        seen.payloads.add(attempt)
        (seen.delivered if confirmed else seen.unconfirmed).add(attempt)

    def note_deployment(self, name: str, evaluator: str, number: int) -> None:
        """Records that a deployment is being sent; whether the worker takes it is shown by its heartbeat."""
        seen = self.workers[name]
        before = seen.sent_deployment
        count = before.count if before is not None and before.evaluator == evaluator else 0
        seen.sent_deployment = SentDeployment(evaluator, number, self.time, count + 1)

    def note_held_open(self, name: str, attempts: frozenset[str]) -> None:
        """Records that genomes could not be removed because another process has them open."""
        self.workers[name].held_open.update(dict.fromkeys(attempts, self.time))

    def removable(self, name: str, attempts: Set[str]) -> set[str]:
        """Those of these attempts that may be removed now; recent failures are left for later."""
        held_open = self.workers[name].held_open
        return {a for a in attempts if a not in held_open or self.time - held_open[a] > REMOVE_AGAIN_S}

    def note_removed(self, name: str, attempts: frozenset[str]) -> None:
        """Records that start signals and genomes were removed."""
        seen = self.workers[name]
        for memory in (seen.starts, seen.payloads, seen.delivered, seen.listed, seen.unconfirmed):
            memory.difference_update(attempts)
        for attempt in attempts & seen.held_open.keys():
            del seen.held_open[attempt]
