"""Checks every fact at the moment it is committed, and reports at once if it violates an invariant.

The checker has the genomes and computes their fitness itself; it uses none of the code that counts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import orjson

from tests.simulator.copy_checker import CopyChecker
from tests.simulator.disk import SimulatedDisk
from tests.simulator.epoch_checker import EpochChecker
from tests.simulator.evaluator import fitness_of, version_of
from tests.simulator.genomes import SimulatedGenomes
from tests.simulator.queue_checker import QueueChecker
from tests.simulator.worker_changes import ChangesChecker
from tests.simulator.world import World

#: A trial has failures_max failures, which the genome may cause, and losses_per_trial_max losses, which it does not.
#: Attempts that the host withdrew are bounded by the faults of a world, not by a rule.
FAILURES_MAX = 2
CHARGES_MAX = 3  #: attempts_max charges make a genome poison
LOSSES_IN_A_ROW_MAX = 3  #: losses_max losses of a worker
UNKNOWN_RESULTS_MAX = 20  #: unknown_results_max results of a worker in a generation, since the host started
#: Faults after which the host knows and decides what it would have without them.
HARMLESS = ("lost notification", "doubled notification", "wall clock jump")
LOSSES = ("interrupted", "lost", "corrupt", "undelivered")

Genome = tuple[int, int]  #: generation and number
Trial = tuple[int, int, int]  #: generation, genome and number


def seed_of(run_seed: int, trial: Trial, *, is_fixed: bool = False) -> int:
    """The seed of a trial (`seed` in share_layout.md)."""
    digest = hashlib.sha256(f"{run_seed}/{0 if is_fixed else trial[0]}/{trial[2]}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class LedgerChecker:
    """The facts that one farm has committed, counted independently."""

    def __init__(
        self, world: World, farm: str, genomes: Sequence[bytes], seed: int, disks: Sequence[SimulatedDisk] = ()
    ) -> None:
        self._world, self._farm, self._seed, self._disks = world, farm, seed, disks
        self._digests = {hashlib.sha256(data).hexdigest(): data for data in genomes}
        self.files: SimulatedGenomes | None = None  #: the folder of the generation, if files arrive late
        self._genomes: dict[Genome, bytes] = {}  #: those that were added
        self._names: defaultdict[int, set[str]] = defaultdict(set)  #: generation -> their names
        self.reopened: defaultdict[int, set[str]] = defaultdict(set)  #: generation -> names of reopened genomes
        self._name_of: dict[Genome, str] = {}
        self._superseded: set[str] = set()  #: attempts at genomes that were reopened since
        self._settled_at = 0.0  #: when a trial was settled last
        self.issued: dict[str, Trial] = {}
        self.settled: Counter[Trial] = Counter()
        self.archived: dict[str, bytes] = {}  #: the bytes that were stored in the archive
        self.attempts: Counter[Trial] = Counter()  #: attempts that the host did not withdraw
        self._wanted: dict[Trial, str] = {}
        self._answered: set[str] = set()
        self._unknown: Counter[tuple[int, str]] = Counter()  #: by generation and worker: results under unknown ids
        #: trial -> the bytes that were played, the attempt and its fitness: what the next generation may reuse
        self._completed: dict[Trial, tuple[bytes, str, float]] = {}
        self._to_be_archived: dict[str, float | None] = {}  #: attempt -> the fitness that was counted from it
        self.unexpected = 0  #: fitness that no game of that genome gave
        self._lost_unread: set[str] = set()  #: attempts that were lost because their share could not be read
        self._failed_on: defaultdict[Trial, list[str]] = defaultdict(list)  #: where it failed, or ran out of time
        self._unresolved: defaultdict[Genome, list[Trial]] = defaultdict(list)  #: trials that failed, not settled
        self._to_withdraw: set[str] = set()  #: queued attempts at other trials of a genome that has just failed
        self._lost_on: defaultdict[Trial, list[str]] = defaultdict(list)  #: workers on which attempts were lost
        self._charged_on: defaultdict[Genome, list[str]] = defaultdict(list)
        self._worker_of: dict[str, str] = {}  #: attempt -> worker
        self._lost_in_a_row: Counter[str] = Counter()  #: worker -> losses
        self._on_probation: set[str] = set()
        self.queues = QueueChecker(world)
        self._epochs = EpochChecker()
        self._changes = ChangesChecker(world, lambda: {attempt for disk in disks for attempt in disk.playing})
        self.stragglers = CopyChecker(world)
        self._stopped: set[str] = set()  #: attempts that were interrupted by a request to stop the agent
        self._failed: set[Genome] = set()  #: genomes with a trial without a fitness
        self._generation = 0

    def note_fact(self, fact: dict[str, Any], generation: int) -> None:
        """Checks one committed fact."""
        self._generation = generation
        checkers = (self.queues, self._epochs, self._changes, self.stragglers)
        for message in [checker.note_fact(fact) for checker in checkers]:
            if message:
                self._report(message)
        if self._to_withdraw and fact["fact"] != "trial_settled" and not fact.get("ordered"):
            self._report(f"{min(self._to_withdraw)} stays, although another trial of its genome failed")
        match fact["fact"]:
            case "genome_added":
                self._genome_added(fact)
            case "genome_reopened":
                self._genome_reopened(fact)
            case "run_finished":
                self._run_finished()
            case "attempt_issued":
                self._attempt_issued(fact)
            case "attempt_ended":
                self._attempt_ended(fact)
            case "result_late":
                self._answer(fact["attempt"])
            case "result_unexpected":
                self._unknown[self._generation, fact["worker"]] += 1
                if self._unknown[self._generation, fact["worker"]] > UNKNOWN_RESULTS_MAX:
                    self._report(f"{fact['attempt']} of {fact['worker']} was noted, on a share that is flooded")
            case "worker_excluded":
                self._worker_out(fact)
            case "host_started":
                self._unknown.clear()
                self._worker_state(fact)
            case "probation_began" | "worker_recovered":
                self._worker_state(fact)
            case "worker_joined":
                self._lost_in_a_row[fact["worker"]] = self._unknown[generation, fact["worker"]] = 0
                self._on_probation.discard(fact["worker"])
            case "genome_charged":
                self._genome_charged(fact)
            case "genome_poisoned":
                self._lost_in_a_row -= Counter(self._charged_on[generation, fact["genome"]])
            case "trial_settled":
                self._trial_settled(fact)
            case "trial_reopened":
                self.settled[self._trial(fact)] -= 1
                self._failed_on[self._trial(fact)].clear()

    def host_ended(self) -> None:
        """Checks what a host leaves at its end: counted results are archived, published attempts are recorded."""
        for attempt, fitness in self._to_be_archived.items():
            if attempt not in self.archived:
                self._report(f"{attempt} was counted and not archived")
            elif fitness is not None and orjson.loads(self.archived[attempt])["fitness"] != fitness:
                self._report(f"the archived fitness of {attempt} is not the counted one")
        published = {attempt for disk in self._disks for attempt in disk.history.published}
        if not self._world.options.second_farm and (unknown := published - self.issued.keys()):
            self._report(f"{min(unknown)} was published and not recorded")

    @property
    def recovered(self) -> int:
        """Trials that needed more than one attempt."""
        tries = Counter(self.issued.values())
        return sum(tries[trial] > 1 for trial in self.settled)

    def _genome_added(self, fact: dict[str, Any]) -> None:
        if fact["sha256"] not in self._digests:
            self._report(f"{fact['name']} was added with bytes that its file had only in part")
        if fact["name"] in self._names[self._generation]:
            self._report(f"{fact['name']} was added twice")
        self._genomes[self._generation, fact["genome"]] = self._digests.get(fact["sha256"], b"")
        self._names[self._generation].add(fact["name"])
        self._name_of[self._generation, fact["genome"]] = fact["name"]

    def _genome_reopened(self, fact: dict[str, Any]) -> None:
        """All trials of a genome begin anew; nothing that was tried before counts any more."""
        genome = self._generation, fact["genome"]
        if fact["sha256"] not in self._digests:
            self._report(f"genome {genome} was reopened with bytes that its file never had")
        self._genomes[genome] = self._digests.get(fact["sha256"], b"")
        self.reopened[self._generation].add(self._name_of[genome])
        self._superseded |= {attempt for attempt, trial in self.issued.items() if trial[:2] == genome}
        if held := [attempt for trial, attempt in self._wanted.items() if trial[:2] == genome]:
            self._report(f"genome {genome} was reopened while {held[0]} was open")
        for trial in [trial for trial in self.settled if trial[:2] == genome]:  # also those that were skipped
            self.settled[trial] = 0
            self._completed.pop(trial, None)
        for trial in {trial for trial in self.issued.values() if trial[:2] == genome}:
            self.attempts[trial] = 0
            self._lost_on[trial].clear()
            self._failed_on[trial].clear()
        self._charged_on[genome].clear()
        self._unresolved[genome].clear()
        self._failed.discard(genome)

    def _run_finished(self) -> None:
        """A file that was in the folder when the last trial was settled is one of its genomes."""
        in_folder = self.files.begun_before(self._settled_at) if self.files is not None else set()
        if left_out := in_folder - self._names[self._generation]:
            self._report(f"the run was finished without {min(left_out)}, which was in its folder")

    def _attempt_issued(self, fact: dict[str, Any]) -> None:
        attempt, trial = fact["attempt"], self._trial(fact)
        if attempt in self.issued:
            self._report(f"{attempt} was issued twice")
        if trial in self._wanted:
            self._report(f"trial {trial} was issued as {attempt} before {self._wanted[trial]} ended")
        if self.settled[trial]:
            self._report(f"trial {trial} was settled before {attempt} was issued")
        if known := self._reusable(trial):
            self._report(f"trial {trial} was issued as {attempt}, although {known[1]} played the same game")
        self._check_retry(trial, fact["worker"])
        self.issued[attempt], self._wanted[trial], self._worker_of[attempt] = trial, attempt, fact["worker"]
        self.attempts[trial] += 1
        if self.attempts[trial] > FAILURES_MAX + self._world.options.losses_max:
            self._report(f"trial {trial} took {self.attempts[trial]} attempts")

    def _check_retry(self, trial: Trial, worker: str) -> None:
        """A trial that failed comes before the others of its genome, and goes to another worker if that is possible."""
        if (first := [*self._unresolved[trial[:2]], trial][0]) != trial:
            self._report(f"trial {trial} was issued before {first}, which failed, was settled")
        if self._lost_in_a_row[worker] >= (1 if worker in self._on_probation else LOSSES_IN_A_ROW_MAX):
            self._report(f"{worker} got trial {trial} after {self._lost_in_a_row[worker]} losses in a row")
        self._check_last_loss(trial, worker)
        failed_on = self._failed_on[trial]
        others = set(self._worker_of.values()) - set(failed_on)
        # A machine that poison has taken down cannot play, although nothing is lost yet.
        undisturbed = self._undisturbed and not (self._world.fired.total() or self._world.options.poison)
        if len(failed_on) == FAILURES_MAX - 1 and worker in failed_on and others and undisturbed:
            self._report(f"trial {trial} failed on {worker} and was issued to it again, although {min(others)} plays")

    def _check_last_loss(self, trial: Trial, worker: str) -> None:
        """A trial that may be lost once more goes to a worker that has not lost it, if another one plays."""
        lost_on, options = self._lost_on[trial], self._world.options
        others = set(self._worker_of.values()) - set(lost_on) - {w for w, n in self._lost_in_a_row.items() if n}
        corrupted = sum(self._world.fired[kind] for kind in (*HARMLESS, "corrupting agent", "corrupted result"))
        undisturbed = self._world.fired.total() == corrupted and not (options.poison or options.second_farm)
        if len(lost_on) == options.losses_max - 1 and worker in lost_on and others and undisturbed:
            self._report(f"trial {trial} was lost on {worker} and was issued to it again, although {min(others)} plays")

    @property
    def _undisturbed(self) -> bool:
        """Whether nothing but genomes has failed so far: every worker that got work before may get more."""
        disturbing = self._world.fired.total() - sum(self._world.fired[kind] for kind in HARMLESS)
        return not (disturbing or any(self._lost_on.values()) or self._world.options.second_farm)

    def _attempt_ended(self, fact: dict[str, Any]) -> None:
        attempt = fact["attempt"]
        trial = self.issued.get(attempt)
        if trial is None:
            self._report(f"{attempt} ended and was not issued")
            return
        if fact.get("kept"):
            self._lost_unread.add(attempt)
        if fact.get("answered"):
            self._answer(attempt)
        if attempt in self._superseded and fact["outcome"] == "completed":
            self._report(f"{attempt} was accepted, although its genome was reopened")
        if self._wanted.get(trial) == attempt:
            del self._wanted[trial]
        self._to_withdraw.discard(attempt)
        if fact.get("ordered"):
            self.attempts[trial] -= 1
        if fact.get("archived"):
            self._to_be_archived.setdefault(attempt, None)
        self._count_outcome(trial, self._worker_of[attempt], fact)

    def _count_outcome(self, trial: Trial, worker: str, fact: dict[str, Any]) -> None:
        outcome = fact["outcome"]
        if outcome == "interrupted" and orjson.loads(self.archived[fact["attempt"]])["agent_stopped"]:
            self._stopped.add(fact["attempt"])
        if outcome in ("failed", "timed_out"):
            self._failed_on[trial].append(worker)
            plays = b'"play"' in self._genomes[trial[:2]]
            if plays and outcome == "failed" and len(self._failed_on[trial]) > 1:
                self._report(f"trial {trial} failed a second time, in a process that had played before")
            if trial not in self._unresolved[trial[:2]]:
                self._unresolved[trial[:2]].append(trial)
            if self._undisturbed:
                self._to_withdraw |= self._other_attempts(trial) - self._world.played
        elif outcome in LOSSES and not fact.get("ordered"):
            self._lost_on[trial].append(worker)
            self._lost_in_a_row[worker] += 1
        if outcome in ("failed", "timed_out", "completed"):
            self._lost_in_a_row[worker] = 0

    def _other_attempts(self, trial: Trial) -> set[str]:
        """The open attempts at trials of this genome, without the one that is tried again first, and without those on
        a share that the host may be unable to read, because a machine that poison has taken down serves it.
        """
        genome = trial[:2]
        others = {a for t, a in self._wanted.items() if t[:2] == genome and t != self._unresolved[genome][0]}
        with_poison = {self._worker_of[a] for t, a in self._wanted.items() if b'"poison"' in self._genomes[t[:2]]}
        return {attempt for attempt in others if self._worker_of[attempt] not in with_poison}

    def _worker_state(self, fact: dict[str, Any]) -> None:
        """A new host, a passed probation and the begin of one forget the losses of a worker."""
        kind, worker = fact["fact"], fact.get("worker", "")
        if kind == "host_started":
            self._lost_in_a_row.clear()
            self._on_probation.clear()
        elif kind == "probation_began" or worker in self._on_probation:
            self._lost_in_a_row[worker] = 0
            (self._on_probation.add if kind == "probation_began" else self._on_probation.discard)(worker)

    def _answer(self, attempt: str) -> None:
        if attempt in self._answered:
            self._report(f"the result of {attempt} was accepted twice")
        self._answered.add(attempt)

    def _worker_out(self, fact: dict[str, Any]) -> None:
        """Law 7 of share_layout.md: a worker is excluded for its share only if that may have another owner."""
        options = self._world.options
        if "does not touch it" in fact["reason"] and not (options.second_farm or options.swap or options.unmount):
            self._report(f"{fact['worker']} was excluded: {fact['reason']}")

    def _genome_charged(self, fact: dict[str, Any]) -> None:
        """Law 5: only a genome that was being played is charged."""
        attempt = fact["attempt"]
        if attempt in self._superseded:
            self._report(f"{attempt} was charged, although its genome was reopened")
        self._charged_on[self._generation, fact["genome"]].append(fact["worker"])
        if attempt not in self._lost_unread | self._world.played | self._world.half_claimed.keys():
            self._report(f"{attempt} was charged and not played")
        if attempt in self._stopped:
            self._report(f"{attempt} was charged, although its agent was asked to stop")
        if attempt in self._world.bystanders:
            self._report(f"{attempt} was charged, although another game crashed the system")

    def _trial_settled(self, fact: dict[str, Any]) -> None:
        trial, settlement, fitness = self._trial(fact), fact["settlement"], fact.get("fitness")
        self.settled[trial] += 1
        self._settled_at = self._world.now
        if self.settled[trial] > 1:
            self._report(f"trial {trial} was settled twice")
        if trial in self._wanted:
            self._report(f"trial {trial} was settled before {self._wanted[trial]} ended")
        if settlement == "completed":
            self._completed[trial] = genome, attempt, fitness = (
                self._genomes[trial[:2]],
                fact["attempt"],
                fact["fitness"],
            )
            seed = seed_of(self._seed, trial, is_fixed=self._world.options.reuse)
            expected = fitness_of(genome, seed, version_of(self._world.options, trial[0]))
            is_valid = self._is_reusable(trial, fact) if "reused" in fact else self.issued.get(attempt) == trial
            if fitness != expected or not is_valid:
                self.unexpected += 1
                self._report(f"trial {trial} has the fitness {fitness} from {attempt}")
            self._to_be_archived[attempt] = fitness
        elif fitness is not None:
            self._report(f"trial {trial} is {settlement} and has a fitness")
        elif not self._is_justified(settlement, trial):
            self._report(f"trial {trial} is settled as {settlement} without a reason: {fact.get('reason')}")
        self._failed |= {trial[:2]} if fitness is None else set()
        if trial in self._unresolved[trial[:2]]:
            self._unresolved[trial[:2]].remove(trial)

    def _reusable(self, trial: Trial) -> tuple[bytes, str, float] | None:
        """The result of the generation before that must count for a trial."""
        generation, genome, number = trial
        if not self._world.options.reuse or self._name_of[generation, genome] in self.reopened[generation]:
            return None
        before = [result for at, result in self._completed.items() if (at[0], at[2]) == (generation - 1, number)]
        return next((result for result in before if result[0] == self._genomes[generation, genome]), None)

    def _is_reusable(self, trial: Trial, fact: dict[str, Any]) -> bool:
        """Whether a reused result is the one that must count, and was played in the generation that it names."""
        result, played = self._reusable(trial), self.issued.get(fact["attempt"])
        if result is None or played is None or trial in self.issued.values():
            return False
        return result[1:] == (fact["attempt"], fact["fitness"]) and played[0] == fact["reused"]["generation"]

    def _is_justified(self, settlement: str, trial: Trial) -> bool:
        """Whether enough attempts failed or were lost for a trial to be settled without a fitness."""
        poison = len(self._charged_on[trial[:2]]) >= CHARGES_MAX
        failed = len(self._failed_on[trial]) >= FAILURES_MAX
        match settlement:
            case "skipped":
                return trial[:2] in self._failed
            case "timed_out":
                return failed and b'"hang"' in self._genomes[trial[:2]]
            case "failed":
                return poison or failed or len(self._lost_on[trial]) >= self._world.options.losses_max
        return False

    def _trial(self, fact: dict[str, Any]) -> Trial:
        return self._generation, fact["genome"], fact["trial"]

    def _report(self, message: str) -> None:
        self._world.report_violation(f"{self._farm}: {message}")
