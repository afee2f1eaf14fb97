"""The simulated host: the shipped loop, core and share client, with a ledger in memory that outlives the process."""

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from msgspec.structs import replace as replace_struct

from inbox_agent.protocol.layout import Kind
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import (
    Fact,
    HostStarted,
    RunSettings,
    encode_fact,
)
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineStatus
from pipeline.core.observed import PowerAction
from pipeline.core.queues import Queues
from pipeline.core.requests import MachineAction
from pipeline.core.reuse import EarlierResults, earlier_results
from pipeline.core.runs import closing_facts, opening_facts, refuse_to_replace, replacing_facts, replay, withdrawals
from pipeline.core.worker_requests import restored_workers
from pipeline.errors import HostError, LedgerError
from pipeline.host.control_loop import ControlLoop
from pipeline.host.genome_folder import GenomeFolder
from pipeline.host.poll_schedule import PollSchedule
from pipeline.host.ports import Ports
from pipeline.host.takeover import take_share
from pipeline.host.wakeups import Wakeups
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ExecuteRequest, ShareClient, ShareResponse
from tests.fakes.ports import MemoryArchive, MemoryEventLog, MemoryLedger
from tests.simulator.deployments import archive_of, deployments_of
from tests.simulator.disk import FaultyFiles, SimulatedDisk
from tests.simulator.epoch_checker import REVERTS_MAX
from tests.simulator.evaluator import version_of
from tests.simulator.executor import LATE_DELAY_S, SimulatedExecutor
from tests.simulator.genomes import (
    MemorySnapshots,
    SimulatedGenomes,
    genomes_of,
    later_genomes_of,
    replaced_genomes_of,
)
from tests.simulator.ledger_checker import UNKNOWN_RESULTS_MAX, LedgerChecker
from tests.simulator.machine import SimulatedMachine
from tests.simulator.worker_changes import BY_REQUEST, WorkerChanges
from tests.simulator.world import Killed, World

SWEEP_S, POLL_S, FAST_POLL_S = 3.0, 6.0, 0.5
START = Kind.START.value
LIMITS = Limits(
    silence_limit_s=30,
    claim_limit_s=25,
    agent_restart_limit_s=25,
    boot_limit_s=40,
    back_off_s=10,
    grace_s=10,
    unknown_results_max=UNKNOWN_RESULTS_MAX,
    reverts_max=REVERTS_MAX,
)
TIME_LIMIT_S = 20.0


class FaultyLedger(MemoryLedger):
    """A ledger whose appends may fail, and whose process may be killed before or after a commit."""

    def __init__(self, world: World, process: str, farm_id: str, checker: LedgerChecker) -> None:
        super().__init__(farm_id)
        self._world, self._process, self._checker = world, process, checker
        self.on_fact: Callable[[dict[str, Any]], None] = lambda _fact: None  #: called for each fact that is committed

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        failure = self._fails()
        if (failure and failure != "unknown") or self._world.draw_fault(
            "failed commit", self._world.options.op_fault / 10
        ):
            raise LedgerError("disk full")
        super().append(facts, at, generation, run)
        for fact in [orjson.loads(encode_fact(fact)) for fact in facts]:
            self._checker.note_fact(fact, generation)
            self.on_fact(fact)
        if failure or self._fails() or self._world.draw_fault("unknown commit", self._world.options.op_unknown / 10):
            raise LedgerError("it was written, and reported as not written")

    def _fails(self) -> str:
        failure = self._world.step(self._process)
        self._world.fault_applied = self._world.fault_applied or bool(failure)
        return failure


