"""Time and randomness of a simulated world: an event queue with a virtual clock, and the random numbers of one seed.

Everything that the code under test does not decide is decided here, from the seed alone.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace


class Killed(BaseException):
    """Ends the running process between two of its operations. Not an Exception, so that nothing catches it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a seed's world, drawn once (swarm testing): most seeds have only some kinds of faults."""

    workers: int
    genomes: int
    trials: int
    depth: int
    local: bool  #: the agents end with the host
    foreign_disk: bool  #: the agents reach their shares over a network that serves old listings
    fault_phase_s: float
    op_fault: float  #: probability that a file operation fails
    op_unknown: float  #: … that it is executed and reported as failed
    torn: float  #: … that a write leaves something incomplete under its final name, and fails
    slow: float  #: … that it takes seconds
    notification_lost: float
    notification_doubled: float
    no_notifications: bool  #: no notification ever arrives, also when all faults have stopped
    host_kill: float  #: mean kills per minute of virtual time
    agent_kill: float
    hang: float
    outage: float  #: a share that cannot be reached for a while
    full: float  #: a share whose disk is full for a while
    revert: float  #: a share or a whole machine goes back in time, with its memory or without
    suspend: float  #: the host's monotonic clock jumps ahead
    wall_jump: float  #: the host's wall clock jumps, either way
    hostile_bytes: float  #: hostile bytes in an outbox or a heartbeat
    foreign_files: float  #: files in a share that no program of the farm wrote
    second_agent: float  #: a second agent is started on a share
    swap: float  #: two shares are mounted in each other's place for a while
    unmount: float  #: an empty folder is where a share was mounted, for a while
    second_farm: bool  #: a second farm is configured with one of the shares
    poison: int
    failing: int
    hanging: float
    remote: bool  #: requests to shares take time, while other processes run
    late_response: float  #: probability that a request or response takes up to 40 s
    hypervisor: bool  #: machines take time to boot, and a hypervisor reports their state
    hypervisor_down: float  #: the hypervisor does not answer for a while
    action_lost: float  #: probability that a recovery action is confirmed and not executed
    host_stop: float  #: the host ends gracefully
    agent_stop: float  #: an agent ends gracefully
    losses_max: int  #: lost attempts before a trial is given up
    corrupting: int  #: machines whose agents write results that cannot be used, for a while
    generations: int  #: played one after the other, on the same shares
    commands: bool  #: the evaluator reads its files at every game, not once in a process that is kept
    slow_load: float  #: probability that the evaluator takes up to a minute to load
    evaluator_edit: float  #: a machine's evaluator is edited, and put back after a while
    evaluator_break: float  #: a machine's evaluator cannot be loaded for a while
    ruin: float  #: probability that a completed game leaves a process in which every game fails
    held: float  #: a file that its share refuses to every process for a while
    late: float  #: probability that a genome's file is written while its generation is played
    replaced: float  #: … that a genome is played again when its generation is finished, with other bytes or the same
    flood: float = 0.0  #: many results at once, under ids that were never issued
    rewind: float = 0.0  #: a heartbeat counter that falls again and again, for a while
    short_games: bool = False  #: games take milliseconds, so that queues grow
    reuse: bool = False  #: results of the first generation count in the second one, in which some genomes are the same
    deploy: bool = False  #: each generation is played with an evaluator that no machine has before it is deployed
    rest: float = 0.0  #: idle machines are put to rest after so many seconds
    spare: int = 0  #: machines that are kept at rest while trials wait
    leave: float = 0.0  #: workers are removed, and join again after a while
    drain: float = 0.0  #: workers are drained for a while
    restart: float = 0.0  #: the user asks for the restart of a machine
    copies: bool = False  #: stragglers get second copies
    slow_machines: float = 0.0  #: probability that a machine is much slower than the others
    one_system: bool = False  #: what crashes a local agent's machine crashes the host, and all local agents, with it


_SIZES = {
    "workers",
    "genomes",
    "trials",
    "depth",
    "local",
    "fault_phase_s",
    "remote",
    "hypervisor",
    "generations",
    "commands",
    "losses_max",
    "short_games",
    "deploy",
    "copies",
    "slow_machines",
}


def fault_free_options(options: Options) -> Options:
    """The same world without any fault."""
    no_faults = {field.name: type(getattr(options, field.name))(0) for field in fields(options)}
    return replace(options, **{name: value for name, value in no_faults.items() if name not in _SIZES})


def failing_genomes_options(options: Options) -> Options:
    """The same world with genomes that fail and hang, and without any other fault."""
    return replace(fault_free_options(options), failing=2, hanging=0.3)


