"""The audit of a ledger: valid decisions, invalid ones, and impossible sequences."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
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
    RunSettings,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.inspection.archived_result import (
    NO_SNAPSHOT,
    ArchivedResult,
    Evidence,
    PrunedFiles,
    read_archived_result,
)
from pipeline.inspection.audit import Audit, audit
from pipeline.inspection.reuse_audit import seed_of

pytestmark = pytest.mark.rules


def run_of(
    trials: int = 1,
    timed_out_fitness: float | None = None,
    genomes: Sequence[str] = ("a",),
    *,
    evaluator: str = "",
    mixed: bool = False,
) -> list[Fact]:
    """A run that has just started; without an evaluator's version, as before versions were recorded."""
    settings = RunSettings(
        trials_per_genome=trials,
        seed=0,
        settings={},
        evaluator="test",
        time_limit_s=1.0,
        timed_out_fitness=timed_out_fitness,
        evaluator_version=evaluator,
        allow_mixed_evaluators=mixed,
    )
    return [
        RunOpened(generation=1, run=1, settings=settings),
        *(
            GenomeAdded(genome=number, name=name, suffix="", size_bytes=1, sha256="0" * 64)
            for number, name in enumerate(genomes, 1)
        ),
    ]


def issued(number: int = 1, trial: int = 1, genome: int = 1) -> AttemptIssued:
    attempt = f"g0001-{genome:04d}-t{trial}-a{number}-000000000001"
    return AttemptIssued(
        attempt=attempt, genome=genome, trial=trial, number=number, worker="w", epoch=1, publication=number
    )


def answered(outcome: Outcome, of: AttemptIssued, *, archived: bool = False, evaluator: str = "") -> AttemptEnded:
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    return AttemptEnded(
        attempt=of.attempt,
        outcome=outcome,
        has_result=True,
        fitness=fitness,
        archived=archived,
        evaluator=evaluator,
    )


def given_up(of: AttemptIssued) -> AttemptEnded:
    return AttemptEnded(attempt=of.attempt, outcome=Outcome.LOST)


def settled(settlement: Settlement, fitness: float | None = None, attempt: str = "", trial: int = 1) -> TrialSettled:
    return TrialSettled(genome=1, trial=trial, settlement=settlement, attempt=attempt, fitness=fitness)


def played(of: AttemptIssued, outcome: Outcome = Outcome.COMPLETED, evaluator: str = "") -> list[Fact]:
    """An attempt at any genome's trial, its result and the settlement of that trial."""
    fitness = 1.0 if outcome is Outcome.COMPLETED else -5.0
    settlement = TrialSettled(
        genome=of.genome, trial=of.trial, settlement=Settlement(outcome.value), attempt=of.attempt, fitness=fitness
    )
    return [of, answered(outcome, of, evaluator=evaluator), settlement]


def result(of: AttemptIssued, outcome: Outcome = Outcome.COMPLETED, **other: Any) -> ArchivedResult:
    """An agent's result for an attempt of such a run."""
    opened = OPENED[0]
    assert isinstance(opened, RunOpened)
    echo = {"attempt": of.attempt, "trial": of.trial, "seed": seed_of(opened, of.trial), "genome_sha256": "0" * 64}
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    return ArchivedResult(**{"layout": 2, **echo, "outcome": str(outcome), "fitness": fitness, **other})


OPENED, FIRST = run_of(), issued()
ATTEMPT, STRANGER = FIRST.attempt, issued(number=9).attempt
SECOND, NEXT, OTHER = issued(number=2), issued(trial=2), issued(genome=2)
NOTHING = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=None, summary=None)
GAVE_UP, NO = given_up(FIRST), answered(Outcome.FAILED, FIRST)
TIME_IS_UP, PLAYED = answered(Outcome.TIMED_OUT, FIRST), answered(Outcome.COMPLETED, FIRST)
FAILED = settled(Settlement.FAILED, attempt=ATTEMPT)
COUNTED = settled(Settlement.COMPLETED, 1.0, ATTEMPT)
SKIPPED = settled(Settlement.SKIPPED, trial=2)
POISONED = GenomePoisoned(genome=1, charges=3)
REOPENED = GenomeReopened(genome=1, size_bytes=2, sha256="1" * 64)
REPLAYED = [
    SECOND,
    answered(Outcome.COMPLETED, SECOND, archived=True),
    settled(Settlement.COMPLETED, 1.0, SECOND.attempt),
]


