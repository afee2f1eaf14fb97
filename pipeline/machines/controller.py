"""Machine controller of one host: maps actions on machines to calls of a `Machines` backend, which may take minutes.

Owns: which calls an action makes. Not here: when an action is due (`core.recovery`, `core.rest`). A machine
that cannot be queried is UNKNOWN.
Threads: one per action in progress, so the control loop never waits for a hypervisor.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping

from hyperv_ops import ErrorBoundary, Heartbeat, MachineError, MachineInfo, Machines, MachineWatcher, PowerState
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.observed import PowerAction
from pipeline.core.requests import MachineAction
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.evidence import MachineEvidence

log = logging.getLogger(__name__)

SHUTDOWN_LIMIT_S = 90.0
WATCH_INTERVAL_S, STALE_AFTER_S = 5.0, 30.0
STUCK_AFTER_S = 60.0  #: paused, starting or stopping for longer than this counts as UNHEALTHY
MACHINE_ACTIONS = (
    RecoveryAction.RESTART_AGENT,
    RecoveryAction.REBOOT,
    RecoveryAction.POWER_CYCLE,
    RecoveryAction.RESTORE,
)


class MachineController:
    """The machines of some workers; `machine_of` maps workers to machine names."""

    def __init__(
        self,
        machines: Machines,
        machine_of: Mapping[str, str],
        boot_queue: BootQueue,
        evidence: MachineEvidence,
        on_change: Callable[[], None],
        watch_interval_s: float = WATCH_INTERVAL_S,
        *,
        saves: bool = False,
    ) -> None:
        """With `saves` a machine at rest is saved, otherwise it is shut down."""
        self._saves = saves
        self._machines, self._machine_of = machines, dict(machine_of)
        self._boot_queue, self._evidence, self._on_change = boot_queue, evidence, on_change
        self._on_down: Callable[[str], None] = lambda _worker: None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._reverted: set[str] = set()
        self._executed_at: dict[str, float] = {}  #: a machine state observed before this time is out of date
        self._changing_since: dict[str, float] = {}
        self._boundary = ErrorBoundary()
        self._watcher = MachineWatcher(machines, self._changed, interval_s=watch_interval_s)

    def open(self, on_down: Callable[[str], None]) -> None:
        """Starts to watch the machines. `on_down(worker)` is called after a machine was switched off for an action."""
        self._on_down = on_down
        self._watcher.start()

    def status(self) -> dict[str, MachineStatus]:
        """The last known state of the machines; never blocks."""
        latest, refreshed_at, error = self._watcher.latest(), self._watcher.refreshed_at, self._watcher.error
        oldest = time.monotonic() - STALE_AFTER_S
        found = {}
        for worker, machine in self._machine_of.items():
            info = latest.get(machine)
            busy = self._is_busy(worker)
            stale = refreshed_at is None or refreshed_at < max(oldest, self._executed_at.get(worker, oldest))
            if stale or info is None:
                note = (
                    _why_stale(error, refreshed_at)
                    if stale
                    else f"there is no machine {machine}; `pipeline vm create {worker}` makes it"
                )
                found[worker] = MachineStatus(MachineState.UNKNOWN, MACHINE_ACTIONS, note, boots=True, busy=busy)
                continue
            with self._lock:
                reverted = worker in self._reverted
                self._reverted.discard(worker)
            found[worker] = MachineStatus(
                self._state(info),
                MACHINE_ACTIONS,
                info.note,
                reverted=reverted,
                boots=True,
                busy=busy,
                uptime_s=info.uptime_s,
            )
        return found

    def execute(self, action: MachineAction) -> None:
        """Performs an action on a thread of its own; ignored while another one runs."""
        with self._lock:
            if self._is_busy(action.worker) or self._closed.is_set():
                return
            thread = threading.Thread(target=self._run, args=(action,), name=f"machine-{action.worker}", daemon=True)
            self._threads[action.worker] = thread
            thread.start()

    def addresses(self, worker: str) -> dict[str, tuple[str, ...]]:
        """Machine -> its addresses, as its guest last reported; that of a worker at least. Raises MachineError."""
        machine, known = self._machine_of[worker], self.known_addresses()
        if machine not in known:
            with self._boundary.around(machine):
                known[machine] = self._machines.info(machine).addresses
        return known

    def known_addresses(self) -> dict[str, tuple[str, ...]]:
        """Machine -> its addresses, as its guest last reported; never blocks."""
        return {name: info.addresses for name, info in self._watcher.latest().items()}

    def close(self) -> None:
        """Stops watching; the machines run on. The next host finds a machine that was being restarted switched off."""
        self._closed.set()
        self._boot_queue.close()
        self._watcher.close()
        with contextlib.suppress(MachineError), self._boundary.around("machines"):
            self._machines.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _changed(self, machine: str, info: MachineInfo) -> None:
        log.info("%s: %s, %s", machine, info.state, info.heartbeat)
        self._on_change()

    def _is_busy(self, worker: str) -> bool:
        thread = self._threads.get(worker)
        return thread is not None and thread.is_alive()

    def _state(self, info: MachineInfo) -> MachineState:
        if info.state is not PowerState.CHANGING:
            self._changing_since.pop(info.name, None)
        match info.state:
            case PowerState.OFF:
                return MachineState.OFF
            case PowerState.RUNNING:
                return MachineState.UNHEALTHY if info.heartbeat is Heartbeat.LOST else MachineState.RUNNING
            case PowerState.CHANGING:
                since = self._changing_since.setdefault(info.name, time.monotonic())
                stuck = time.monotonic() - since > STUCK_AFTER_S
                return MachineState.UNHEALTHY if stuck else MachineState.UNKNOWN
        return MachineState.UNKNOWN

    def _run(self, action: MachineAction) -> None:
        worker, machine = action.worker, self._machine_of[action.worker]
        what = action.recovery or action.power
        try:
            with self._boundary.around(machine):
                if action.recovery is not None:
                    self._recover(worker, machine, action)
                else:
                    self._switch(worker, machine, action.power)
            log.info("%s: %s", worker, what)
        except MachineError as error:
            log.warning("%s: %s: %s", worker, what, error)
        self._executed_at[worker] = time.monotonic()
        self._watcher.refresh()
        self._on_change()

    def _switch(self, worker: str, machine: str, action: PowerAction) -> None:
        self._on_down(worker)  # also before a rest: no request may wait for a share that is about to be off
        match action:
            case PowerAction.START:
                self._boot_queue.boot(machine)
            case PowerAction.RESUME:
                self._resume(worker, machine)
            case PowerAction.REST if self._saves:
                self._machines.save(machine)
            case PowerAction.REST:
                self._shut_down(machine)

    def _resume(self, worker: str, machine: str) -> None:
        try:
            self._boot_queue.boot(machine, self._machines.resume)
        except MachineError as error:
            log.warning("%s: it boots, since its memory cannot be used: %s", worker, error)
            self._boot_queue.boot(machine)

    def _shut_down(self, machine: str) -> None:
        if not self._machines.shutdown(machine, SHUTDOWN_LIMIT_S):
            raise MachineError(machine, f"its guest did not shut down in {SHUTDOWN_LIMIT_S:g} s")

    def _recover(self, worker: str, machine: str, action: MachineAction) -> None:
        match action.recovery:
            case RecoveryAction.RESTART_AGENT:
                self._machines.restart_agent(machine)
                return
            case RecoveryAction.REBOOT:
                self._shut_down(machine)
            case RecoveryAction.POWER_CYCLE:
                self._machines.power_off(machine)
            case RecoveryAction.RESTORE:
                self._save_evidence(machine, action)
                self._machines.restore(machine)
                with self._lock:
                    self._reverted.add(worker)
        self._on_down(worker)
        self._boot_queue.boot(machine)

    def _save_evidence(self, machine: str, action: MachineAction) -> None:
        try:
            with self._boundary.around(machine):
                self._evidence.save(machine, action)
        except MachineError as error:  # the machine is restored all the same
            log.warning("%s: evidence could not be kept: %s", action.worker, error)


def _why_stale(error: MachineError | None, refreshed_at: float | None) -> str:
    if error is not None:
        return str(error)
    if refreshed_at is None:
        return "it was not looked at yet"
    return f"its host has not answered for {time.monotonic() - refreshed_at:.0f} s"
