"""One simulated history: a world by its seed, faults at will, then none, and the verdict."""

from dataclasses import dataclass

from tests.simulator.host import SimulatedHost
from tests.simulator.machine import Machine
from tests.simulator.verdict import Verdict, check
from tests.simulator.world import World

LIVENESS_S = 1800.0  #: virtual time after the last fault, within which everything must be settled


@dataclass(frozen=True, slots=True)
class History:
    """What came of a seed."""

    seed: int
    world: World
    host: SimulatedHost
    verdict: Verdict
    seconds: float  #: of virtual time

    @property
    def trials(self) -> int:
        return self.world.options.trials * self.world.options.genomes


def play(seed: int, prepare=lambda _world: None) -> History:
    """Plays the history of a seed; `prepare` may plan faults of its own."""
    world = World(seed)
    prepare(world)
    options = world.options
    machines = {
        f"w{number}": Machine(world, f"w{number}", own_disk=not options.foreign_disk)
        for number in range(options.workers)
    }
    host = SimulatedHost(world, machines)
    host.start()
    if not options.local:
        for machine in machines.values():
            world.later(world.dice.uniform(0, 3), machine.start_agent)
    _plan_faults(world, host, list(machines.values()))

    def over() -> bool:
        return host.finished or bool(host.stands_still)

    world.run_until(over, options.fault_phase_s)
    verdict = check(world, host.ledger, list(machines.values()), at_end=False)
    if verdict.kept and not host.finished:
        _calm(world, host, list(machines.values()))
        ended = world.run_until(lambda: host.finished, world.now + LIVENESS_S)
        verdict = check(world, host.ledger, list(machines.values()), at_end=True)
        if not ended:
            verdict.broken.append(
                f"not finished {LIVENESS_S:g} s after the last fault ({host.stands_still or 'waits'})"
            )
    elif verdict.kept:
        verdict = check(world, host.ledger, list(machines.values()), at_end=True)
    return History(seed, world, host, verdict, world.now)


def _calm(world: World, host: SimulatedHost, machines: list[Machine]) -> None:
    """Faults stop; the user mends what only a user can: a farm that stood still is run again."""
    world.faulty = False
    world.kill_at.clear()
    world.fail_at.clear()
    for machine in machines:
        machine.heal()
    if host.stands_still:
        host.start()


def _plan_faults(world: World, host: SimulatedHost, machines: list[Machine]) -> None:
    options, dice = world.options, world.dice

    def one() -> Machine:
        return dice.choice(machines)

    def outage() -> None:
        machine = one()
        machine.disk.reachable = False
        world.later(dice.choice([2, 10, 45]), lambda: setattr(machine.disk, "reachable", True))

    def full() -> None:
        machine = one()
        machine.disk.full = True
        world.later(dice.choice([2, 10, 30]), lambda: setattr(machine.disk, "full", False))

    def suspend() -> None:
        world.host_skew_s += dice.choice([60, 3600, 40000])

    def kill_agent() -> None:
        world.kill_at[f"agent:{one().name}"] = dice.randint(1, 40)

    world.every("host kill", options.host_kill, host.kill)
    world.every("agent kill", options.agent_kill, kill_agent)
    world.every("machine crash", options.agent_kill / 3, lambda: one().crash())
    world.every("hang", options.hang, lambda: one().hang())
    world.every("outage", options.outage, outage)
    world.every("disk full for a while", options.full, full)
    world.every("checkpoint", 6.0 if options.revert else 0.0, lambda: [m.remember() for m in machines])
    world.every("revert", options.revert, lambda: one().go_back())
    world.every("suspend", options.suspend, suspend)
    world.every("lie", options.liar, lambda: one().lie())