def archive(*results: ArchivedResult) -> Evidence:
    """An archive with these results, and the genomes as they were added."""
    return replace(NOTHING, archived={str(record.attempt): record for record in results})


@pytest.mark.parametrize(
    "story",
    [
        pytest.param([FIRST, NO, FAILED, SKIPPED], id="failed"),
        pytest.param([FIRST, GAVE_UP, FAILED, SKIPPED], id="given up"),
        pytest.param([FIRST, TIME_IS_UP, settled(Settlement.TIMED_OUT, -5.0, ATTEMPT)], id="timed out"),
        pytest.param([FIRST, PLAYED, COUNTED], id="completed"),
        pytest.param([FIRST, GAVE_UP, SECOND, PLAYED, given_up(SECOND), COUNTED], id="came back after all"),
        pytest.param(
            [FIRST, GAVE_UP, POISONED, FAILED, settled(Settlement.FAILED, attempt=ATTEMPT, trial=2)], id="poison"
        ),
        pytest.param(
            [FIRST, NO, FAILED, SKIPPED, *(TrialReopened(genome=1, trial=trial) for trial in (1, 2)), SECOND],
            id="tried again",
        ),
    ],
)
def test_valid_settlements_pass(story: Sequence[Fact]) -> None:
    """Each kind of settlement with all facts that it requires."""
    results = [result(FIRST, fact.outcome) for fact in story if isinstance(fact, AttemptEnded) and fact.has_result]

    assert audit([*run_of(2, -5.0), *story], archive(*results)).problems == []


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([FIRST, TIME_IS_UP, settled(Settlement.TIMED_OUT, 1e9, ATTEMPT)], "the fitness 1e+09, expected is -5"),
        ([FIRST, TIME_IS_UP, settled(Settlement.TIMED_OUT, None, ATTEMPT)], "the fitness none, expected is -5"),
        ([FIRST, NO, settled(Settlement.TIMED_OUT, -5.0, ATTEMPT)], f"timed_out, and {ATTEMPT} was answered failed"),
        ([FIRST, GAVE_UP, settled(Settlement.TIMED_OUT, -5.0, ATTEMPT)], f"{ATTEMPT} was given up as lost"),
        ([settled(Settlement.TIMED_OUT, -5.0, STRANGER)], f"decided by {STRANGER}, which was never issued"),
        ([NEXT, answered(Outcome.TIMED_OUT, NEXT), settled(Settlement.TIMED_OUT, -5.0, NEXT.attempt)], "another trial"),
        ([settled(Settlement.FAILED, attempt=STRANGER)], f"decided by {STRANGER}, which was never issued"),
        ([settled(Settlement.FAILED)], "decided by nothing, which was never issued"),
        ([FIRST, NO, settled(Settlement.FAILED, 1.0, ATTEMPT)], "is failed and has the fitness 1, expected is none"),
        ([FIRST, PLAYED, FAILED], f"is failed, and {ATTEMPT} was answered completed"),
        ([NEXT, given_up(NEXT), settled(Settlement.FAILED, attempt=NEXT.attempt)], "was issued for another trial"),
        ([OTHER, given_up(OTHER), POISONED, settled(Settlement.FAILED, attempt=OTHER.attempt)], "for another trial"),
        ([FIRST, GAVE_UP, settled(Settlement.COMPLETED, 1.0, ATTEMPT)], f"completed, and {ATTEMPT} was given up as"),
        ([FIRST, settled(Settlement.COMPLETED, 1.0, ATTEMPT)], f"decided by {ATTEMPT}, which was not over"),
        ([FIRST, NEXT, PLAYED, settled(Settlement.COMPLETED, 1.0, ATTEMPT, trial=2)], "for another trial"),
        ([SKIPPED], "is skipped, and no other trial of its genome failed"),
        ([FIRST, PLAYED, COUNTED, SKIPPED], "is skipped, and no other trial of its genome failed"),
        ([FIRST, NO, FAILED, TrialReopened(genome=1, trial=1), SKIPPED], "no other trial of its genome failed"),
        ([FIRST, NO, FAILED, REOPENED, SKIPPED], "no other trial of its genome failed"),
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, attempt=ATTEMPT)], f"is skipped, and was decided by {ATTEMPT}"),
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, fitness=1.0)], "is skipped and has the fitness 1"),
        ([structs.replace(SKIPPED, genome=7)], "trial 2 of genome 7: no such genome in the roster"),
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, trial=3)], "trial 3 of a: no such trial in the roster"),
    ],
)
def test_settlements_without_matching_result_fail(story: Sequence[Fact], expected: str) -> None:
    """Settlement, attempt and fitness must follow from the results."""
    archived = result(FIRST, Outcome.COMPLETED if PLAYED in story else Outcome.TIMED_OUT)

    found = audit([*run_of(2, -5.0, ("a", "b")), *story], archive(archived))

    assert any(expected in problem for problem in found.unexpected), found.problems
    assert not found.passed


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([GAVE_UP], f"{ATTEMPT} ended, and was never issued"),
        ([FIRST, GAVE_UP, GAVE_UP], f"{ATTEMPT} ended twice"),
        ([FIRST, NO, GAVE_UP], f"{ATTEMPT} ended twice"),
        ([FIRST, GAVE_UP, NO], f"{ATTEMPT} ended twice"),
        ([FIRST, NO, NO], f"duplicated: trial 1 of a: {ATTEMPT} was answered twice"),
        ([FIRST, PLAYED, COUNTED, PLAYED], f"duplicated: trial 1 of a: {ATTEMPT} was answered twice"),
        ([FIRST, GAVE_UP, FAILED, PLAYED], f"duplicated: trial 1 of a: was settled when {ATTEMPT} was accepted"),
        ([FIRST, PLAYED], f"lost: trial 1 of a: {ATTEMPT} was accepted, and was not counted"),
        ([FIRST, GAVE_UP, SECOND, FAILED], f"trial 1 of a was settled while {SECOND.attempt} was open"),
        ([FIRST, SECOND], f"{SECOND.attempt} was issued while {ATTEMPT} was open"),
        ([FIRST, GAVE_UP, FIRST], f"{ATTEMPT} was issued twice"),
        ([FIRST, GAVE_UP, FAILED, SECOND], f"{SECOND.attempt} was issued when trial 1 of a was settled"),
        ([OTHER], f"{OTHER.attempt} was issued for trial 1 of genome 2: no such genome in the roster"),
        ([NEXT], f"{NEXT.attempt} was issued for trial 2 of a: no such trial in the roster"),
        ([TrialReopened(genome=1, trial=1)], "trial 1 of a was reopened, and was open"),
        ([FIRST, REOPENED], f"trial 1 of a was reopened while {ATTEMPT} was open"),
        ([structs.replace(REOPENED, genome=7)], "genome 7 was reopened, and was never added"),
        ([FIRST, GAVE_UP, FAILED, REOPENED, PLAYED], f"unexpected: trial 1 of a: {ATTEMPT} was accepted, and is"),
        ([FIRST, PLAYED, COUNTED, REOPENED, COUNTED], f"{ATTEMPT}, which was issued before the genome was reopened"),
        (run_of(genomes=["b"])[1:], "genome 1 was added twice, as b the second time"),
        ([FIRST, PLAYED, COUNTED, TrialReopened(genome=1, trial=1)], "was reopened, and had the fitness 1"),
    ],
)
def test_impossible_course_of_attempts_fails(story: Sequence[Fact], expected: str) -> None:
    """The order of attempts and trials is checked as well, whatever their outcome."""
    problems = audit([*OPENED, *story], archive(result(FIRST, Outcome.COMPLETED))).problems

    assert any(expected in problem for problem in problems), problems


