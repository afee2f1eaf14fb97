"""The host process: locks the state folder, manages the workers and plays generations one after another.

Owns: the order of start-up and shutdown, and how long a generation is played. At most one host per state folder: the
lock ends with the process.
Not here: which part knows which (`wiring`), how a generation is opened (`generation_opener`), decisions about trials
and workers (`pipeline.core`).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.system.long_paths import IN_A_PROJECT, too_long
from pipeline.config import Config
from pipeline.core import runs as rules
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import Fact
from pipeline.core.farm import Farm
from pipeline.core.model import Genome, WorkerState
from pipeline.core.params import Params
from pipeline.core.queues import may_gather_results
from pipeline.core.worker_requests import restored_workers
from pipeline.errors import InputError, disk_errors
from pipeline.host.control_loop import ControlLoop
from pipeline.host.disk_watch import DiskWatch
from pipeline.host.generation_opener import GenerationOpener, JoiningGenomes, OpenedGeneration
from pipeline.host.genome_folder import FileNotes
from pipeline.host.last_log import last_log
from pipeline.host.outputs import Outputs
from pipeline.host.retention import apply_keep
from pipeline.host.silence import Silence
from pipeline.host.submissions import Result, Submissions
from pipeline.host.timers import SWEEP_INTERVAL_S, Timers
from pipeline.host.wiring import build
from pipeline.machines.local_workers import LocalWorkers
from pipeline.machines.sites.interface import Sites
from pipeline.paths import ProjectPaths
from pipeline.storage.collector import without_collector
from pipeline.storage.ledger import Ledger
from pipeline.storage.project_lock import lock_project
from pipeline.views.fitness_history import FitnessHistory
from pipeline.views.progress import Progress, measure_progress

PROGRESS_INTERVAL_S = 0.25
REST_LIMIT_S = 120.0  # for a machine to be saved or shut down before a watch closes its host
GATHER_S = 0.003  # one commit for the results of so long, while no worker waits for this host


@dataclass(frozen=True, slots=True)
class Ending:
    """Why playing a generation ended."""

    finished: bool
    stopped: bool = False  #: `stop` was called
    diagnosis: str = ""  #: why the farm cannot go on
    files: FileNotes = field(default_factory=FileNotes)  #: of a run that follows the genomes' folder


class Host:
    """A project folder locked by this process, with the sites that are given or configured.

    Raises:
        InputError: the folder's path is too long for this system.
        ProjectBusyError: another process has this project open.
        HostError: the state folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path, config: Config, evaluator_folder: Path, sites: Sites | None = None) -> None:
        if problem := too_long(root, IN_A_PROJECT):
            raise InputError(problem)
        self.root, self.config = root, config
        self.paths = ProjectPaths(root)
        self._lock = lock_project(self.paths)
        with contextlib.ExitStack() as closing:
            closing.callback(self._lock.release)
            parts = self._parts = build(root, config, evaluator_folder, closing, sites)
            self._closing = closing.pop_all()
        self._evaluator = parts.evaluator
        self._loaded = False  #: whether the ledger was replayed into the farm
        self._fitness = FitnessHistory(config.generation.direction)
        self._opened: OpenedGeneration | None = None
        self._opener = GenerationOpener(config, self.paths, self._parts, self._evaluator, self.load, self._record)
        self._timers: Timers | None = None
        self._silence = Silence(config.hooks.silent_after_s)
        self._disk_watch = DiskWatch(config.limits, (self.paths.state, self.paths.all_results))
        self._stop = threading.Event()

    @property
    def ledger(self) -> Ledger:
        """The ledger of this project."""
        return self._parts.ledger

    @property
    def local_workers(self) -> LocalWorkers:
        """The local workers."""
        return self._parts.local_workers

    @property
    def loop(self) -> ControlLoop:
        """The control loop; its methods belong to the thread that calls `play`."""
        return self._parts.loop

    @property
    def farm(self) -> Farm:
        """The farm as it is now."""
        return self.loop.farm

    def progress(self) -> Progress:
        """Where the open generation stands."""
        return measure_progress(self.farm, self.loop.observed, time.time(), self._fitness)

    @property
    def outputs(self) -> Outputs | None:
        """The results folder of the generation that was begun last."""
        return self._opened.outputs if self._opened is not None else None

    def share(self, worker: str) -> ShareFiles:
        """The files of a worker's share."""
        return self._parts.shares[worker]

    # --------------------------------------------------------------------------------------------------- generations

    def load(self, generation: int) -> None:
        """Replays the ledger into the farm for that generation; 0 loads only the facts that shares depend on."""
        if self.farm.generation == generation and self._loaded:
            return
        if self.farm.generation:
            reason = f"generation {generation} was begun" if generation else "no generation is open"
            self.loop.record(rules.withdrawals(self.farm, reason))
            self.loop.reconcile_shares()
        if self._loaded and generation and not self.ledger.has(generation):
            return  # nothing to replay; the loaded farm has the facts that shares depend on
        membership = self._parts.membership
        farm = Farm(self.ledger.farm_id, membership.not_on_sites())
        self._fitness = FitnessHistory(self.config.generation.direction)
        with without_collector():
            rules.replay(self._fitness.watch(self.ledger.entries()), farm, generation)
        self._fitness.condense(generation)
        self.loop.switch_farm(farm, restored_workers(farm, membership.names(), membership.site_of))
        self._loaded = True

    def begin(
        self,
        generation: int,
        *,
        fresh: bool = False,
        retry_failed: bool = False,
        accept_evaluator: bool = False,
        follow_folder: bool = False,
        params: Mapping[str, Params] | None = None,
        complete: Collection[str] | None = None,
    ) -> None:
        """Opens a generation, or resumes it; `accept_evaluator` resumes one that was begun with another evaluator.

        With `follow_folder` files that appear while it is played join, and files that change are named: their genomes
        keep the bytes that were read first. Without it a genome whose file has other bytes is refused. `params` are
        recorded with the genomes of these names that the generation does not have yet. With `complete`, a generation
        that was never run begins with these files, and those that cannot be genomes are named; all others join later.

        Raises:
            InputError: it cannot be run as asked; nothing has changed. GenomeError if a genome is the reason.
            HostError: the ledger, a snapshot or the results could not be written.
        """
        self._opened = self._opener.open(
            generation,
            fresh=fresh,
            retry_failed=retry_failed,
            accept_evaluator=accept_evaluator,
            follow_folder=follow_folder,
            params=params or {},
            complete=complete,
        )

    def begin_again(self, generation: int, names: Sequence[str], *, accept_evaluator: bool = False) -> None:
        """Opens genomes of a generation once more, with the bytes that their files have now; no other is played.

        Raises:
            InputError: they cannot be played again; nothing has changed. GenomeError if a file is the reason.
            HostError: the ledger or a snapshot could not be written.
        """
        self._opened = self._opener.open_again(generation, names, accept_evaluator=accept_evaluator)

    def begin_submissions(self, generation: int, result: Callable[[Genome], Result]) -> Submissions[Result]:
        """Opens or resumes a generation to which genomes are submitted one at a time.

        `result` makes what the future of a settled genome gets. The caller passes the facts that `play` reports to
        `Submissions.note`.

        Raises:
            InputError: it cannot be run with these settings; nothing has changed.
            HostError: the ledger or the results could not be written.
        """
        self._opened, submissions = self._opener.open_for_submissions(generation, result)
        return submissions

    def play(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_facts: Callable[[list[Fact]], None] = lambda _facts: None,
        proceed: Callable[[], bool] = lambda: True,
    ) -> Ending:
        """Plays the open generation until it is finished, cannot go on, or `stop` is called.

        `on_facts` gets the facts of each tick; `on_progress` is called four times a second and at the end. `proceed` is
        called after each tick: if it returns False, playing stops.

        Raises:
            HostError: this host's disk or ledger failed; what is recorded is kept, the same call resumes.
            LedgerError: the ledger is damaged.
        """
        assert self._opened is not None, "begin comes first"
        outputs = self._opened.outputs
        if self.is_finished:
            outputs.write(self.farm)
            self._apply_keep()
            return self._ending(finished=True)
        self._parts.live_status.write(self.progress())  # at once: the file may still be of the generation before
        self.local_workers.prepare()
        timers = self._running_timers()
        try:
            ending = self._play(outputs, timers, on_progress, on_facts, proceed)
        finally:
            with disk_errors(outputs.folder):
                self._parts.archive.close()
            if not self.loop.commit_failed and not self.farm.finished:
                outputs.write(self.farm)
        if ending.finished:
            self._apply_keep()
        else:
            self._parts.live_status.remove()  # this host may stay open
        return ending

    def bring_deployments(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Brings each worker the evaluator that was deployed last, until `is_done`, a time-out or `stop`.

        No generation is open. Raises HostError, LedgerError as `play`.
        """
        self.load(generation=0)
        self.loop.deployments = self._parts.deployments.read()
        timers, deadline = self._running_timers(), time.monotonic() + timeout_s
        while True:
            self._tick()
            if is_done() or self._stop.is_set() or time.monotonic() >= deadline:
                return
            timers.poll_fast(bool(self.loop.workers_to_poll_fast()))
            timers.catch_up()
            self._parts.wakeups.wait(SWEEP_INTERVAL_S, 0.0)

    def rest(self) -> None:
        """Puts machines to rest that have no work; to be called every `rest_interval_s` while nothing is played.

        Raises:
            HostError: this host's disk or ledger failed.
            LedgerError: the ledger is damaged.
        """
        if self.rest_interval_s is None:
            return
        if not self._loaded and not self.local_workers.names():  # their agents would be started
            self.load(self.ledger.last()[2])  # the machines may be those of a host that was killed
        if not (self.farm.generation and self.is_finished):
            return
        self._open_machines()
        self._parts.wakeups.request_poll()
        self._parts.wakeups.request_sweep()
        facts = self._tick()
        self._count(facts)
        self._parts.hooks.notify(facts, self.farm)
        if self._parts.live_status.is_due:
            self._parts.live_status.write(self.progress())

    @property
    def rest_interval_s(self) -> float | None:
        """How often `rest` is to be called; None if no machine is put to rest."""
        return SWEEP_INTERVAL_S if self.config.idle_after_s is not None else None

    @property
    def rests_until_s(self) -> float:
        """How long after the last game its machines are at rest, if all goes well."""
        return self.config.idle_after_s + REST_LIMIT_S if self.config.idle_after_s is not None else 0.0

    def stop(self) -> None:
        """Makes `play` return soon; any thread and any signal handler may call."""
        self._stop.set()
        self.wake()

    def wake(self) -> None:
        """Starts the next tick now; any thread may call."""
        self._parts.wakeups.wake()

    def close(self) -> None:
        """Withdraws the local workers' attempts on the record, ends the workers and releases the state folder."""
        try:
            if self.farm.generation and not self.farm.finished:
                reason = "stopped" if self._stop.is_set() else "ended"
                self.loop.record_last(rules.closing_facts(self.farm, self._parts.ending_workers, reason))
        finally:
            self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _play(
        self,
        outputs: Outputs,
        timers: Timers,
        on_progress: Callable[[Progress], None] | None,
        on_facts: Callable[[list[Fact]], None],
        proceed: Callable[[], bool],
    ) -> Ending:
        parts, progress_due = self._parts, 0.0
        self._silence.begin()
        while True:
            facts = [*self._join(), *self._tick()]
            self._count(facts)
            finished = self.is_finished
            if finished:  # before callbacks and hooks, which may read them
                outputs.write(self.farm)
            on_facts(facts)
            if on_progress is not None and (finished or time.monotonic() >= progress_due):
                progress_due = time.monotonic() + PROGRESS_INTERVAL_S
                on_progress(self.progress())
            parts.hooks.notify(facts, self.farm)
            if finished:
                return self._ending(finished=True)
            if self._stop.is_set() or not proceed():
                return self._ending(stopped=True)
            if diagnosis := self._stuck_reason():
                parts.hooks.notify_stuck(self.farm, diagnosis)
                logs = [self.local_workers.log_path(name) for name in self.local_workers.names()]
                return self._ending(diagnosis=f"{diagnosis}{last_log(self.farm, outputs.folder, logs)}")
            if silent_s := self._silence.note(facts, self.farm.open_trials, time.monotonic()):
                parts.hooks.notify_silent(self.farm, silent_s)
            timers.poll_fast(bool(self.loop.workers_to_poll_fast()))
            timers.catch_up()
            parts.folder_watcher.rearm(self._readable())
            outputs.update(self.farm, facts)
            self._disk_watch.look()
            if parts.live_status.is_due:
                parts.live_status.write(self.progress())
            parts.wakeups.wait(min(outputs.wait_s, self._wait_s()), GATHER_S if may_gather_results(self.farm) else 0.0)

    def _tick(self) -> list[Fact]:
        """One tick, with the workers that join or leave; returns the facts."""
        joined = self._parts.membership.update()
        facts = self.loop.tick()
        self._parts.membership.note(facts)
        return [*joined, *facts]

    def _running_timers(self) -> Timers:
        """Opens the connections to machines and starts the timers, once."""
        self._open_machines()
        if self._timers is None:
            self._timers = Timers(self._parts.wakeups)
            self._closing.callback(self._timers.close)
        return self._timers

    def _open_machines(self) -> None:
        self._parts.machine_controllers.open(on_down=self._close_connection)

    def _apply_keep(self) -> None:
        """Removes what the configuration does not keep of a finished generation: when its callers have been told."""
        apply_keep(self.config.generation.keep, self.paths, self.farm, self.ledger.last()[0])

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be played: files may still join a generation that was finished once."""
        return self.farm.finished and not self.loop.is_open

    def _join(self) -> list[Fact]:
        """Lets more genomes join if they may; returns the facts."""
        if (joining := self._joining) is None:
            return []
        joined = joining.update(self.farm)
        self.loop.is_open = joining.is_open(self.farm)
        return joined

    @property
    def _joining(self) -> JoiningGenomes | None:
        return self._opened.joining if self._opened is not None else None

    def _wait_s(self) -> float:
        return SWEEP_INTERVAL_S if self._joining is None else min(SWEEP_INTERVAL_S, self._joining.wait_s(self.farm))

    def _ending(self, *, finished: bool = False, stopped: bool = False, diagnosis: str = "") -> Ending:
        return Ending(finished, stopped, diagnosis, self._joining.notes if self._joining is not None else FileNotes())

    def _record(self, facts: list[Fact]) -> None:
        self.loop.record(facts)
        self._count(facts)

    def _count(self, facts: list[Fact]) -> None:
        for fact in facts:
            self._fitness.note(self.farm.generation, fact)
        self._fitness.condense(self.farm.generation)

    def _stuck_reason(self) -> str:
        reason = stuck_reason(self.farm, len(self.farm.workers))
        if reason and (changes := self._evaluator.changes_since(self.farm.evaluator_version)):
            reason += f"; changed since the generation was begun: {changes}"
        elif reason and self.config.worker and any(w.state is WorkerState.UNFIT for w in self.farm.usable()):
            reason += "; `pipeline doctor` says what differs or is missing"
        return reason

    def _readable(self) -> set[str]:
        return {name for name, seen in self.loop.observed.workers.items() if seen.readable and seen.scanned}

    def _close_connection(self, worker: str) -> None:
        if worker in self._parts.smb:  # its server was just switched off; do not wait for a time-out
            self._parts.smb[worker].close()
