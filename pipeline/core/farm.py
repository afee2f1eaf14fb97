"""The farm: the fold of all facts. Pure.

`Farm.evolve` is the only mutator. A fact that the tables of `model` do not allow raises `IllegalFact` with the
trial's history.
Not here: decisions (`dispatcher`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.counts import Counts
from pipeline.core.echo import Echo
from pipeline.core.facts import Fact, ReusedResult, RunSettings, Settlement, kind_of
from pipeline.core.model import (
    BLAMES_GENOME,
    LOSSES,
    TRIAL_TABLE,
    Attempt,
    Genome,
    IllegalFact,
    Trial,
    Worker,
    WorkerState,
    seeding_generation,
    trial_seed,
)
from pipeline.core.params import NO_PARAMS
from pipeline.core.since_start import SinceStart
from pipeline.core.trial_queue import TrialQueue
from pipeline.core.workers import FarmWorkers


class Farm:
    """The state that follows from the facts: the workers and the open generation."""

    def __init__(self, farm_id: str, workers: list[str]) -> None:
        self.farm_id = farm_id
        self._members = FarmWorkers(workers)
        self.workers: Mapping[str, Worker] = self._members.current
        self.retired: Mapping[str, Worker] = self._members.retired  #: workers that it had earlier
        self.since_start, self.boot_id = SinceStart(), ""  #: … of the operating system that the host runs on
        self._forget_generation()

    def _forget_generation(self) -> None:
        self.generation = self.run = 0
        self.settings: RunSettings | None = None
        self.evaluator_version = ""  #: the version that may play; empty: not known yet
        self.seeds: list[int] = []  #: of the trials of every genome
        self.genomes: list[Genome] = []
        self.attempts: dict[str, Attempt] = {}
        self.noted: set[str] = set()  #: ids of late or unexpected results that were noted
        self.pending = TrialQueue()
        self.untried: dict[int, Genome] = {}  #: genomes without an attempt since they were added or reopened
        self.open_trials, self.finished = 0, False
        self.counts = Counts()
        self.settled: Counter[Settlement] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.seconds_played = 0.0  #: in completed games, as the agents measured them
        self.retries_issued = self.late = self.unexpected = 0
        self.spans: list[list[float]] = []  #: [first, last] wall time of each host process of this run

    # --------------------------------------------------------------------------------------------------- questions

    @property
    def allows_any_evaluator(self) -> bool:
        """Whether workers with different evaluators may play this generation."""
        return self.settings is not None and self.settings.allow_mixed_evaluators

    @property
    def time_limit_s(self) -> float:
        """The time limit of a trial; 0 before a generation is open."""
        return self.settings.time_limit_s if self.settings is not None else 0.0

    def retire_all_but(self, names: Collection[str]) -> None:
        """Retires the workers that are no longer configured: they were removed while no host ran."""
        self._members.retire_all_but(names)

    def usable(self) -> list[Worker]:
        """Workers that are not out of this run."""
        return [worker for worker in self.workers.values() if worker.state is not WorkerState.OUT]

    def echo(self, attempt: Attempt) -> Echo:
        """What a result of this attempt must repeat."""
        trial = attempt.trial
        return Echo(attempt.id, trial.number, trial.seed, trial.genome.sha256, attempt.wanted_evaluator or None)

    def deciding_result(self, trial: Trial) -> Attempt | ReusedResult | None:
        """The attempt that decided a trial, or the result of an earlier generation; None if neither did."""
        return trial.reused or self.attempts.get(trial.decided_by)

    def story(self, trial: Trial) -> str:
        """What happened to a trial, one line per attempt."""
        lines = [f"trial {trial.number} of {trial.genome.name}: {trial.settlement or trial.state}"]
        for attempt in trial.attempts:
            outcome = attempt.outcome or ("claimed" if attempt.claimed_at else "issued")
            lines.append(f"  {attempt.id} on {attempt.worker}: {outcome} {attempt.reason}".rstrip())
        return "\n".join(lines)

    # ------------------------------------------------------------------------------------------------------ the fold

    def evolve(self, fact: Fact, at: float) -> None:
        """Applies one fact; `at` is the wall time it was added, used only for display.

        Raises:
            IllegalFact: the current state does not allow it.
        """
        # HostStarted opens a span of its own, and the facts of workers may belong to another generation.
        if self.spans and not isinstance(fact, f.HostStarted | f.WorkerFact):
            self.spans[-1][1] = at
        if (fold := _FOLDS.get(type(fact))) is not None:
            fold(self, fact, at)
        else:
            self._members.evolve(fact)

    def _host_started(self, fact: f.HostStarted, at: float) -> None:
        self.since_start, self.boot_id = SinceStart(), fact.boot_id
        for worker in self._members.every():
            worker.reset()  # the user may have fixed what was wrong
        if self.generation:
            self.spans.append([at, at])

    def _host_stopped(self, fact: f.HostStopped, at: float) -> None:
        pass

    def _run_opened(self, fact: f.RunOpened, at: float) -> None:
        for worker in self._members.every():
            if worker.wanted:
                raise IllegalFact(f"generation {fact.generation} opened while {worker.name} holds attempts")
            worker.begin_run()
        version_before = self.evaluator_version
        self._forget_generation()
        is_same = bool(version_before) and version_before == fact.settings.evaluator_version
        self.since_start = SinceStart(evaluator_works=is_same and self.since_start.evaluator_works)
        self.generation, self.run, self.settings = fact.generation, fact.run, fact.settings
        self.evaluator_version = fact.settings.evaluator_version
        trials = range(1, fact.settings.trials_per_genome + 1)
        seeding = seeding_generation(fact.settings.seeds, fact.generation)
        self.seeds = [trial_seed(fact.settings.seed, seeding, number) for number in trials]
        self.spans.append([at, at])

    def _genome_added(self, fact: f.GenomeAdded, at: float) -> None:
        if self.settings is None or fact.genome != len(self.genomes) + 1:
            raise IllegalFact(f"genome {fact.genome} cannot join a roster of {len(self.genomes)}")
        genome = Genome(fact.genome, fact.name, fact.suffix, fact.size_bytes, fact.sha256)
        genome.params = fact.params or NO_PARAMS
        self.counts.note_added(genome)
        self.genomes.append(genome)
        self.untried[genome.number] = genome
        for number, seed in enumerate(self.seeds, 1):
            trial = Trial(genome, number, seed)
            genome.trials.append(trial)
            self.pending.add_fresh(trial)
            self.open_trials += 1
        self.finished = False

    def _evaluator_fixed(self, fact: f.EvaluatorFixed, at: float) -> None:
        if self.evaluator_version:
            raise IllegalFact(f"evaluator {fact.version} of {fact.worker} after {self.evaluator_version}")
        self.evaluator_version = fact.version

    def _evaluator_accepted(self, fact: f.EvaluatorAccepted, at: float) -> None:
        if held := [worker.name for worker in self.workers.values() if worker.wanted]:
            raise IllegalFact(f"evaluator {fact.version} was accepted while {held[0]} holds attempts")
        self.evaluator_version = fact.version

    def _run_finished(self, fact: f.RunFinished, at: float) -> None:
        if self.open_trials:
            raise IllegalFact(f"finished with {self.open_trials} open trials")
        self.finished = True

    def _attempt_issued(self, fact: f.AttemptIssued, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        if fact.attempt in self.attempts:
            raise IllegalFact(f"{fact.attempt} was issued before\n{self.story(trial)}")
        self._move_trial(trial, fact)
        worker = self.worker(fact.worker)
        attempt = Attempt(
            fact.attempt,
            trial,
            fact.number,
            worker.name,  # one text for all, here and below: they are many
            fact.epoch,
            fact.publication,
            at,
            run_alone=trial.run_alone,
            new_process=trial.blamed > 0,
            wanted_evaluator="" if self.allows_any_evaluator else self.evaluator_version,
            boot_id=self.boot_id,
            alone_on_system=trial.alone_on_system,
        )
        trial.attempts.append(attempt)
        self.untried.pop(fact.genome, None)
        self.attempts[fact.attempt] = attempt
        self.counts.workers.add(fact.worker)
        self.retries_issued += fact.number > 1
        worker.wanted[fact.attempt] = attempt
        worker.publications = max(worker.publications, fact.publication)

    def _attempt_claimed(self, fact: f.AttemptClaimed, at: float) -> None:
        self._attempt(fact.attempt).claimed_at = at

    def _attempt_ended(self, fact: f.AttemptEnded, at: float) -> None:
        attempt = self._attempt(fact.attempt)
        if attempt.outcome is not None:
            # Law 6 of share_layout.md: a completed result of an attempt that was given up.
            if attempt.has_result or fact.outcome is not Outcome.COMPLETED:
                raise IllegalFact(f"{attempt.id} ended before\n{self.story(attempt.trial)}")
            self.outcomes[attempt.outcome] -= 1
        else:
            self._move_trial(attempt.trial, fact)
        attempt.outcome, attempt.reason, attempt.ended_at = fact.outcome, fact.reason, at
        attempt.has_result, attempt.by_host, attempt.left_published = fact.has_result, fact.by_host, fact.left_published
        attempt.fitness, attempt.metrics, attempt.seconds = fact.fitness, fact.metrics or None, fact.seconds
        attempt.archived = fact.archived
        if fact.outcome is Outcome.COMPLETED or fact.outcome in BLAMES_GENOME:
            attempt.evaluator = fact.evaluator or attempt.wanted_evaluator
        self.outcomes[fact.outcome] += 1
        if fact.outcome is Outcome.COMPLETED:
            self.seconds_played += fact.seconds
        self.counts.note_ended(attempt)
        self._count_blame(attempt, fact)

    def _count_blame(self, attempt: Attempt, fact: f.AttemptEnded) -> None:
        worker, trial = self.worker(attempt.worker), attempt.trial
        worker.note_over(attempt)
        if fact.outcome in LOSSES and not fact.by_host:
            worker.losses += 1
            trial.losses += 1
        elif fact.outcome in BLAMES_GENOME:
            trial.blamed += 1
            timed_out = fact.outcome is Outcome.TIMED_OUT
            self.since_start.note_failed(trial.genome.number, attempt.worker, fact.reason, timed_out=timed_out)
            if trial.blamed == 1:
                trial.genome.failed_open = (*trial.genome.failed_open, trial)
                self.pending.update_held_back(trial.genome)
        if fact.outcome in BLAMES_GENOME or fact.outcome is Outcome.COMPLETED:
            worker.losses = worker.restarts = 0
        trial.isolate(attempt, run_alone=fact.run_alone)

    def _attempt_released(self, fact: f.AttemptReleased, at: float) -> None:
        self.worker(self._attempt(fact.attempt).worker).left_published.pop(fact.attempt, None)

    def _result_late(self, fact: f.ResultLate, at: float) -> None:
        self.noted.add(fact.attempt)
        self.worker(fact.worker).forget(fact.attempt)
        self.late += 1

    def _result_unexpected(self, fact: f.ResultUnexpected, at: float) -> None:
        self.noted.add(fact.attempt)
        self.worker(fact.worker).unexpected += 1
        self.unexpected += 1

    def _genome_charged(self, fact: f.GenomeCharged, at: float) -> None:
        attempt = self._attempt(fact.attempt)
        if attempt.charged:
            raise IllegalFact(f"{attempt.id} was charged before\n{self.story(attempt.trial)}")
        attempt.charged = True
        attempt.trial.genome.charges = (*attempt.trial.genome.charges, attempt)

    def _genome_poisoned(self, fact: f.GenomePoisoned, at: float) -> None:
        for attempt in self.genomes[fact.genome - 1].charges:
            worker = self.worker(attempt.worker)
            worker.losses = max(0, worker.losses - 1)

    def _trial_settled(self, fact: f.TrialSettled, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        self._move_trial(trial, fact)
        by = self.attempts.get(fact.attempt)
        trial.settlement, trial.fitness, trial.reason = fact.settlement, fact.fitness, fact.reason
        trial.decided_by, trial.reused = by.id if by is not None else fact.attempt, fact.reused
        self.counts.note_settled(trial, fact.reused or by)
        if trial.blamed:
            trial.genome.failed_open = tuple(o for o in trial.genome.failed_open if o is not trial)
            self.pending.update_held_back(trial.genome)
        self.settled[fact.settlement] += 1
        self.open_trials -= 1
        if trial.genome.settled == len(trial.genome.trials):
            self.untried.pop(fact.genome, None)
        if fact.settlement is not Settlement.SKIPPED and fact.reused is None:  # no evaluator has worked since the start
            completed = fact.settlement is Settlement.COMPLETED
            self.since_start.note_settled(completed=completed, has_fitness=fact.fitness is not None)

    def _trial_reopened(self, fact: f.TrialReopened, at: float) -> None:
        trial = self.trial(fact.genome, fact.trial)
        trial.genome.charges = ()
        self._reopen(trial, fact)

    def _genome_reopened(self, fact: f.GenomeReopened, at: float) -> None:
        genome = self.genomes[fact.genome - 1]
        genome.size_bytes, genome.sha256, genome.charges, genome.failed_open = fact.size_bytes, fact.sha256, (), ()
        genome.reopened = True
        for trial in genome.trials:
            self._reopen(trial, fact)
            trial.run_alone = trial.alone_on_system = False
            self.counts.note_superseded(trial)

    def _reopen(self, trial: Trial, fact: Fact) -> None:
        self._move_trial(trial, fact)
        if trial.settlement is not None:
            self.counts.note_reopened(trial, self.deciding_result(trial))
            self.settled[trial.settlement] -= 1
            self.open_trials += 1
        trial.settlement, trial.fitness, trial.decided_by, trial.reason = None, None, "", ""
        trial.reused = None
        trial.blamed = trial.losses = 0
        self.untried[trial.genome.number] = trial.genome
        self.finished = False

    # ------------------------------------------------------------------------------------------------------ look-ups

    def trial(self, genome: int, number: int) -> Trial:
        """The trial of that genome and number, both from 1."""
        return self.genomes[genome - 1].trials[number - 1]

    def worker(self, name: str) -> Worker:
        """A worker of this farm, or one that it had earlier."""
        return self._members.find(name)

    def _attempt(self, attempt_id: str) -> Attempt:
        if attempt_id not in self.attempts:
            raise IllegalFact(f"{attempt_id} was never issued")
        return self.attempts[attempt_id]

    def _move_trial(self, trial: Trial, fact: Fact) -> None:
        after = TRIAL_TABLE.get((trial.state, type(fact)))
        if after is None:
            raise IllegalFact(f"{kind_of(fact)} in state {trial.state}\n{self.story(trial)}")
        trial.state = after
        self.pending.update(trial)


_FOLDS: dict[type[Fact], Callable[[Farm, Any, float], None]] = {
    f.HostStarted: Farm._host_started,
    f.HostStopped: Farm._host_stopped,
    f.RunOpened: Farm._run_opened,
    f.GenomeAdded: Farm._genome_added,
    f.EvaluatorFixed: Farm._evaluator_fixed,
    f.EvaluatorAccepted: Farm._evaluator_accepted,
    f.RunFinished: Farm._run_finished,
    f.AttemptIssued: Farm._attempt_issued,
    f.AttemptClaimed: Farm._attempt_claimed,
    f.AttemptEnded: Farm._attempt_ended,
    f.AttemptReleased: Farm._attempt_released,
    f.ResultLate: Farm._result_late,
    f.ResultUnexpected: Farm._result_unexpected,
    f.GenomeCharged: Farm._genome_charged,
    f.GenomePoisoned: Farm._genome_poisoned,
    f.TrialSettled: Farm._trial_settled,
    f.TrialReopened: Farm._trial_reopened,
    f.GenomeReopened: Farm._genome_reopened,
}