def test_reopened_genome_counts_once_and_what_was_before_is_evidence() -> None:
    """Each archived result must have the bytes that its attempt was issued for; the first one decides nothing."""
    story = [FIRST, structs.replace(PLAYED, archived=True), COUNTED, RunFinished(), REOPENED, *REPLAYED]
    evidence = archive(result(FIRST), result(SECOND, genome_sha256="1" * 64))
    evidence = replace(evidence, snapshots={"0" * 64: "", "1" * 64: ""})

    found = audit([*OPENED, *story], evidence)

    assert found.problems == []
    assert (found.open, found.recovered) == (0, 0)
    spoilt = replace(evidence, archived={**evidence.archived, ATTEMPT: result(FIRST, genome_sha256="1" * 64)})
    assert any(f"result of {ATTEMPT}: it says" in problem for problem in audit([*OPENED, *story], spoilt).problems)
    other = replace(evidence, archived={**evidence.archived, SECOND.attempt: result(SECOND)})
    assert "the archived result" in audit([*OPENED, *story], other).problems[0]
    assert audit([*OPENED, *story], replace(evidence, snapshots={"0" * 64: ""})).problems == [
        "files: genome a: its snapshot is missing; `pipeline run --gen 1` copies it from genomes/gen-0001 again"
    ]


