"""Simulated machines: each runs the shipped agent on its share; it may hang, crash, reboot or go back in time."""

import contextlib
import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from inbox_agent.agent import Agent
from inbox_agent.deployments import DeploymentIntake
from inbox_agent.evaluation.versioned import EvaluatorSource, FilesState, VersionedEvaluator
from inbox_agent.identity import AgentIdentity
from inbox_agent.other_agents import OtherAgentActive
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.layout import (
    ANSWERS,
    INBOX,
    ORDERS,
    OUTBOX,
    Kind,
    LayoutError,
    Outcome,
    ResultRecord,
    StartRecord,
    attempt_of,
    decode,
    encode,
)
from inbox_agent.settings import EvaluatorTable
from inbox_agent.share_scanner import AgentLimits
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.observed import PowerAction
from tests.simulator.deployments import SimulatedDeployedEvaluators
from tests.simulator.disk import DiskState, FaultyFiles, SimulatedDisk, attempt_in, attempts_in
from tests.simulator.evaluator import EDITED_VERSION, VERSION, SimulatedEvaluator
from tests.simulator.world import Killed, World

BOOT_S, AGENT_START_S, RESTORE_S, SAVE_S = 6.0, 1.0, 10.0, 2.0
SHUTDOWN_LIMIT_S, SLOW_BOOT = 12.0, 10
HEARTBEAT_LOST_S = 5.0  #: time after which the hypervisor reports a frozen guest
FLOOD = 30  #: results that are written at once
SLOW_MACHINE = 5
SEEN_RECENTLY_S = 20.0  #: well below the host's limits for silence and for a recovery action
POLL_S = 6.0  # slower than shipped: fewer polls make histories faster


