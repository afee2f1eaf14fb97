"""Audits one generation: compares ledger and results, without the code that counted them. Pure.

The terms are those of Jepsen's queue checker: *lost* is a trial of a finished run that was never settled, *duplicated*
one that was settled twice, *unexpected* a settlement that does not follow from the results, *recovered* a trial that
needed more than one attempt. A fitness is also unexpected if another evaluator gave it than the one that was in force
when its attempt was issued; a fitness of several evaluators that were in force one after another is not a problem.
A file that is missing, cannot be read or was edited proves nothing against the count, so it is a kind of its own.
Owns: whether a generation passes, with one line per problem; which evaluators gave its fitness.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    EvaluatorAccepted,
    EvaluatorFixed,
    Fact,
    GenomeAdded,
    GenomePoisoned,
    GenomeReopened,
    RunFinished,
    RunOpened,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.inspection.archive_audit import archive_warnings, unread_results
from pipeline.inspection.archived_result import MISSING, NO_SNAPSHOT, Evidence
from pipeline.inspection.output_audit import CountedGenome, output_problems, shortened
from pipeline.inspection.reuse_audit import game_of, reuse_problem, seed_of
from pipeline.paths import generation_folder

TrialKey = tuple[int, int]

#: The settlements that a result decides, and the outcome it must have.
_ANSWERS = {Settlement.COMPLETED: Outcome.COMPLETED, Settlement.TIMED_OUT: Outcome.TIMED_OUT}

UNKNOWN_EVALUATOR = "unknown"  #: beside others: that of a fitness from before versions were recorded


@dataclass(slots=True, kw_only=True)
class Audit:
    """The findings of an audit."""

    generation: int
    run: int
    genomes: int = 0
    trials: int = 0
    open: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0
    evaluators: list[str] = field(default_factory=list)  #: versions that gave a fitness; several: it is mixed
    others: list[str] = field(default_factory=list)  #: inconsistencies that leave every fitness correct
    files: list[str] = field(default_factory=list)  #: missing or changed files, which leave the count correct
    pruned: str = ""  #: the date when files were removed on purpose
    warnings: list[str] = field(default_factory=list)  #: what is no problem: a kill may leave it

    @property
    def count_holds(self) -> bool:
        """Whether every genome was counted exactly once, as far as ledger and files say."""
        return not (self.lost or self.duplicated or self.unexpected or self.others)

    @property
    def passed(self) -> bool:
        """Whether there are no problems."""
        return self.count_holds and not self.files

    @property
    def problems(self) -> list[str]:
        """All problems, one line each."""
        kinds = {"lost": self.lost, "duplicated": self.duplicated, "unexpected": self.unexpected, "": self.others}
        kinds["files"] = self.files
        return [f"{kind}: {line}" if kind else line for kind, lines in kinds.items() for line in lines]


def audit(facts: Sequence[Fact], evidence: Evidence) -> Audit:
    """Audits the facts of one run, from its `RunOpened` on, against the evidence on the disk."""
    return _Auditor(facts, evidence).audit()


class _Auditor:
    def __init__(self, facts: Sequence[Fact], evidence: Evidence) -> None:
        self._facts, self._evidence = facts, evidence
        opened = facts[0]
        assert isinstance(opened, RunOpened), "a run begins with the fact that opened it"
        self._opened = opened
        self._found = Audit(generation=opened.generation, run=opened.run, pruned=evidence.pruned.date)
        self._numbers = range(1, opened.settings.trials_per_genome + 1)
        self._genomes: dict[int, GenomeAdded] = {}
        self._issued: dict[str, AttemptIssued] = {}
        self._ended: dict[str, AttemptEnded] = {}
        self._open: dict[TrialKey, str] = {}  #: trial -> its attempt that is not over
        self._settled: dict[TrialKey, TrialSettled] = {}
        self._evaluator = opened.settings.evaluator_version  #: the version in force; empty: none is
        self._wanted: dict[str, str] = {}  #: attempt -> the version in force when it was issued; empty: any may play
        self._bytes: dict[str, str] = {}  #: attempt -> the digest of its genome when it was issued
        self._superseded: set[str] = set()  #: attempts at a genome that was reopened since
        self._failed: set[int] = set()  #: genomes with a failed trial
        self._poisoned: set[int] = set()
        self._finished = False
        self._unread: dict[str, str] = {}  #: attempt -> why its archived result is not there to compare
        self._read = 0  #: archived results that were compared

    def audit(self) -> Audit:
        found = self._found
        for fact in self._facts:
            self._follow(fact)
        every = [(number, trial) for number in self._genomes for trial in self._numbers]
        found.genomes, found.trials = len(self._genomes), len(every)
        missing = [key for key in every if key not in self._settled]
        found.open = 0 if self._finished else len(missing)
        found.lost += [self._name(key) for key in missing] if self._finished else []
        counting = (fact for attempt, fact in self._issued.items() if attempt not in self._superseded)
        tries = Counter((fact.genome, fact.trial) for fact in counting)
        found.recovered = sum(tries[key] > 1 for key, fact in self._settled.items() if fact.fitness is not None)
        versions = self._evaluators_of(self._genomes)
        found.evaluators = sorted(version or UNKNOWN_EVALUATOR for version in versions) if any(versions) else []
        self._check_accepted()
        self._check_archive()
        self._check_files()
        return found

    # ---------------------------------------------------------------------------------------- one fact after another

    def _follow(self, fact: Fact) -> None:
        match fact:
            case GenomeAdded():
                self._add(fact)
            case EvaluatorFixed() | EvaluatorAccepted():
                self._change_evaluator(fact)
            case AttemptIssued():
                self._issue(fact)
            case AttemptEnded():
                self._end(fact)
            case GenomePoisoned():
                self._poisoned.add(fact.genome)
            case TrialSettled():
                self._settle(fact)
            case TrialReopened():
                self._reopen(fact)
            case GenomeReopened():
                self._reopen_genome(fact)
            case RunFinished():
                self._finished = True

    def _add(self, fact: GenomeAdded) -> None:
        if fact.genome in self._genomes:
            self._found.others.append(f"genome {fact.genome} was added twice, as {fact.name} the second time")
        self._genomes[fact.genome] = fact
        self._finished = False

    def _change_evaluator(self, fact: EvaluatorFixed | EvaluatorAccepted) -> None:
        others = self._found.others
        if isinstance(fact, EvaluatorFixed) and self._evaluator:
            others.append(f"evaluator {fact.version} of {fact.worker} replaced {self._evaluator}, unasked")
        if isinstance(fact, EvaluatorAccepted) and self._open:
            held = min(self._open.values())
            others.append(f"evaluator {fact.version or 'of any worker'} was accepted while {held} was open")
        self._evaluator = fact.version

    def _issue(self, fact: AttemptIssued) -> None:
        key, others = (fact.genome, fact.trial), self._found.others
        if problem := self._roster_problem(key):
            others.append(f"{fact.attempt} was issued for {self._name(key)}: {problem}")
            return
        if fact.attempt in self._issued:
            others.append(f"{fact.attempt} was issued twice")
        if key in self._settled:
            others.append(f"{fact.attempt} was issued when {self._name(key)} was settled")
        if key in self._open:
            others.append(f"{fact.attempt} was issued while {self._open[key]} was open")
        self._issued[fact.attempt], self._open[key] = fact, fact.attempt
        self._bytes[fact.attempt] = self._genomes[fact.genome].sha256
        self._wanted[fact.attempt] = "" if self._opened.settings.allow_mixed_evaluators else self._evaluator

    def _end(self, fact: AttemptEnded) -> None:
        issued, before = self._issued.get(fact.attempt), self._ended.get(fact.attempt)
        if issued is None:
            self._found.others.append(f"{fact.attempt} ended, and was never issued")
            return
        key, completed = (issued.genome, issued.trial), fact.outcome is Outcome.COMPLETED
        if before is not None and before.has_result and fact.has_result:
            self._found.duplicated.append(f"{self._name(key)}: {fact.attempt} was answered twice")
        elif before is not None and not (fact.has_result and completed):  # a given-up attempt may still complete
            self._found.others.append(f"{fact.attempt} ended twice")
        if completed and fact.attempt in self._superseded:
            self._found.unexpected.append(f"{self._name(key)}: {fact.attempt} was accepted, and is superseded")
        if completed and key in self._settled:
            self._found.duplicated.append(f"{self._name(key)}: was settled when {fact.attempt} was accepted")
        self._ended[fact.attempt] = fact
        if self._open.get(key) == fact.attempt:
            del self._open[key]

    def _settle(self, fact: TrialSettled) -> None:
        key = fact.genome, fact.trial
        name = self._name(key)
        if key in self._settled:
            self._found.duplicated.append(f"{name} was settled twice")
        if key in self._open:
            self._found.others.append(f"{name} was settled while {self._open[key]} was open")
        if problem := self._settlement_problem(key, fact):
            self._found.unexpected.append(f"{name}: {problem}")
        self._settled[key] = fact
        if fact.settlement is not Settlement.SKIPPED and fact.fitness is None:
            self._failed.add(fact.genome)

    def _reopen(self, fact: TrialReopened) -> None:
        key = fact.genome, fact.trial
        before = self._settled.pop(key, None)
        if before is None:
            self._found.others.append(f"{self._name(key)} was reopened, and was open")
        elif before.fitness is not None:
            self._found.others.append(f"{self._name(key)} was reopened, and had the fitness {before.fitness:g}")
        self._failed.discard(fact.genome)
        self._poisoned.discard(fact.genome)
        self._finished = False

    def _reopen_genome(self, fact: GenomeReopened) -> None:
        """All trials of a genome begin anew, maybe with other bytes; what was tried before does not count any more."""
        added, number = self._genomes.get(fact.genome), fact.genome
        if added is None:
            self._found.others.append(f"genome {number} was reopened, and was never added")
            return
        for key in [(number, trial) for trial in self._numbers]:
            self._settled.pop(key, None)
            if key in self._open:
                self._found.others.append(f"{self._name(key)} was reopened while {self._open.pop(key)} was open")
        self._genomes[number] = structs.replace(added, size_bytes=fact.size_bytes, sha256=fact.sha256)
        self._superseded |= {attempt for attempt, issued in self._issued.items() if issued.genome == number}
        self._failed.discard(number)
        self._poisoned.discard(number)
        self._finished = False

    # --------------------------------------------------------------------------------------------- one settlement

    def _settlement_problem(self, key: TrialKey, settled: TrialSettled) -> str:
        if problem := self._roster_problem(key):
            return problem
        if settled.reused is not None:
            game = game_of(self._opened, self._genomes[key[0]], key[1], self._evaluator)
            return reuse_problem(self._opened, game, settled, self._evidence.accepted.get(settled.attempt))
        if settled.settlement is Settlement.SKIPPED:
            return self._skip_problem(settled) or _fitness_problem(settled, None)
        if problem := self._attempt_problem(key, settled):
            return problem
        if settled.settlement is Settlement.FAILED:
            return _fitness_problem(settled, None)
        if problem := self._evaluator_problem(settled.attempt):
            return problem
        if settled.settlement is Settlement.TIMED_OUT:
            expected = self._opened.settings.timed_out_fitness
            return _fitness_problem(settled, expected) or self._archive_problem(settled.attempt, None)
        return self._archive_problem(settled.attempt, settled.fitness)

    def _skip_problem(self, settled: TrialSettled) -> str:
        if settled.attempt:
            return f"is skipped, and was decided by {settled.attempt}"
        return "" if settled.genome in self._failed else "is skipped, and no other trial of its genome failed"

    def _attempt_problem(self, key: TrialKey, settled: TrialSettled) -> str:
        """What is wrong with the attempt that decided a trial; empty if nothing."""
        issued, ended = self._issued.get(settled.attempt), self._ended.get(settled.attempt)
        failed, attempt = settled.settlement is Settlement.FAILED, settled.attempt
        if issued is None:
            return f"decided by {attempt or 'nothing'}, which was never issued"
        if attempt in self._superseded:
            return f"decided by {attempt}, which was issued before the genome was reopened"
        poison = failed and issued.genome == key[0] and issued.genome in self._poisoned
        if (issued.genome, issued.trial) != key and not poison:
            return f"decided by {attempt}, which was issued for another trial"
        if ended is None:
            return f"decided by {attempt}, which was not over"
        if failed:
            fits = ended.outcome is not Outcome.COMPLETED
        else:
            fits = ended.has_result and ended.outcome is _ANSWERS[settled.settlement]
        whose = "answered" if ended.has_result else "given up as"
        return "" if fits else f"is {settled.settlement}, and {attempt} was {whose} {ended.outcome}"

    def _evaluator_problem(self, attempt: str) -> str:
        """What is wrong with the evaluator of a counted attempt, by the ledger alone; empty if nothing."""
        wanted, played = self._wanted[attempt], self._ended[attempt].evaluator
        if self._opened.settings.allow_mixed_evaluators or played in ("", wanted):
            return ""
        return f"{attempt} was played by evaluator {played}, in force was {wanted or 'none'}"

    def _evaluator_of(self, attempt: str) -> str:
        """The version that must have played an attempt, by the ledger; empty if the ledger has none."""
        ended = self._ended.get(attempt)
        return self._wanted.get(attempt, "") or (ended.evaluator if ended is not None else "")

    def _archive_problem(self, attempt: str, fitness: float | None) -> str:
        problem = self._result_problem(attempt, self._ended[attempt].outcome, fitness)
        return f"the archived result of {attempt} cannot be used: {problem}" if problem else ""

    def _result_problem(self, attempt: str, outcome: Outcome, fitness: float | None) -> str:
        """What is wrong with an archived result, compared with the ledger's facts of its attempt; empty if nothing."""
        record, issued = self._evidence.archived.get(attempt, self._evidence.missing), self._issued[attempt]
        if record == MISSING and attempt in self._evidence.pruned.results:
            return ""
        if isinstance(record, str):
            self._unread[attempt] = record
            return ""
        self._read += 1
        expected = {
            "attempt": attempt,
            "trial": issued.trial,
            "seed": seed_of(self._opened, issued.trial),
            "genome_sha256": self._bytes[attempt],
            "evaluator": self._evaluator_of(attempt) or None,
            "outcome": outcome,
            "fitness": fitness,
        }
        # An agent that could not read the start signal echoes None, one that played nothing names no evaluator.
        may_lack = () if outcome is Outcome.COMPLETED else (None,)
        wrong = [
            f"{name} {getattr(record, name)}, counted was {value}"
            for name, value in expected.items()
            if getattr(record, name) not in (value, *may_lack)
        ]
        return f"it says {'; '.join(wrong)}" if wrong else ""

    def _roster_problem(self, key: TrialKey) -> str:
        if key[0] not in self._genomes:
            return "no such genome in the roster"
        return "" if key[1] in self._numbers else "no such trial in the roster"

    # ------------------------------------------------------------------------------------- ledger, archive, outputs

    def _check_accepted(self) -> None:
        """Checks that every accepted result decided its trial, and that no trial accepted two."""
        accepted: dict[TrialKey, list[str]] = {}
        for attempt, fact in self._ended.items():
            if fact.outcome is Outcome.COMPLETED and attempt not in self._superseded:
                issued = self._issued[attempt]
                accepted.setdefault((issued.genome, issued.trial), []).append(attempt)
        for key, attempts in accepted.items():
            settled = self._settled.get(key)
            if len(attempts) > 1:
                self._found.duplicated.append(f"{self._name(key)}: {len(attempts)} results were accepted")
            elif settled is None or settled.attempt != attempts[0]:
                self._found.lost.append(f"{self._name(key)}: {attempts[0]} was accepted, and was not counted")

    def _check_archive(self) -> None:
        for attempt in sorted(self._evidence.archived.keys() - self._issued.keys()):
            self._found.others.append(f"result of {attempt}: it was never issued in this run")
        deciding = {fact.attempt for fact in self._settled.values() if fact.settlement in _ANSWERS}
        for attempt, fact in self._ended.items():
            undecided = fact.archived and attempt not in deciding
            if undecided and (problem := self._result_problem(attempt, fact.outcome, fact.fitness)):
                self._found.others.append(f"result of {attempt}: {problem}")
        self._found.warnings += archive_warnings(self._evidence, self._ended if self._finished else {})

    def _check_files(self) -> None:
        """Tells in few lines which files are not there to compare, and what to do."""
        files, generation = self._found.files, self._opened.generation
        run, folder = f"`pipeline run --gen {generation}`", generation_folder(generation)
        evidence, pruned = self._evidence, self._evidence.pruned
        problems = [
            f"genome {genome.name}: {problem}; {run} copies it from genomes/{folder} again"
            for genome in self._genomes.values()
            if (problem := evidence.snapshots.get(genome.sha256, NO_SNAPSHOT))
            and not (problem == NO_SNAPSHOT and genome.sha256 in pruned.genomes)
        ]
        files += [*([pruned.problem] if pruned.problem else []), *shortened(problems)]
        count, tables = len(self._unread), evidence.rows is not None or evidence.summary is not None
        if self._finished and count and not (self._read or tables):
            files.append(
                f"results/{folder} has neither its tables nor any of its {count} archived results; {run} writes the "
                f"tables again, without playing; results, logs and artifacts are only in a backup"
            )
            return
        files += unread_results(self._unread, self._read, folder)
        if self._finished and not self._found.lost:  # otherwise they cannot be right
            self._check_outputs()

    def _check_outputs(self) -> None:
        genomes = []
        for number, genome in self._genomes.items():
            versions = self._evaluators_of([number]) if self._found.evaluators else ()
            named = " ".join(sorted(version or UNKNOWN_EVALUATOR for version in versions))
            genomes.append(CountedGenome(genome.name, genome.sha256, self._fitness(number), named))
        generation, evaluators = self._opened.generation, self._found.evaluators
        self._found.files += output_problems(
            self._evidence.rows, self._evidence.summary, genomes, evaluators, generation
        )

    def _evaluators_of(self, genomes: Iterable[int]) -> set[str]:
        """The versions that gave the fitness of these genomes; empty: that of a fitness from before versions."""
        settled = [fact for g in genomes for t in self._numbers if (fact := self._settled.get((g, t))) is not None]
        counted = [fact for fact in settled if fact.fitness is not None and fact.attempt]
        return {fact.reused.evaluator if fact.reused else self._evaluator_of(fact.attempt) for fact in counted}

    def _fitness(self, genome: int) -> float | None:
        values = [settled.fitness for t in self._numbers if (settled := self._settled.get((genome, t))) is not None]
        known = [value for value in values if value is not None]
        # Divided first: the sum of the greatest floats is none.
        return math.fsum(value / len(known) for value in known) if len(known) == len(self._numbers) else None

    def _name(self, key: TrialKey) -> str:
        genome = self._genomes.get(key[0])
        return f"trial {key[1]} of {genome.name if genome else f'genome {key[0]}'}"


def _fitness_problem(settled: TrialSettled, expected: float | None) -> str:
    if settled.fitness == expected:
        return ""
    said, wanted = ("none" if value is None else f"{value:g}" for value in (settled.fitness, expected))
    return f"is {settled.settlement} and has the fitness {said}, expected is {wanted}"