@pytest.mark.parametrize("settlement", [Settlement.COMPLETED, Settlement.TIMED_OUT])
def test_archived_result_must_match_settlement(settlement: Settlement) -> None:
    """The archive is compared for time-outs as for fitnesses."""
    outcome = Outcome(settlement.value)
    story = [FIRST, answered(outcome, FIRST), settled(settlement, 1.0, ATTEMPT)]

    found = audit([*run_of(1, 1.0), *story], archive(result(FIRST, outcome, seed=1)))

    assert "it says seed 1, counted was" in found.unexpected[0]


def test_undelivered_result_without_echo_passes() -> None:
    """A missing echo is no contradiction."""
    silent = result(FIRST, Outcome.FAILED, trial=None, seed=None, genome_sha256=None)

    assert audit([*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED], archive(silent)).passed


def test_archive_must_have_failed_results() -> None:
    """The failed result is the reason for the missing fitness. If it is gone, that says nothing against the count."""
    story = [*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED]

    other = audit(story, archive(result(FIRST, Outcome.INTERRUPTED)))
    assert other.others == [f"result of {ATTEMPT}: it says outcome interrupted, counted was failed"]
    assert (other.files, other.count_holds) == ([], False)
    missing = audit(story, NOTHING)
    assert missing.files == [f"result of {ATTEMPT}: it is missing; it is only in a backup"]
    assert (missing.problems, missing.count_holds) == ([f"files: {missing.files[0]}"], True)


def test_pruned_files_are_not_missed_and_what_is_there_is_compared() -> None:
    """The records of these attempts and the bytes of these genomes; others are missed as before."""
    story = [*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED]
    pruned = PrunedFiles(date="2026-11-30", results={ATTEMPT}, genomes={"0" * 64})
    nothing = replace(NOTHING, snapshots={"0" * 64: NO_SNAPSHOT}, pruned=pruned)

    found = audit(story, nothing)

    assert (found.problems, found.pruned) == ([], "2026-11-30")
    for other in (replace(pruned, results={STRANGER}), replace(pruned, genomes={"1" * 64})):
        assert len(audit(story, replace(nothing, pruned=other)).files) == 1
    damaged = replace(nothing, archived={ATTEMPT: "it cannot be read"}, snapshots={"0" * 64: "it is another one"})
    assert len(audit(story, damaged).files) == 2
    spoilt = replace(nothing, archived={ATTEMPT: result(FIRST, Outcome.INTERRUPTED)})
    assert not audit(story, spoilt).count_holds


