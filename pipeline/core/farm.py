"""The farm: everything that is known for certain, as the fold of all facts. Pure.

`Farm.evolve` is the only thing that changes it. Two small tables say which fact may follow which state of a trial and
of a worker; anything else is refused with the story that led there. It decides nothing.
"""

import enum
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from inbox_agent.share_layout import Echo, Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Fact, Rung, RunSettings, Settlement


class TrialState(enum.StrEnum):
    """Where a trial is on its way."""

    PENDING = "pending"  #: wants an attempt
    ASSIGNED = "assigned"  #: an attempt at it is wanted on some worker
    SETTLED = "settled"


class WorkerState(enum.StrEnum):
    """What the host thinks of a worker."""

    READY = "ready"
    RECOVERING = "recovering"  #: a rung of the ladder was ordered and has not helped yet
    QUARANTINED = "quarantined"  #: no work until the back-off is over
    PROBATION = "probation"  #: one attempt to show that it is well
    OUT = "out"  #: takes no further part


_P, _A, _S = TrialState
#: (state of the trial, fact) -> state afterwards. An attempt's end may be followed by a settlement at once.
TRIAL_TABLE: dict[tuple[TrialState, type[Fact]], TrialState] = {
    (_P, f.AttemptIssued): _A,
    (_A, f.AttemptEnded): _P,
    (_P, f.TrialSettled): _S,
    (_A, f.TrialSettled): _S,
    (_S, f.TrialReopened): _P,
}

_READY, _RECOVERING, _QUARANTINED, _PROBATION, _OUT = WorkerState
#: (state of the worker, fact) -> state afterwards.
WORKER_TABLE: dict[tuple[WorkerState, type[Fact]], WorkerState] = {
    (_READY, f.RungClimbed): _RECOVERING,
    (_RECOVERING, f.RungClimbed): _RECOVERING,
    (_RECOVERING, f.WorkerRecovered): _READY,
    (_READY, f.WorkerQuarantined): _QUARANTINED,
    (_RECOVERING, f.WorkerQuarantined): _QUARANTINED,
    (_QUARANTINED, f.ProbationBegan): _PROBATION,
    (_PROBATION, f.RungClimbed): _PROBATION,
    (_PROBATION, f.WorkerRecovered): _READY,
    (_PROBATION, f.WorkerQuarantined): _QUARANTINED,
    **{(state, f.WorkerOut): _OUT for state in WorkerState},
}

#: Outcomes that are the worker's or its share's fault, never the genome's alone.
LOSSES = frozenset({Outcome.INTERRUPTED, Outcome.LOST, Outcome.CORRUPT, Outcome.UNDELIVERED})
#: Outcomes that are the genome's fault and use up one of its `attempts_max` tries.
BLAMES_GENOME = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})


class IllegalFact(AssertionError):
    """A fact that cannot follow what happened before: a defect of this program, told with the story."""


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
    alone: bool
    claimed_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    reason: str = ""
    answered: bool = False
    ordered: bool = False
    kept: bool = False
    charged: bool = False
    archived: bool = False
    fitness: float | None = None
    metrics: dict[str, float] | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Trial:
    """One evaluation of one genome, however many attempts it takes."""

    genome: "Genome"
    number: int
    seed: int
    state: TrialState = TrialState.PENDING
    attempts: list[Attempt] = field(default_factory=list)
    blamed: int = 0  #: attempts that failed or timed out since it was (re)opened
    losses: int = 0  #: attempts that were lost on the way since then
    alone: bool = False  #: to be played with nothing behind it: nobody knows who lost the last one
    settlement: Settlement | None = None
    decided_by: str = ""
    fitness: float | None = None
    reason: str = ""

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that is wanted now, if there is one."""
        return next((a for a in reversed(self.attempts) if a.outcome is None), None)


@dataclass(slots=True)
class Genome:
    """One file of the generation."""

    number: int
    name: str
    suffix: str
    size_bytes: int
    sha256: str
    trials: list[Trial] = field(default_factory=list)
    charges: list[Attempt] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return all(trial.state is TrialState.SETTLED for trial in self.trials)

    @property
    def fitness(self) -> float | None:
        """Mean over its trials; None unless every one of them has a fitness."""
        values = [trial.fitness for trial in self.trials]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None


@dataclass(slots=True)
class Worker:
    """The agent's role behind one share, as the host sees it."""

    name: str
    state: WorkerState = WorkerState.READY
    epoch: int = 0  #: 0: the share was never seen
    epoch_open: bool = False  #: whether the share was seen to carry this epoch's `host.json`
    publications: int = 0
    wanted: dict[str, Attempt] = field(default_factory=dict)  #: published or about to be, not over
    kept: dict[str, Attempt] = field(default_factory=dict)  #: over, but their start signals stay (law 5)
    losses: int = 0  #: in a row
    restarts: int = 0  #: rungs climbed since it last finished an attempt
    probations: int = 0  #: failed ones since it was last well
    rung: Rung | None = None
    back_off_s: float = 0.0
    reason: str = ""


