"""The domain model: genomes, trials, attempts, workers and their states. Pure data.

Owns: the transition tables of a trial and of a worker, from state and fact to state.
Not here: applying them (`farm`).
"""

import enum
import hashlib
import math
from dataclasses import dataclass, field

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Fact, RecoveryAction, ReusedResult, Seeds, Settlement
from pipeline.core.mean import mean
from pipeline.core.params import Params, no_params


class TrialState(enum.StrEnum):
    """The state of a trial."""

    PENDING = "pending"  #: needs an attempt
    ASSIGNED = "assigned"  #: has an open attempt on a worker
    SETTLED = "settled"


class WorkerState(enum.StrEnum):
    """The state of a worker."""

    READY = "ready"
    RECOVERING = "recovering"  #: a recovery action was requested; no heartbeat since
    QUARANTINED = "quarantined"  #: no work until the back-off is over
    PROBATION = "probation"  #: gets one attempt as a test
    UNFIT = "unfit"  #: alive, but its evaluator cannot be loaded or is another one; gets no work
    OUT = "out"  #: takes no further part in this run


class IllegalFact(AssertionError):
    """A fact that the current state does not allow: a defect of this program. Its text has the trial's history."""


_P, _A, _S = TrialState
#: (state of the trial, fact) -> next state. A settlement may follow the end of an attempt at once.
TRIAL_TABLE: dict[tuple[TrialState, type[Fact]], TrialState] = {
    (_P, f.AttemptIssued): _A,
    (_A, f.AttemptEnded): _P,
    (_P, f.TrialSettled): _S,
    (_S, f.TrialReopened): _P,
    (_P, f.GenomeReopened): _P,
    (_S, f.GenomeReopened): _P,
}

_READY, _RECOVERING, _QUARANTINED, _PROBATION, _UNFIT, _OUT = WorkerState
#: (state of the worker, fact) -> next state.
WORKER_TABLE: dict[tuple[WorkerState, type[Fact]], WorkerState] = {
    (_READY, f.RecoveryStarted): _RECOVERING,
    (_RECOVERING, f.RecoveryStarted): _RECOVERING,
    (_RECOVERING, f.WorkerRecovered): _READY,
    (_READY, f.WorkerQuarantined): _QUARANTINED,
    (_RECOVERING, f.WorkerQuarantined): _QUARANTINED,
    (_QUARANTINED, f.ProbationBegan): _PROBATION,
    (_PROBATION, f.RecoveryStarted): _PROBATION,
    (_PROBATION, f.WorkerRecovered): _READY,
    (_PROBATION, f.WorkerQuarantined): _QUARANTINED,
    **{(state, f.WorkerUnfit): _UNFIT for state in (_READY, _PROBATION, _UNFIT)},
    (_UNFIT, f.WorkerRecovered): _READY,
    (_UNFIT, f.ProbationBegan): _PROBATION,
    (_UNFIT, f.RecoveryStarted): _RECOVERING,
    (_UNFIT, f.WorkerQuarantined): _QUARANTINED,
    **{(state, f.WorkerOut): _OUT for state in WorkerState},
}

#: Outcomes that count against the worker or its share.
LOSSES = frozenset({Outcome.INTERRUPTED, Outcome.LOST, Outcome.CORRUPT, Outcome.UNDELIVERED})
#: Outcomes that count against the genome and use up one of the trial's `failures_max` tries.
BLAMES_GENOME = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})
#: Outcomes of games whose length tells how long others take; a failure costs a new process as well.
_MEASURED = frozenset({Outcome.COMPLETED, Outcome.TIMED_OUT})
_GAME_MIN_S = 1e-3  # as which a shorter one counts
_GAMES_WEIGHED = 16  # in their mean length: it soon shows that games have become longer


