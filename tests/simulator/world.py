"""Time and chance of a simulated world: an event queue with a virtual clock, and the dice of one seed.

Everything that is not decided by the code under test is decided here, from the seed alone.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace


class Killed(BaseException):
    """The process that was running ends here, between two of its operations. Not an Exception: nothing catches it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a seed's world is like, drawn once (swarm testing): most seeds have only some kinds of trouble."""

    workers: int
    genomes: int
    trials: int
    depth: int
    local: bool  #: the agents end with the host
    foreign_disk: bool  #: the agents reach their shares over a network that serves old listings
    fault_phase_s: float
    op_fault: float  #: probability that a file operation fails
    op_unknown: float  #: … that it happens and is reported as failed
    torn: float  #: … that a write leaves something incomplete under its final name, and fails
    slow: float  #: … that it takes seconds
    bell_lost: float
    bell_doubled: float
    deaf: bool  #: no notification ever arrives, also when all faults have stopped
    host_kill: float  #: mean kills per minute of virtual time
    agent_kill: float
    hang: float
    outage: float  #: a share that cannot be reached for a while
    full: float  #: a share whose disk is full for a while
    revert: float  #: a share or a whole machine goes back in time, with its memory or without
    suspend: float  #: the host's monotonic clock jumps ahead
    wall_jump: float  #: the host's wall clock jumps, either way
    liar: float  #: hostile bytes in an outbox or a heartbeat
    stranger: float  #: files that somebody put into a share by hand
    twin: float  #: a second agent is started on a share
    swap: float  #: two shares are mounted in each other's place for a while
    unmount: float  #: an empty folder is where a share was mounted, for a while
    rival: bool  #: a second farm is configured with one of the shares
    poison: int
    failing: int
    hanging: float
    distant: bool  #: orders to shares take their time, while everything else goes on
    late_courier: float  #: … and sometimes a very long time
    computers: bool  #: machines take time to come up, and a hypervisor has an opinion of them
    blind: float  #: the hypervisor cannot be asked for a while
    order_lost: float  #: … or says that it did what it did not do
    host_stop: float  #: the host ends in good order
    generations: int  #: … one after the other, with the same shares
    held: float  #: a file that its share does not give for a while, to nobody


_SIZES = {"workers", "genomes", "trials", "depth", "local", "fault_phase_s", "distant", "computers", "generations"}


def calm_options(options: Options) -> Options:
    """The same world without any trouble."""
    troubles = {field.name: type(getattr(options, field.name))(0) for field in fields(options)}
    return replace(options, **{name: none for name, none in troubles.items() if name not in _SIZES})


def draw_options(dice: random.Random) -> Options:
    """Draws a world."""

    def sometimes(share: float, value: float) -> float:
        return value * dice.uniform(0.3, 1.5) if dice.random() < share else 0.0

    local = dice.random() < 0.3
    generations = dice.choice([1, 1, 1, 2])
    return Options(
        workers=dice.choice([2, 3, 4, 4, 5, 5, 6]),
        genomes=dice.randint(5, 12) // generations,
        trials=dice.randint(1, 4),
        depth=dice.randint(1, 3),
        local=local,
        foreign_disk=not local and dice.random() < 0.4,
        fault_phase_s=dice.uniform(20, 90),
        op_fault=sometimes(0.6, 0.02),
        op_unknown=sometimes(0.5, 0.01),
        torn=sometimes(0.5, 0.02),
        slow=sometimes(0.2, 0.005),
        bell_lost=dice.choice([0.0, 0.0, 0.1, 0.5, 1.0]),
        bell_doubled=dice.choice([0.0, 0.0, 0.3]),
        host_kill=sometimes(0.5, 2.0),
        agent_kill=sometimes(0.5, 3.0),
        hang=sometimes(0.4, 1.0),
        outage=sometimes(0.4, 1.5),
        full=sometimes(0.3, 1.5),
        revert=sometimes(0.3, 1.0),
        suspend=sometimes(0.2, 1.0),
        wall_jump=sometimes(0.2, 1.0),
        liar=sometimes(0.3, 3.0),
        stranger=sometimes(0.15, 1.5),
        twin=sometimes(0.5, 3.0),
        swap=sometimes(0.2, 2.0),
        unmount=sometimes(0.2, 2.0),
        rival=not local and dice.random() < 0.2,
        poison=dice.choice([0, 0, 0, 1]),
        failing=dice.choice([0, 0, 1, 2]),
        hanging=dice.choice([0.0, 0.1]),
        deaf=dice.random() < 0.1,
        distant=not local and dice.random() < 0.5,
        late_courier=sometimes(0.3, 0.01),
        computers=not local and dice.random() < 0.5,
        blind=sometimes(0.3, 1.0),
        order_lost=0.2,
        host_stop=sometimes(0.3, 1.0),
        generations=generations,
        held=sometimes(0.3, 3.0),
    )