def test_record_of_pruning_that_cannot_be_read_is_named() -> None:
    found = audit(OPENED, replace(NOTHING, pruned=PrunedFiles(problem="pruned.json: it cannot be read")))

    assert (found.files, found.count_holds) == (["pruned.json: it cannot be read"], True)


def test_damaged_lines_are_no_problem() -> None:
    """A kill leaves them. What they were to archive was not recorded, or is in another line."""
    story = [*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED]
    evidence = archive(result(FIRST, Outcome.FAILED))

    found = audit(story, replace(evidence, damaged_lines=[3, 17]))

    assert found.passed
    assert found.warnings[0].startswith("results.jsonl has 2 damaged lines, skipped: 3, 17; ")
    many = audit(story, replace(evidence, damaged_lines=range(1, 100)))
    assert many.warnings[0].startswith("results.jsonl has 99 damaged lines, skipped: 1, 2, 3, …; ")


def test_result_that_was_archived_and_not_recorded_is_no_problem() -> None:
    """Its host was killed in between, and the share was gone afterwards. It is named once the run is finished."""
    story = [*OPENED, FIRST, GAVE_UP, SECOND, answered(Outcome.FAILED, SECOND, archived=True), FAILED]
    evidence = archive(result(FIRST), result(SECOND, Outcome.FAILED))

    assert audit(story, evidence).warnings == []
    finished = audit([*story, RunFinished()], evidence)

    assert finished.count_holds
    [warning] = finished.warnings
    assert warning.startswith(f"1 archived result did not count: {ATTEMPT}; ")


def test_open_trials_are_not_lost() -> None:
    """An open trial is not lost: the same command resumes it."""
    found = audit(OPENED, NOTHING)

    assert (found.open, found.lost, found.passed) == (1, [], True)


def test_failed_trial_may_have_no_result() -> None:
    """It is settled without a fitness, and the row of its genome is empty."""
    rows = [{"fitness": "", "sha256": "0" * 64}]
    counts = {"submitted": 1, "completed": 0, "failed": 1, "open": 0, "lost": 0, "duplicated": 0}
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=counts)

    assert audit([*OPENED, FIRST, GAVE_UP, FAILED, RunFinished()], evidence).problems == []


def test_two_accepted_results_are_duplicate() -> None:
    """Whatever the settlement of the trial is."""
    story = [FIRST, GAVE_UP, SECOND, answered(Outcome.COMPLETED, SECOND), PLAYED]

    assert audit([*OPENED, *story], NOTHING).duplicated == ["trial 1 of a: 2 results were accepted"]


def test_missing_archive_of_interrupted_attempt_is_found() -> None:
    """The report of an interrupted attempt is evidence, and must be in the archive."""
    interrupted = answered(Outcome.INTERRUPTED, FIRST, archived=True)

    found = audit([*OPENED, FIRST, interrupted], NOTHING)

    assert (found.passed, found.count_holds) == (False, True)
    assert found.files == [f"result of {ATTEMPT}: it is missing; it is only in a backup"]


def test_settlement_of_unknown_genome_is_found() -> None:
    """A fold that invents a genome would be detected."""
    stray = structs.replace(COUNTED, genome=7)

    assert audit([*OPENED, FIRST, stray], NOTHING).unexpected == ["trial 1 of genome 7: no such genome in the roster"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "results.csv has 0 genomes, the ledger 1"),
        ([{"fitness": "2.5", "sha256": "0" * 64}], "results.csv gives a the fitness 2.5, the ledger none"),
        ([{"fitness": "", "sha256": "1" * 64}], "results.csv gives a the digest 111111111111, the ledger 000000000000"),
    ],
)
def test_differing_results_table_is_found(rows: list[dict[str, str]], expected: str) -> None:
    """A missing row, a fitness that is not a number, the digest of another genome."""
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=None)

    found = audit([*OPENED, FIRST, GAVE_UP, FAILED, RunFinished()], evidence)

    assert any(expected in problem for problem in found.files)
    assert (found.passed, found.count_holds) == (False, True)