@dataclass(slots=True)
class Attempt:
    """One try at a trial, on one worker."""

    id: str
    trial: "Trial"
    number: int
    worker: str
    epoch: int
    publication: int
    issued_at: float
    run_alone: bool
    new_process: bool  #: its trial failed before: no process that has played before may play it
    wanted_evaluator: str  #: the version that must play it; empty: any
    boot_id: str = ""  #: the run of the host's operating system when it was issued; empty: not known
    alone_on_system: bool = False  #: as of its trial
    claimed_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    reason: str = ""
    has_result: bool = False
    by_host: bool = False
    left_published: bool = False
    charged: bool = False
    superseded: bool = False  #: its genome was reopened since: its result never counts
    archived: bool = False
    evaluator: str = ""  #: the version that played it
    fitness: float | None = None
    metrics: dict[str, float] | None = None
    seconds: float = 0.0

    @property
    def is_countable(self) -> bool:
        """Whether a completed result of it would count: its trial is open, and its genome was not reopened since."""
        return self.trial.state is not TrialState.SETTLED and not self.superseded

    def is_from_before(self, boot_id: str) -> bool:
        """Whether the host's operating system was restarted since it was issued, as far as that is known."""
        return "" not in (self.boot_id, boot_id) and self.boot_id != boot_id


