"""One simulated history: a world from its seed, a phase with faults, a phase without, and a check at the end.

The terms are those of Jepsen's queue checker: lost (never settled), duplicated (settled twice), unexpected (a fitness
that no game of that genome gave), recovered (settled after a fault).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from inbox_agent.protocol.layout import INBOX, OUTBOX
from pipeline.core.farm import Farm
from pipeline.core.runs import replay
from tests.simulator.host import LIMITS, SimulatedHost
from tests.simulator.machine import SimulatedMachine
from tests.simulator.world import Options, World

LIVENESS_S = 1800.0  #: virtual time after the last fault, within which everything must be settled
SETTLING_S = 600.0  #: … after which no machine may be restarted: twice the time of all recovery actions
RESTARTS_PER_MINUTE_MAX = 8


@dataclass(frozen=True, slots=True)
class History:
    """The history of a seed."""

    seed: int
    world: World
    host: SimulatedHost
    machines: list[SimulatedMachine]
    seconds: float  #: of virtual time
    recovery_s: float  #: virtual time after the last fault

    @property
    def trials(self) -> int:
        options = self.world.options
        return options.generations * options.genomes * options.trials

    @property
    def violations(self) -> list[str]:
        return self.world.violations


@dataclass
class _Participants:
    """The processes of a world: a farm, its machines, second agents and a second farm."""

    host: SimulatedHost
    machines: dict[str, SimulatedMachine]
    second_agents: list[SimulatedMachine] = field(default_factory=list)
    second_farm: SimulatedHost | None = None


def play(seed: int, options: Options | None = None, prepare: Callable[[World], None] = lambda _world: None) -> History:
    """Plays the history of a seed; `prepare` may plan additional faults."""
    world = World(seed, options)
    prepare(world)
    participants = _assemble(world)
    host = participants.host
    host.start()
    if not world.options.local:
        for machine in participants.machines.values():
            if world.options.hypervisor and world.rng.random() < 0.5:
                machine.switch_off()  # the host must start it
            else:
                world.schedule(world.rng.uniform(0, 3), machine.start_agent)
    _plan_faults(world, participants)
    world.run_until(lambda: host.finished or bool(host.stuck_reason), world.options.fault_phase_s)
    faults_end_at = world.now
    if not host.finished:
        _stop_faults(world, participants)
        restarts = _restarts_from(world, participants, faults_end_at + SETTLING_S)
        ended = world.run_until(lambda: host.finished, faults_end_at + LIVENESS_S)
        if not ended and not world.violations:
            world.report_violation(
                f"not finished {LIVENESS_S:g} s after the last fault ({host.stuck_reason or 'waits'})"
            )
        if restarts and not world.options.poison:
            world.report_violation(f"{restarts} were restarted long after the last fault")
    _check_end(world, participants)
    return History(seed, world, host, list(participants.machines.values()), world.now, world.now - faults_end_at)


def _assemble(world: World) -> _Participants:
    options = world.options
    machines = {
        f"w{number}": SimulatedMachine(world, f"w{number}", share_is_local=not options.foreign_disk)
        for number in range(options.workers)
    }
    participants = _Participants(SimulatedHost(world, machines), machines)
    if options.second_farm:
        name = world.rng.choice(sorted(machines))
        participants.second_farm = SimulatedHost(world, {name: machines[name]}, second_farm=True)
        world.schedule(world.rng.choice([0.0, 5.0]), participants.second_farm.start)
    return participants


def _stop_faults(world: World, participants: _Participants) -> None:
    """Stops all faults, and does what only a user can do: fixes mounts, ends clones, restarts a stuck farm."""
    world.faulty = False
    world.kill_at.clear()
    world.host_kills.clear()
    world.fail_at.clear()
    participants.host.mount_all()
    for agent in participants.second_agents:
        agent.kill_agent()
    for machine in participants.machines.values():
        machine.stop_faults()
    if participants.host.stuck_reason or participants.host.mount_faults:
        participants.host.start()
        participants.host.take_over_mismarked_shares()


def _restarts_from(world: World, participants: _Participants, at: float) -> list[str]:
    """A list that receives the name of each machine that is restarted after `at`."""
    found: list[str] = []

    def begin() -> None:
        for machine in participants.machines.values():
            machine.on_restart = found.append

    world.schedule(at - world.now, begin)
    return found


def _check_end(world: World, participants: _Participants) -> None:
    """Checks after the end: no trial is lost, restarts are bounded, the replayed ledger is finished."""
    if world.violations:
        return
    host, options = participants.host, world.options
    host.checker.host_ended()
    for machine in participants.machines.values():
        if (
            machine.restarts > 3 * host.starts + RESTARTS_PER_MINUTE_MAX * world.now / 60
        ):  # each host has its own budget
            world.report_violation(f"{machine.name} was restarted {machine.restarts} times")
    generations = range(1, options.generations + 1)
    trials = set(product(generations, range(1, options.genomes + 1), range(1, options.trials + 1)))
    if missing := sorted(trials - (+host.checker.settled).keys()):
        world.report_violation(f"lost: {missing[:5]}")
    for generation in generations:
        farm = Farm(host.ledger.farm_id, list(participants.machines))
        replay(host.ledger.entries(), farm, generation)
        if not farm.finished:
            world.report_violation(f"the replayed generation {generation} is not finished")


def _plan_faults(world: World, participants: _Participants) -> None:
    options, rng = world.options, world.rng
    host, machines = participants.host, list(participants.machines.values())

    def one() -> SimulatedMachine:
        return rng.choice(machines)

    def outage() -> None:
        machine = one()
        machine.disk.reachable = False
        world.schedule(rng.choice([2, 10, 45]), lambda: setattr(machine.disk, "reachable", True))

    def full() -> None:
        machine = one()
        machine.disk.full = True
        world.schedule(rng.choice([2, 10, 30]), lambda: setattr(machine.disk, "full", False))

    def hold() -> bool:
        disk = one().disk
        paths = sorted(path for path in disk.files if path.startswith((INBOX, OUTBOX)))
        if paths:
            path = rng.choice(paths)
            disk.held.add(path)
            world.schedule(rng.choice([2, 20, 90, 300]), lambda: disk.held.discard(path))
        return bool(paths)

    def suspend() -> None:
        world.host_skew_s += rng.choice([60, 3600, 40000])
        world.fair_skew_s += LIMITS.silence_limit_s / 4

    def wall_jump() -> None:
        world.wall_skew_s += rng.choice([-86400, -60, 60, 86400])

    def kill_agent() -> None:
        world.kill_at[f"agent:{one().name}"] = rng.randint(1, 40)

    def second_agent() -> bool:
        machine = one()
        if machine.own_disk:
            return False  # the lock in the machine's state folder admits only one agent
        clone = SimulatedMachine(
            world,
            f"{machine.name}-clone-{len(participants.second_agents)}",
            share_is_local=machine.own_disk,
            disk=machine.disk,
        )
        participants.second_agents.append(clone)
        if rng.random() < 0.5:
            machine.start_agent()  # both at once, as after a power loss
        clone.start_agent()
        world.schedule(rng.uniform(5, 60), clone.kill_agent)
        return True

    def swap() -> None:
        if len(machines) > 1:
            a, b = rng.sample(sorted(participants.machines), 2)
            host.swap(a, b)
            world.schedule(rng.choice([3, 20, 60]), host.mount_all)

    def edit_evaluator() -> None:
        one().edit_for(rng.choice([0.05, 1, 5, 30, 120]))

    def break_evaluator() -> None:
        machine = one()
        machine.evaluator_is_broken = True
        world.schedule(rng.choice([1, 10, 60]), lambda: setattr(machine, "evaluator_is_broken", False))

    def corrupt(machine: SimulatedMachine) -> None:
        machine.corrupts = True
        world.schedule(rng.choice([5, 60]), lambda: setattr(machine, "corrupts", False))

    def hypervisor_down() -> None:
        machine = one()
        machine.hypervisor_down = True
        world.schedule(rng.choice([5, 30, 90]), lambda: setattr(machine, "hypervisor_down", False))

    def unmount() -> None:
        host.unmount(one().name)
        world.schedule(rng.choice([3, 20, 60, 90]), host.mount_all)

    def copy_result(path: str) -> None:
        if options.hostile_bytes and world.draw_fault("copied result", 0.05):
            one().copy_result(path)

    def save_all() -> None:
        for machine in machines:
            machine.save_state()

    for machine in machines:
        machine.on_result = copy_result
    host.changes.plan()
    world.every("host kill", options.host_kill, host.kill)
    world.every("host stop", options.host_stop, host.stop)
    world.every("agent kill", options.agent_kill, kill_agent)
    world.every("machine crash", options.agent_kill / 3, lambda: one().crash())
    world.every("hang", options.hang, lambda: one().hang())
    world.every("hypervisor down", options.hypervisor_down if options.hypervisor else 0.0, hypervisor_down)
    world.every("outage", options.outage, outage)
    world.every("disk full for a while", options.full, full)
    world.every("checkpoint", 6.0 if options.revert else 0.0, save_all)
    world.every("revert", options.revert, lambda: one().load_state())
    world.every("held file", options.held, hold)
    world.every("evaluator edit", options.evaluator_edit, edit_evaluator)
    world.every("evaluator break", options.evaluator_break, break_evaluator)
    world.every("suspend", options.suspend, suspend)
    world.every("wall clock jump", options.wall_jump, wall_jump)
    world.every("hostile bytes", options.hostile_bytes, lambda: one().write_hostile_bytes())
    world.every("rewind", options.rewind, lambda: one().rewind_for(rng.choice([20.0, 60.0])))
    world.every("flood", options.flood, lambda: one().flood())
    world.every("foreign files", options.foreign_files, lambda: one().add_foreign_files())
    world.every("second agent", options.second_agent, second_agent)
    world.every("agent stop", options.agent_stop, lambda: one().stop_agent())
    for machine in machines[: min(options.corrupting, len(machines) - 1)]:
        world.every("corrupting agent", 4.0, partial(corrupt, machine))
    world.every("swap", options.swap, swap)
    world.every("unmount", options.unmount, unmount)
