"""The transaction of one tick: each new fact is applied to the farm immediately, so later rules see it. Pure.

The facts hold once the ledger has committed them. If the commit fails the process ends, and the next one replays the
ledger without them.
"""

from collections.abc import Mapping

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptReleased,
    EpochRaised,
    Fact,
    GenomeCharged,
    GenomePoisoned,
    Settlement,
    TrialSettled,
    WorkerLeft,
    WorkerOut,
)
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import BLAMES_GENOME, Attempt, Genome, Trial, TrialState, Worker
from pipeline.core.observation import CollectedResult, Observation
from pipeline.core.observed import Observed


class Transaction:
    """Farm, observed state, observation and limits of one tick, and the facts added in it."""

    def __init__(self, farm: Farm, observed: Observed, observation: Observation, limits: Limits) -> None:
        self.farm, self.observed, self.observation, self.limits = farm, observed, observation, limits
        self.facts: list[Fact] = []
        #: attempt -> worker and result that its facts are based on
        self.results: dict[str, tuple[str, CollectedResult]] = {}
        self.touched: set[str] = {scan.worker for scan in observation.scans}

    def add(self, fact: Fact) -> None:
        """Adds a fact: applied to the farm now, recorded at the end of the tick."""
        self.farm.evolve(fact, self.observation.wall)
        self.facts.append(fact)
        worker = getattr(fact, "worker", None)
        if worker is not None:
            self.touched.add(worker)

    def raise_epoch(self, worker: str, on_share: int, reason: str) -> None:
        """Begins a new epoch of a share. All open attempts there are lost; the culprit is unknown."""
        known = self.farm.workers[worker]
        for attempt in list(known.wanted.values()):
            self.give_up(attempt, Outcome.LOST, f"epoch {known.epoch} is over: {reason}", run_alone=True)
        self.add(EpochRaised(worker=worker, epoch=1 + max(known.epoch, on_share), reason=reason))
        self.observed.begin_epoch(worker)

    def withdraw(self, attempt: Attempt, reason: str) -> None:
        """Withdraws an attempt; it counts against neither worker nor genome."""
        self.give_up(attempt, Outcome.WITHDRAWN, reason, by_host=True)

    def give_up_to_copy(self, attempt: Attempt, reason: str) -> None:
        """Ends an attempt so that its trial can be issued again, without stopping it: its start signal stays."""
        self.give_up(attempt, Outcome.WITHDRAWN, reason, by_host=True, left_published=True)

    def withdraw_all(self, worker: Worker, reason: str) -> None:
        """Withdraws all attempts of a worker."""
        for attempt in list(worker.wanted.values()):
            self.withdraw(attempt, reason)

    def give_up(
        self,
        attempt: Attempt,
        outcome: Outcome,
        reason: str,
        *,
        run_alone: bool = False,
        left_published: bool = False,
        by_host: bool = False,
    ) -> None:
        """Ends an attempt by the host's decision. Does nothing if it is over, e.g. as a consequence of another end."""
        if attempt.outcome is not None:
            return
        self.end_attempt(
            attempt,
            AttemptEnded(
                attempt=attempt.id,
                outcome=outcome,
                reason=reason,
                run_alone=run_alone,
                left_published=left_published,
                by_host=by_host,
            ),
        )

    def end_attempt(self, attempt: Attempt, ended: AttemptEnded, *, agent_stopped: bool = False) -> None:
        """Adds the end of an attempt and the facts that follow for its trial and genome."""
        self.add(ended)
        self.touched.add(attempt.worker)
        if ended.outcome is Outcome.COMPLETED:
            self._settle_completed(attempt, ended)
        elif (ended.outcome is Outcome.INTERRUPTED and not agent_stopped) or _blames_genome(attempt, ended):
            self.charge(attempt)
        self._settle_if_exhausted(attempt)
        if ended.outcome in BLAMES_GENOME:
            self._withdraw_held_back(attempt.trial.genome)

    def charge(self, attempt: Attempt) -> None:
        """Charges a loss to the genome that was being evaluated. After `attempts_max` charges, on two workers if there
        are two, it is poison: its trials settle as failed, and its charges are subtracted from the workers' losses.

        If the host's operating system was restarted since the attempt was issued, a game beside it may be the cause.
        """
        genome = attempt.trial.genome
        has_other_suspects = attempt.is_from_before(self.farm.boot_id) and not attempt.alone_on_system
        if attempt.charged or attempt.by_host or attempt.superseded or has_other_suspects:
            return
        self.add(GenomeCharged(attempt=attempt.id, genome=genome.number, worker=attempt.worker))
        if self._is_poison(genome):
            self._settle_poison(genome)

    def exclude_worker(self, worker: str, reason: str) -> None:
        """Excludes a worker from this run."""
        self.add(WorkerOut(worker=worker, reason=reason))
        self._settle_new_poison()

    def remove_workers(self, reasons: Mapping[str, str]) -> None:
        """Removes workers, which hold nothing, from the farm; together, so that none of them decides alone for a moment
        which genome is poison. `reasons`: worker -> why it is removed.
        """
        for worker, reason in reasons.items():
            assert not self.farm.workers[worker].wanted, worker
            self.add(WorkerLeft(worker=worker, reason=reason))
        if reasons and self.farm.usable():
            self._settle_new_poison()

    def _settle_new_poison(self) -> None:
        """Looks for poison: a genome that took the only other worker down may be it, now that one is missing."""
        for genome in self.farm.genomes:
            is_open = any(trial.state is not TrialState.SETTLED for trial in genome.trials)
            if genome.charges and is_open and self._is_poison(genome):
                self._settle_poison(genome)

    def _is_poison(self, genome: Genome) -> bool:
        on_workers = {attempt.worker for attempt in genome.charges}
        enough = min(2, len(self.farm.usable()) or 1)
        return len(genome.charges) >= self.limits.attempts_max and len(on_workers) >= enough

    def _settle_poison(self, genome: Genome) -> None:
        self.add(GenomePoisoned(genome=genome.number, charges=len(genome.charges)))
        reason = f"poison: {len(genome.charges)} attempts took their worker down"
        last = genome.charges[-1].id
        for trial in genome.trials:
            if trial.state is not TrialState.SETTLED:
                self._settle_failed(trial, Settlement.FAILED, reason, last, skip_others=False)

    def _settle(self, trial: Trial, settled: TrialSettled) -> None:
        """Adds the end of a trial, and ends what is played on of it: no sweep may follow before the run is finished."""
        self.add(settled)
        for attempt in trial.attempts:
            worker = self.farm.workers.get(attempt.worker)
            if worker is not None and attempt.id in worker.left_published and self.observed.is_open(worker):
                self.add(AttemptReleased(attempt=attempt.id))
                self.touched.add(worker.name)

    def _settle_completed(self, attempt: Attempt, ended: AttemptEnded) -> None:
        trial = attempt.trial
        sibling = trial.open_attempt
        if sibling is not None:
            self.withdraw(sibling, f"{attempt.id} came back completed")
        self._settle(
            trial,
            TrialSettled(
                genome=trial.genome.number,
                trial=trial.number,
                settlement=Settlement.COMPLETED,
                attempt=attempt.id,
                fitness=ended.fitness,
            ),
        )

    def _settle_if_exhausted(self, attempt: Attempt) -> None:
        trial = attempt.trial
        if trial.state is TrialState.SETTLED:
            return
        if trial.blamed >= self.limits.failures_max:
            settlement = Settlement.TIMED_OUT if attempt.outcome is Outcome.TIMED_OUT else Settlement.FAILED
            self._settle_failed(trial, settlement, attempt.reason, attempt.id)
        elif trial.losses >= self.limits.losses_per_trial_max:
            reason = f"gave up after {trial.losses} lost attempts; the last: {attempt.reason}"
            self._settle_failed(trial, Settlement.FAILED, reason, attempt.id)

    def _withdraw_held_back(self, genome: Genome) -> None:
        """Withdraws what waits in a queue while another trial of the genome is tried again: a broken genome costs
        `failures_max` games. What was claimed is played on; on a share that cannot be read that is not known.
        """
        for trial in genome.trials:
            attempt = trial.open_attempt
            if attempt is None or attempt.claimed_at is not None or not trial.is_held_back:
                continue
            seen = self.observed.workers[attempt.worker]
            if seen.readable and not seen.may_be_playing(attempt.id):
                self.withdraw(attempt, "another trial of this genome failed and is tried again first")

    def _settle_failed(
        self, trial: Trial, settlement: Settlement, reason: str, attempt: str, *, skip_others: bool = True
    ) -> None:
        assert self.farm.settings is not None
        if (wanted := trial.open_attempt) is not None:
            self.withdraw(wanted, "its trial is settled")
        fitness = self.farm.settings.timed_out_fitness if settlement is Settlement.TIMED_OUT else None
        self._settle(
            trial,
            TrialSettled(
                genome=trial.genome.number,
                trial=trial.number,
                settlement=settlement,
                attempt=attempt,
                fitness=fitness,
                reason=reason,
            ),
        )
        if skip_others and fitness is None:
            self._skip_other_trials(trial)

    def _skip_other_trials(self, failed: Trial) -> None:
        """Skips the genome's other trials: with one failed trial it gets no fitness."""
        for trial in failed.genome.trials:
            if trial.state is TrialState.SETTLED:
                continue
            reason = f"trial {failed.number} of this genome failed"
            if (wanted := trial.open_attempt) is not None:
                self.withdraw(wanted, reason)
            self._settle(
                trial,
                TrialSettled(
                    genome=trial.genome.number,
                    trial=trial.number,
                    settlement=Settlement.SKIPPED,
                    reason=reason,
                ),
            )


def _blames_genome(attempt: Attempt, ended: AttemptEnded) -> bool:
    """Whether it was lost while it ran alone. An attempt on a readable share that was never claimed did not run."""
    return (
        ended.outcome is Outcome.LOST and attempt.run_alone and (ended.left_published or attempt.claimed_at is not None)
    )