class NoWait:
    """Notifications without waiting: the world's clock decides when the agent runs."""

    def wait(self, timeout_s: float) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class SavedMemory:
    """The memory of a machine that was saved, with the agent in it."""

    at: float
    agent: Agent | None
    frozen_at: float | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a machine: its disk, and its memory with the agent in it."""

    at: float
    disk: DiskState
    memory: tuple[Any, ...]  #: agent, evaluator and files, which refer to each other
    playing: frozenset[str]
    deployed: DeployRecord | None


class SimulatedMachine:
    """One worker's machine, its disk and its agent.

    A clone is a second machine on the disk of another one, with the same configuration.
    """

    def __init__(self, world: World, name: str, *, share_is_local: bool, disk: SimulatedDisk | None = None) -> None:
        self.world, self.name = world, name
        self.is_clone = disk is not None
        self.disk = disk or SimulatedDisk()
        self.own_disk = share_is_local
        self.listeners: dict[str, Callable[[str], None]] = {}  #: notified of each result that the agent publishes
        self.evaluator_version = VERSION  #: of its evaluator's files as they are now
        self.deployed: DeployRecord | None = None  #: the deployment that was installed last
        self.evaluator_edits = 0
        self.floods = 0  #: results of no attempt so far
        self._rewound_to = 1_000_000  #: the heartbeat counter that its guest shows next
        self.evaluator_is_broken = False
        self.corrupts = False  #: its agent writes results of another farm
        self.files = self._open_files()
        self.agent: Agent | None = None
        self.hung = False
        self.reverted = False
        self.frozen_at: float | None = None  #: when the guest froze; only a power cycle helps
        self.needs_restore = False  #: no agent starts in it before it is restored
        self.is_on = self.is_up = True  #: whether it has power, and has booted
        self.on_at = 0.0  #: when it was switched on
        self.busy_until = -1.0  #: until when a recovery action is executed
        self.hypervisor_down = False  #: the hypervisor does not answer
        self.rests = False  #: whether its host has put it to rest, and has not woken it
        self._saved: SavedMemory | None = None
        self.playing: set[str] = set()
        self.boots = self.agent_starts = self.restarts = 0
        self.seen_healthy_at = -1e9  #: when the last heartbeat was written that the host has read, by the fair clock
        self.on_restart: Callable[[str], object] = lambda _name: None
        self.on_result: Callable[[str], None] = lambda _path: None
        #: crashes the system that a local agent shares with its host; takes the attempt that is the cause
        self.crash_system: Callable[[str], None] = lambda _attempt: None
        self.clock_s = 0.0  #: offset of the agent's clock from the world's
        self._hosts_ended = 0
        self._turn = 0  #: which chain of agent steps is the current one
        self._checkpoints: deque[Checkpoint] = deque(maxlen=4)
        self._evaluator = SimulatedEvaluator(self)
        slow = world.options.slow_machines
        self.slowness = SLOW_MACHINE if slow and world.rng.random() < slow else 1  #: factor of the length of games

    def __deepcopy__(self, _memo: object) -> "SimulatedMachine":
        return self

    def _open_files(self) -> FaultyFiles:
        process = f"agent:{self.name}"
        files = FaultyFiles(self.world, lambda: self.disk, process, remote=not self.own_disk, stale=not self.own_disk)
        files.on_publish = self._on_publish
        return files

    def _on_publish(self, path: str) -> None:
        if self.corrupts and path.endswith(ANSWERS):
            self.disk.files[path] = self._forged(attempt_in(path))
            self.world.fired["corrupted result"] += 1
        if path.endswith(Kind.STARTED.value):
            self._check_claim(path)
        if path.endswith(ANSWERS):
            self._check_result(path)
            self.on_result(path)
            for listener in list(self.listeners.values()):
                listener(path)

    def _check_claim(self, path: str) -> None:
        """An agent answers the claims of its predecessors before it claims anything: a crash leaves one claim."""
        options, files = self.world.options, self.disk.files
        if options.revert or options.held or options.second_agent or options.hostile_bytes or not self.own_disk:
            return
        for name in self.disk.names(OUTBOX):
            other = attempt_of(name)
            if other is None or other[1] is not Kind.STARTED or f"{OUTBOX}/{name}" == path:
                continue
            answered = f"{OUTBOX}/{Kind.RESULT.of(other[0])}" in files
            data = files.get(f"{INBOX}/{Kind.START.of(other[0])}")
            if data is not None and not answered and self._is_owners_or_damaged(data):
                self.world.report_violation(f"{self.name} claims {path} before it has answered {other[0]}")

    def _is_owners_or_damaged(self, start: bytes) -> bool:
        try:
            record = decode(StartRecord, start, "start")
        except LayoutError:
            return True
        return (record.farm, record.worker, record.epoch) == self.disk.owner()

    def _check_result(self, path: str) -> None:
        """Law 7: no agent reports a game as interrupted that another agent plays."""
        record = orjson.loads(self.disk.files[path])
        player = self.disk.playing.get(record["attempt"])
        played_by_another = isinstance(player, SimulatedMachine) and player is not self and not player.hung
        claimed = self.disk.history.claimed - self.world.half_claimed.keys()
        undelivered = record["outcome"] == Outcome.UNDELIVERED and record["attempt"] in claimed
        if undelivered and not self.world.options.revert:
            self.world.report_violation(f"{self.name} reports {record['attempt']} as undelivered, which it had claimed")
        half_claimed = self.world.half_claimed.get(record["attempt"]) == record["run_id"]
        never_played = half_claimed and record["attempt"] not in self.world.played
        if never_played and record["outcome"] == Outcome.INTERRUPTED and not self.world.options.revert:
            self.world.report_violation(
                f"{self.name} reports {record['attempt']} as interrupted, which it has not played"
            )
        if played_by_another and record["outcome"] == Outcome.INTERRUPTED and not self.world.options.revert:
            self.world.report_violation(
                f"{self.name} reports {record['attempt']} as interrupted, which another agent plays"
            )

    # ------------------------------------------------------------------------------------------------- the agent

    def start_agent(self) -> None:
        """Starts a new agent process; the old one ends first."""
        self.kill_agent()
        self.agent_starts += 1
        self.hung = self.needs_restore
        self._evaluator, self.files = SimulatedEvaluator(self), self._open_files()
        identity = AgentIdentity(boot_id=f"boot-{self.boots}", run_id=f"{self.name}-run-{self.agent_starts}")
        limits = AgentLimits(poll_s=POLL_S)
        try:
            self.disk.make_folders()
            self.agent = Agent(
                self.files,
                VersionedEvaluator(EvaluatorSource(self._evaluator, self._look_at_files), clock=self._read_clock),
                identity,
                NoWait(),
                clock=self._read_clock,
                share_is_local=self.own_disk,
                host_is_local=self.world.options.local,
                deployments=self._deployment_intake(),
                limits=limits,
            )
        except Killed:
            return
        self._schedule_step(0.0)

    def _deployment_intake(self) -> DeploymentIntake | None:
        if not self.world.options.deploy:
            return None
        return DeploymentIntake(self.files, SimulatedDeployedEvaluators(self), self._deployed_source, self._read_clock)

    def _deployed_source(self, _table: EvaluatorTable, _folder: Path) -> EvaluatorSource:
        self._evaluator = SimulatedEvaluator(self)
        return EvaluatorSource(self._evaluator, self._look_at_files)

    def install(self, record: DeployRecord) -> None:
        """Makes a deployed evaluator the one that is played."""
        self.deployed = record
        self.world.executed["deploy"] += 1
        self.edit_evaluator(record.evaluator)

    @property
    def installed_version(self) -> str:
        """The version of its evaluator's files when they are not edited."""
        return self.deployed.evaluator if self.deployed is not None else VERSION

    def _look_at_files(self) -> FilesState:
        return FilesState(self.evaluator_version, self.evaluator_edits, {})

    def edit_for(self, seconds: float) -> None:
        """Edits the evaluator's files, and puts them back after a while."""
        self.edit_evaluator(EDITED_VERSION)
        self.world.schedule(seconds, lambda: self.edit_evaluator(self.installed_version))

    def edit_evaluator(self, version: str) -> None:
        """Writes the evaluator's files."""
        self.evaluator_version = version
        self.evaluator_edits += 1

    def _read_clock(self) -> float:
        return self.world.now + self.clock_s

    def kill_agent(self) -> None:
        """Ends the agent and its game between two operations."""
        self.agent = None
        self._turn += 1
        for attempt in self.playing:
            self.disk.playing.pop(attempt, None)
        self.playing.clear()

    def get_new_share(self) -> None:
        """Its worker has left, and comes back with an empty share, on which its agent is started."""
        self.kill_agent()
        self.disk.files.clear()
        self._checkpoints.clear()
        self._saved = None
        if self.is_up and self.frozen_at is None:
            self.start_agent()

    def notify(self, path: str) -> None:
        """Notifies the agent of a file in the share."""
        if not path.endswith(ORDERS) or self.agent is None:
            return
        if not self.world.loses_notification():
            self._schedule_step(0.002)

    def _schedule_step(self, delay_s: float) -> None:
        self._turn += 1
        turn = self._turn
        self.world.schedule(delay_s, lambda: self._step(turn))

    def _step(self, turn: int) -> None:
        if turn != self._turn or self.agent is None:
            return
        if self.hung:
            return
        try:
            self.agent.wait(0.0)
            pause_s = self.agent.step()
        except Killed:
            if self.world.kills_take_power:
                self.crash()
            else:
                self.crash_agent()
            return
        except OtherAgentActive:
            self.world.fired["second agent detected"] += 1
            self.crash_agent()
            return
        ends_at = self._evaluator.next_at()
        if ends_at is not None:
            pause_s = min(pause_s, max(0.0, ends_at - self.world.now))
        self._schedule_step(max(pause_s, 0.001))

    @property
    def is_healthy(self) -> bool:
        """Whether the agent runs, and has written heartbeats regularly in the last seconds."""
        return self.agent is not None and not self.hung and self.world.now - self.files.heartbeats_at[0] < 25

    def note_playing(self, attempt: str) -> None:
        """Records the start of a game."""
        if self._runs_alone(attempt) and f"{OUTBOX}/{Kind.STARTED.of(attempt)}" in self.disk.unflushed:
            self.world.report_violation(f"{self.name} plays {attempt}, a suspect, before its claim is flushed")
        if self.playing:
            self.world.report_violation(f"{self.name} plays {attempt} and {min(self.playing)} at once")
        if attempt in self.disk.history.played:
            self.world.report_violation(f"{self.name} plays {attempt} a second time")
        self.world.played.add(attempt)
        self.playing.add(attempt)
        self.disk.playing[attempt] = self
        self.disk.history.played.add(attempt)

    def _runs_alone(self, attempt: str) -> bool:
        try:
            return decode(StartRecord, self.disk.files[f"{INBOX}/{Kind.START.of(attempt)}"], "start").alone
        except (KeyError, LayoutError):
            return False

    def note_played(self, attempt: str) -> None:
        """Records the end of a game."""
        self.playing.discard(attempt)
        self.disk.playing.pop(attempt, None)

    # ----------------------------------------------------------------------------------------------------- faults

    def crash_agent(self) -> None:
        """Kills the agent, as with `kill -9`; a logon task restarts it, or only the host does."""
        self.kill_agent()
        if self.world.options.local:
            return  # its host sees it end, and starts it again
        if not self.is_clone and (self.world.rng.random() < 0.7 or not self.world.faulty):
            self.world.schedule(self.world.rng.uniform(0.5, 3), self._start_if_none)

    def stop_agent(self) -> bool:
        """Asks the agent to stop, as SIGTERM does; a logon task restarts it, or only the host does."""
        if self.agent is None or self.hung:
            return False
        with contextlib.suppress(Killed, OtherAgentActive):
            self.agent.report_stop()
        self.crash_agent()
        return True

    def crash_by(self, attempt: str) -> None:
        """Crashes because of a game."""
        if not self.world.options.one_system:
            self.crash()
        elif attempt in self.playing:
            self.crash_system(attempt)

    def crash(self) -> None:
        """Cuts the power; the machine boots again by itself, or with a hypervisor sometimes only when it is started.

        A local agent has no machine of its own: it ends, or host and local agents end with their system.
        """
        if self.world.options.one_system:
            self.crash_system("")
            return
        if self.world.options.local:
            self.crash_agent()
            return
        self.switch_off()
        if not self.world.options.hypervisor or self.world.rng.random() < 0.5:
            self._boot(1)

    def hang(self) -> bool:
        """Makes the agent or the machine hang; some resume later, one in ten has to be restored."""
        if self.agent is None or self.hung:
            return False
        rng = self.world.rng
        self.hung = True
        if not self.world.options.local:
            kind = rng.random()
            self.frozen_at = self.world.now if kind < 0.6 else None
            self.needs_restore = self.needs_restore or kind > 0.9
            if self.frozen_at is not None and self.world.options.hypervisor:
                self.disk.served = False
        if rng.random() < 0.3:
            agent = self.agent
            self.world.schedule(rng.choice([3, 20, 28, 32, 40, 60]), lambda: self._resume(agent))
        return True

    def _resume(self, agent: Agent | None) -> None:
        if self.hung and not self.needs_restore and self.agent is agent and agent is not None:
            self.world.fired["resume"] += 1
            self.hung, self.frozen_at, self.disk.served = False, None, True
            self._schedule_step(0.0)

    def switch_off(self) -> None:
        """Cuts the power: what was never flushed may be lost, and the share in the machine is not served."""
        self.kill_agent()
        self.disk.lose_power(self.world)
        self.is_on = self.is_up = False
        self.disk.served, self.frozen_at = not self.world.options.hypervisor, None

    def _boot(self, slow: int) -> None:
        """Switches the machine on; its share is served before its agent starts."""
        self.boots += 1
        self.is_on, self.on_at = True, self.world.now
        self.rests, self._saved = False, None
        boot, took_s = self.boots, BOOT_S * slow

        def up() -> None:
            if boot == self.boots and self.is_on:
                self.is_up = self.disk.served = True
                self._start_if_none()

        self.busy_until = max(self.busy_until, self.world.now + min(took_s, 40))
        self.world.schedule(took_s, up)

    def save_state(self) -> None:
        """Takes a checkpoint of the disk, and of the memory with the agent in it."""
        memory = copy.deepcopy((self.agent, self._evaluator, self.files)) if self.agent is not None else ()
        playing = frozenset(self.playing)
        self._checkpoints.append(Checkpoint(self.world.now, self.disk.state(), memory, playing, self.deployed))

    def load_state(self) -> None:
        """Reverts to a checkpoint: the share alone, or the machine boots from it, or it resumes with its memory."""
        if not self._checkpoints:
            return
        checkpoint = self._checkpoints[0]
        # Those after it belong to a history that is given up: a machine and its disk are not taken to both.
        self._checkpoints = deque([checkpoint], maxlen=self._checkpoints.maxlen)
        self.disk.load_state(checkpoint.disk)
        how = self.world.rng.choice(["share", "boot", "memory"])
        self.world.fired[f"revert: {how}"] += 1
        if how != "share":
            self._revert_evaluator(checkpoint.deployed)
        if how == "boot":
            self.switch_off()
            self._boot(1)
        elif how == "memory" and checkpoint.memory:
            self.kill_agent()
            self.hung, self.frozen_at = False, None
            self.is_on = self.is_up = self.disk.served = True
            self.rests, self._saved = False, None
            self.agent, self._evaluator, self.files = copy.deepcopy(checkpoint.memory)
            reverted_s = self.world.now - checkpoint.at
            self.clock_s -= reverted_s
            self._evaluator.delay_end(reverted_s)
            self.playing = set(checkpoint.playing)
            self._schedule_step(0.0)

    def _revert_evaluator(self, deployed: DeployRecord | None) -> None:
        if self.deployed != deployed:
            self.deployed = deployed
            self.edit_evaluator(self.installed_version)

    def write_hostile_bytes(self) -> None:
        """Writes hostile bytes to the outbox, under the name of an expected result or of an attempt never issued."""
        held = sorted(attempts_in(self.disk, "inbox")) or ["g0001-0001-t1-a1-000000000000"]
        attempt = self.world.rng.choice([*held, "g0001-0001-t1-a9-zzzzzzzzzzzz"])
        hostile = [
            b"",
            b"{",
            b"[" * 5000,
            b'{"layout": 2, "fitness": 1e9}',
            b"\xff\xfe",
            b"null",
            self._forged(attempt),
        ]
        data = self.world.rng.choice(hostile)
        path = self.world.rng.choice([f"outbox/{attempt}.result.json"] * 3 + ["status/agent.json"])
        if path == "status/agent.json":
            self.disk.files[path] = data
        else:
            self.disk.files.setdefault(path, data)

    def flood(self) -> None:
        """Publishes well-formed results under ids that no ledger issued, more than are read in one scan."""
        for _ in range(FLOOD):
            self.floods += 1
            path = f"{OUTBOX}/{Kind.RESULT.of(f'g0001-0001-t1-a9-{self.floods:012d}')}"
            self.disk.files[path] = self._forged(attempt_in(path))

    def rewind_for(self, seconds: float) -> None:
        """Rewrites the heartbeat's counter every second, each time with a lower one."""
        until = self.world.now + seconds

        def rewind() -> None:
            if self.world.now > until or not self.world.faulty:
                return
            try:
                record = orjson.loads(self.disk.files["status/agent.json"])
                self._rewound_to -= 1
                self.disk.files["status/agent.json"] = orjson.dumps({**record, "counter": self._rewound_to})
            except (KeyError, ValueError, TypeError):
                pass  # none is there, or hostile bytes
            self.world.schedule(1.0, rewind)

        rewind()

    def copy_result(self, path: str) -> None:
        """Publishes a forged result for another worker's attempt at the same time."""
        if self.disk.reachable and path not in self.disk.files:
            self.disk.files[path] = self._forged(attempt_in(path))
            for listener in list(self.listeners.values()):
                listener(path)

    def _forged(self, attempt: str) -> bytes:
        """A well-formed result of another game than was requested."""
        record = ResultRecord(
            farm="5111",
            worker=self.name,
            epoch=1,
            attempt=attempt,
            trial=1,
            seed=4711,
            genome_sha256="0" * 64,
            evaluator=VERSION,
            outcome=Outcome.COMPLETED,
            fitness=1e9,
            metrics={},
            seconds=0.1,
            boot_id="forged",
            run_id="forged",
            log=None,
            artifacts=[],
        )
        return encode(record)

    def add_foreign_files(self) -> None:
        """Adds a file to the share that does not belong to the protocol or to any attempt."""
        attempt = "g0001-0001-t1-a1-handmade0000"
        parts = [f"outbox/{attempt}.started.json", f"outbox/{attempt}.log", f"inbox/{attempt}.genome"]
        others = ["inbox/readme.txt", "inbox/tmp/half.start.json", "outbox/x.started.json", "outbox/..result.json"]
        self.disk.files.setdefault(self.world.rng.choice([*parts, *others]), b"by hand")

    def stop_faults(self) -> None:
        """Ends faults of disk and network. What hangs or has ended stays so, and the host has to recover it."""
        self.disk.reachable, self.disk.full, self.hypervisor_down = True, False, False
        self.edit_evaluator(self.installed_version)
        self.evaluator_is_broken = self.corrupts = False
        self.disk.held.clear()

    def end_with_host(self) -> None:
        """Ends a local worker's agent, also one that its host was about to start."""
        self._hosts_ended += 1
        self.kill_agent()

    def _start_soon(self) -> None:
        hosts_ended = self._hosts_ended
        self.world.schedule(AGENT_START_S, lambda: self._start_if_none() if hosts_ended == self._hosts_ended else None)

    def _start_if_none(self) -> None:
        if self.agent is None and self.is_up and self.frozen_at is None:
            self.start_agent()

    # ------------------------------------------------------------------------------------------------- what hosts call

    def status(self) -> MachineStatus:
        """The status that the machine layer reports."""
        reverted, self.reverted = self.reverted, False
        if self.world.options.hypervisor:
            return self._hypervisor_status(reverted)
        state = MachineState.RUNNING
        if self.agent is None and self.world.options.local:
            state = MachineState.OFF
        return MachineStatus(state, tuple(RecoveryAction), reverted=reverted)

    def _hypervisor_status(self, reverted: bool) -> MachineStatus:
        now, state = self.world.now, MachineState.RUNNING if self.is_on else MachineState.OFF
        if self.frozen_at is not None and now - self.frozen_at > HEARTBEAT_LOST_S:
            state = MachineState.UNHEALTHY
        if self.hypervisor_down:
            self.reverted = reverted
            return MachineStatus(MachineState.UNKNOWN, tuple(RecoveryAction), boots=True, busy=now < self.busy_until)
        return MachineStatus(
            state,
            tuple(RecoveryAction),
            reverted=reverted,
            boots=True,
            busy=now < self.busy_until,
            uptime_s=now - self.on_at if self.is_on else 0.0,
        )

    def execute(self, action: RecoveryAction | PowerAction, *, lost: bool = False, asked_for: bool = False) -> None:
        """Executes a recovery action, or one on its power; some are lost without an error.

        `asked_for`: the user wants it, whatever state the machine is in.
        """
        if self.world.options.hypervisor and self.world.now < self.busy_until:
            return  # at most one action at a time is executed
        if isinstance(action, RecoveryAction):
            if self.rests:
                self.world.report_violation(f"{self.name} was recovered ({action}) while it was at rest")
            self.on_restart(self.name)
            seen_healthy = self.world.now + self.world.fair_skew_s - self.seen_healthy_at < SEEN_RECENTLY_S
            if self.is_healthy and seen_healthy and not asked_for and not self.world.heartbeats_are_ambiguous:
                self.world.report_violation(f"{self.name} was restarted ({action}) while it was healthy")
        self.rests = self.rests and action is PowerAction.REST
        if lost or self.hypervisor_down or self.world.draw_fault("lost action", self.world.options.action_lost):
            return
        self.restarts += isinstance(action, RecoveryAction)
        self.world.executed[action] += 1
        match action:
            case PowerAction.START:
                self._switch_on()
            case PowerAction.RESUME:
                self._go_on()
            case PowerAction.REST:
                self._rest()
            case RecoveryAction.RESTART_AGENT:
                if self.frozen_at is None:
                    self.kill_agent()
                    self._start_soon()
            case RecoveryAction.REBOOT:
                self.busy_until = self.world.now + SHUTDOWN_LIMIT_S
                if self.frozen_at is None:
                    self._power_cycle()
            case RecoveryAction.POWER_CYCLE:
                self._power_cycle()
            case RecoveryAction.RESTORE:
                self.switch_off()
                self.disk.files.clear()
                self.disk.make_folders()
                self._checkpoints.clear()
                self._revert_evaluator(None)
                self.reverted, self.needs_restore = True, False
                self.world.schedule(RESTORE_S - BOOT_S, lambda: self._boot(1))
                self.busy_until = self.world.now + RESTORE_S

    def _rest(self) -> None:
        """Shuts it down, or saves its memory: what its agent has written is flushed then."""
        if not self.is_on:
            return
        self.rests, self.busy_until = True, self.world.now + SAVE_S
        saved = SavedMemory(self.world.now, self.agent, self.frozen_at)
        if self.world.seed % 2:
            self.switch_off()
            return
        self._saved, self.agent, self.frozen_at = saved, None, None
        self._turn += 1
        self.is_on = self.is_up = self.disk.served = False

    def _go_on(self) -> None:
        """Goes on with its saved memory, or boots."""
        if self.is_on or self._saved is None:
            self._switch_on()
            return
        saved, self._saved = self._saved, None
        self.agent, self.frozen_at = saved.agent, saved.frozen_at
        self.is_on = self.is_up = self.disk.served = True
        self.on_at, self.busy_until = self.world.now, self.world.now + SAVE_S
        self.clock_s -= self.world.now - saved.at
        self._schedule_step(0.0)
        self._start_if_none()

    def _switch_on(self) -> None:
        if self.is_on:
            self._start_if_none()
        else:
            self._boot(1)

    def _power_cycle(self) -> None:
        self.switch_off()
        self._boot(SLOW_BOOT if self.world.draw_fault("slow boot", 0.1) else 1)