class FaultyArchive(MemoryArchive):
    """An archive on a disk that may be full, and whose process may be killed at each write.

    Of several results that are stored at a time some may then be archived, and the others not.
    """

    def __init__(self, world: World, process: str, checker: LedgerChecker) -> None:
        super().__init__()
        self._world, self._process, self._checker = world, process, checker

    def store(self, generation: int, results: Sequence[tuple[str, CollectedResult]]) -> None:
        for _worker, result in results:
            self._fails()
            self._checker.archived[result.attempt] = result.data

    def set_aside(self, generation: int, worker: str, result: CollectedResult, reason: str) -> None:
        self._fails()

    def _fails(self) -> None:
        failure = self._world.step(self._process)
        self._world.fault_applied = self._world.fault_applied or bool(failure)
        if failure or self._world.draw_fault("failed archive", self._world.options.op_fault / 4):
            raise OSError(28, "No space left on device")


class SimulatedMachines:
    """`MachinePool` over the simulated machines."""

    def __init__(self, process: str, machines: Mapping[str, SimulatedMachine], farm: Callable[[], Farm | None]) -> None:
        self._process, self._machines, self._farm = process, machines, farm

    def status(self) -> dict[str, MachineStatus]:
        farm = self._farm()
        return {name: m.status() for name, m in self._machines.items() if farm is None or name in farm.workers}

    def execute(self, action: MachineAction) -> None:
        machine = self._machines[action.worker]
        failure = machine.world.step(self._process)
        machine.world.fault_applied = machine.world.fault_applied or bool(failure)
        self._check_rest(action)
        farm = self._farm()
        asked_for = farm is not None and farm.workers[action.worker].reason == BY_REQUEST
        is_lost = bool(failure) and failure != "unknown"
        machine.execute(action.recovery or action.power, lost=is_lost, asked_for=asked_for)

    def _check_rest(self, action: MachineAction) -> None:
        """A machine with work is not put to rest, and does not go on with a memory that may have a game in it."""
        farm = self._farm()
        if action.recovery is None and action.power is PowerAction.RESUME and farm is not None:
            self._check_spare(farm, self._machines[action.worker].world)
        if action.recovery is None and action.power is not PowerAction.START and farm is not None:
            worker = farm.workers[action.worker]
            if held := [*worker.wanted, *worker.left_published]:
                self._machines[action.worker].world.report_violation(
                    f"{action.worker} got the action {action.power} although it holds {held[0]}"
                )

    def _check_spare(self, farm: Farm, world: World) -> None:
        """A spare machine is woken only in place of one whose worker cannot play.

        One that is busy does not count: the host put it to rest, and it may have come back by itself meanwhile.
        """
        able = (w.name for w in farm.workers.values() if w.state is WorkerState.READY and not w.drained)
        ready = [self._machines[name] for name in able]
        awake = sum(machine.is_on and not machine.status().busy for machine in ready)
        if world.options.spare and awake >= len(farm.workers) - world.options.spare:
            world.report_violation(f"a spare machine was woken while {awake} were awake")