def test_invalid_fitness_in_table_is_reported() -> None:
    """The audit reports it and does not raise."""
    rows = [{"fitness": "high", "sha256": "0" * 64}]
    evidence = replace(archive(result(FIRST, Outcome.TIMED_OUT)), rows=rows)
    story = [FIRST, TIME_IS_UP, settled(Settlement.TIMED_OUT, -5.0, ATTEMPT), RunFinished()]

    found = audit([*run_of(1, -5.0), *story], evidence)

    assert found.count_holds
    assert found.files[0].startswith("results.csv gives a the fitness high, the ledger -5; `pipeline run --gen 1` ")


# -------------------------------------------------------------------------------------------------------- evaluators

COMPLETED = {"submitted": 1, "completed": 1, "failed": 0, "open": 0, "lost": 0, "duplicated": 0}
OLD, NEW = "0123456789abcdef", "fedcba9876543210"  #: versions of an evaluator


def test_fitness_of_the_fixed_evaluator_passes() -> None:
    """The version of the settings was in force when the attempt was issued, and the result names it."""
    found = audit([*run_of(evaluator=OLD), *played(FIRST)], archive(result(FIRST, evaluator=OLD)))

    assert (found.problems, found.evaluators) == ([], [OLD])


@pytest.mark.parametrize("said", [NEW, "changed-while-played", None])
def test_fitness_of_another_evaluator_is_unexpected(said: str | None) -> None:
    """A completed result has to name the version that was in force; one without a version does not."""
    found = audit([*run_of(evaluator=OLD), *played(FIRST)], archive(result(FIRST, evaluator=said)))

    problem = f"it says evaluator {said}, counted was {OLD}"
    assert found.unexpected == [f"trial 1 of a: the archived result of {ATTEMPT} cannot be used: {problem}"]


@pytest.mark.parametrize(
    ("outcome", "said", "passes"),
    [(Outcome.TIMED_OUT, OLD, True), (Outcome.TIMED_OUT, NEW, False), (Outcome.TIMED_OUT, None, True)],
)
def test_fitness_of_a_time_out_has_an_evaluator_too(outcome: Outcome, said: str | None, passes: bool) -> None:
    """It is compared like that of a completed game, except that the agent may have named none."""
    found = audit(
        [*run_of(1, -5.0, evaluator=OLD), *played(FIRST, outcome)], archive(result(FIRST, outcome, evaluator=said))
    )

    assert (found.passed, found.evaluators) == (passes, [OLD])


def test_version_of_the_first_worker_is_in_force_from_then_on() -> None:
    """The host did not know it when it opened the run."""
    story = [EvaluatorFixed(version=OLD, worker="w"), *played(FIRST)]

    assert audit([*OPENED, *story], archive(result(FIRST, evaluator=OLD))).problems == []
    assert not audit([*OPENED, *story], archive(result(FIRST, evaluator=NEW))).passed


def test_accepted_evaluator_gives_a_mixed_generation() -> None:
    """The user asked for it, so it passes, and both versions are named."""
    story = [*played(FIRST), EvaluatorAccepted(version=NEW), *played(OTHER)]

    found = audit(
        [*run_of(genomes="ab", evaluator=OLD), *story],
        archive(result(FIRST, evaluator=OLD), result(OTHER, evaluator=NEW)),
    )

    assert (found.problems, found.evaluators) == ([], [OLD, NEW])


def test_evaluator_of_the_issue_counts_not_that_of_the_result() -> None:
    """An attempt is given up, another evaluator is accepted, and the result comes after all: of the older one."""
    story = [FIRST, GAVE_UP, EvaluatorAccepted(version=NEW), PLAYED, COUNTED]

    assert audit([*run_of(evaluator=OLD), *story], archive(result(FIRST, evaluator=OLD))).problems == []
    assert not audit([*run_of(evaluator=OLD), *story], archive(result(FIRST, evaluator=NEW))).passed


