"""Checks every fact at the moment it is committed, and reports at once if it violates an invariant.

The checker has the genomes and computes their fitness itself; it uses none of the code that counts.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from tests.simulator.disk import SimulatedDisk
from tests.simulator.machine import fitness_of
from tests.simulator.world import World

#: Laws 5 and 6: attempts_max failures, which the genome may cause, and losses_per_trial_max losses, which it does not.
#: Attempts that the host withdrew are bounded by the faults of a world, not by a rule.
ATTEMPTS_MAX, LOSSES_MAX = 3, 10
ATTEMPTS_PER_TRIAL_MAX = ATTEMPTS_MAX + LOSSES_MAX
LOSSES = ("interrupted", "lost", "corrupt", "undelivered")

Genome = tuple[int, int]  #: generation and number
Trial = tuple[int, int, int]  #: generation, genome and number


def seed_of(run_seed: int, trial: Trial) -> int:
    """The seed of a trial (`seed` in share_layout.md)."""
    digest = hashlib.sha256(f"{run_seed}/{trial[0]}/{trial[2]}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class LedgerChecker:
    """The facts that one farm has committed, counted independently."""

    def __init__(
        self, world: World, farm: str, genomes: Sequence[bytes], seed: int, disks: Sequence[SimulatedDisk] = ()
    ) -> None:
        self._world, self._farm, self._genomes, self._seed, self._disks = world, farm, genomes, seed, disks
        self.issued: dict[str, Trial] = {}
        self.settled: Counter[Trial] = Counter()
        self.archived: dict[str, bytes] = {}  #: the bytes that were stored in the archive
        self.attempts: Counter[Trial] = Counter()  #: attempts that the host did not withdraw
        self._wanted: dict[Trial, str] = {}
        self._answered: set[str] = set()
        self._to_be_archived: dict[str, float | None] = {}  #: attempt -> the fitness that was counted from it
        self.unexpected = 0  #: fitness that no game of that genome gave
        self._lost_unread: set[str] = set()  #: attempts that were lost because their share could not be read
        self._blamed: Counter[Trial] = Counter()  #: attempts that failed, or ran out of time
        self._lost: Counter[Trial] = Counter()  #: attempts that were lost
        self._charges: Counter[Genome] = Counter()
        self._failed: set[Genome] = set()  #: genomes with a trial without a fitness
        self._generation = 0

    def note_fact(self, fact: dict[str, Any], generation: int) -> None:
        """Checks one committed fact."""
        self._generation = generation
        match fact["fact"]:
            case "attempt_issued":
                self._attempt_issued(fact)
            case "attempt_ended":
                self._attempt_ended(fact)
            case "result_late":
                self._answer(fact["attempt"])
            case "worker_excluded":
                self._worker_out(fact)
            case "genome_charged":
                self._genome_charged(fact)
            case "trial_settled":
                self._trial_settled(fact)
            case "trial_reopened":
                self.settled[self._trial(fact)] -= 1

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

    def _attempt_issued(self, fact: dict[str, Any]) -> None:
        attempt, trial = fact["attempt"], self._trial(fact)
        if attempt in self.issued:
            self._report(f"{attempt} was issued twice")
        if trial in self._wanted:
            self._report(f"trial {trial} was issued as {attempt} before {self._wanted[trial]} ended")
        if self.settled[trial]:
            self._report(f"trial {trial} was settled before {attempt} was issued")
        self.issued[attempt], self._wanted[trial] = trial, attempt
        self.attempts[trial] += 1
        if self.attempts[trial] > ATTEMPTS_PER_TRIAL_MAX:
            self._report(f"trial {trial} took {self.attempts[trial]} attempts")

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
        if self._wanted.get(trial) == attempt:
            del self._wanted[trial]
        if fact.get("ordered"):
            self.attempts[trial] -= 1
        if fact.get("archived"):
            self._to_be_archived.setdefault(attempt, None)
        self._blamed[trial] += fact["outcome"] in ("failed", "timed_out")
        self._lost[trial] += fact["outcome"] in LOSSES and not fact.get("ordered")

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
        self._charges[self._generation, fact["genome"]] += 1
        if attempt not in self._lost_unread | self._world.played | self._world.half_claimed.keys():
            self._report(f"{attempt} was charged and not played")

    def _trial_settled(self, fact: dict[str, Any]) -> None:
        trial, settlement, fitness = self._trial(fact), fact["settlement"], fact.get("fitness")
        self.settled[trial] += 1
        if self.settled[trial] > 1:
            self._report(f"trial {trial} was settled twice")
        if trial in self._wanted:
            self._report(f"trial {trial} was settled before {self._wanted[trial]} ended")
        if settlement == "completed":
            expected = fitness_of(self._genomes[trial[1] - 1], seed_of(self._seed, trial))
            if fitness != expected or self.issued.get(fact["attempt"]) != trial:
                self.unexpected += 1
                self._report(f"trial {trial} has the fitness {fitness} from {fact['attempt']}")
            self._to_be_archived[fact["attempt"]] = fitness
        elif fitness is not None:
            self._report(f"trial {trial} is {settlement} and has a fitness")
        elif not self._is_justified(settlement, trial):
            self._report(f"trial {trial} is settled as {settlement} without a reason: {fact.get('reason')}")
        self._failed |= {trial[:2]} if fitness is None else set()

    def _is_justified(self, settlement: str, trial: Trial) -> bool:
        """Whether enough attempts failed or were lost for a trial to be settled without a fitness."""
        poison = self._charges[trial[:2]] >= ATTEMPTS_MAX
        match settlement:
            case "skipped":
                return trial[:2] in self._failed
            case "timed_out":
                return self._blamed[trial] >= ATTEMPTS_MAX and b'"hang"' in self._genomes[trial[1] - 1]
            case "failed":
                return poison or self._blamed[trial] >= ATTEMPTS_MAX or self._lost[trial] >= LOSSES_MAX
        return False

    def _trial(self, fact: dict[str, Any]) -> Trial:
        return self._generation, fact["genome"], fact["trial"]

    def _report(self, message: str) -> None:
        self._world.report_violation(f"{self._farm}: {message}")
