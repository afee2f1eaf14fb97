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
from pipeline.core.observation import Look, MachineSeen, MachineState, View

REMOVE_AGAIN_S = 30.0  #: after a genome could not be removed: on Windows each try waits for who has it open


@dataclass(slots=True)
class WorkerWatch:
    """One worker, as this process has seen it. Times are on the fair clock."""

    life_at: float  #: last sign of life, or when one could have been seen first
    heard_at: float = 0.0  #: when the look was asked for that showed the last sign of life
    alive: bool = False  #: a beat of this epoch, or a record, was seen since the watch or the epoch began
    looked: bool = False  #: at least one full look succeeded in this process
    readable: bool = False
    unknown: str = ""  #: why the last look failed
    beat: AgentRecord | None = None
    replaced_runs: set[str] = field(default_factory=set)  #: agent lives that another one followed
    returned_runs: int = 0  #: how often such a life came back
    starts: set[str] = field(default_factory=set)  #: start signals believed to be in `inbox/`
    payloads: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)  #: attempts that are surely published in full
    listed: set[str] = field(default_factory=set)  #: start signals that a listing has shown
    uncertain: set[str] = field(default_factory=set)  #: attempts whose publication nobody has confirmed
    held_open: dict[str, float] = field(default_factory=dict)  #: attempt -> since when its genome cannot be removed
    handled: set[str] = field(default_factory=set)  #: results in `outbox/` that need no second reading
    answers: frozenset[str] = frozenset()  #: attempts that have a result there, read or not
    claims: dict[str, float] = field(default_factory=dict)  #: attempt -> when its claim was first seen
    unclaimed: tuple[str, bool] | None = None  #: what waits first where nothing is played, and whether it is delivered
    unclaimed_since: float = 0.0
    recovery_at: float = 0.0
    recovery_ordered: bool = True  #: whether the climbed rung was handed to the machine by this process
    quarantined_at: float = 0.0
    machine: MachineSeen | None = None
    reverted: bool = False  #: the machine layer confirmed a revert since this epoch began
    machine_started: bool = False


class Watch:
    """The watch over all workers of a farm."""

    def __init__(self, farm: Farm, limits: Limits, now: float) -> None:
        self.time = 0.0  #: the fair clock, seconds since the watch began
        self._limits = limits
        self._now = now
        self.workers = {name: WorkerWatch(life_at=0.0) for name in farm.workers}
        for name, worker in farm.workers.items():
            # A host restart makes every publication uncertain; the next successful listing decides (law 3).
            self.workers[name].uncertain = set(worker.wanted)

    def see(self, farm: Farm, view: View) -> None:
        """Takes in what a tick saw."""
        self.time += min(max(view.now - self._now, 0.0), self._limits.silence_limit_s / 4)
        self._now = view.now
        for name, machine in view.machines.items():
            watched = self.workers[name]
            watched.machine = machine
            watched.reverted = watched.reverted or machine.reverted
            watched.machine_started = watched.machine_started or machine.state is MachineState.RUNNING
        for look in view.looks:
            self._take_look(farm.workers[look.worker], self.workers[look.worker], look)

    def _take_look(self, worker: Worker, watched: WorkerWatch, look: Look) -> None:
        if look.unknown:
            watched.readable, watched.unknown = False, look.unknown
            return
        if look.full:  # only who has read the `host.json` knows that it is this share (law 4)
            watched.readable, watched.unknown = True, ""
        watched.answers = look.answers
        watched.handled &= look.answers
        new_records = (look.claims - watched.claims.keys()) | {
            result.attempt for result in look.results if result.attempt not in watched.handled
        }
        for attempt in look.claims:
            watched.claims.setdefault(attempt, self.time)
        for attempt in watched.claims.keys() - look.claims:
            del watched.claims[attempt]
        if any(attempt in worker.wanted for attempt in new_records):
            self.note_life(watched, look)  # any new record of a worker is life as well
        if look.full:
            if not watched.looked:
                watched.life_at = self.time  # who could not be seen was not silent
            watched.looked = True
            watched.starts, watched.payloads = set(look.starts), set(look.payloads)

    def note_life(self, watched: WorkerWatch, look: Look) -> None:
        """A look shows a sign of life."""
        watched.life_at, watched.alive = self.time, True
        watched.heard_at = min(self.time, look.asked_at)

    def silence_s(self, name: str) -> float:
        """For how long a worker has given no sign of life."""
        return self.time - self.workers[name].life_at

    def is_silent(self, name: str) -> bool:
        """Whether that is too long."""
        return self.silence_s(name) > self._limits.silence_limit_s

    def may_get_work(self, worker: Worker) -> bool:
        """Whether an attempt would be played: the share is ours and read, and its agent is alive."""
        watched = self.workers[worker.name]
        return (
            worker.epoch_open
            and watched.readable
            and watched.alive
            and not watched.uncertain
            and not self.is_silent(worker.name)
            and not self.lacks_desktop(worker.name)
        )

    def lacks_desktop(self, name: str) -> bool:
        """Whether an agent says that it could show no window, and that matters."""
        beat = self.workers[name].beat
        return self._limits.needs_desktop and beat is not None and not beat.desktop

    # --------------------------------------------------------------------------------- what the host's own acts told

    def begin_epoch(self, name: str) -> None:
        """The share's history starts anew; nothing seen before says anything about it."""
        watched = self.workers[name]
        watched.alive = False
        watched.life_at = self.time
        for memory in (watched.delivered, watched.listed, watched.uncertain, watched.handled):
            memory.clear()
        watched.claims.clear()
        watched.beat, watched.reverted = None, False

    def note_sent(self, name: str, attempt: str, *, surely: bool) -> None:
        """A publication was answered; without certainty the next listing decides."""
        watched = self.workers[name]
        watched.starts.add(attempt)
        watched.payloads.add(attempt)
        (watched.delivered if surely else watched.uncertain).add(attempt)

    def note_held_open(self, name: str, attempts: frozenset[str]) -> None:
        """Genomes could not be removed, because somebody has them open."""
        self.workers[name].held_open.update(dict.fromkeys(attempts, self.time))

    def removable(self, name: str, attempts: Set[str]) -> set[str]:
        """Those of these attempts of which it is time to remove what is there."""
        held_open = self.workers[name].held_open
        return {a for a in attempts if a not in held_open or self.time - held_open[a] > REMOVE_AGAIN_S}

    def note_removed(self, name: str, attempts: frozenset[str]) -> None:
        """Start signals and genomes were removed."""
        watched = self.workers[name]
        for memory in (watched.starts, watched.payloads, watched.delivered, watched.listed, watched.uncertain):
            memory.difference_update(attempts)
        for attempt in attempts & watched.held_open.keys():
            del watched.held_open[attempt]