def corrupting_agents_options(options: Options) -> Options:
    """The same world with one agent whose results can be used, and without any other fault."""
    return replace(fault_free_options(options), corrupting=options.workers - 1, depth=1, losses_max=4)


def short_games_options(options: Options) -> Options:
    """The same world with many games of milliseconds, among which a hanging one is rare."""
    return replace(options, short_games=True, genomes=30 // options.generations, trials=4, hanging=0.05)


def draw_options(rng: random.Random) -> Options:
    """Draws the options of a world."""
    options = _draw_scenario(rng)
    options = replace(options, reuse=options.generations > 1 and rng.random() < 0.5)
    may_rest = options.hypervisor and rng.random() < 0.3
    options = replace(options, rest=rng.uniform(3, 20), spare=rng.choice([0, 0, 1])) if may_rest else options
    deploys = not (options.local or options.second_farm) and rng.random() < 0.25
    options = replace(options, deploy=deploys)
    if rng.random() < 0.25:
        options = replace(options, copies=rng.random() < 0.7, slow_machines=rng.choice([0.2, 0.5]))
    if options.second_farm or rng.random() >= 0.2:
        return options
    leave, drain, restart = (rng.choice([0.0, rng.uniform(1, 6)]) for _ in range(3))
    return replace(options, leave=0.0 if options.local else leave, drain=drain, restart=restart)


def _draw_scenario(rng: random.Random) -> Options:
    options, draw = _draw_options(rng), rng.random()
    if draw < 0.05:
        return corrupting_agents_options(options)
    if draw < 0.08:
        return failing_genomes_options(options)
    # Drawn last: the histories of most seeds stay as they were.
    options = replace(options, flood=rng.uniform(1, 4)) if rng.random() < 0.1 else options
    options = replace(options, rewind=rng.uniform(2, 6)) if rng.random() < 0.1 else options
    if options.local and 0.2 < draw < 0.42:  # none of the seeds that found a defect
        return short_games_options(options if draw < 0.32 else fault_free_options(options))
    options = replace(options, one_system=options.local and rng.random() < 0.5, short_games=rng.random() < 0.2)
    # Host and agents see the same folders there: a share is mounted for both or for none.
    return replace(options, unmount=0.0, swap=0.0) if options.one_system else options


def _draw_options(rng: random.Random) -> Options:

    def sometimes(probability: float, value: float) -> float:
        return value * rng.uniform(0.3, 1.5) if rng.random() < probability else 0.0

    local = rng.random() < 0.3
    generations = rng.choice([1, 1, 1, 2])
    return Options(
        workers=rng.choice([2, 3, 4, 4, 5, 5, 6]),
        genomes=rng.randint(5, 12) // generations,
        trials=rng.randint(1, 4),
        depth=rng.randint(1, 3),
        local=local,
        foreign_disk=not local and rng.random() < 0.4,
        fault_phase_s=rng.uniform(20, 90),
        op_fault=sometimes(0.6, 0.02),
        op_unknown=sometimes(0.5, 0.01),
        torn=sometimes(0.5, 0.02),
        slow=sometimes(0.2, 0.005),
        notification_lost=rng.choice([0.0, 0.0, 0.1, 0.5, 1.0]),
        notification_doubled=rng.choice([0.0, 0.0, 0.3]),
        host_kill=sometimes(0.5, 2.0),
        agent_kill=sometimes(0.5, 3.0),
        hang=sometimes(0.4, 1.0),
        outage=sometimes(0.4, 1.5),
        full=sometimes(0.3, 1.5),
        revert=sometimes(0.3, 1.0),
        suspend=sometimes(0.2, 1.0),
        wall_jump=sometimes(0.2, 1.0),
        hostile_bytes=sometimes(0.3, 3.0),
        foreign_files=sometimes(0.15, 1.5),
        second_agent=sometimes(0.5, 3.0),
        swap=sometimes(0.2, 2.0),
        unmount=sometimes(0.2, 2.0),
        second_farm=not local and rng.random() < 0.2,
        poison=rng.choice([0, 0, 0, 1]),
        failing=rng.choice([0, 0, 1, 2]),
        hanging=rng.choice([0.0, 0.1]),
        no_notifications=rng.random() < 0.1,
        remote=not local and rng.random() < 0.5,
        late_response=sometimes(0.3, 0.01),
        hypervisor=not local and rng.random() < 0.5,
        hypervisor_down=sometimes(0.3, 1.0),
        action_lost=0.2,
        host_stop=sometimes(0.3, 1.0),
        generations=generations,
        commands=rng.random() < 0.4,
        slow_load=sometimes(0.2, 0.2),
        evaluator_edit=sometimes(0.3, 2.0),
        evaluator_break=sometimes(0.2, 1.0),
        ruin=sometimes(0.2, 0.1),
        held=sometimes(0.3, 3.0),
        agent_stop=sometimes(0.3, 2.0),
        losses_max=10,
        corrupting=rng.choice([0, 0, 0, 0, 1, 2, 4]),
        late=sometimes(0.25, 0.5),
        replaced=sometimes(0.25, 0.3),
    )


@dataclass(order=True, slots=True)
class _Event:
    at: float
    number: int
    run: Callable[[], None] = field(compare=False)


class World:
    """The clock, the event queue and the random numbers."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.options = options or draw_options(random.Random(f"options/{seed}"))
        self.rng = random.Random(f"world/{seed}")
        self.now = 0.0
        self.host_skew_s = 0.0  #: what suspends have added to the host's monotonic clock
        self.fair_skew_s = 0.0  #: … as far as a tick may count it (law 5)
        self.wall_skew_s = 0.0  #: how wrong the host's wall clock is
        self.faulty = True
        self.fired: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()  #: recovery actions that machines executed, and starts
        self.steps: Counter[str] = Counter()  #: operations of each process
        self.operations = 0
        self.longest_request_s = 0.0  #: from its submission until its response was received, on remote shares
        self.violations: list[str] = []  #: violated invariants, in order
        self.played: set[str] = set()  #: attempts whose game was started
        self.bystanders: set[str] = set()  #: attempts that were played when another one crashed their system
        #: attempt -> the run whose claim exists although its write was reported as failed
        self.half_claimed: dict[str, str] = {}
        self.fault_applied = False  #: whether the planned failure applied to its operation
        self.kill_at: dict[str, int] = {}  #: process -> operations from now until it is killed
        self.host_kills: list[int] = []  #: for each start of the host, after how many operations it is killed
        self.kills_take_power = False  #: killing an agent cuts its machine's power
        self.fail_at: dict[str, tuple[int, str]] = {}  #: process -> operations from now until it fails, and how
        self._queue: list[_Event] = []
        self._number = 0

    def schedule(self, delay_s: float, run: Callable[[], None]) -> None:
        """Schedules a call."""
        self._number += 1
        heapq.heappush(self._queue, _Event(self.now + delay_s, self._number, run))

    def run_until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Runs events until `done` or a violation; False if virtual time ran out first."""
        while not done() and not self.violations:
            if not self._queue or self._queue[0].at > limit_s:
                return False
            event = heapq.heappop(self._queue)
            self.now = max(self.now, event.at)
            event.run()
        return True

    def draw_fault(self, kind: str, probability: float) -> bool:
        """Whether a fault of this kind occurs now; counts it."""
        if not self.faulty or not probability or self.rng.random() >= probability:
            return False
        self.fired[kind] += 1
        return True

    def loses_notification(self) -> bool:
        """Whether a notification is lost."""
        return self.options.no_notifications or self.draw_fault("lost notification", self.options.notification_lost)

    @property
    def heartbeats_are_ambiguous(self) -> bool:
        """Whether a share may show a heartbeat of another worker or of an earlier time."""
        faults = ("second agent", "swap", "unmount", "revert", "hostile bytes")
        return self.options.second_farm or any(self.fired[kind] for kind in faults)

    def every(self, kind: str, per_minute: float, run: Callable[[], object]) -> None:
        """Repeats a fault at random times while the world is faulty; `run` returns False if it did not apply."""
        if not per_minute:
            return

        def happen() -> None:
            if self.faulty:
                self.fired[kind] += run() is not False
                self.schedule(self.rng.expovariate(per_minute / 60), happen)

        self.schedule(self.rng.expovariate(per_minute / 60), happen)

    def __deepcopy__(self, _memo: object) -> "World":
        return self  # a checkpoint copies the machine, not the world

    def report_violation(self, message: str) -> None:
        """Records that an invariant was violated."""
        self.violations.append(f"{message} (at {self.now:.1f} s)")

    def step(self, process: str) -> str:
        """Counts one operation of a process; returns its planned failure, or raises `Killed`."""
        self.operations += 1
        self.steps[process] += 1
        if process in self.kill_at:
            self.kill_at[process] -= 1
            if self.kill_at[process] <= 0:
                del self.kill_at[process]
                self.fault_applied = True
                raise Killed(process)
        if process in self.fail_at:
            left, failure = self.fail_at[process]
            self.fail_at[process] = (left - 1, failure)
            if left <= 1:
                del self.fail_at[process]
                self.fault_applied = failure == "fail"
                return failure
        return ""
