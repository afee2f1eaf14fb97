"""The host process: locks the state folder, manages the workers and plays generations one after another.

Owns: the order of start-up and shutdown. Not here: rules of a generation (`core.runs`), decisions about trials and
workers (`pipeline.core`). At most one host per state folder: the lock ends with the process.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import orjson

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.protocol.layout import ANSWERS, OUTBOX
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from inbox_agent.system.folder_watcher import FolderWatcher
from inbox_agent.system.long_paths import IN_A_PROJECT, too_long
from pipeline.config import Config, WorkerTable
from pipeline.core import runs as rules
from pipeline.core.assignment import Queues
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import Fact, HostStarted, RunOpened
from pipeline.core.farm import Farm
from pipeline.core.model import WorkerState
from pipeline.errors import GenomeError, HostError, InputError, ProjectBusyError, disk_errors
from pipeline.host.control_loop import ControlLoop
from pipeline.host.hooks import Hooks
from pipeline.host.poll_schedule import PollSchedule
from pipeline.host.timers import SWEEP_INTERVAL_S, Timers
from pipeline.machines.connections import machines_of, require_secrets, smb_access
from pipeline.machines.controller import WATCH_INTERVAL_S, MachineController, MachinePool, MachinePools
from pipeline.machines.local_workers import LocalWorkers
from pipeline.paths import ATTEMPT_LOG, ATTEMPTS, EVIDENCE_OF_WORKER, SET_ASIDE, ProjectPaths
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ShareClient
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbSession
from pipeline.storage.archive import Archive
from pipeline.storage.event_log import EventLog
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.storage.outputs import Outputs
from pipeline.storage.snapshots import Snapshots
from pipeline.views.progress import Progress, measure_progress

OUTPUTS_INTERVAL_S = 2.0
OUTPUTS_SHARE = 0.02  # at most this share of the host's time is spent on rewriting outputs


@dataclass(frozen=True, slots=True)
class Ending:
    """Why playing a generation ended."""

    finished: bool
    stopped: bool = False  #: `stop` was called
    diagnosis: str = ""  #: why the farm cannot go on


class Host:
    """A project folder locked by this process.

    Raises:
        InputError: the folder's path is too long for this system.
        ProjectBusyError: another process has this project open.
        HostError: the state folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path, config: Config, evaluator_folder: Path) -> None:
        if problem := too_long(root, IN_A_PROJECT):
            raise InputError(problem)
        self.root, self.config = root, config
        self.paths = ProjectPaths(root)
        try:
            with disk_errors(self.paths.state):
                self._lock = FileLock(self.paths.lock)
        except AlreadyLocked as error:
            reason = f"another `pipeline run` is at work here: {error}; wait for it or stop it"
            raise ProjectBusyError(reason) from error
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            self._set_up(config, evaluator_folder)
            undo.pop_all()

    def _set_up(self, config: Config, evaluator_folder: Path) -> None:
        root, paths = self.root, self.paths
        self.ledger = Ledger(paths.state)
        self._event_log = EventLog(paths.state)
        self.snapshots = Snapshots(paths.snapshots)
        self.local_workers = LocalWorkers(
            config.local_names(),
            paths,
            config.evaluator,
            evaluator_folder,
            silence_limit_s=config.limits.silence_limit_s,
            on_exit=self._request_sweep,
        )
        self._machine_controller = self._make_machine_controller()
        self._paths = {**self.local_workers.shares, **{w.name: root / w.place for w in config.worker if w.unc is None}}
        self._shares: dict[str, ShareFiles] = {name: LocalFiles(path) for name, path in self._paths.items()}
        self._smb = {w.name: self._make_smb_files(w) for w in config.worker if w.unc is not None}
        self._shares |= self._smb
        self._poll_schedule = PollSchedule(self._smb, config.limits.silence_limit_s)
        self.loop = self._make_loop(Farm(self.ledger.farm_id, config.worker_names()))
        self._loaded = False  #: whether the ledger was replayed into the farm
        self.outputs: Outputs | None = None
        self._outputs_due = 0.0
        self._live_status = LiveStatusFile(paths.state)
        self._hooks = Hooks(config.hooks, root)
        self._folder_watcher = FolderWatcher(
            {name: path / OUTBOX for name, path in self._paths.items()}, self.loop.notify, suffixes=ANSWERS
        )
        self._timers: Timers | None = None
        self._stop = threading.Event()

    @property
    def farm(self) -> Farm:
        """The farm as it is now."""
        return self.loop.farm

    def progress(self) -> Progress:
        """Where the open generation stands."""
        return measure_progress(self.farm, self.loop.observed, time.time())

    def share(self, worker: str) -> ShareFiles:
        """The files of a worker's share."""
        return self._shares[worker]

    # --------------------------------------------------------------------------------------------------- generations

    def load(self, generation: int) -> None:
        """Replays the ledger into the farm for that generation; 0 loads only the facts that shares depend on."""
        if self.farm.generation == generation and self._loaded:
            return
        if self.farm.generation:
            self.loop.record(rules.withdrawals(self.farm, f"generation {generation} was begun"))
            self.loop.reconcile_shares()
        if self._loaded and not self.ledger.has(generation):
            return  # nothing to replay; the loaded farm has the facts that shares depend on
        farm = Farm(self.ledger.farm_id, self.config.worker_names())
        rules.replay(self.ledger.entries(), farm, generation)
        self.loop.switch_farm(farm)
        self._loaded = True

    def begin(self, generation: int, *, fresh: bool = False, retry_failed: bool = False) -> None:
        """Opens a generation, or resumes it.

        Raises:
            InputError: it cannot be run as asked; nothing has changed. GenomeError if a genome is the reason.
            HostError: the ledger, a snapshot or the results could not be written.
        """
        self.load(generation)
        folder, results = self.paths.genomes(generation), self.paths.results(generation)
        known = self.farm.generation == generation
        try:
            genomes = self.snapshots.import_folder(folder, bytes_max=self.config.generation.genome_bytes_max)
        except GenomeError:
            if not known or fresh or _holds_files(folder):
                raise
            genomes = []  # the genomes are fixed; files that went missing still belong to the generation
        opening = rules.opening_facts(self.farm, generation, genomes, self.config.run_settings(), fresh=fresh)
        if opening or retry_failed or self.farm.open_trials:
            require_secrets(self.config, self.root)
        if any(isinstance(fact, RunOpened) for fact in opening):
            self.loop.record(rules.withdrawals(self.farm, "begun afresh"))
            retry_failed = False  # a new run has no failed trials yet
        reopening = rules.reopening_facts(self.farm) if retry_failed and known else []
        # A finished generation without new work is not resumed: same facts, same outputs.
        if opening or reopening or self.farm.open_trials:
            started = HostStarted(pid=os.getpid(), workers=len(self.config.worker_names()))
            # Attempts on workers that are no longer configured will never be played.
            retired = rules.withdrawals(self.farm, "no longer configured", self.farm.retired)
            self.loop.record([started, *retired, *opening, *reopening])
        if not self.farm.attempts:
            _move_aside(results)  # a run that has issued no attempt has no results: these are of an earlier run
        self.outputs = Outputs(results)
        self._outputs_due = time.monotonic() + OUTPUTS_INTERVAL_S
        self.loop.archive = Archive(results, self.paths.incoming)

    def play(self, on_tick: Callable[[list[Fact]], None] = lambda _facts: None) -> Ending:
        """Plays the open generation until it is finished, cannot go on, or `stop` is called.

        Raises:
            HostError: this host's disk or ledger failed; what is recorded is kept, the same call resumes.
            LedgerError: the ledger is damaged.
        """
        assert self.outputs is not None, "begin comes first"
        if self.farm.finished:
            self.outputs.write(self.farm)
            return Ending(finished=True)
        self.local_workers.prepare()
        if self._machine_controller is not None:
            self._machine_controller.open()
        self._timers = self._timers or Timers(self.loop.request_sweep, self._request_poll, self.loop.wake)
        try:
            return self._play(self._timers, on_tick)
        finally:
            if not self.loop.commit_failed and not self.farm.finished:
                self.outputs.write(self.farm)

    def stop(self) -> None:
        """Makes `play` return soon; any thread and any signal handler may call."""
        self._stop.set()
        self.loop.wake()

    def close(self) -> None:
        """Withdraws the local workers' attempts on the record, ends the workers and releases the state folder."""
        try:
            if self._timers is not None:
                self._timers.close()
            self._folder_watcher.close()
            if self.farm.generation and not self.farm.finished:
                reason = "stopped" if self._stop.is_set() else "ended"
                self.loop.record_last(rules.closing_facts(self.farm, self.local_workers.names(), reason))
        finally:
            self._executor.close()
            for files in self._smb.values():
                files.close()
            if self._machine_controller is not None:
                self._machine_controller.close()
            self.local_workers.close()
            self._hooks.close()
            self._event_log.close()
            self._live_status.remove()
            self.ledger.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _make_loop(self, farm: Farm) -> ControlLoop:
        shares = {
            name: ShareClient(name, self.ledger.farm_id, files, self.paths.incoming / name).execute
            for name, files in self._shares.items()
        }
        distant = {worker.name for worker in self.config.worker}
        self._executor = ShareExecutor(shares, distant, self._wake)
        return ControlLoop(
            farm=farm,
            ledger=self.ledger,
            executor=self._executor,
            machines=self._pools(),
            on_commit=self._event_log.write,
            snapshots=self.snapshots,
            limits=self.config.core_limits(),
            queues=Queues(depth=self.config.queue_depths(), local=frozenset(self.config.local_names())),
        )

    def _make_machine_controller(self) -> MachineController | None:
        machines, table = machines_of(self.config, self.root), self.config.machine_table()
        if machines is None or table is None:
            return None
        return MachineController(
            machines,
            self.config.machine_of(),
            self.paths.evidence,
            on_change=self._request_sweep,
            save_worker_state=self._save_evidence,
            on_down=self._forget_connection,
            booting_max=table.booting_max,
            stagger_s=table.stagger_s,
            boot_limit_s=self.config.limits.boot_limit_s,
            watch_interval_s=min(WATCH_INTERVAL_S, self.config.limits.silence_limit_s / 6),
        )

    def _pools(self) -> MachinePools:
        pools: dict[str, MachinePool] = dict.fromkeys(self.config.local_names(), self.local_workers)
        if self._machine_controller is not None:
            pools |= dict.fromkeys(self.config.machine_of(), self._machine_controller)
        return MachinePools(pools)

    def _forget_connection(self, worker: str) -> None:
        if worker in self._smb:  # its server was just powered off; do not wait for a time-out
            self._smb[worker].close()

    def _save_evidence(self, worker: str, folder: Path) -> None:
        """Saves the host's knowledge of a worker before its machine is reverted."""
        held = {attempt.id: attempt.reason for attempt in list(self.farm.workers[worker].wanted.values())}
        heartbeat = self.loop.observed.workers[worker].heartbeat
        known = {"state": self.farm.workers[worker].state, "why": self.farm.workers[worker].reason, "held": held}
        (folder / EVIDENCE_OF_WORKER).write_bytes(
            orjson.dumps({**known, "beat": heartbeat and msgspec.to_builtins(heartbeat)})
        )

    def _make_smb_files(self, worker: WorkerTable) -> SmbFiles:
        controller = self._machine_controller
        addresses = None if controller is None else lambda: controller.addresses(worker.name)
        session = SmbSession(smb_access(worker, self.root, addresses))
        return SmbFiles(session, lambda: self.loop.notify(worker.name))

    def _wake(self) -> None:
        self.loop.wake()

    def _request_poll(self) -> None:
        seen, workers = self.loop.observed.workers, self.farm.workers
        uncertain = {name for name, known in seen.items() if not (known.readable and known.alive)}
        busy = {name for name, worker in workers.items() if worker.wanted or worker.left_published}
        self.loop.request_poll(workers.keys() - self._poll_schedule.not_due(uncertain, busy))

    def _request_sweep(self) -> None:
        self.loop.request_sweep()

    def _play(self, timers: Timers, on_tick: Callable[[list[Fact]], None]) -> Ending:
        while True:
            facts = self.loop.tick()
            if self.farm.finished and self.outputs is not None:  # before callbacks and hooks, which may read them
                self.outputs.write(self.farm)
            on_tick(facts)
            self._hooks.notify(facts, self.farm)
            if self.farm.finished:
                return Ending(finished=True)
            if self._stop.is_set():
                return Ending(finished=False, stopped=True)
            if diagnosis := stuck_reason(self.farm, len(self.farm.workers)):
                self._hooks.notify_stuck(self.farm, diagnosis)
                return Ending(finished=False, diagnosis=f"{diagnosis}{self._last_log()}")
            timers.poll_fast(bool(self.loop.workers_to_poll_fast()))
            timers.catch_up()
            self._folder_watcher.rearm(self._readable())
            self._write_outputs()
            if self._live_status.is_due:
                self._live_status.write(self.progress())
            self.loop.wait(SWEEP_INTERVAL_S)

    def _readable(self) -> set[str]:
        return {name for name, seen in self.loop.observed.workers.items() if seen.readable and seen.scanned}

    def _write_outputs(self) -> None:
        now = time.monotonic()
        if now >= self._outputs_due and self.outputs is not None:
            self.outputs.write(self.farm)
            took_s = time.monotonic() - now
            self._outputs_due = now + max(OUTPUTS_INTERVAL_S, took_s / OUTPUTS_SHARE)

    def _last_log(self) -> str:
        """The end of the newest log, for a diagnosis."""
        assert self.outputs is not None
        with contextlib.suppress(OSError):  # a diagnosis is useful without a log, too
            for attempt in reversed(self.farm.attempts.values()):
                path = self.outputs.folder / ATTEMPTS / attempt.id / ATTEMPT_LOG
                if path.exists():
                    return f"\nlast log ({path}):\n{_tail(path)}"
            logs = [path for name in self.local_workers.names() if (path := self.local_workers.log_path(name)).exists()]
            if logs and any(worker.state is WorkerState.OUT for worker in self.farm.workers.values()):
                newest = max(logs, key=lambda path: path.stat().st_mtime)
                return f"\nlast log ({newest}):\n{_tail(newest)}"
        return ""


def _holds_files(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # cannot be listed, so it may hold files
        return True


def _move_aside(results: Path) -> None:
    """Renames a results folder that has results of an earlier run or farm."""
    try:
        if not any((results / name).exists() for name in (ATTEMPTS, SET_ASIDE)):
            return
        number = 1
        while (aside := results.with_name(f"{results.name}.before-{number}")).exists():
            number += 1
        os.rename(results, aside)
    except OSError as error:
        reason = f"{results}: cannot be moved aside: {error}; close what has it open and run again"
        raise HostError(reason) from error


def _tail(path: Path) -> str:
    text = path.read_bytes()[-2000:].decode("utf-8", "replace")
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()[-15:]]
    return "\n".join(f"  {line}" for line in lines)
