"""The audit of one generation: ledger and results side by side, counted without any of the code that counted. Pure.

In the words of Jepsen's queue checker: *lost* is a trial of a finished run that was never settled, *duplicated* one
that was settled twice, *unexpected* a fitness that no result of that trial gave, *recovered* one that needed more than
one attempt. It decides whether the promise held, and says what is wrong in one line each.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inbox_agent.share_layout import Outcome, ResultRecord
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Fact,
    GenomeAdded,
    RunFinished,
    RunOpened,
    Settlement,
    TrialReopened,
    TrialSettled,
)

TrialKey = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What lies on the disk beside the ledger."""

    archived: Mapping[str, ResultRecord | str]  #: attempt -> its archived result, or why there is none
    snapshots: Mapping[str, str]  #: digest -> what is wrong with the genome's bytes, empty if nothing
    rows: Sequence[Mapping[str, str]] | None  #: of `results.csv`; None if it cannot be read
    summary: Mapping[str, Any] | None  #: `summary.json`; None if it cannot be read


@dataclass(slots=True, kw_only=True)
class Audit:
    """What came of it."""

    generation: int
    run: int
    genomes: int = 0
    trials: int = 0
    open: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0
    others: list[str] = field(default_factory=list)  #: what does not add up, without a fitness being wrong

    @property
    def held(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.duplicated or self.unexpected or self.others)

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        kinds = {"lost": self.lost, "duplicated": self.duplicated, "unexpected": self.unexpected, "": self.others}
        return [f"{kind}: {line}" if kind else line for kind, lines in kinds.items() for line in lines]


def audit(facts: Sequence[Fact], evidence: Evidence) -> Audit:
    """Audits the facts of one run, from its `RunOpened` on, against what lies on the disk."""
    return _Auditor(facts, evidence).audit()


