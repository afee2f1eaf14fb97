"""The control loop. One tick: observe → decide → record → act.

Owns: the order of these steps; facts are recorded before they are acted on, and an accepted result is archived before
it is recorded. Not here: decisions (`pipeline.core`), timers that request sweeps and polls (`timers`).
Threads: one runs the ticks; any thread may call `notify`, `request_poll`, `request_sweep` and `wake`.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Outcome
from pipeline.core.assignment import Queues, base36
from pipeline.core.dispatcher import decide
from pipeline.core.facts import AttemptEnded, Fact, ResultLate, ResultUnexpected
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, Observation, ShareScan
from pipeline.core.observed import Observed
from pipeline.core.reconcile import Action, MachineAction, ShareAction, plan, start_record
from pipeline.core.transaction import Transaction
from pipeline.errors import HostError, LedgerError
from pipeline.machines.controller import MachinePool
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import Publication, ShareRequest
from pipeline.storage.archive import Archive
from pipeline.storage.ledger import Ledger
from pipeline.storage.snapshots import Snapshots

log = logging.getLogger(__name__)

ResultFact = AttemptEnded | ResultLate | ResultUnexpected
FAST_POLL_LIMIT_S = 10.0  # a worker that must still appear is polled fast for so long after its last sign of life


class ControlLoop:
    """Runs one farm's ticks, all on one thread."""

    def __init__(
        self,
        *,
        farm: Farm,
        ledger: Ledger,
        executor: ShareExecutor,
        machines: MachinePool,
        snapshots: Snapshots,
        limits: Limits,
        queues: Queues,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        make_nonce: Callable[[], str] = lambda: base36(secrets.randbits(41), 8),
        on_commit: Callable[[list[Fact], float, int], None] = lambda _facts, _at, _generation: None,
    ) -> None:
        self.farm, self.ledger, self.limits, self.queues = farm, ledger, limits, queues
        self.observed = Observed(farm, limits, clock())
        self.archive: Archive | None = None
        self._executor, self._machines, self._snapshots = executor, machines, snapshots
        self._clock, self._wall, self._make_nonce, self._on_commit = clock, wall, make_nonce, on_commit
        self._scans: list[ShareScan] = []  #: completed, and not yet part of an observation
        #: worker -> when its scan in progress was requested, as `observed.time`
        self._requested_at: dict[str, float] = {}
        self._actions_pending: set[str] = set()  #: workers with actions planned while their share was busy
        self._acted_since_scan: set[str] = set()  #: workers with actions on their share since its last scan
        self._failed: set[str] = set()  #: workers with a failed share request since the last sweep
        self._lock = threading.Lock()
        self._scans_due: set[str] = set()  #: workers with an `outbox/` to scan
        self._polls_due = set(farm.workers)  #: workers with a whole share to scan
        self._sweep_due = True
        #: after a failed commit: memory may have facts that the ledger lacks, so nothing more may be decided
        self.commit_failed = False
        self._wake = threading.Event()

    # ------------------------------------------------------------------------------------------------------ waking

    def notify(self, worker: str) -> None:
        """Requests a scan of a worker's `outbox/`; any thread may call."""
        with self._lock:
            self._scans_due.add(worker)
        self._wake.set()

    def request_poll(self, workers: Iterable[str] | None = None) -> None:
        """Requests full scans of these shares, or of all, in the next tick; they find what no notification reported."""
        with self._lock:
            self._polls_due.update(self.farm.workers if workers is None else workers)
        self._wake.set()

    def request_sweep(self) -> None:
        """Requests a check of deadlines and machines in the next tick."""
        self._sweep_due = True
        self._wake.set()

    def wake(self) -> None:
        """Starts the next tick now; any thread may call."""
        self._wake.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits for a notification, a response or a timer; False if the time ran out first."""
        woken = self._wake.wait(timeout_s)
        self._wake.clear()
        return woken

    def workers_to_poll_fast(self) -> set[str]:
        """Workers to scan in full on every tick: starting within the last 10 s, or with unconfirmed publications."""
        found = set()
        for name, worker in self.farm.workers.items():
            seen = self.observed.workers[name]
            newly = not (worker.epoch_open and seen.alive) and self.observed.silence_s(name) < FAST_POLL_LIMIT_S
            # An unreadable share answers at once; polled fast, it would keep the loop busy.
            if worker.state is not WorkerState.OUT and seen.readable and (newly or seen.unconfirmed):
                found.add(name)
        return found

    # ------------------------------------------------------------------------------------------------------ the tick

    def tick(self) -> list[Fact]:
        """Runs one tick; returns the facts it recorded.

        Raises:
            HostError: this host's own disk, ledger or snapshot failed; the next start replays what is recorded.
            LedgerError: the ledger is damaged.
        """
        observation = self._observe()
        with self._guard_commit():
            tx = decide(self.farm, self.observed, observation, self.limits, self.queues)
            self._record(tx)
        touched = tx.touched | self._actions_pending | (self.farm.workers.keys() if observation.sweep else set())
        self._actions_pending = set()
        self._reconcile(touched)
        return tx.facts

    def record(self, facts: list[Fact]) -> None:
        """Records facts from outside the tick: user commands, start and end of the host."""
        at = self._wall()
        with self._guard_commit():
            for fact in facts:
                self.farm.evolve(fact, at)
            self._append(facts, at)

    def record_last(self, last: list[Fact]) -> None:
        """Records a host's final facts and acts on them; does nothing after a failed commit."""
        if not self.commit_failed:
            self.record(last)
            self.reconcile_shares()

    def reconcile_shares(self) -> None:
        """Performs the share actions that follow from facts recorded outside a tick."""
        self._reconcile(self.farm.workers, shares_only=True)

    def switch_farm(self, farm: Farm) -> None:
        """Continues with another generation of the same farm; rescans every share."""
        self.farm = farm
        self.observed = Observed(farm, self.limits, self._clock())
        self._requested_at.clear()
        self.request_poll()

    @contextlib.contextmanager
    def _guard_commit(self) -> Iterator[None]:
        """Facts are applied before they are recorded; if recording fails, nothing more may build on them."""
        if self.commit_failed:
            raise HostError("an earlier fact could not be recorded; run again")
        self.commit_failed = True
        yield
        self.commit_failed = False

    def _observe(self) -> Observation:
        with self._lock:
            scans_due, self._scans_due = self._scans_due, set()
            polls_due, self._polls_due = self._polls_due | self.workers_to_poll_fast(), set()
        sweep_due, self._sweep_due = self._sweep_due, False
        if sweep_due:  # failed requests are retried only by a sweep, or the loop would do nothing else
            polls_due, self._failed = polls_due | self._failed, set()
        self._receive()  # first, so that shares with completed requests can get new ones
        for worker in sorted(scans_due | polls_due):
            if self.farm.workers[worker].state is WorkerState.OUT:
                continue  # an OUT worker is left alone; its scans would be ignored
            # Actions and scans of a remote share alternate, or one kind would starve the other.
            if self._executor.is_busy(worker) or (
                worker in self._actions_pending and worker not in self._acted_since_scan
            ):
                (self._polls_due if worker in polls_due else self._scans_due).add(worker)
            else:
                self._acted_since_scan.discard(worker)
                self._requested_at[worker] = self.observed.time
                self._executor.submit(self._scan_request(worker, full=worker in polls_due))
        self._receive()
        scans, self._scans = [self._with_ledger_data(scan) for scan in self._scans], []
        return Observation(
            now=self._clock(),
            wall=self._wall(),
            nonce=self._make_nonce(),
            sweep=sweep_due,
            scans=scans + (self._executor.timed_out() if sweep_due else []),
            machines=self._machines.status() if sweep_due else {},
        )

    def _record(self, tx: Transaction) -> None:
        if not tx.facts:
            return
        try:
            for fact in tx.facts:
                self._archive(fact, tx.results)
        except OSError as error:
            raise HostError(f"a result cannot be archived: {error}; free some space and run again") from error
        self._append(tx.facts, tx.observation.wall)

    def _archive(self, fact: Fact, results: Mapping[str, tuple[str, CollectedResult]]) -> None:
        if self.archive is None or not isinstance(fact, ResultFact) or fact.attempt not in results:
            return
        worker, result = results[fact.attempt]
        match fact:
            case AttemptEnded(archived=True):
                self.archive.store(worker, result)
            case AttemptEnded(has_result=True):
                self.archive.set_aside(worker, result, Outcome.CORRUPT)
            case ResultLate():
                self.archive.set_aside(worker, result, "late")
            case ResultUnexpected():
                self.archive.set_aside(worker, result, "unexpected")

    def _append(self, facts: list[Fact], at: float) -> None:
        try:
            self.ledger.append(facts, at, self.farm.generation, self.farm.run)
        except LedgerError as error:
            raise HostError(str(error)) from error
        self._on_commit(facts, at, self.farm.generation)

    # ------------------------------------------------------------------------------------------------------- acting

    def _reconcile(self, workers: Iterable[str], *, shares_only: bool = False) -> None:
        for action in plan(self.farm, self.observed, workers):
            if isinstance(action, ShareAction) or not shares_only:
                self._perform(action)
        # Only now: a response received earlier would make the plan out of date.
        self._receive()
        if any(not self._executor.is_busy(worker) for worker in self._scans_due | self._polls_due):
            self._wake.set()  # their scans were postponed, and nothing else would start the next tick

    def _perform(self, action: Action) -> None:
        if isinstance(action, MachineAction):
            seen = self.observed.workers[action.worker]
            seen.recovery_ordered = seen.machine_started = True
            self._machines.execute(action.worker, action.recovery)
        elif self._executor.is_busy(action.worker):
            self._actions_pending.add(action.worker)
        else:
            self._acted_since_scan.add(action.worker)
            self._executor.submit(self._action_request(action))

    def _scan_request(self, worker: str, *, full: bool) -> ShareRequest:
        seen = self.observed.workers[worker]
        asked = [self.farm.attempts[a] for a in sorted(seen.unconfirmed) if a in self.farm.attempts] if full else []
        return ShareRequest(
            worker=worker,
            scan=True,
            full=full,
            handled=frozenset(seen.handled),
            expected_sizes={
                a.id: (len(layout.encode(start_record(self.farm, a))), a.trial.genome.size_bytes) for a in asked
            },
        )

    def _action_request(self, action: ShareAction) -> ShareRequest:
        return ShareRequest(
            worker=action.worker,
            host=action.host,
            remove=action.remove,
            publish=tuple(
                Publication(start_record(self.farm, a), self._snapshots.path(a.trial.genome.sha256))
                for a in action.publish
            ),
        )

    def _receive(self) -> None:
        """Applies the responses of completed requests; their scans are part of the next observation."""
        for response in self._executor.completed():
            if response.fatal:
                raise HostError(f"{response.fatal}; run again")
            if response.error:
                log.warning("%s: %s", response.worker, response.error)
                self._failed.add(response.worker)
            self.observed.note_removed(response.worker, response.removed)
            self.observed.note_held_open(response.worker, response.held_open)
            for attempt, confirmed in response.sent.items():
                self.observed.note_published(response.worker, attempt, confirmed=confirmed)
            if response.scan is not None:
                self._scans.append(replace(response.scan, requested_at=self._requested_at.get(response.worker, 0.0)))

    def _with_ledger_data(self, scan: ShareScan) -> ShareScan:
        """Adds to a scan what only the whole ledger knows: ids issued in other runs and generations."""
        unknown = [attempt for attempt in scan.starts if attempt not in self.farm.attempts]
        if not unknown and all(result.attempt in self.farm.attempts for result in scan.results):
            return scan
        return replace(
            scan,
            unknown_starts=frozenset(attempt for attempt in unknown if not self.ledger.has_issued(attempt)),
            results=tuple(
                replace(
                    result,
                    issued_in_other_run=self.ledger.has_issued(result.attempt),
                    collected_in_other_run=self.ledger.has_collected(result.attempt),
                )
                for result in scan.results
            ),
        )
