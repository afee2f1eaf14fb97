"""The agent's main loop: scan the share, ask `next_step`, execute the step, write the heartbeat.

Owns: the order of claim, evaluation, result and heartbeat. Only this loop writes the heartbeat, so that a hung agent
stops beating.
Not here: which step is next (planner), how an evaluation runs (evaluation), what a result contains (results).
Threads: one; one evaluation at a time.
"""

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from inbox_agent.deployments import DeploymentIntake
from inbox_agent.evaluation.protocol import EvaluationJob, EvaluationResult
from inbox_agent.evaluation.versioned import LoadStatus, VersionedEvaluator
from inbox_agent.identity import AgentIdentity
from inbox_agent.loading import EvaluatorLoader
from inbox_agent.other_agents import OtherAgentActive, OtherAgents
from inbox_agent.planner import (
    Clean,
    ReportUnplayed,
    Run,
    ShareState,
    Step,
    Stop,
    TakeDeployment,
    Wait,
    apply_step,
    next_start,
    next_step,
)
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import (
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    ShareFiles,
    ShareFull,
    Unavailable,
)
from inbox_agent.protocol.layout import (
    HEARTBEAT,
    INBOX,
    OUTBOX,
    STATUS,
    AgentRecord,
    AgentState,
    HostRecord,
    Kind,
    LayoutError,
    Outcome,
    StartedRecord,
    StartRecord,
)
from inbox_agent.protocol.readers import read_record
from inbox_agent.results import ResultWriter
from inbox_agent.share_scanner import DEFAULT_LIMITS, AgentLimits, ShareScanner
from inbox_agent.system.desktop import DesktopSession

log = logging.getLogger(__name__)

#: The claim goes first: without its result it would look like an unfinished evaluation. Then the result, and only then
#: the payloads that it refers to.
_CLEANING = (Kind.STARTED, Kind.RESULT, Kind.LOG, Kind.FILES)
CLEAN_AGAIN_S = 10.0  #: after a file could not be removed because another process has it open


class Waitable(Protocol):
    """What an idle agent waits on; implemented by `folder_watcher.Wakeup`."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until a record may have arrived or the timeout has passed."""