def test_mixing_is_compared_with_what_was_recorded() -> None:
    """Any worker may play: the ledger has the version of each result."""
    run = run_of(genomes="ab", evaluator=OLD, mixed=True)
    story = [*played(FIRST, evaluator=OLD), *played(OTHER, evaluator=NEW)]

    found = audit([*run, *story], archive(result(FIRST, evaluator=OLD), result(OTHER, evaluator=NEW)))
    swapped = audit([*run, *story], archive(result(FIRST, evaluator=NEW), result(OTHER, evaluator=OLD)))

    assert (found.problems, found.evaluators) == ([], [OLD, NEW])
    assert len(swapped.unexpected) == 2


@pytest.mark.parametrize(
    ("run", "recorded", "expected"),
    [
        (run_of(evaluator=OLD), NEW, f"{ATTEMPT} was played by evaluator {NEW}, in force was {OLD}"),
        (run_of(), NEW, f"{ATTEMPT} was played by evaluator {NEW}, in force was none"),
    ],
)
def test_ledger_may_not_count_an_evaluator_out_of_force(run: list[Fact], recorded: str, expected: str) -> None:
    """Even if the archive says the same as the ledger."""
    found = audit([*run, *played(FIRST, evaluator=recorded)], archive(result(FIRST, evaluator=recorded)))

    assert found.unexpected == [f"trial 1 of a: {expected}"]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([EvaluatorFixed(version=NEW, worker="w")], f"evaluator {NEW} of w replaced {OLD}, unasked"),
        ([FIRST, EvaluatorAccepted(version=NEW)], f"evaluator {NEW} was accepted while {ATTEMPT} was open"),
        ([FIRST, EvaluatorAccepted(version="")], f"evaluator of any worker was accepted while {ATTEMPT} was open"),
    ],
)
def test_impossible_change_of_the_evaluator_fails(story: Sequence[Fact], expected: str) -> None:
    """A worker's version is taken only while none is known; another one is accepted only between attempts."""
    assert audit([*run_of(evaluator=OLD), *story], NOTHING).others == [expected]


def test_results_from_before_versions_pass() -> None:
    """Neither ledger nor archive has a version, and none is claimed."""
    found = audit([*OPENED, *played(FIRST)], archive(result(FIRST, layout=1)))

    assert (found.problems, found.evaluators) == ([], [])


def test_run_from_before_versions_is_continued() -> None:
    """What was played before has an unknown version beside that of today."""
    story = [*played(FIRST), EvaluatorFixed(version=NEW, worker="w"), *played(OTHER)]

    evidence = replace(
        archive(result(FIRST, layout=1), result(OTHER, evaluator=NEW)),
        rows=[{"fitness": "1", "sha256": "0" * 64, "evaluator": version} for version in ("unknown", NEW)],
        summary={**COMPLETED, "submitted": 2, "completed": 2, "evaluators": [NEW, "unknown"]},
    )
    found = audit([*run_of(genomes="ab"), *story, RunFinished()], evidence)

    assert (found.problems, found.evaluators) == ([], [NEW, "unknown"])


def finished_with(row: dict[str, str], counts: dict[str, Any]) -> Audit:
    """A finished generation of one genome that was played by `OLD`, with these changed outputs."""
    evidence = replace(
        archive(result(FIRST, evaluator=OLD)),
        rows=[{"fitness": "1", "sha256": "0" * 64, "evaluator": OLD, **row}],
        summary={**COMPLETED, "evaluators": [OLD], **counts},
    )
    return audit([*run_of(evaluator=OLD), *played(FIRST), RunFinished()], evidence)


