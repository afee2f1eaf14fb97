"""The control loop. One tick: observe → decide → record → act.

Owns: the order of these steps, and whose turn it is on a share. Not here: decisions (`pipeline.core`), what starts a
tick (`wakeups`), the order within a commit (`recorder`).
Threads: one calls all methods; the others only use `Wakeups`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.core.deployment import NO_DEPLOYMENTS
from pipeline.core.dispatcher import decide
from pipeline.core.facts import Fact, ResultUnexpected, WorkerLeft
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import Observation, ShareScan
from pipeline.core.observed import Observed
from pipeline.core.queues import Queues
from pipeline.core.reconcile import plan
from pipeline.core.requests import MachineAction, ShareAction, scan_request
from pipeline.core.reuse import EarlierResults
from pipeline.core.share_problems import FLOODED, in_words
from pipeline.core.worker_requests import NO_REQUESTS, NO_SITES, joining_worker
from pipeline.errors import HostError
from pipeline.host.ports import Ports
from pipeline.host.recorder import Recorder
from pipeline.host.wakeups import Due, Wakeups
from pipeline.shares.share_client import ShareResponse

log = logging.getLogger(__name__)

FAST_POLL_LIMIT_S = 10.0  # a worker that must still appear is polled fast for so long after its last sign of life


@dataclass(slots=True)
class _ShareTurn:
    """What is due on one share, and what was done there last."""

    scan_due: bool = False  #: its `outbox/` is to be scanned
    poll_due: bool = True  #: it is to be scanned in full
    requested_at: float = 0.0  #: when its last scan was requested, as `Observed.time`
    submitted_at: float = 0.0  #: the same by the monotonic clock
    action_pending: bool = False  #: an action was planned while the share was busy
    acted_since_scan: bool = False
    failed: bool = False  #: a request failed since the last sweep


class ControlLoop:
    """Runs one farm's ticks."""

    def __init__(self, farm: Farm, limits: Limits, queues: Queues, ports: Ports, wakeups: Wakeups) -> None:
        self.farm, self.limits, self.queues = farm, limits, queues
        self.observed = Observed(farm, limits, ports.clock.monotonic())
        self.is_open = False  #: whether more genomes may join; a run that is open does not finish
        self.earlier: EarlierResults | None = None  #: whose results count again in the open generation
        self.deployments = NO_DEPLOYMENTS  #: the evaluators that workers with other ones get
        self.requests = NO_REQUESTS  #: what the user asks for single workers, carried out at each sweep
        self._ports, self._wakeups = ports, wakeups
        self._recorder = Recorder(ports.ledger, ports.archive, ports.event_log)
        self._turns = {worker: _ShareTurn() for worker in sorted(farm.workers)}
        self._scans: list[ShareScan] = []  #: completed, and not yet part of an observation

    @property
    def commit_failed(self) -> bool:
        """Whether the farm may have facts that the ledger lacks; nothing more can be recorded then."""
        return self._recorder.failed

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

    def tick(self) -> list[Fact]:
        """Runs one tick; returns the facts it recorded.

        Raises:
            HostError: this host's own disk, ledger or snapshot failed; the next start replays what is recorded.
            LedgerError: the ledger is damaged.
        """
        observation = self._observe()
        with self._recorder.commit():
            tx = decide(
                self.farm,
                self.observed,
                observation,
                self.limits,
                self.queues,
                self.earlier,
                self.deployments,
                self.requests,
            )
            if tx.facts:
                self._recorder.record(self.farm, tx.facts, observation.wall, tx.results)
        pending = {worker for worker, turn in self._turns.items() if turn.action_pending}
        for worker in pending:
            self._turns[worker].action_pending = False
        self._reconcile(tx.touched | pending | (self.farm.workers.keys() if observation.sweep else set()))
        self._recorder.discard_fetched(observation.scans)
        self._warn_of_floods(tx.facts)
        self._forget_workers(tx.facts)
        return tx.facts

    def record(self, facts: list[Fact]) -> None:
        """Records facts from outside the tick: user commands, start and end of the host. Raises HostError."""
        at = self._ports.clock.wall()
        with self._recorder.commit():
            for fact in facts:
                self.farm.evolve(fact, at)
            self._recorder.record(self.farm, facts, at)

    def record_last(self, last: list[Fact]) -> None:
        """Records a host's final facts and acts on them; does nothing after a failed commit."""
        if not self.commit_failed:
            self.record(last)
            self.reconcile_shares()

    def reconcile_shares(self) -> None:
        """Performs the share actions that follow from facts recorded outside a tick."""
        self._reconcile(self.farm.workers, shares_only=True)

    def admit(self, *names: str, site_of: Mapping[str, str] = NO_SITES) -> list[Fact]:
        """Records that workers join, whose shares the executor knows already; returns the facts.

        `site_of` has those of them that are on sites. Raises HostError.
        """
        for name in names:
            self._turns[name] = _ShareTurn()
            self.observed.admit(name)
        facts = [fact for name in names for fact in joining_worker(self.farm, name, site_of.get(name, ""))]
        self.record(facts)
        return facts

    def _forget_workers(self, facts: Iterable[Fact]) -> None:
        """Forgets the workers that left with these facts, and removes the start signals that they have left."""
        for name in (fact.worker for fact in facts if isinstance(fact, WorkerLeft)):
            seen = self.observed.workers[name]
            if seen.starts | seen.payloads and seen.readable and not self._ports.executor.is_busy(name):
                self._ports.executor.submit(ShareAction(name, remove=tuple(sorted(seen.starts | seen.payloads))))
            self.observed.dismiss(name)
            del self._turns[name]
            self._scans = [scan for scan in self._scans if scan.worker != name]

    def switch_farm(self, farm: Farm, begin_with: Sequence[Fact] = ()) -> None:
        """Continues with another generation of the same farm, and records these facts; rescans every share.

        Raises:
            HostError: the facts cannot be recorded.
        """
        before, self.farm = self.observed, farm
        if begin_with:
            self.record([*begin_with])
        self.observed = Observed(farm, self.limits, self._ports.clock.monotonic())
        for name, worker in farm.workers.items():  # also of a machine that is just being saved
            self.observed.workers[name].at_rest = before.workers[name].at_rest and not worker.wanted
        for turn in self._turns.values():
            turn.requested_at = 0.0
        self.poll_all()

    def poll_all(self) -> None:
        """Scans every share in full at the next tick, also one that rests: a new run waits for fresh heartbeats."""
        for turn in self._turns.values():
            turn.poll_due = True
        self._wakeups.wake()

    # ----------------------------------------------------------------------------------------------------- observing

    def _observe(self) -> Observation:
        ports, due = self._ports, self._wakeups.take()
        self._mark_due(due)
        self._receive()  # first, so that shares with completed requests can get new ones
        for worker, turn in self._turns.items():
            if turn.scan_due or turn.poll_due:
                self._scan_or_postpone(worker, turn)
        self._receive()
        scans, self._scans = [self._recorder.with_history(scan, self.farm) for scan in self._scans], []
        return Observation(
            now=ports.clock.monotonic(),
            wall=ports.clock.wall(),
            nonce=ports.clock.nonce(),
            sweep=due.sweep,
            is_open=self.is_open,
            scans=scans + ([s for s in ports.executor.timed_out() if s.worker in self._turns] if due.sweep else []),
            machines=ports.machines.status() if due.sweep else {},
        )

    def _mark_due(self, due: Due) -> None:
        for worker in due.scans & self._turns.keys():  # without those that have left meanwhile
            # A flood of files is a flood of notifications; the polls are enough there, and leave time to other shares.
            if not self.observed.is_flooded(self.farm.workers[worker]):
                self._turns[worker].scan_due = True
        polls = self._ports.poll_schedule.due(self.farm, self.observed) if due.poll else set()
        for worker in polls | self.workers_to_poll_fast():
            self._turns[worker].poll_due = True
        for turn in self._turns.values() if due.sweep else ():
            # Failed requests are retried only by a sweep, or the loop would do nothing else.
            turn.poll_due, turn.failed = turn.poll_due or turn.failed, False

    def _scan_or_postpone(self, worker: str, turn: _ShareTurn) -> None:
        executor = self._ports.executor
        if self.farm.workers[worker].state is WorkerState.OUT or self.observed.workers[worker].at_rest:
            turn.scan_due = turn.poll_due = False  # its scans would be ignored, or its share is off
        # Actions and scans of a remote share alternate, or one kind would starve the other.
        elif not executor.is_busy(worker) and (turn.acted_since_scan or not turn.action_pending):
            request = scan_request(self.farm, self.observed, worker, full=turn.poll_due)
            # What was read already is judged while this request is executed: it would be fetched into the same folder.
            known = {result.attempt for scan in self._scans if scan.worker == worker for result in scan.results}
            request = replace(request, handled=request.handled | known)
            turn.scan_due = turn.poll_due = turn.acted_since_scan = False
            turn.requested_at, turn.submitted_at = self.observed.time, self._ports.clock.monotonic()
            executor.submit(request)

    def _receive(self) -> None:
        """Applies the responses of completed requests; their scans are part of the next observation."""
        for response in self._ports.executor.completed():
            if response.fatal:
                raise HostError(f"{response.fatal}; run again")
            if (turn := self._turns.get(response.worker)) is None:
                continue  # of a worker that has left meanwhile
            self._report(response)
            turn.failed = turn.failed or bool(response.error)
            self.observed.note_removed(response.worker, response.removed)
            self.observed.note_held_open(response.worker, response.held_open)
            for attempt, confirmed in response.sent.items():
                self.observed.note_published(response.worker, attempt, confirmed=confirmed)
            if response.scan is not None:
                trip_s = self._ports.clock.monotonic() - turn.submitted_at
                self._scans.append(replace(response.scan, requested_at=turn.requested_at, round_trip_s=trip_s))

    def _report(self, response: ShareResponse) -> None:
        """Warns of a failed request. That `inbox/` cannot be written is told once: each attempt would say it again."""
        known = self.observed.workers[response.worker].write_problem
        problem = response.write_problem
        if (response.error and not problem) or (problem and not known):
            log.warning("%s: %s", response.worker, problem or response.error)
        if problem is not None:
            self.observed.note_written(response.worker, problem)

    def _warn_of_floods(self, facts: Iterable[Fact]) -> None:
        """Warns of each share that became flooded with these facts."""
        flooding = {fact.worker for fact in facts if isinstance(fact, ResultUnexpected)}
        for name in flooding & self.farm.workers.keys():
            if self.observed.is_flooded(self.farm.workers[name]):
                log.warning("%s: %s", name, in_words(FLOODED))

    # -------------------------------------------------------------------------------------------------------- acting

    def _reconcile(self, workers: Iterable[str], *, shares_only: bool = False) -> None:
        for action in plan(self.farm, self.observed, self.limits, workers, self.deployments):
            if isinstance(action, ShareAction):
                self._act_or_postpone(action)
            elif not shares_only:
                self._execute(action)
        # Only now: a response received earlier would make the plan out of date.
        self._receive()
        postponed = (worker for worker, turn in self._turns.items() if turn.scan_due or turn.poll_due)
        if any(not self._ports.executor.is_busy(worker) for worker in postponed):
            self._wakeups.wake()  # nothing else would start the next tick

    def _act_or_postpone(self, action: ShareAction) -> None:
        turn = self._turns[action.worker]
        if self._ports.executor.is_busy(action.worker):
            turn.action_pending = True
        else:
            turn.acted_since_scan = True
            if action.deploy is not None:
                record = action.deploy.record
                log.info("%s gets evaluator %s", action.worker, record.evaluator)
                self.observed.note_deployment(action.worker, record.evaluator, record.number)
            self._ports.executor.submit(action)

    def _execute(self, action: MachineAction) -> None:
        seen = self.observed.workers[action.worker]
        seen.recovery_ordered = seen.machine_started = True
        seen.power_due = None
        self._ports.machines.execute(action)