class Agent:
    """Evaluates the genomes of one share. `step` does one round; `wait` waits for the next."""

    def __init__(
        self,
        files: ShareFiles,
        evaluator: VersionedEvaluator,
        identity: AgentIdentity,
        wakeup: Waitable,
        *,
        clock: Callable[[], float],
        session: Callable[[], DesktopSession] = DesktopSession,
        share_is_local: bool = True,
        host_is_local: bool = False,
        deployments: DeploymentIntake | None = None,
        limits: AgentLimits = DEFAULT_LIMITS,
    ) -> None:
        self._files, self._evaluator, self._identity, self._wakeup = files, evaluator, identity, wakeup
        self._clock, self._session, self._share_is_local, self._limits = clock, session, share_is_local, limits
        self._host_is_local = host_is_local  #: both end when the operating system does
        self._deployments = deployments  #: None: this agent takes none
        self._running: StartRecord | None = None
        self._finished: EvaluationResult | None = None
        self._loader = EvaluatorLoader(evaluator, files, clock)
        self._unconfirmed_claims: set[str] = set()
        self._clean_again_at: dict[str, float] = {}  #: attempts with files that could not be removed
        self._results = ResultWriter(files, identity, self._heartbeat)
        self._scanner = ShareScanner(files, clock=clock, share_is_local=share_is_local, limits=limits)
        self._counter = 0
        self._heartbeat_due = 0.0
        self._problem = ""  #: of the share, as it was logged last
        self._reported: tuple[HostRecord | None, LoadStatus | None] = (None, None)  #: in the last heartbeat
        self._other_agents = OtherAgents(files, identity.run_id, clock, limits, share_is_local=share_is_local)

    @property
    def playing(self) -> bool:
        """Whether an evaluation is running."""
        return self._running is not None and self._finished is None

    def wait(self, seconds: float) -> None:
        """Waits for the evaluator while it runs or loads, for a change notification otherwise."""
        if self.playing:
            self._finished = self._evaluator.wait(seconds)
        elif not self._other_agents.is_watching and self._loader.status.is_loading:
            self._loader.wait(seconds)
        else:
            self._wakeup.wait(seconds)

    def step(self) -> float:
        """Does one round; returns the longest time to wait before the next, in seconds.

        Raises:
            OtherAgentActive: another agent writes heartbeats on this share.
        """
        if self._other_agents.is_watching:
            return self._other_agents.watch(lambda: self._write_heartbeat(None))
        parts = (self._check_for_newer_agent, self._report_finished, self._scan_and_act)
        well = [self._try(part) for part in parts]
        if not all(well):
            # Retry before a whole beat is missed: on a foreign disk, three missed beats admit a successor.
            return min(self._limits.poll_s, self._limits.beat_s / 4)
        self._problem = ""
        return min(self._limits.poll_s, max(0.0, self._heartbeat_due - self._clock()))

    def report_stop(self) -> None:
        """Reports the running evaluation before the agent is stopped on request: a claim that is left is charged to
        the genome. Tries once; an evaluation that has just finished is reported with its result.
        """
        if self.playing:
            self._finished = self._evaluator.wait(0.0)
        if self._running is None:
            return
        try:
            if self._finished is not None:
                self._report_finished()
            else:
                self._evaluator.stop()
                stopped = _not_run(Outcome.INTERRUPTED, "the agent was stopped while this attempt was played")
                self._results.publish(self._running.attempt, self._running, stopped, agent_stopped=True)
        except Unavailable as error:
            log.warning("%s could not be reported: %s", self._running.attempt, error)

    # ------------------------------------------------------------------------------------------------- one round

    def _try(self, part: Callable[[], None]) -> bool:
        try:
            part()
        except Unavailable as error:
            if str(error) != self._problem:  # not at every round of a share that stays so
                self._problem = str(error)
                log.warning("the share cannot be asked: %s", error)
            return False
        return True

    def _scan_and_act(self) -> None:
        state = self._remaining() or self._scan()
        while not isinstance(step := next_step(state), Wait):
            self._act(step)
            if self._running is not None and isinstance(step, Run):
                self._scanner.keep(apply_step(state, step))
                break
            state = apply_step(state, step)
            if isinstance(step, Stop | TakeDeployment | Run):
                state = replace(state, evaluator=self._load(state))
        self._heartbeat()

    def _scan(self) -> ShareState:
        state = self._scanner.scan(self._running_id, self._unconfirmed_claims)
        if state.owner is not None:  # without an owner, no absence is confirmed
            self._unconfirmed_claims.intersection_update(state.unconfirmed_claims)
        state = replace(state, outbox=self._without_held_open(state), evaluator=self._load(state))
        if self._deployments is not None and state.owner is not None:
            return replace(state, deployment=self._deployments.due(self._scanner.newest_deployment))
        return state

    def _remaining(self) -> ShareState | None:
        """What the last scan has left to play; None if the share must be scanned."""
        if self._running is not None or (state := self._scanner.take_kept()) is None:
            return None
        state = replace(state, evaluator=self._load(state))
        return state if isinstance(next_step(state), Run) else None

    def _without_held_open(self, state: ShareState) -> dict[str, Collection[Kind]]:
        """The contents of `outbox/`, without unwanted attempts that cannot be removed at present."""
        now = self._clock()
        held_open = {a for a, again_at in self._clean_again_at.items() if again_at > now and a not in state.present}
        self._clean_again_at = {a: again_at for a, again_at in self._clean_again_at.items() if a in state.outbox}
        return {a: kinds for a, kinds in state.outbox.items() if a not in held_open}

    def _load(self, state: ShareState) -> str | None:
        """The version of the evaluator that is loaded for the next start signal; None if none is, or while it runs."""
        return self._loader.load_for(next_start(state)) if self._running is None else None

    @property
    def _running_id(self) -> str | None:
        return self._running.attempt if self._running else None

    # ---------------------------------------------------------------------------------------------------- acting

    def _act(self, step: Step) -> None:
        match step:
            case Stop(attempt):
                log.info("%s is no longer wanted", attempt)
                self._evaluator.stop()
                self._clear_run()
            case Clean(attempt, kinds):
                self._clean(attempt, kinds)
            case ReportUnplayed(attempt, outcome, reason):
                of = self._scanner.start_of(attempt) or self._scanner.owner
                assert of is not None, "nothing is reported on a share without an owner"
                self._results.publish(attempt, of, _not_run(outcome, reason))
            case TakeDeployment(number):
                self._take_deployment(number)
            case Run(start):
                self._run(start)

    def _clean(self, attempt: str, kinds: Collection[Kind]) -> None:
        """Removes an attempt's files. A file that is open elsewhere is retried later; the heartbeat continues."""
        try:
            self._files.remove([f"{OUTBOX}/{kind.of(attempt)}" for kind in _CLEANING if kind in kinds])
        except Unavailable as error:
            self._files.names(OUTBOX)  # raises if the whole share is unavailable
            log.warning("%s cannot be cleaned up yet: %s", attempt, error)
            self._clean_again_at[attempt] = self._clock() + CLEAN_AGAIN_S
            self._heartbeat()  # each such file takes seconds

    def _take_deployment(self, number: int) -> None:
        owner = self._scanner.owner
        assert self._deployments is not None and owner is not None
        self._loader.unload()  # Windows replaces no file that a loaded evaluator has open
        if (source := self._deployments.take(number, owner)) is not None:
            self._loader.switch(source)

    def _run(self, start: StartRecord) -> None:
        attempt = start.attempt
        try:
            genome = self._evaluator.prepare(start.genome_suffix)
        except OSError as error:  # Windows: an ending evaluator still has its files open
            self._scanner.note_incomplete(attempt, f"the scratch folder cannot be cleaned: {error}")
            return
        try:
            digest = self._files.fetch(f"{INBOX}/{Kind.GENOME.of(attempt)}", genome, layout.GENOME_BYTES_MAX)
        except (FileMissing, FileInvalid, FileRefused) as error:
            self._scanner.note_incomplete(attempt, str(error))
            return
        except OSError as error:  # a local error: the disk is full, or the worker process has the last genome open
            self._evaluator.close()
            self._scanner.note_incomplete(attempt, str(error))
            return
        if digest != start.genome_sha256:
            self._scanner.note_incomplete(attempt, f"the genome's digest is {digest}, announced {start.genome_sha256}")
            return
        claim = StartedRecord(
            farm=start.farm,
            worker=start.worker,
            epoch=start.epoch,
            attempt=attempt,
            evaluator=self._loader.status.version,
            boot_id=self._identity.boot_id,
            run_id=self._identity.run_id,
        )
        self._claim(claim, durable=start.alone or not self._host_is_local)
        self._running = start
        self._evaluator.start(
            EvaluationJob(
                attempt=attempt,
                genome=genome,
                trial=start.trial,
                seed=start.seed,
                time_limit_s=start.time_limit_s,
                settings=start.settings,
            )
        )

    def _claim(self, claim: StartedRecord, *, durable: bool) -> None:
        """Publishes the claim; flushed before the evaluation starts, it shows which genome crashed the machine."""
        name = f"{OUTBOX}/{Kind.STARTED.of(claim.attempt)}"
        try:
            self._files.publish(name, layout.encode(claim), durable=durable)
        except FileAlreadyExists as error:
            if claim.attempt not in self._unconfirmed_claims or self._published_claim(claim.attempt) != claim:
                raise OtherAgentActive(f"{claim.attempt} was claimed by another agent on this share") from error
        except Unavailable:
            self._unconfirmed_claims.add(claim.attempt)  # it may exist; the next round continues from there
            raise
        self._unconfirmed_claims.discard(claim.attempt)

    def _published_claim(self, attempt: str) -> StartedRecord:
        name = Kind.STARTED.of(attempt)
        try:
            return read_record(self._files, StartedRecord, OUTBOX, name)
        except (FileMissing, FileInvalid, LayoutError) as error:
            self._unconfirmed_claims.clear()  # torn: its author is unknown, so it is given up
            raise Unavailable(f"{name} cannot be read: {error}") from error

    def _report_finished(self) -> None:
        if self._running is not None and self._finished is not None:
            try:
                self._results.publish(self._running.attempt, self._running, self._finished)
            except ShareFull:
                if self._share_is_local:  # drop artifacts that are not in the share yet, to keep the fitness
                    with contextlib.suppress(OSError):
                        self._evaluator.prepare("")
                raise
            self._clear_run()

    def _clear_run(self) -> None:
        self._running = self._finished = None
        self._results.forget()

    # ------------------------------------------------------------------------------------------------- heartbeat

    def _heartbeat(self) -> None:
        now, owner = self._clock(), self._scanner.owner
        report = owner, self._loader.report()
        if now >= self._heartbeat_due or report != self._reported:
            self._check_for_newer_agent()
            self._loader.describe()
            self._write_heartbeat(owner)
            self._reported, self._heartbeat_due = report, now + self._limits.beat_s

    def _check_for_newer_agent(self) -> None:
        if self._clock() >= self._heartbeat_due:
            self._other_agents.check_for_newer()

    def _write_heartbeat(self, owner: HostRecord | None) -> None:
        self._counter += 1
        session = self._session()  # it may be locked or moved to another screen at any time
        loaded = self._loader.report()
        record = AgentRecord(
            farm=owner.farm if owner else None,
            worker=owner.worker if owner else None,
            epoch=owner.epoch if owner else None,
            boot_id=self._identity.boot_id,
            run_id=self._identity.run_id,
            counter=self._counter,
            state=self._state(owner, loaded),
            attempt=self._running_id,
            progress=self._evaluator.progress if self.playing else "",
            versions=self._identity.versions,
            session=layout.clean(session.id, layout.SESSION_CHARS_MAX),
            desktop=layout.clean(str(session), layout.SESSION_CHARS_MAX),
            evaluator=loaded.version,
            problem=layout.clean(loaded.problem, layout.REASON_CHARS_MAX),
            deployment=self._deployments.taken if self._deployments is not None else None,
        )
        self._files.replace(f"{STATUS}/{HEARTBEAT}", layout.encode(record))

    def _state(self, owner: HostRecord | None, loaded: LoadStatus) -> AgentState:
        if self._running is not None:
            return AgentState.PLAYING if self._finished is None else AgentState.REPORTING
        if owner is None:
            return AgentState.UNOWNED
        if loaded.version is not None:
            return AgentState.IDLE
        return AgentState.BROKEN if loaded.problem else AgentState.LOADING


def _not_run(outcome: Outcome, reason: str) -> EvaluationResult:
    return EvaluationResult(outcome=outcome, reason=reason, seconds=0.0, metrics={}, artifacts=[])