def test_outputs_name_the_evaluator() -> None:
    """As the ledger does; a text that could be a formula has a mark before it."""
    assert finished_with({}, {}).problems == []
    assert finished_with({"evaluator": f"'{OLD}"}, {}).problems == []
    (row,) = finished_with({"evaluator": NEW}, {}).files
    assert row.startswith(f"results.csv gives a the evaluator {NEW}, the ledger {OLD}; ")
    (counts,) = finished_with({}, {"evaluators": [NEW]}).files
    assert counts.startswith(f"summary.json says evaluators ['{NEW}'], the ledger ['{OLD}']; ")


# ------------------------------------------------------------------------------------------- files that are missing

NAMES = [f"genome {number}" for number in range(1, 41)]


def forty(archived: int, snapshots: dict[str, str], *, tables: bool) -> Audit:
    """A finished generation of forty genomes, of whose results only so many are still there."""
    tries = [issued(genome=number) for number in range(1, 41)]
    story = [fact for of in tries for fact in played(of)]
    counts = {**COMPLETED, "submitted": 40, "completed": 40, "evaluators": []}
    evidence = Evidence(
        archived={of.attempt: result(of) for of in tries[:archived]},
        snapshots=snapshots,
        rows=[{"fitness": "1", "sha256": "0" * 64}] * 40 if tables else None,
        summary=counts if tables else None,
    )
    return audit([*run_of(genomes=NAMES), *story, RunFinished()], evidence)


KEPT = {"0" * 64: ""}


@pytest.mark.parametrize(
    ("archived", "snapshots", "tables", "expected"),
    [
        (40, KEPT, True, []),
        (0, KEPT, False, ["results/gen-0001 has neither its tables nor any of its 40 archived results; "]),
        (0, KEPT, True, ["results/gen-0001 lacks 40 of its 40 archived results, the first is g0001-0001-"]),
        (9, KEPT, True, ["results/gen-0001 lacks 31 of its 40 archived results, the first is g0001-0010-"]),
        (38, KEPT, True, ["result of g0001-0039-", "result of g0001-0040-"]),
        (40, KEPT, False, ["results.csv is missing or cannot be read; ", "summary.json is missing or cannot be read"]),
        (40, {}, True, [*(f"genome genome {number}: its snapshot" for number in (1, 2, 3)), "… and 37 more"]),
    ],
)
def test_missing_files_are_few_lines(
    archived: int, snapshots: dict[str, str], tables: bool, expected: list[str]
) -> None:
    """They are told apart from a wrong count, which is checked as before."""
    found = forty(archived, snapshots, tables=tables)

    assert len(found.files) == len(expected), found.files
    assert all(line.startswith(begin) for line, begin in zip(found.files, expected, strict=True))
    assert found.count_holds


def test_wrong_count_is_found_without_files() -> None:
    """The ledger alone shows it."""
    story = [*played(FIRST), COUNTED, RunFinished()]

    found = audit([*OPENED, *story], NOTHING)

    assert (found.duplicated, found.count_holds) == (["trial 1 of a was settled twice"], False)
    assert found.files


@pytest.mark.parametrize("layout", [1, 2])
def test_archive_is_read_in_each_layout(layout: int) -> None:
    """Fields that the audit does not compare may be anything."""
    data = b'{"layout": %d, "attempt": "x", "outcome": "completed", "fitness": 1, "metrics": "many"}' % layout

    assert read_archived_result(data) == ArchivedResult(layout=layout, attempt="x", outcome="completed", fitness=1.0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"layout": 3, "outcome": "completed"}', "it has layout 3, known are 1 and 2"),
        (b'{"outcome": "completed"}', "it cannot be read: Object missing required field `layout`"),
        (b'{"layout": 2, "outcome": "completed", "fitness": "1"}', "it cannot be read: Expected `float | null`"),
        (b'{"layout": 2', "it cannot be read: Input data was truncated"),
        (b"\xff", "it cannot be read: "),
        (b'{"x": ' + b"[" * 20_000, "it cannot be read: "),
    ],
)
def test_unreadable_archive_is_a_problem(data: bytes, expected: str) -> None:
    """With the reason, whatever the bytes are."""
    found = read_archived_result(data)

    assert isinstance(found, str) and found.startswith(expected), found