@dataclass(order=True, slots=True)
class _Event:
    at: float
    number: int
    run: Callable[[], None] = field(compare=False)


class World:
    """The clock, the queue of what happens next, and the dice."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.options = options or draw_options(random.Random(f"options/{seed}"))
        self.dice = random.Random(f"world/{seed}")
        self.now = 0.0
        self.host_skew_s = 0.0  #: what suspends have added to the host's monotonic clock
        self.fair_skew_s = 0.0  #: … of which a tick may count a part (law 5)
        self.wall_skew_s = 0.0  #: how wrong the host's wall clock is
        self.faulty = True
        self.fired: Counter[str] = Counter()
        self.obeyed: Counter[str] = Counter()  #: orders that machines carried out
        self.steps: Counter[str] = Counter()  #: operations of each process
        self.operations = 0
        self.breaches: list[str] = []  #: promises that were broken, in the order in which it was seen
        self.played: set[str] = set()  #: attempts of which a game was begun, whatever became of it
        self.half_claimed: dict[str, str] = {}  #: attempt -> whose claim is there, and was said not to be
        self.struck = False  #: whether the operation that was to fail could fail in that way
        self.kill_at: dict[str, int] = {}  #: who -> operations from now until it is killed
        self.host_kills: list[int] = []  #: for each start of the host, after how many operations it is killed
        self.kills_take_power = False  #: an agent that is killed goes with its machine
        self.fail_at: dict[str, tuple[int, str]] = {}  #: who -> operations from now, and how one fails
        self._queue: list[_Event] = []
        self._number = 0

    def later(self, delay_s: float, run: Callable[[], None]) -> None:
        """Schedules something."""
        self._number += 1
        heapq.heappush(self._queue, _Event(self.now + delay_s, self._number, run))

    def run_until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Lets events happen until `done` or a breach; False if virtual time ran out first."""
        while not done() and not self.breaches:
            if not self._queue or self._queue[0].at > limit_s:
                return False
            event = heapq.heappop(self._queue)
            self.now = max(self.now, event.at)
            event.run()
        return True

    def strikes(self, kind: str, probability: float) -> bool:
        """Whether a fault of this kind happens here and now."""
        if not self.faulty or not probability or self.dice.random() >= probability:
            return False
        self.fired[kind] += 1
        return True

    def is_unheard(self) -> bool:
        """Whether a notification gets lost."""
        return self.options.deaf or self.strikes("lost bell", self.options.bell_lost)

    @property
    def muddled(self) -> bool:
        """Whether a heartbeat may be there that is not its worker's own, or not of today."""
        others = ("twin", "swap", "unmount", "revert", "lie")
        return self.options.rival or any(self.fired[kind] for kind in others)

    def every(self, kind: str, per_minute: float, run: Callable[[], object]) -> None:
        """Lets a fault happen again and again, at random times, while the world is faulty; False: it could not."""
        if not per_minute:
            return

        def happen() -> None:
            if self.faulty:
                self.fired[kind] += run() is not False
                self.later(self.dice.expovariate(per_minute / 60), happen)

        self.later(self.dice.expovariate(per_minute / 60), happen)

    def __deepcopy__(self, _memo: object) -> "World":
        return self  # a checkpoint of a machine holds the machine, not the world

    def breach(self, what: str) -> None:
        """Something happened that was promised never to happen."""
        self.breaches.append(f"{what} (at {self.now:.1f} s)")

    def step(self, who: str) -> str:
        """Counts one operation of a process; it may be the one it is killed at, or the one that is to fail."""
        self.operations += 1
        self.steps[who] += 1
        if who in self.kill_at:
            self.kill_at[who] -= 1
            if self.kill_at[who] <= 0:
                del self.kill_at[who]
                self.struck = True
                raise Killed(who)
        if who in self.fail_at:
            left, how = self.fail_at[who]
            self.fail_at[who] = (left - 1, how)
            if left <= 1:
                del self.fail_at[who]
                self.struck = how == "fail"
                return how
        return ""