class Farm:
    """The fold of the facts: the workers, and the one generation that is open."""

    def __init__(self, farm_id: str, workers: list[str]) -> None:
        self.farm_id = farm_id
        self.workers = {name: Worker(name) for name in workers}
        self.retired: dict[str, Worker] = {}  #: workers the ledger knows that are no longer configured
        self.settled_since_start = 0
        self.failed_since_start = 0
        self._forget_generation()

    def _forget_generation(self) -> None:
        self.generation = 0
        self.run = 0
        self.settings: RunSettings | None = None
        self.genomes: list[Genome] = []
        self.attempts: dict[str, Attempt] = {}
        self.noted: set[str] = set()  #: ids whose late or unexpected result was noted
        self.retries: dict[tuple[int, int], Trial] = {}
        self.fresh: dict[tuple[int, int], Trial] = {}
        self.open_trials = 0
        self.finished = False
        self.settled: Counter[Settlement] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.seconds_played = 0.0  #: in completed games, as the agents measured them
        self.retries_issued = 0
        self.late = 0
        self.unexpected = 0
        self.spans: list[list[float]] = []  #: [first, last] wall time of each host process that played this run

    # --------------------------------------------------------------------------------------------------- questions

    @property
    def has_pending(self) -> bool:
        return bool(self.retries or self.fresh)

    def pending(self) -> Iterator[Trial]:
        """Trials that want an attempt, those that were tried before first: a failing farm shows itself soon."""
        yield from self.retries.values()
        yield from self.fresh.values()

    def usable(self) -> list[Worker]:
        """Workers that may still do something in this run."""
        return [worker for worker in self.workers.values() if worker.state is not WorkerState.OUT]

    def echo(self, attempt: Attempt) -> Echo:
        """What a result of this attempt must repeat."""
        trial = attempt.trial
        return Echo(attempt.id, trial.number, trial.seed, trial.genome.sha256)

    def story(self, trial: Trial) -> str:
        """What happened to a trial, one line per attempt."""
        lines = [f"trial {trial.number} of {trial.genome.name}: {trial.settlement or trial.state}"]
        for attempt in trial.attempts:
            outcome = attempt.outcome or ("claimed" if attempt.claimed_at else "issued")
            lines.append(f"  {attempt.id} on {attempt.worker}: {outcome} {attempt.reason}".rstrip())
        return "\n".join(lines)

    # ------------------------------------------------------------------------------------------------------ the fold

    def evolve(self, fact: Fact, at: float) -> None:
        """Folds one fact in; `at` is the wall time it was stated, kept for people and for nothing else.

        Raises:
            IllegalFact: it cannot follow what happened before.
        """
        if self.spans:
            self.spans[-1][1] = at
        _FOLDS[type(fact)](self, fact, at)

    def _host_started(self, fact: f.HostStarted, at: float) -> None:
        self.settled_since_start = self.failed_since_start = 0
        for worker in self.workers.values():
            # The user may have mended what was wrong: every worker gets its chances anew.
            worker.state, worker.rung, worker.reason = WorkerState.READY, None, ""
            worker.losses = worker.restarts = worker.probations = 0
        if self.generation:
            self.spans.append([at, at])

    def _host_stopped(self, fact: f.HostStopped, at: float) -> None:
        pass

    def _run_opened(self, fact: f.RunOpened, at: float) -> None:
        for worker in self.workers.values():
            if worker.wanted:
                raise IllegalFact(f"generation {fact.generation} opened while {worker.name} holds attempts")
            worker.kept.clear()
        self._forget_generation()
        self.settled_since_start = self.failed_since_start = 0
        self.generation, self.run, self.settings = fact.generation, fact.run, fact.settings
        self.spans.append([at, at])

    def _genome_added(self, fact: f.GenomeAdded, at: float) -> None:
        if self.settings is None or fact.genome != len(self.genomes) + 1:
            raise IllegalFact(f"genome {fact.genome} cannot join a roster of {len(self.genomes)}")
        genome = Genome(fact.genome, fact.name, fact.suffix, fact.size_bytes, fact.sha256)
        self.genomes.append(genome)
        for number in range(1, self.settings.trials_per_genome + 1):
            trial = Trial(genome, number, trial_seed(self.settings.seed, self.generation, number))
            genome.trials.append(trial)
            self.fresh[genome.number, number] = trial
            self.open_trials += 1
        self.finished = False

    def _run_finished(self, fact: f.RunFinished, at: float) -> None:
        if self.open_trials:
            raise IllegalFact(f"finished with {self.open_trials} open trials")
        self.finished = True

    def _attempt_issued(self, fact: f.AttemptIssued, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        if fact.attempt in self.attempts:
            raise IllegalFact(f"{fact.attempt} was issued before\n{self.story(trial)}")
        self._move_trial(trial, fact)
        attempt = Attempt(fact.attempt, trial, fact.number, fact.worker, fact.epoch, fact.publication, at, trial.alone)
        trial.attempts.append(attempt)
        self.attempts[fact.attempt] = attempt
        self.retries_issued += fact.number > 1
        worker = self.worker(fact.worker)
        worker.wanted[fact.attempt] = attempt
        worker.publications = max(worker.publications, fact.publication)

    def _attempt_claimed(self, fact: f.AttemptClaimed, at: float) -> None:
        self._attempt(fact.attempt).claimed_at = at

    def _attempt_ended(self, fact: f.AttemptEnded, at: float) -> None:
        attempt = self._attempt(fact.attempt)
        if attempt.outcome is not None:
            # Law 6: work that came back after all, from an attempt that was already given up.
            if attempt.answered or fact.outcome is not Outcome.COMPLETED:
                raise IllegalFact(f"{attempt.id} ended before\n{self.story(attempt.trial)}")
            self.outcomes[attempt.outcome] -= 1
        elif attempt.trial.state is TrialState.ASSIGNED:
            self._move_trial(attempt.trial, fact)
        attempt.outcome, attempt.reason, attempt.ended_at = fact.outcome, fact.reason, at
        attempt.answered, attempt.ordered, attempt.kept = fact.answered, fact.ordered, fact.kept
        attempt.fitness, attempt.metrics, attempt.seconds = fact.fitness, fact.metrics or None, fact.seconds
        attempt.archived = fact.archived
        self.outcomes[fact.outcome] += 1
        if fact.outcome is Outcome.COMPLETED:
            self.seconds_played += fact.seconds
        self._count_blame(attempt, fact)

    def _count_blame(self, attempt: Attempt, fact: f.AttemptEnded) -> None:
        worker, trial = self.worker(attempt.worker), attempt.trial
        worker.wanted.pop(attempt.id, None)
        worker.kept.pop(attempt.id, None)
        if fact.kept:
            worker.kept[attempt.id] = attempt
        if fact.outcome in LOSSES and not fact.ordered:
            worker.losses += 1
            trial.losses += 1
        elif fact.outcome in BLAMES_GENOME:
            trial.blamed += 1
        if fact.outcome in BLAMES_GENOME or fact.outcome is Outcome.COMPLETED:
            worker.losses = worker.restarts = 0
        trial.alone = fact.isolate or (trial.alone and fact.outcome is Outcome.WITHDRAWN)

    def _result_late(self, fact: f.ResultLate, at: float) -> None:
        self.noted.add(fact.attempt)
        self.late += 1

    def _result_unexpected(self, fact: f.ResultUnexpected, at: float) -> None:
        self.noted.add(fact.attempt)
        self.unexpected += 1

    def _genome_charged(self, fact: f.GenomeCharged, at: float) -> None:
        attempt = self._attempt(fact.attempt)
        if attempt.charged:
            raise IllegalFact(f"{attempt.id} was charged before\n{self.story(attempt.trial)}")
        attempt.charged = True
        attempt.trial.genome.charges.append(attempt)

    def _trial_settled(self, fact: f.TrialSettled, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        if trial.open_attempt is not None:
            raise IllegalFact(f"settled while an attempt is wanted\n{self.story(trial)}")
        self._move_trial(trial, fact)
        trial.settlement, trial.fitness = fact.settlement, fact.fitness
        trial.decided_by, trial.reason = fact.attempt, fact.reason
        self.settled[fact.settlement] += 1
        self.open_trials -= 1
        if fact.settlement is not Settlement.SKIPPED:
            self.settled_since_start += 1
            self.failed_since_start += fact.fitness is None

    def _trial_reopened(self, fact: f.TrialReopened, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        assert trial.settlement is not None
        self.settled[trial.settlement] -= 1
        self._move_trial(trial, fact)
        trial.settlement, trial.fitness, trial.decided_by, trial.reason = None, None, "", ""
        trial.blamed = trial.losses = 0
        trial.genome.charges.clear()
        self.open_trials += 1
        self.finished = False

    def _epoch_raised(self, fact: f.EpochRaised, at: float) -> None:
        worker = self.worker(fact.worker)
        if fact.epoch <= worker.epoch:
            raise IllegalFact(f"{worker.name}: epoch {fact.epoch} after {worker.epoch}")
        worker.epoch, worker.epoch_open = fact.epoch, False
        worker.kept.clear()

    def _epoch_opened(self, fact: f.EpochOpened, at: float) -> None:
        self.worker(fact.worker).epoch_open = True

    def _worker_out(self, fact: f.WorkerOut, at: float) -> None:
        self._move_worker(fact, fact.worker).reason = fact.reason

    def _rung_climbed(self, fact: f.RungClimbed, at: float) -> None:
        worker = self._move_worker(fact, fact.worker)
        worker.rung, worker.reason = fact.rung, fact.reason
        worker.restarts += 1
        worker.kept.clear()  # the machine is touched: nothing that was played there can come back (law 5)

    def _worker_recovered(self, fact: f.WorkerRecovered, at: float) -> None:
        passed = self.worker(fact.worker).state is WorkerState.PROBATION
        worker = self._move_worker(fact, fact.worker)
        if passed:
            worker.losses = worker.probations = worker.restarts = 0
        worker.rung, worker.reason = None, ""

    def _worker_quarantined(self, fact: f.WorkerQuarantined, at: float) -> None:
        worker = self.worker(fact.worker)
        worker.probations += worker.state is WorkerState.PROBATION
        self._move_worker(fact, fact.worker)
        worker.back_off_s, worker.reason, worker.rung = fact.back_off_s, fact.reason, None

    def _probation_began(self, fact: f.ProbationBegan, at: float) -> None:
        worker = self._move_worker(fact, fact.worker)
        worker.losses = worker.restarts = 0

    # ------------------------------------------------------------------------------------------------------ look-ups

    def trial(self, genome: int, number: int) -> Trial:
        """The trial of that genome and number, both from 1."""
        return self.genomes[genome - 1].trials[number - 1]

    def worker(self, name: str) -> Worker:
        """A worker of the configuration, or one that an earlier configuration had."""
        known = self.workers.get(name)
        return known if known is not None else self.retired.setdefault(name, Worker(name))

    def _attempt(self, attempt_id: str) -> Attempt:
        if attempt_id not in self.attempts:
            raise IllegalFact(f"{attempt_id} was never issued")
        return self.attempts[attempt_id]

    def _move_trial(self, trial: Trial, fact: Fact) -> None:
        after = TRIAL_TABLE.get((trial.state, type(fact)))
        if after is None:
            raise IllegalFact(f"{type(fact).__name__} in state {trial.state}\n{self.story(trial)}")
        key = (trial.genome.number, trial.number)
        self.retries.pop(key, None)
        self.fresh.pop(key, None)
        trial.state = after
        if after is TrialState.PENDING:
            self.retries[key] = trial

    def _move_worker(self, fact: Fact, name: str) -> Worker:
        worker = self.worker(name)
        after = WORKER_TABLE.get((worker.state, type(fact)))
        if after is None:
            raise IllegalFact(f"{type(fact).__name__} for {name} in state {worker.state} ({worker.reason})")
        worker.state = after
        return worker


_FOLDS: dict[type[Fact], Callable[[Farm, Any, float], None]] = {
    f.HostStarted: Farm._host_started,
    f.HostStopped: Farm._host_stopped,
    f.RunOpened: Farm._run_opened,
    f.GenomeAdded: Farm._genome_added,
    f.RunFinished: Farm._run_finished,
    f.AttemptIssued: Farm._attempt_issued,
    f.AttemptClaimed: Farm._attempt_claimed,
    f.AttemptEnded: Farm._attempt_ended,
    f.ResultLate: Farm._result_late,
    f.ResultUnexpected: Farm._result_unexpected,
    f.GenomeCharged: Farm._genome_charged,
    f.TrialSettled: Farm._trial_settled,
    f.TrialReopened: Farm._trial_reopened,
    f.EpochRaised: Farm._epoch_raised,
    f.EpochOpened: Farm._epoch_opened,
    f.WorkerOut: Farm._worker_out,
    f.RungClimbed: Farm._rung_climbed,
    f.WorkerRecovered: Farm._worker_recovered,
    f.WorkerQuarantined: Farm._worker_quarantined,
    f.ProbationBegan: Farm._probation_began,
}


def trial_seed(run_seed: int, generation: int, trial: int) -> int:
    """The seed of a trial, 0 … 2³¹−1: the same games for every genome of a generation (design, "Words", trial)."""
    digest = hashlib.sha256(f"{run_seed}/{generation}/{trial}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