class _Auditor:
    def __init__(self, facts: Sequence[Fact], evidence: Evidence) -> None:
        self._facts, self._evidence = facts, evidence
        opened = facts[0]
        assert isinstance(opened, RunOpened), "a run begins with the fact that opened it"
        self._opened = opened
        self._found = Audit(generation=opened.generation, run=opened.run)
        self._genomes = {fact.genome: fact for fact in facts if isinstance(fact, GenomeAdded)}
        self._issued = {fact.attempt: fact for fact in facts if isinstance(fact, AttemptIssued)}
        self._settled: dict[TrialKey, TrialSettled] = {}
        self._finished = False

    def audit(self) -> Audit:
        found = self._found
        every = [(n, t) for n in self._genomes for t in range(1, self._opened.settings.trials_per_genome + 1)]
        found.genomes, found.trials = len(self._genomes), len(every)
        self._settle()
        missing = [key for key in every if key not in self._settled]
        found.open = 0 if self._finished else len(missing)
        found.lost = [self._name(key) for key in missing] if self._finished else []
        tries = Counter((fact.genome, fact.trial) for fact in self._issued.values())
        found.recovered = sum(tries[key] > 1 for key, fact in self._settled.items() if fact.fitness is not None)
        for key, settled in self._settled.items():
            self._check_settled(key, settled)
        self._check_archive()
        self._check_snapshots()
        if self._finished:
            self._check_outputs()
        return found

    def _settle(self) -> None:
        for fact in self._facts:
            if isinstance(fact, TrialSettled):
                key = fact.genome, fact.trial
                if key in self._settled:
                    self._found.duplicated.append(f"{self._name(key)} was settled twice")
                self._settled[key] = fact
            elif isinstance(fact, TrialReopened):
                self._settled.pop((fact.genome, fact.trial), None)
            if not isinstance(fact, RunFinished) and isinstance(fact, GenomeAdded | TrialReopened):
                self._finished = False
            elif isinstance(fact, RunFinished):
                self._finished = True

    def _check_settled(self, key: TrialKey, settled: TrialSettled) -> None:
        wrong = self._found.unexpected
        name = self._name(key)
        if settled.settlement is Settlement.COMPLETED:
            issued = self._issued.get(settled.attempt)
            if key[0] not in self._genomes:
                wrong.append(f"{name}: no such genome in the roster")
            elif issued is None:
                wrong.append(f"{name}: decided by {settled.attempt or 'nothing'}, which was never issued")
            elif (issued.genome, issued.trial) != key:
                wrong.append(f"{name}: decided by {settled.attempt}, which was issued for another trial")
            elif problem := self._result_problem(key, settled):
                wrong.append(f"{name}: {problem}")
        elif settled.settlement is not Settlement.TIMED_OUT and settled.fitness is not None:
            wrong.append(f"{name}: is {settled.settlement} and has the fitness {settled.fitness:g}")

    def _result_problem(self, key: TrialKey, settled: TrialSettled) -> str:
        """What is wrong with the archived result that decided a trial."""
        record = self._evidence.archived.get(settled.attempt, "it is missing")
        if isinstance(record, str):
            return f"the archived result of {settled.attempt} cannot be used: {record}"
        expected = {
            "attempt": settled.attempt,
            "trial": key[1],
            "seed": seed_of(self._opened, key[1]),
            "genome_sha256": self._genomes[key[0]].sha256,
            "outcome": Outcome.COMPLETED,
            "fitness": settled.fitness,
        }
        wrong = [
            f"{name} {getattr(record, name)}, counted was {value}"
            for name, value in expected.items()
            if getattr(record, name) != value
        ]
        return f"the archived result of {settled.attempt} says {'; '.join(wrong)}" if wrong else ""

    def _check_archive(self) -> None:
        ended = {fact.attempt: fact for fact in self._facts if isinstance(fact, AttemptEnded)}
        for attempt in sorted(self._evidence.archived.keys() - self._issued.keys()):
            self._found.others.append(f"attempts/{attempt} was never issued in this run")
        for attempt, fact in ended.items():
            if fact.archived and isinstance(why := self._evidence.archived.get(attempt, "it is missing"), str):
                decided = any(settled.attempt == attempt for settled in self._settled.values())
                if not decided:  # else it was told already
                    self._found.others.append(f"attempts/{attempt}: {why}")
        accepted = Counter(
            (issued.genome, issued.trial)
            for attempt, fact in ended.items()
            if fact.outcome is Outcome.COMPLETED and (issued := self._issued.get(attempt)) is not None
        )
        for key, count in accepted.items():
            if count > 1:
                self._found.duplicated.append(f"{self._name(key)}: {count} results were accepted")

    def _check_snapshots(self) -> None:
        for genome in self._genomes.values():
            if problem := self._evidence.snapshots.get(genome.sha256, "its snapshot is missing"):
                self._found.others.append(f"genome {genome.name}: {problem}")

    def _check_outputs(self) -> None:
        others, cure = self._found.others, "`pipeline run` of this generation writes it anew"
        fitness = {number: self._fitness(number) for number in self._genomes}
        if self._evidence.rows is None:
            others.append(f"results.csv cannot be read; {cure}")
        elif len(self._evidence.rows) != len(fitness):
            others.append(f"results.csv has {len(self._evidence.rows)} genomes, the ledger {len(fitness)}; {cure}")
        else:
            for row, (number, value) in zip(self._evidence.rows, fitness.items(), strict=True):
                self._check_row(row, self._genomes[number], value)
        completed = sum(value is not None for value in fitness.values())
        expected = {
            "submitted": len(fitness),
            "completed": completed,
            "failed": len(fitness) - completed,
            "open": 0,
            "lost": 0,
            "duplicated": 0,
        }
        said = {name: (self._evidence.summary or {}).get(name) for name in expected}
        if said != expected and not self._found.lost:
            others.append(f"summary.json says {said}, the ledger {expected}; {cure}")

    def _check_row(self, row: Mapping[str, str], genome: GenomeAdded, fitness: float | None) -> None:
        said = row.get("fitness", "")
        try:
            same = (fitness is None and said == "") or (fitness is not None and math.isclose(float(said), fitness))
        except ValueError:
            same = False
        if not same or row.get("sha256") != genome.sha256:
            self._found.unexpected.append(
                f"results.csv gives {genome.name} the fitness {said or 'none'}, the ledger "
                f"{'none' if fitness is None else f'{fitness:g}'}"
            )

    def _fitness(self, genome: int) -> float | None:
        trials = range(1, self._opened.settings.trials_per_genome + 1)
        values = [settled.fitness for t in trials if (settled := self._settled.get((genome, t))) is not None]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(trials) else None

    def _name(self, key: TrialKey) -> str:
        genome = self._genomes.get(key[0])
        return f"trial {key[1]} of {genome.name if genome else f'genome {key[0]}'}"


def seed_of(opened: RunOpened, trial: int) -> int:
    """The seed of a trial, computed a second time (share_layout.md, "Seeds")."""
    digest = hashlib.sha256(f"{opened.settings.seed}/{opened.generation}/{trial}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
