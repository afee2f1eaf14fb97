"""Retention: what of a finished generation may be removed, and what other generations still need. Pure.

Owns: what each level of `keep` leaves of a generation; which generations are old enough; which snapshots, attempts and
versions of the evaluator are needed by a generation that is kept.
Not here: removing (`storage.results_pruning`, `storage.project_pruning`), the record of it (`storage.pruned_record`).
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    EvaluatorAccepted,
    EvaluatorFixed,
    GenomeAdded,
    GenomeReopened,
    RunFinished,
    RunOpened,
    TrialReopened,
    TrialSettled,
)

#: What is kept of a finished generation beside its tables and its counts. Each level keeps less than the one before:
#: everything; logs and artifacts of the attempts that did not complete; the records of results; nothing else.
Keep = Literal["all", "failed", "results", "summary"]


class PrunedKind(enum.StrEnum):
    """What is removed of a generation. The values are names in `pruned.json`."""

    COMPLETED_FILES = "completed_files"  #: logs and artifacts of completed attempts
    FILES = "files"  #: logs and artifacts of all attempts
    SET_ASIDE = "set_aside"  #: results that were not counted
    RECORDS = "records"  #: the records of results
    EARLIER_RUNS = "earlier_runs"  #: results that `--fresh` has moved aside
    GENOMES = "genomes"  #: snapshots that no other generation needs


_KINDS: dict[Keep, frozenset[PrunedKind]] = {
    "all": frozenset(),
    "failed": frozenset({PrunedKind.COMPLETED_FILES}),
    "results": frozenset({PrunedKind.COMPLETED_FILES, PrunedKind.FILES, PrunedKind.SET_ASIDE}),
    "summary": frozenset({PrunedKind.COMPLETED_FILES, PrunedKind.FILES, PrunedKind.SET_ASIDE, PrunedKind.RECORDS}),
}

#: After these a run is not finished.
_OPENING = (RunOpened, GenomeAdded, GenomeReopened, TrialReopened)
#: The facts that belong to a run. Others, e.g. of hosts and shares, may follow when it is finished.
_OF_A_RUN = (
    *_OPENING,
    EvaluatorFixed,
    EvaluatorAccepted,
    AttemptIssued,
    AttemptEnded,
    TrialSettled,
    RunFinished,
)


def kinds_of(keep: Keep) -> frozenset[PrunedKind]:
    """What is removed of a generation of which this is kept."""
    return _KINDS[keep]


@dataclass(slots=True)
class RunHistory:
    """The newest run of a generation, as far as retention depends on it."""

    generation: int
    finished: bool = False
    last_at: float = 0.0  #: wall time of its last fact
    last_fact: int = 0  #: the number of that fact
    outcomes: dict[str, Outcome] = field(default_factory=dict)  #: of the attempts that are over
    digests: dict[int, str] = field(default_factory=dict)  #: of each genome's bytes
    versions: set[str] = field(default_factory=set)  #: of the evaluator
    reused: set[str] = field(default_factory=set)  #: attempts of earlier generations that count in this one

    def follow(self, entry: Entry) -> None:
        """Applies a fact of this generation."""
        fact = entry.fact
        if not isinstance(fact, _OF_A_RUN):
            return
        self.last_at, self.last_fact = entry.at, entry.seq
        if isinstance(fact, (*_OPENING, RunFinished)):
            self.finished = isinstance(fact, RunFinished)
        match fact:
            case RunOpened():
                self.outcomes, self.digests, self.reused = {}, {}, set()
                self.versions = {fact.settings.evaluator_version}
            case GenomeAdded() | GenomeReopened():
                self.digests[fact.genome] = fact.sha256
            case EvaluatorFixed() | EvaluatorAccepted():
                self.versions.add(fact.version)
            case AttemptEnded():
                self.outcomes[fact.attempt] = fact.outcome
            case TrialSettled() if fact.reused is not None:
                self.reused.add(fact.attempt)


def run_histories(entries: Iterable[Entry]) -> dict[int, RunHistory]:
    """The newest run of each generation, from all facts of a ledger."""
    found: dict[int, RunHistory] = {}
    for entry in entries:
        if isinstance(entry.fact, RunOpened):
            found.setdefault(entry.generation, RunHistory(entry.generation))
        if (history := found.get(entry.generation)) is not None:
            history.follow(entry)
    return found


def old_runs(histories: Iterable[RunHistory], before: float) -> list[RunHistory]:
    """The runs that are finished, and whose last fact is older than this time."""
    return [history for history in histories if history.finished and history.last_at < before]


@dataclass(frozen=True, slots=True)
class Needed:
    """What is needed by the generations that are kept."""

    digests: frozenset[str]  #: of genomes: to resume, to play again, to verify
    attempts: frozenset[str]  #: of earlier generations, whose logs and artifacts belong to results that count again
    versions: frozenset[str]  #: of the evaluator, whose files tell what was changed since


def needed(histories: Iterable[RunHistory], chosen: Collection[int], pruned: Mapping[int, Mapping[str, int]]) -> Needed:
    """What the generations need that are not `chosen` now.

    `pruned` has by generation what was pruned of it before, each kind with the number of the last fact then: a
    generation that went on since needs everything again.
    """
    digests, attempts, versions = set[str](), set[str](), set[str]()
    for history in histories:
        before = pruned.get(history.generation, {})
        if history.generation in chosen:
            continue
        if before.get(PrunedKind.GENOMES, 0) < history.last_fact:
            digests |= set(history.digests.values())
            versions |= history.versions
        if before.get(PrunedKind.FILES, 0) < history.last_fact:
            attempts |= history.reused
    return Needed(frozenset(digests), frozenset(attempts), frozenset(versions))


def without_files(kinds: Collection[PrunedKind], outcomes: Mapping[str, Outcome | None]) -> set[str]:
    """The attempts whose logs and artifacts are removed; those that are not over keep theirs."""
    if PrunedKind.FILES in kinds:
        return {attempt for attempt, outcome in outcomes.items() if outcome is not None}
    if PrunedKind.COMPLETED_FILES in kinds:
        return {attempt for attempt, outcome in outcomes.items() if outcome is Outcome.COMPLETED}
    return set()