@dataclass(slots=True)
class Trial:
    """One evaluation of one genome, however many attempts it takes."""

    genome: "Genome"
    number: int
    seed: int
    state: TrialState = TrialState.PENDING
    attempts: list[Attempt] = field(default_factory=list)
    blamed: int = 0  #: attempts that failed or timed out since it was (re)opened
    losses: int = 0  #: attempts with an outcome of `LOSSES` since then
    run_alone: bool = False  #: the next attempt runs with nothing queued behind it: the last loss has no known culprit
    #: the same happened to an attempt that ran alone: on a local worker, the next one runs while all others are idle
    alone_on_system: bool = False
    settlement: Settlement | None = None
    decided_by: str = ""  #: the attempt; one of an earlier generation if it is `reused`
    fitness: float | None = None
    reason: str = ""
    reused: ReusedResult | None = None

    @property
    def tried_by(self) -> set[str]:
        """The workers that have tried it or hold its open attempt."""
        return {attempt.worker for attempt in self.attempts if not attempt.by_host}

    @property
    def blamed_by(self) -> set[str]:
        """The workers on which it failed or timed out since it was (re)opened."""
        blaming = [attempt.worker for attempt in self.attempts if attempt.outcome in BLAMES_GENOME]
        return set(blaming[len(blaming) - self.blamed :])

    @property
    def lost_by(self) -> set[str]:
        """The workers on which it was lost since it was (re)opened."""
        losing = [attempt.worker for attempt in self.attempts if attempt.outcome in LOSSES]
        return set(losing[len(losing) - self.losses :])

    def isolate(self, attempt: Attempt, *, run_alone: bool) -> None:
        """Notes after the end of an attempt whether the next one must run alone."""
        stays = attempt.outcome is Outcome.WITHDRAWN
        self.alone_on_system = (run_alone and attempt.run_alone) or (self.alone_on_system and stays)
        self.run_alone = run_alone or (self.run_alone and stays)

    @property
    def is_held_back(self) -> bool:
        """Whether another trial of its genome failed and is tried again first."""
        failed = self.genome.failed_open
        return bool(failed) and failed[0] is not self

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that is not over, if there is one."""
        return next((a for a in reversed(self.attempts) if a.outcome is None), None)


@dataclass(slots=True)
class Genome:
    """One genome file of the generation."""

    number: int
    name: str
    suffix: str
    size_bytes: int
    sha256: str
    trials: list[Trial] = field(default_factory=list)
    charges: tuple[Attempt, ...] = ()  # tuples: hardly any genome has some, and an empty one takes no room
    #: trials that failed or timed out and are not settled, in that order; until the first is, no other is assigned
    failed_open: tuple[Trial, ...] = ()
    settled: int = 0  #: trials
    without_fitness: int = 0  #: of these
    reopened: bool = False  #: the user asked for its games: no earlier result counts for it
    params: Params = field(default_factory=no_params)

    @property
    def is_completed(self) -> bool:
        """Whether every trial of it has a fitness."""
        return self.settled == len(self.trials) and not self.without_fitness

    @property
    def is_suspect(self) -> bool:
        """Whether attempts at it were lost, so it may be what takes workers down."""
        return bool(self.charges) or any(trial.losses for trial in self.trials)

    @property
    def fitness(self) -> float | None:
        """Mean over its trials; None unless every one of them has a fitness."""
        values = [trial.fitness for trial in self.trials]
        known = [value for value in values if value is not None]
        return mean(known) if len(known) == len(values) else None


@dataclass(slots=True)
class Worker:
    """The agent's role behind one share: the host's state of it."""

    name: str
    state: WorkerState = WorkerState.READY
    epoch: int = 0  #: 0: the share was never seen
    epoch_open: bool = False  #: whether the share was seen to carry this epoch's `host.json`
    publications: int = 0
    wanted: dict[str, Attempt] = field(default_factory=dict)  #: its attempts that are not over
    #: over, but their start signals stay (law 5 of share_layout.md)
    left_published: dict[str, Attempt] = field(default_factory=dict)
    given_up: dict[str, Attempt] = field(default_factory=dict)  #: over, and no result of them was seen
    unexpected: int = 0  #: results on its share of attempts that were never issued, since this start in this run
    games_measured: int = 0  #: of this run
    game_s: float = 0.0  #: mean length of those games, in which the latest weigh most
    games_completed: int = 0  #: of this run
    log_game_s: float = 0.0  #: mean of the logarithms of their lengths in seconds, in which the latest weigh most
    reverts: int = 0  #: epochs of its share, without those that the host ordered; a probation forgives one
    losses: int = 0  #: in a row
    restarts: int = 0  #: recovery actions since it last finished an attempt
    probations: int = 0  #: failed ones since it last recovered
    was_on_probation: bool = False  #: when it became unfit
    drained: bool = False  #: gets no more attempts, and its machine is left to the user
    recovery: RecoveryAction | None = None
    reverting: bool = False  #: a restore was requested, and no epoch has begun since
    back_off_s: float = 0.0
    reason: str = ""
    site: str = ""  #: the site that it is on; empty: it is on none

    @property
    def may_be_playing(self) -> list[Attempt]:
        """The attempts whose start signals are wanted on its share: not over, or played on although they are."""
        return [*self.wanted.values(), *self.left_published.values()]

    def reset(self) -> None:
        """Forgets its losses and what was done about them: a host has started, or it has joined."""
        self.state, self.recovery, self.reason = WorkerState.READY, None, ""
        self.losses = self.restarts = self.probations = self.unexpected = self.reverts = 0

    def begin_run(self) -> None:
        """Forgets what it had of an earlier run, of which it holds nothing."""
        self.left_published.clear()
        self.given_up.clear()
        self.unexpected = 0
        self.games_measured = self.games_completed = 0
        self.game_s = self.log_game_s = 0.0

    def note_over(self, attempt: Attempt) -> None:
        """Holds an attempt no longer, and measures its game; what may still come of it is waited for."""
        self.forget(attempt.id)
        if attempt.outcome in _MEASURED:
            self.games_measured += 1
            self.game_s += (attempt.seconds - self.game_s) / min(self.games_measured, _GAMES_WEIGHED)
        if attempt.outcome is Outcome.COMPLETED:
            self.games_completed += 1
            log_s = math.log(max(attempt.seconds, _GAME_MIN_S))
            self.log_game_s += (log_s - self.log_game_s) / min(self.games_completed, _GAMES_WEIGHED)
        if attempt.left_published:
            self.left_published[attempt.id] = attempt
        if not attempt.has_result:
            self.given_up[attempt.id] = attempt

    def forget(self, attempt: str) -> None:
        """Waits for nothing of an attempt any more."""
        for waiting in (self.wanted, self.left_published, self.given_up):
            waiting.pop(attempt, None)


def seeding_generation(seeds: Seeds, generation: int) -> int:
    """The generation that seeds are computed with: 0 for every one if they are fixed."""
    return 0 if seeds == "fixed" else generation


def trial_seed(run_seed: int, generation: int, trial: int) -> int:
    """The seed of a trial, 0 … 2³¹−1: the same for every genome of a generation (share_layout.md, "Seeds").

    `generation` is that of `seeding_generation`.
    """
    digest = hashlib.sha256(f"{run_seed}/{generation}/{trial}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class GenomeFile:
    """A genome file, as the snapshot store took it in; `params` come from the program that submits it."""

    name: str
    suffix: str
    size_bytes: int
    sha256: str
    params: Params = field(default_factory=no_params, hash=False)