class SimulatedClock:
    """The world's time as this host reads it, and nonces from the seed."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world, self._rng = world, rng

    def monotonic(self) -> float:
        return self._world.now + self._world.host_skew_s

    def wall(self) -> float:
        return self._world.now + self._world.wall_skew_s

    def nonce(self) -> str:
        return f"{self._rng.randrange(10**8):08d}"


class SimulatedHost:
    """The successive host processes of one ledger. The host of the second farm controls no machine."""

    def __init__(self, world: World, machines: Mapping[str, SimulatedMachine], *, second_farm: bool = False) -> None:
        self.world, self.machines, self.second_farm = world, machines, second_farm
        # The names are part of the seeds of the random numbers; another name would change the histories.
        self.name, self.seed = ("rival", world.seed + 1) if second_farm else ("host", world.seed)
        self.swapped: dict[str, str] = {}  #: worker -> the worker whose share is mounted in its place
        self.unmounted: dict[str, SimulatedDisk] = {}  #: worker -> the empty folder in its share's place
        self.mount_faults = 0
        self.mounts_changed_at = -1e9
        disks = [machine.disk for machine in machines.values()]
        genomes = [*genomes_of(world).values(), *replaced_genomes_of(world).values(), *later_genomes_of(world).values()]
        self.checker = LedgerChecker(world, self.name, genomes, self.seed, disks)
        self.ledger = FaultyLedger(world, self.name, "7777" if second_farm else "5111", self.checker)
        self.changes = WorkerChanges(world, machines)
        self.changes.admit, self.changes.is_connected = self._admit, self._is_connected
        self.ledger.on_fact = self.changes.note_fact
        self.loop: ControlLoop | None = None
        self.wakeups = Wakeups()
        self.generation = 1
        self.starts = 0
        self._rng = random.Random(f"ids/{self.name}/{world.seed}")
        self._tick_at: float | None = None
        self._snapshots = MemorySnapshots()
        self._files: dict[int, SimulatedGenomes] = {}  #: by generation
        self._folder: GenomeFolder | None = None  #: in a world in which files arrive late
        self._executor: SimulatedExecutor | None = None
        self._incarnation = 0
        self._boots = 1
        for machine in machines.values():
            machine.crash_system = self.crash_system

    @property
    def farm(self) -> Farm | None:
        return self.loop.farm if self.loop is not None else None

    @property
    def finished(self) -> bool:
        """Whether the last generation is finished, with every file that was ever put into its folder."""
        last = self.generation == self.world.options.generations
        return last and self._all_finished

    @property
    def _all_finished(self) -> bool:
        farm = self.farm
        complete = farm is not None and farm.finished and len(farm.genomes) == self.world.options.genomes
        return complete and not self._to_be_replaced()

    def _to_be_replaced(self) -> set[str]:
        """The genomes that the user still has to play again in this generation."""
        return self._files[self.generation].replaced.keys() - self.checker.reopened[self.generation]

    @property
    def stuck_reason(self) -> str:
        return stuck_reason(self.farm, len(self.farm.workers)) if self.farm is not None else ""

    def start(self) -> None:
        """Starts a host process: replay, then the first tick. A running one is killed first."""
        if self._executor is not None:
            self._executor.end(graceful=False)
        if self.world.host_kills:
            self.world.kill_at[self.name] = self.world.host_kills.pop(0)
        self._incarnation += 1
        self.starts += 1
        self._tick_at = None
        if self.world.draw_fault("host kill at recovery", 0.3 if self.world.options.host_kill else 0.0):
            self.kill()
        self.changes.host_starts()
        try:
            self.wakeups = Wakeups()
            self.loop = self._make_loop()
            self._replay(self.loop)
            self._open()
        except (Killed, HostError):
            self._end(self._incarnation)
            return
        if self.loop.farm.finished and not self.loop.is_open and not self._all_finished:
            self._end(self._incarnation, graceful=True)  # nothing to play yet: the user tries again
            return
        self._repeat(self._incarnation, SWEEP_S, Wakeups.request_sweep)
        self._repeat(self._incarnation, POLL_S, Wakeups.request_poll)
        self._plan_tick(0.0)

    def _make_loop(self) -> ControlLoop:
        shares = {}
        for name, machine in self.machines.items():
            files = FaultyFiles(self.world, lambda name=name: self._mounted_disk(name), self.name, remote=True)  # type: ignore[misc]
            files.on_publish = lambda path, name=name: self._published(name, path)  # type: ignore[misc]
            machine.listeners[self.name] = lambda _path, name=name: self._notify(name)  # type: ignore[misc]
            share = ShareClient(
                name, self.ledger.farm_id, files, Path("/nowhere"), self._snapshots.content, archive=archive_of
            )
            shares[name] = share.execute
        return ControlLoop(
            Farm(self.ledger.farm_id, self.changes.members),
            replace_struct(
                LIMITS,
                losses_per_trial_max=self.world.options.losses_max,
                idle_after_s=self.world.options.rest or None,
                spare=self.world.options.spare,
                copy_stragglers=self.world.options.copies,
            ),
            Queues(
                depth=dict.fromkeys(self.machines, self.world.options.depth),
                local=frozenset(self.machines if self.world.options.local else ()),
            ),
            Ports(
                ledger=self.ledger,
                archive=FaultyArchive(self.world, self.name, self.checker),
                event_log=MemoryEventLog(),
                executor=self._make_executor(shares),
                machines=SimulatedMachines(
                    self.name, {} if self.second_farm else self.machines, farm=lambda: self.farm
                ),
                poll_schedule=PollSchedule({}, LIMITS.silence_limit_s),
                clock=SimulatedClock(self.world, self._rng),
            ),
            self.wakeups,
        )

    def _replay(self, loop: ControlLoop) -> None:
        """As `Host.load` does: the farm of the current generation, replayed from the ledger."""
        farm = Farm(self.ledger.farm_id, self.changes.members)
        replay(self.ledger.entries(), farm, self.generation)
        loop.switch_farm(farm, restored_workers(farm, self.changes.members))

    def _make_executor(self, shares: Mapping[str, ExecuteRequest]) -> Any:
        if not self.world.options.remote:
            checked = {name: lambda request, do=do: self._check_response(do(request)) for name, do in shares.items()}
            return ShareExecutor(checked, (), lambda: None)
        incarnation = self._incarnation
        self._executor = SimulatedExecutor(
            self.world,
            shares,
            on_executed=self._heartbeat_recorder,
            wake=lambda: self._plan_tick(0.0),
            on_killed=lambda: self._end(incarnation),
        )
        return self._executor

    def _check_response(self, response: ShareResponse) -> ShareResponse:
        self._heartbeat_recorder(response)()
        return response

    def _heartbeat_recorder(self, response: ShareResponse) -> Callable[[], None]:
        """Returns what to call when this response arrives: it notes when the heartbeat in it was written."""
        heartbeat = response.scan.heartbeat if response.scan is not None else None
        if heartbeat is None or heartbeat.farm is None:  # an announcement is no sign of life (law 7)
            return lambda: None
        machine = self.machines[response.worker]
        at = machine.files.last_heartbeat_at
        return lambda: setattr(machine, "seen_healthy_at", at)

    def _open(self) -> None:
        """As `Host.begin` does: the genomes of the folder, then the facts that follow."""
        assert self.loop is not None
        if self.world.options.deploy:
            known = deployments_of(self.world.options, self.generation, host_restarted=self.starts > self.generation)
            self.loop.deployments = known
        if self.generation not in self._files:
            self._files[self.generation] = SimulatedGenomes(self.world, self.name, self._snapshots, self.generation)
        farm, files = self.loop.farm, self._files[self.generation]
        before, genomes = files.stamps(), files.import_all()
        settings = RunSettings(
            trials_per_genome=self.world.options.trials,
            seed=self.seed,
            settings={},
            evaluator="simulated",
            time_limit_s=TIME_LIMIT_S,
            evaluator_version=version_of(self.world.options, self.generation),
            seeds="fixed" if self.world.options.reuse else "per-generation",
            reuse="same-seeds" if self.world.options.reuse else "none",
        )
        opening = opening_facts(farm, self.generation, genomes, settings, fresh=False, follow_folder=True)
        arrived = before.keys() - {genome.name for genome in farm.genomes}
        all_joined = len(farm.genomes) == self.world.options.genomes
        if self.world.options.reuse and self.generation > 1:
            self.loop.earlier = self._earlier_results()
        if farm.finished and all_joined and (names := self._to_be_replaced()):
            self._open_again(names, settings)
            return
        has_work = bool(opening or arrived or not farm.finished)
        if has_work or not self.world.options.late:
            gone = withdrawals(farm, "no longer configured", farm.retired)
            self.loop.record([self._started(), *gone, *opening])
        if self.world.options.late:
            self.checker.files = files
            self.loop.is_open = has_work
            self._folder = GenomeFolder(files, self.loop.farm, before, self.loop.record, lambda: self.world.now)

    def _earlier_results(self) -> EarlierResults:
        before = self.generation - 1
        entries = (entry for entry in self.ledger.entries() if entry.generation == before)
        return earlier_results(entries, before)

    def _started(self) -> HostStarted:
        return HostStarted(pid=self.starts, workers=len(self.machines), boot_id=f"boot-{self._boots}")

    def _open_again(self, names: set[str], settings: RunSettings) -> None:
        """As `Host.begin_again` does."""
        assert self.loop is not None
        refuse_to_replace(self.loop.farm, self.generation, names, settings)
        genomes = self._files[self.generation].replace()
        self.loop.record([self._started()])
        self.loop.record(replacing_facts(self.loop.farm, names, genomes))
        self.loop.is_open, self._folder = False, None

    def _mounted_machine(self, worker: str) -> SimulatedMachine:
        return self.machines[self.swapped.get(worker, worker)]

    def _mounted_disk(self, worker: str) -> SimulatedDisk:
        return self.unmounted.get(worker) or self._mounted_machine(worker).disk

    def _published(self, worker: str, path: str) -> None:
        machine = self._mounted_machine(worker)
        if path.endswith(START):
            self._check_publication(worker, machine, path)
        machine.notify(path)

    def _check_publication(self, worker: str, machine: SimulatedMachine, path: str) -> None:
        """Laws 4 and 7: published on a share of this farm and worker, and no more attempts than the queue holds."""
        attempt = path.removeprefix("inbox/").removesuffix(START)
        owner = self._mounted_disk(worker).owner()
        # The mount may have changed after the scan on which this publication is based.
        scan_age_s = 3 * POLL_S + (2 * LATE_DELAY_S[1] if self.world.options.late_response else 0.0)
        mounts_are_scanned = self.world.now - self.mounts_changed_at > scan_age_s
        ours = owner is not None and owner[:2] == (self.ledger.farm_id, worker)
        if mounts_are_scanned and not ours and not self.world.options.revert:
            self.world.report_violation(f"{attempt} was published on the share of {owner}")
        published = [other for other in machine.disk.files if other.endswith(START) and "/tmp/" not in other]
        options = self.world.options
        depth = self.checker.queues.deepest[worker]
        if len(published) > depth and not (options.revert or options.second_farm or options.swap):
            self.world.report_violation(f"{len(published)} attempts are published on {machine.name}, queue {depth}")

    def _notify(self, worker: str) -> None:
        if self.loop is None or self.world.loses_notification():
            return
        self.wakeups.notify(worker)
        self._plan_tick(0.002)
        if self.world.draw_fault("doubled notification", self.world.options.notification_doubled):
            self.world.schedule(0.01, lambda: self._notify(worker))

    def _repeat(self, incarnation: int, interval_s: float, request: Callable[[Wakeups], None]) -> None:
        def repeat() -> None:
            if incarnation == self._incarnation and self.loop is not None:
                request(self.wakeups)
                self._plan_tick(0.0)
                self._repeat(incarnation, interval_s, request)

        self.world.schedule(interval_s, repeat)

    def _plan_tick(self, delay_s: float) -> None:
        at, incarnation = self.world.now + delay_s, self._incarnation
        if self._tick_at is None or at < self._tick_at:
            self._tick_at = at
            self.world.schedule(delay_s, lambda: self._tick(incarnation, at))

    def _tick(self, incarnation: int, planned_at: float) -> None:
        if incarnation != self._incarnation or self.loop is None or planned_at != self._tick_at:
            return
        self._tick_at = None
        self.wakeups.wait(0.0)
        self.loop.requests = self.changes.requests()
        try:
            self._update_folder()
            self.loop.tick()
            is_finished = self.loop.farm.finished and not self.loop.is_open
            if is_finished and not self._all_finished:
                self._end(incarnation, graceful=True)  # the next run plays what arrives now
            elif is_finished and not self.finished:
                self._start_next_generation()
        except Killed:
            self._end(incarnation)
        except HostError:
            self.stop()
        if incarnation != self._incarnation:
            return
        if self.wakeups.wait(0.0):
            self._plan_tick(0.001)
        elif not self.finished and self.loop.workers_to_poll_fast():
            self._plan_tick(FAST_POLL_S)
        if self._folder is not None and not self.finished:
            self._plan_tick(max(0.001, self._folder.wait_s(self.loop.farm)))

    def _is_connected(self, worker: str) -> bool:
        return self.loop is not None and self._executor is not None and self._executor.is_busy(worker)

    def _admit(self, worker: str) -> None:
        """As `Host` does with a worker that joins."""
        if self.loop is None:
            return
        try:
            self.loop.admit(worker)
        except Killed:
            self._end(self._incarnation)
        except HostError:
            self.stop()

    def _update_folder(self) -> None:
        """As `Host.play` does before each tick."""
        assert self.loop is not None
        if self._folder is not None:
            self._folder.update(self.loop.farm)
            self.loop.is_open = self._folder.is_open(self.loop.farm)

    def _start_next_generation(self) -> None:
        """Continues with the same host, or with a new host process."""
        assert self.loop is not None
        self.generation += 1
        if self._rng.random() < 0.5:
            self._end(self._incarnation, graceful=True)
        else:
            self._replay(self.loop)
            self._open()

    def stop(self) -> None:
        """Ends the host gracefully: it records its last facts if it can. It is started again soon."""
        if self.loop is None:
            return
        if not self.finished:
            with contextlib.suppress(Killed, HostError):
                local = self.machines if self.world.options.local else ()
                self.loop.record_last(closing_facts(self.loop.farm, local, "stopped"))
        self._end(self._incarnation, graceful=True)

    def swap(self, one: str, other: str) -> None:
        """Mounts two shares in each other's place."""
        self.mount_faults += 1
        self.mounts_changed_at = self.world.now
        self.swapped.update({one: other, other: one})

    def unmount(self, worker: str) -> None:
        """Unmounts a share; its mount point is an empty folder."""
        self.mount_faults += 1
        self.mounts_changed_at = self.world.now
        self.unmounted[worker] = empty = SimulatedDisk()
        if self.world.rng.random() < 0.5:  # the share was created anew
            empty.make_folders()

    def mount_all(self) -> None:
        """Mounts every share in its own place."""
        if self.swapped or self.unmounted:
            self.mounts_changed_at = self.world.now
        self.swapped.clear()
        self.unmounted.clear()

    def take_over_mismarked_shares(self) -> None:
        """Takes over shares that were marked as another worker's while mounts were swapped, as the user is told to."""
        loop = self.loop
        if loop is None:  # between two runs
            self._replay(loop := self._make_loop())
        for worker, machine in self.machines.items():
            owner = machine.disk.owner()
            if owner is not None and owner[0] == self.ledger.farm_id and owner[1] != worker:
                take_share(loop, FaultyFiles(self.world, lambda machine=machine: machine.disk, self.name), worker)  # type: ignore[misc]

    def kill(self) -> None:
        """Kills the host at one of its next operations."""
        self.world.kill_at[self.name] = self.world.rng.randint(1, 60)

    def crash_system(self, culprit: str) -> None:
        """Ends host and local agents at once; what was never flushed may be lost."""
        self._boots += 1
        self.world.fired["system crash"] += 1
        for machine in self.machines.values():
            self.world.bystanders |= machine.playing - {culprit} if culprit else set()
            machine.end_with_host()
            machine.disk.lose_power(self.world)
        if self.loop is not None:
            self._end(self._incarnation)

    def _end(self, incarnation: int, *, graceful: bool = False) -> None:
        if incarnation != self._incarnation:
            return
        self.checker.host_ended()
        self.loop = None
        self._incarnation += 1
        if self._executor is not None:
            self._executor.end(graceful=graceful)
        if self.world.options.local and not self.second_farm:
            for machine in self.machines.values():
                machine.end_with_host()
        self.world.schedule(self.world.rng.uniform(0.2, 4.0), self.start)
