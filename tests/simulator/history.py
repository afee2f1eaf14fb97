"""One simulated history: a world by its seed, faults at will, then none, and the verdict.

In the words of Jepsen's queue checker: lost (never settled), duplicated (settled twice), unexpected (a fitness that no
game of that genome gave), recovered (settled although something went wrong on the way).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from inbox_agent.protocol.layout import INBOX, OUTBOX
from pipeline.core.farm import Farm
from pipeline.core.runs import replay
from tests.simulator.host import LIMITS, SimulatedHost
from tests.simulator.machine import SimulatedMachine
from tests.simulator.world import Options, World

LIVENESS_S = 1800.0  #: virtual time after the last fault, within which everything must be settled
SETTLING_S = 600.0  #: … after which no machine may be restarted any more: two whole ladders
RESTARTS_PER_MINUTE_MAX = 8


@dataclass(frozen=True, slots=True)
class History:
    """What came of a seed."""

    seed: int
    world: World
    host: SimulatedHost
    machines: list[SimulatedMachine]
    seconds: float  #: of virtual time
    healing_s: float  #: of them after the last fault

    @property
    def trials(self) -> int:
        options = self.world.options
        return options.generations * options.genomes * options.trials

    @property
    def breaches(self) -> list[str]:
        return self.world.breaches


@dataclass
class _Participants:
    """Everybody in a world: a farm, its machines, and those who should not be there."""

    host: SimulatedHost
    machines: dict[str, SimulatedMachine]
    twins: list[SimulatedMachine] = field(default_factory=list)
    rival: SimulatedHost | None = None


def play(seed: int, options: Options | None = None, prepare: Callable[[World], None] = lambda _world: None) -> History:
    """Plays the history of a seed; `prepare` may plan faults of its own."""
    world = World(seed, options)
    prepare(world)
    cast = _assemble(world)
    host = cast.host
    host.start()
    if not world.options.local:
        for machine in cast.machines.values():
            if world.options.computers and world.dice.random() < 0.5:
                machine.switch_off()  # the host will switch it on
            else:
                world.later(world.dice.uniform(0, 3), machine.start_agent)
    _plan_faults(world, cast)
    world.run_until(lambda: host.finished or bool(host.stuck_reason), world.options.fault_phase_s)
    calm_at = world.now
    if not host.finished:
        _calm(world, cast)
        restarts = _restarts_from(world, cast, calm_at + SETTLING_S)
        ended = world.run_until(lambda: host.finished, calm_at + LIVENESS_S)
        if not ended and not world.breaches:
            world.breach(f"not finished {LIVENESS_S:g} s after the last fault ({host.stuck_reason or 'waits'})")
        if restarts and not world.options.poison:
            world.breach(f"{restarts} were restarted though nothing was wrong any more")
    _judge_end(world, cast)
    return History(seed, world, host, list(cast.machines.values()), world.now, world.now - calm_at)


def _assemble(world: World) -> _Participants:
    options = world.options
    machines = {
        f"w{number}": SimulatedMachine(world, f"w{number}", share_is_local=not options.foreign_disk)
        for number in range(options.workers)
    }
    cast = _Participants(SimulatedHost(world, machines), machines)
    if options.rival:
        name = world.dice.choice(sorted(machines))
        cast.rival = SimulatedHost(world, {name: machines[name]}, rival=True)
        world.later(world.dice.choice([0.0, 5.0]), cast.rival.start)
    return cast


def _calm(world: World, cast: _Participants) -> None:
    """Faults stop, and the user corrects what only a user can: mounts, clones, the farm that stood still."""
    world.faulty = False
    world.kill_at.clear()
    world.host_kills.clear()
    world.fail_at.clear()
    cast.host.mount_all()
    for twin in cast.twins:
        twin.kill_agent()
    for machine in cast.machines.values():
        machine.stop_faults()
    if cast.host.stuck_reason or cast.host.strange_mounts:
        cast.host.start()
        cast.host.take_over_what_was_mixed_up()


def _restarts_from(world: World, cast: _Participants, at: float) -> list[str]:
    """The names of machines that are restarted from then on, as they come."""
    found: list[str] = []

    def begin() -> None:
        for machine in cast.machines.values():
            machine.on_restart = found.append

    world.later(at - world.now, begin)
    return found


def _judge_end(world: World, cast: _Participants) -> None:
    """What can be said only when it is over: nothing is missing, nothing was wasted, the ledger can be replayed."""
    if world.breaches:
        return
    host, options = cast.host, world.options
    host.witness.host_ended()
    for machine in cast.machines.values():
        if machine.restarts > 3 * host.starts + RESTARTS_PER_MINUTE_MAX * world.now / 60:  # each host has its budget
            world.breach(f"{machine.name} was restarted {machine.restarts} times")
    generations = range(1, options.generations + 1)
    trials = set(product(generations, range(1, options.genomes + 1), range(1, options.trials + 1)))
    if missing := sorted(trials - (+host.witness.settled).keys()):
        world.breach(f"lost: {missing[:5]}")
    for generation in generations:
        farm = Farm(host.ledger.farm_id, list(cast.machines))
        replay(host.ledger.entries(), farm, generation)
        if not farm.finished:
            world.breach(f"the replayed generation {generation} is not finished")


def _plan_faults(world: World, cast: _Participants) -> None:
    options, dice = world.options, world.dice
    host, machines = cast.host, list(cast.machines.values())

    def one() -> SimulatedMachine:
        return dice.choice(machines)

    def outage() -> None:
        machine = one()
        machine.disk.reachable = False
        world.later(dice.choice([2, 10, 45]), lambda: setattr(machine.disk, "reachable", True))

    def full() -> None:
        machine = one()
        machine.disk.full = True
        world.later(dice.choice([2, 10, 30]), lambda: setattr(machine.disk, "full", False))

    def hold() -> bool:
        disk = one().disk
        paths = sorted(path for path in disk.files if path.startswith((INBOX, OUTBOX)))
        if paths:
            path = dice.choice(paths)
            disk.held.add(path)
            world.later(dice.choice([2, 20, 90, 300]), lambda: disk.held.discard(path))
        return bool(paths)

    def suspend() -> None:
        world.host_skew_s += dice.choice([60, 3600, 40000])
        world.fair_skew_s += LIMITS.silence_limit_s / 4

    def wall_jump() -> None:
        world.wall_skew_s += dice.choice([-86400, -60, 60, 86400])

    def kill_agent() -> None:
        world.kill_at[f"agent:{one().name}"] = dice.randint(1, 40)

    def twin() -> bool:
        machine = one()
        if machine.own_disk:
            return False  # the lock in the machine's own state folder lets only one agent begin
        double = SimulatedMachine(
            world, f"{machine.name}-twin-{len(cast.twins)}", share_is_local=machine.own_disk, disk=machine.disk
        )
        cast.twins.append(double)
        if dice.random() < 0.5:
            machine.start_agent()  # both at once, as after a power cut
        double.start_agent()
        world.later(dice.uniform(5, 60), double.kill_agent)
        return True

    def swap() -> None:
        if len(machines) > 1:
            a, b = dice.sample(sorted(cast.machines), 2)
            host.swap(a, b)
            world.later(dice.choice([3, 20, 60]), host.mount_all)

    def blind() -> None:
        machine = one()
        machine.blind = True
        world.later(dice.choice([5, 30, 90]), lambda: setattr(machine, "blind", False))

    def unmount() -> None:
        host.unmount(one().name)
        world.later(dice.choice([3, 20, 60, 90]), host.mount_all)

    def answered(path: str) -> None:
        if options.liar and world.strikes("copied answer", 0.05):
            one().copy_answer(path)

    for machine in machines:
        machine.on_answer = answered
    world.every("host kill", options.host_kill, host.kill)
    world.every("host stop", options.host_stop, host.stop)
    world.every("agent kill", options.agent_kill, kill_agent)
    world.every("machine crash", options.agent_kill / 3, lambda: one().crash())
    world.every("hang", options.hang, lambda: one().hang())
    world.every("hypervisor away", options.blind if options.computers else 0.0, blind)
    world.every("outage", options.outage, outage)
    world.every("disk full for a while", options.full, full)
    world.every("checkpoint", 6.0 if options.revert else 0.0, lambda: [m.save_state() for m in machines])
    world.every("revert", options.revert, lambda: one().load_state())
    world.every("held file", options.held, hold)
    world.every("suspend", options.suspend, suspend)
    world.every("wall clock jump", options.wall_jump, wall_jump)
    world.every("lie", options.liar, lambda: one().write_hostile_bytes())
    world.every("stranger", options.stranger, lambda: one().drop_by_hand())
    world.every("twin", options.twin, twin)
    world.every("swap", options.swap, swap)
    world.every("unmount", options.unmount, unmount)
