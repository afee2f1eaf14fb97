"""The watch: plays each generation that appears below `genomes/`, one after another, until it is stopped.

Owns: when the host is opened and closed, and what each failure leads to: nothing but a damaged ledger ends the watch.
Not here: which generation is due (`core.due_generations`), what the folders show (`watched_folders`), how a generation
is played (`host`).
A host stays open from one generation to the next, so that its workers need not be started again, and holds the lock of
the project. It is opened anew after an error, when `pipeline.toml` has changed, and to end the workers after a pause.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.protocol.layout import clean
from inbox_agent.system.folder_watcher import FolderWatcher, Wakeup
from pipeline.config import load_config
from pipeline.core.due_generations import RUN_KINDS, DueGenerations, RecordedRun, RunState, recorded_run
from pipeline.errors import HostError, InputError, LedgerError, PipelineError, ProjectBusyError
from pipeline.host.host import Ending, Host
from pipeline.host.watched_folders import POLL_S, WatchedFolders
from pipeline.paths import ProjectPaths

log = logging.getLogger(__name__)

REST_AFTER_S = 60.0  #: the workers end when nothing was played for so long
_REASON_CHARS_MAX = 500
_GENOMES = "genomes"  #: the watched folder, for the folder watcher


class Display(Protocol):
    """What shows the generations to the user."""

    def play(self, host: Host, proceed: Callable[[], bool], between: Callable[[], None]) -> Ending:
        """Plays the generation that was begun, by `Host.play`; calls `between` a few times a second."""

    def show_end(self, host: Host, ending: Ending) -> None:
        """Shows what came of it."""


class Watch:
    """A project that is watched by this process.

    Raises:
        InputError: the project cannot be used. ProjectBusyError: another process has it open.
        HostError: the state folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path, display: Display, on_alive: Callable[[], None] = lambda: None) -> None:
        """`on_alive` is called every few seconds, as long as this process neither waits nor hangs in a call."""
        self._on_alive = on_alive
        self._root, self._paths, self._display = root, ProjectPaths(root), display
        self._due = DueGenerations()
        self._folders = WatchedFolders(self._paths, self._due, self._recorded)
        self._stop, self._wakeup = threading.Event(), Wakeup()
        self._said: dict[int, str] = {}  #: generation, or 0 for the farm -> why it cannot be played, as it was logged
        self._incomplete: set[int] = set()  #: generations of which not everything was counted
        self._facts = 0  #: of the ledger, when it was read last
        self._settings: tuple[int, ...] = ()  #: pipeline.toml as it was when the host was opened
        self._evaluator: EvaluatorFiles | None = None  #: of the open host
        #: of the evaluator, when a generation was begun or it was looked at
        self._version: tuple[str, tuple[int, ...]] = "", ()
        self._played_at: float | None = None  #: when the open host has played last
        self._host: Host | None = None
        with contextlib.ExitStack() as closing:
            self._watcher = FolderWatcher({_GENOMES: self._paths.all_genomes}, self._wakeup.set, suffixes=("",))
            closing.callback(self._watcher.close)
            closing.callback(self._close_host)
            self._open()
            self._closing = closing.pop_all()

    def run(self, *, until_idle: bool = False) -> bool:
        """Watches until `stop` is called, or nothing is due any more. Returns whether everything was counted.

        Raises:
            LedgerError: the ledger is damaged.
        """
        while not self._stop.is_set():
            self._on_alive()
            if self._host is not None:
                self._look()
                if (generation := self._due.next_due(time.monotonic())) is not None:
                    self._play(generation)
                    continue
            if until_idle and self._due.is_idle and self._folders.looks:
                break
            self._wait()
            self._rest()
            self._keep_open()
        return not self._incomplete and not self._due.has_postponed

    @property
    def folder(self) -> Path:
        """What is watched."""
        return self._paths.all_genomes

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Makes `run` return soon; any thread and any signal handler may call."""
        self._stop.set()
        if (host := self._host) is not None:
            host.stop()
        self._wakeup.set()

    def close(self) -> None:
        """Ends the workers and releases the project."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- waiting

    def _wait(self) -> None:
        now = time.monotonic()
        waits = [self._due.wait_s(now)]
        waits.append(self._folders.wait_s() if self._host is not None else POLL_S)
        if self._host is not None and self._host.rest_interval_s is not None:
            waits.append(self._host.rest_interval_s)
        if self._played_at is not None:
            waits.append(max(0.0, self._played_at + self._rest_after_s - now))
        if self._wakeup.wait(min(waits)):
            self._folders.hurry()

    def _rest(self) -> None:
        """Puts machines to rest that have no work."""
        if self._host is None or self._stop.is_set():
            return
        try:
            self._host.rest()
        except HostError as error:
            self._postpone_all(error)
            self._leave_host()

    @property
    def _rest_after_s(self) -> float:
        """After how long a pause the host is opened anew: its machines are at rest by then."""
        return max(REST_AFTER_S, self._host.rests_until_s if self._host is not None else 0.0)

    def _look(self) -> None:
        """Makes a look, if it is due, to its end."""
        self._watcher.rearm()
        if self._folders.wait_s() > 0:
            return
        self._notice_changes()
        before = self._folders.looks
        while self._folders.looks == before and not self._stop.is_set():
            self._folders.step()

    def _notice_changes(self) -> None:
        """Tries at once what was postponed, if the configuration or the evaluator has changed since."""
        if self._due.has_postponed:
            version = self._evaluator_version()
            if self._stamp() != self._settings or version != self._version:
                self._due.retry_now()
            self._version = version

    def _evaluator_version(self) -> tuple[str, tuple[int, ...]]:
        """The version of the evaluator's files, or why there is none; and what changes with each deployment."""
        assert self._evaluator is not None
        deployed = _stamp_of(self._paths.deployments)
        try:
            return self._evaluator.version(), deployed
        except EvaluatorFilesError as error:
            return str(error), deployed

    def _stamp(self) -> tuple[int, ...]:
        return _stamp_of(self._paths.config)

    # -------------------------------------------------------------------------------------------------------- the host

    def _open(self) -> None:
        """Opens the host. Raises what `Host` does, and ConfigError."""
        self._settings, self._played_at = self._stamp(), None
        config = load_config(self._root)
        self._host = Host(self._root, config, self._root)
        self._evaluator = EvaluatorFiles(config.evaluator, self._root)
        if self._stop.is_set():
            self._host.stop()
        self._read_ledger(self._host)

    def _close_host(self) -> None:
        host, self._host, self._played_at = self._host, None, None
        if host is not None:
            try:
                if not host.loop.commit_failed:
                    self._facts = host.ledger.last()[0]
            finally:
                host.close()

    def _keep_open(self) -> None:
        """Opens the host if it is not open; opens it anew to end its workers if they had nothing to play for long."""
        rests = self._played_at is not None and time.monotonic() - self._played_at >= self._rest_after_s
        if self._stop.is_set() or (self._host is not None and not rests):
            return
        if self._stamp() != self._settings:
            self._due.retry_now()
        if rests or self._due.may_play(time.monotonic()):
            self._open_anew()

    def _open_anew(self) -> bool:
        """Closes the host and opens it again; whether that was possible."""
        try:
            self._close_host()
            self._open()
        except LedgerError:
            raise
        except (InputError, HostError, ProjectBusyError) as error:
            self._postpone_all(error)
            return False
        return True

    def _read_ledger(self, host: Host) -> None:
        """Notes which generations are unfinished: all at the start, later those that another process has played."""
        last = host.ledger.last()[0]
        if not self._facts:
            changed = set(host.ledger.generations())
        else:
            changed = {entry.generation for entry in host.ledger.entries(after=self._facts)} if last else set()
        for generation in changed - {0}:
            if (run := self._recorded(generation)).state is RunState.UNFINISHED or self._due.knows(generation):
                self._due.note_run(generation, run)
        self._facts = last

    def _recorded(self, generation: int) -> RecordedRun:
        assert self._host is not None
        return recorded_run(entry.fact for entry in self._host.ledger.entries_of(generation, kinds=RUN_KINDS))

    # --------------------------------------------------------------------------------------------------------- playing

    def _play(self, generation: int) -> None:
        if self._stamp() != self._settings and not self._open_anew():
            return
        host = self._host
        assert host is not None
        before, self._version = host.ledger.last()[0], self._evaluator_version()
        try:
            host.begin(generation, follow_folder=True, complete=self._due.complete(generation))
            self._due.note_begun(generation)
            self._played_at = time.monotonic()
            ending = self._display.play(host, self._proceed, self._between)
            self._played_at = time.monotonic()
        except InputError as error:
            if self._has_all(generation):  # other settings do not matter then
                self._due.note_begun(generation)
                self._due.note_ended(generation, time.monotonic(), finished=True)
            else:
                self._postpone(generation, str(error))
        except HostError as error:
            self._postpone_all(error)
            self._leave_host()
        else:
            self._note_end(host, generation, ending, is_new=host.ledger.last()[0] != before)

    def _note_end(self, host: Host, generation: int, ending: Ending, *, is_new: bool) -> None:
        if is_new:
            self._display.show_end(host, ending)
        is_counted = ending.finished and not (host.farm.counts.failed or ending.files.not_counted)
        (self._incomplete.discard if is_counted else self._incomplete.add)(generation)
        if ending.diagnosis:
            self._postpone(generation, f"generation {generation} cannot go on: {ending.diagnosis}")
            self._open_anew()  # its workers may be what is wrong
            return
        self._due.note_ended(generation, time.monotonic(), finished=ending.finished, unread=ending.files.unread)
        if ending.finished:
            self._said.pop(generation, None)
            self._said.pop(0, None)

    def _between(self) -> None:
        self._on_alive()
        self._folders.step()

    def _has_all(self, generation: int) -> bool:
        """Whether it is finished, and all files that are complete are those of its genomes."""
        run = self._recorded(generation)
        return run.state is RunState.FINISHED and self._due.complete(generation) <= run.names

    def _proceed(self) -> bool:
        return not self._stop.is_set()

    def _leave_host(self) -> None:
        """Closes the host; the next one is opened when the pause is over."""
        try:
            self._close_host()
        except PipelineError as error:
            log.warning("%s", error)

    def _postpone(self, generation: int, reason: str) -> None:
        pause_s = self._due.postpone(generation, time.monotonic())
        self._incomplete.add(generation)
        self._say(generation, reason, pause_s)

    def _postpone_all(self, error: PipelineError) -> None:
        self._say(0, str(error), self._due.postpone_all(time.monotonic()))

    def _say(self, what: int, reason: str, pause_s: float) -> None:
        """Logs why something is not played, once until the reason is another one or it was played."""
        if self._said.get(what) != reason:
            self._said[what] = reason
            shown = clean(" ".join(reason.split()), _REASON_CHARS_MAX)
            log.warning("%s; tried again in %.0f s, then less often, and at once after a change", shown, pause_s)


def _stamp_of(path: Path) -> tuple[int, ...]:
    """What differs after a file was replaced; empty if there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return info.st_size, info.st_mtime_ns, info.st_ino
