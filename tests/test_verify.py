"""`pipeline verify` on a real run: it holds, and whoever tampers with ledger, results or snapshots is found out."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from inbox_agent.share_layout import Outcome, ResultRecord
from pipeline import cli
from pipeline.core.audit import Evidence, audit, seed_of
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Fact,
    GenomeAdded,
    GenomePoisoned,
    RunFinished,
    RunOpened,
    RunSettings,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.edges.ledger import Ledger
from pipeline.exit_codes import ALL_COMPLETED, BAD_INPUT, SOME_FAILED, STANDSTILL
from pipeline.verify import verify
from tests import records
from tests.test_cli import pipeline

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one generation, played for real: four genomes, three trials each."""
    root = tmp_path_factory.mktemp("played")
    assert cli.run_commands(["init", str(root)]) == ALL_COMPLETED
    assert cli.run_commands(["run", "--gen", "1", "--root", str(root)]) == ALL_COMPLETED
    return root


@pytest.fixture
def project(played: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(played, tmp_path / "project"))


@pytest.fixture(scope="module")
def spoilt_outputs(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another copy, whose outputs are spoilt again and again."""
    return Path(shutil.copytree(played, tmp_path_factory.mktemp("spoilt") / "project"))


def facts_of(root: Path) -> list[Fact]:
    ledger = Ledger(root / "state", read_only=True)
    try:
        return [entry.fact for entry in ledger.entries()]
    finally:
        ledger.close()


def append(root: Path, *facts: Fact) -> None:
    """A host with a defect: facts that no farm would state, in a ledger that is sound."""
    ledger = Ledger(root / "state")
    ledger.append(facts, 0.0, 1, 1)
    ledger.close()


def a_settlement(root: Path) -> TrialSettled:
    """Of camel.txt's first trial: trials end in any order."""
    settled = (fact for fact in facts_of(root) if isinstance(fact, TrialSettled))
    return min(settled, key=lambda fact: (fact.genome, fact.trial))


def archived(root: Path, attempt: str) -> Path:
    return root / "results" / "gen-0001" / "attempts" / attempt / "result.json"


def test_a_run_that_kept_the_promise(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the generation, and exit code 0."""
    code, out, err = pipeline(capsys, "verify", "--root", project)

    assert (code, err) == (ALL_COMPLETED, "")
    assert out == (
        "generation 1, run 1: 4 genomes, 12 trials: lost 0, duplicated 0, unexpected 0, recovered 0: the promise held\n"
    )


def test_verify_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be run beside a host."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and "ledger" not in path.name}

    pipeline(capsys, "verify", "--gen", "1", "--root", project)

    after = {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and "ledger" not in path.name}
    assert after == before


def lose_a_result(root: Path) -> None:
    archived(root, a_settlement(root).attempt).unlink()


def change_a_result(root: Path) -> None:
    path = archived(root, a_settlement(root).attempt)
    record = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**record, "fitness": record["fitness"] + 1}))


def swap_results(root: Path) -> None:
    issued = [fact for fact in facts_of(root) if isinstance(fact, AttemptIssued)]
    one, other = (archived(root, fact.attempt) for fact in issued[:2])
    aside = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(aside)


def link_a_result(root: Path) -> None:
    path = archived(root, a_settlement(root).attempt)
    elsewhere = root / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def edit_the_table(root: Path) -> None:
    path = root / "results" / "gen-0001" / "results.csv"
    head, first, *others = path.read_text().splitlines()
    cells = first.split(",")
    cells[2] = "99.5"
    path.write_text("\n".join([head, ",".join(cells), *others]) + "\n")


def cut_the_table(root: Path) -> None:
    path = root / "results" / "gen-0001" / "results.csv"
    head, first, *others = path.read_text().splitlines()
    path.write_text("\n".join([head, first.split(",", maxsplit=1)[0], *others]) + "\n")


def lose_the_table(root: Path) -> None:
    (root / "results" / "gen-0001" / "results.csv").unlink()


def edit_the_summary(root: Path) -> None:
    path = root / "results" / "gen-0001" / "summary.json"
    path.write_bytes(path.read_bytes().replace(b'"completed": 4', b'"completed": 5', 1))


def spoil_a_snapshot(root: Path) -> None:
    path = next(path for path in (root / "state" / "genomes").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_bytes(b"other bytes")


def plant_an_orphan(root: Path) -> None:
    archived(root, "g0001-0001-t1-a9-zzzzzzzzzzzz").parent.mkdir()


def settle_twice(root: Path) -> None:
    append(root, a_settlement(root))


def settle_by_a_stranger(root: Path) -> None:
    fact = a_settlement(root)
    append(
        root,
        TrialReopened(genome=fact.genome, trial=fact.trial),
        TrialSettled(
            genome=fact.genome,
            trial=fact.trial,
            settlement=Settlement.COMPLETED,
            attempt="g0001-0001-t1-a9-zzzzzzzzzzzz",
            fitness=1.0,
        ),
        RunFinished(),
    )


def lose_a_trial(root: Path) -> None:
    fact = a_settlement(root)
    append(root, TrialReopened(genome=fact.genome, trial=fact.trial), RunFinished())


def settle_as(root: Path, **changes: Any) -> None:
    fact = structs.replace(a_settlement(root), **changes)
    append(root, TrialReopened(genome=fact.genome, trial=fact.trial), fact, RunFinished())


def time_out_with_a_fitness(root: Path) -> None:
    settle_as(root, settlement=Settlement.TIMED_OUT, fitness=1e9)


def fail_by_a_stranger(root: Path) -> None:
    settle_as(root, settlement=Settlement.FAILED, fitness=None, attempt="g0001-0001-t1-a9-zzzzzzzzzzzz")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lose_a_result, "unexpected: trial 1 of"),
        (change_a_result, "counted was"),
        (swap_results, "says attempt g0001"),
        (link_a_result, "cannot be used"),
        (edit_the_table, "unexpected: results.csv gives camel.txt the fitness 99.5"),
        (cut_the_table, "unexpected: results.csv gives camel.txt the fitness none"),
        (lose_the_table, "results.csv cannot be read; `pipeline run` of this generation writes it anew"),
        (edit_the_summary, "summary.json says {'submitted': 4, 'completed': 5"),
        (spoil_a_snapshot, "its snapshot has the digest"),
        (plant_an_orphan, "attempts/g0001-0001-t1-a9-zzzzzzzzzzzz was never issued in this run"),
        (settle_twice, "duplicated: trial 1 of camel.txt was settled twice"),
        (settle_by_a_stranger, "decided by g0001-0001-t1-a9-zzzzzzzzzzzz, which was never issued"),
        (lose_a_trial, "lost: trial 1 of camel.txt"),
        (time_out_with_a_fitness, "unexpected: trial 1 of camel.txt: is timed_out, and g0001-0001-t1-a1-"),
        (fail_by_a_stranger, "decided by g0001-0001-t1-a9-zzzzzzzzzzzz, which was never issued"),
    ],
)
def test_tampering_is_found_out(
    project: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None], said: str
) -> None:
    """Exit code 1, and a line that says what and where."""
    tamper(project)

    code, out, _ = pipeline(capsys, "verify", "--root", project)

    assert code == SOME_FAILED
    assert "THE PROMISE WAS BROKEN" in out
    assert said in out


@given(table=st.binary(max_size=200) | st.text('a,\n\r"0.e-', max_size=60).map(str.encode), summary=st.binary())
@settings(deadline=None, max_examples=8)  # each opens a ledger, which takes Wine seconds
def test_whatever_lies_in_the_outputs_is_no_proof(spoilt_outputs: Path, table: bytes, summary: bytes) -> None:
    """It is told, not tripped over."""
    results = spoilt_outputs / "results" / "gen-0001"
    (results / "results.csv").write_bytes(table)
    (results / "summary.json").write_bytes(summary)

    (found,) = verify(spoilt_outputs, 1)

    assert not found.held


def test_a_damaged_ledger_is_no_basis_for_a_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is guessed: one line with the cure."""
    with sqlite3.connect(project / "state" / "ledger.db") as db:
        db.execute("DELETE FROM facts WHERE seq = 5")
    db.close()

    code, out, err = pipeline(capsys, "verify", "--root", project)

    assert (code, out) == (STANDSTILL, "")
    assert "1 of" in err
    assert "facts are missing" in err


@pytest.mark.parametrize(
    ("args", "said"), [((), "nothing was run here yet"), (("--gen", "9"), "generation 9 was never run here")]
)
def test_what_was_never_run_cannot_be_verified(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: Sequence[str], said: str
) -> None:
    """Exit code 2."""
    code, _, err = pipeline(capsys, "verify", *args, "--root", played if args else tmp_path)

    assert code == BAD_INPUT
    assert said in err


# ------------------------------------------------------------------------------------------------ the audit, in facts


def run_of(trials: int = 1, timed_out_fitness: float | None = None, genomes: Sequence[str] = ("a",)) -> list[Fact]:
    """A run that has just begun."""
    settings = RunSettings(
        trials_per_genome=trials,
        seed=0,
        settings={},
        evaluator="test",
        time_limit_s=1.0,
        timed_out_fitness=timed_out_fitness,
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


def answered(outcome: Outcome, of: AttemptIssued, *, archived: bool = False) -> AttemptEnded:
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    return AttemptEnded(attempt=of.attempt, outcome=outcome, answered=True, fitness=fitness, archived=archived)


def given_up(of: AttemptIssued) -> AttemptEnded:
    return AttemptEnded(attempt=of.attempt, outcome=Outcome.LOST)


def settled(settlement: Settlement, fitness: float | None = None, attempt: str = "", trial: int = 1) -> TrialSettled:
    return TrialSettled(genome=1, trial=trial, settlement=settlement, attempt=attempt, fitness=fitness)


def result(of: AttemptIssued, outcome: Outcome, **other: Any) -> ResultRecord:
    """What an agent says to an attempt of such a run."""
    opened = OPENED[0]
    assert isinstance(opened, RunOpened)
    echo = {"attempt": of.attempt, "trial": of.trial, "seed": seed_of(opened, of.trial), "genome_sha256": "0" * 64}
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    return records.result(**{**echo, "outcome": outcome, "fitness": fitness, **other})


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


def archive(*results: ResultRecord) -> Evidence:
    """These results, and the genomes as they were taken in."""
    return replace(NOTHING, archived={record.attempt: record for record in results})


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
def test_what_a_host_may_decide(story: Sequence[Fact]) -> None:
    """Each settlement with all that must come before it."""
    results = [result(FIRST, fact.outcome) for fact in story if isinstance(fact, AttemptEnded) and fact.answered]

    assert audit([*run_of(2, -5.0), *story], archive(*results)).problems == []


@pytest.mark.parametrize(
    ("story", "said"),
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
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, attempt=ATTEMPT)], f"is skipped, and was decided by {ATTEMPT}"),
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, fitness=1.0)], "is skipped and has the fitness 1"),
        ([structs.replace(SKIPPED, genome=7)], "trial 2 of genome 7: no such genome in the roster"),
        ([FIRST, NO, FAILED, structs.replace(SKIPPED, trial=3)], "trial 3 of a: no such trial in the roster"),
    ],
)
def test_what_no_host_may_decide(story: Sequence[Fact], said: str) -> None:
    """Whatever is settled, by which attempt, with which fitness: it must follow from what was answered."""
    played = result(FIRST, Outcome.COMPLETED if PLAYED in story else Outcome.TIMED_OUT)

    found = audit([*run_of(2, -5.0, ("a", "b")), *story], archive(played))

    assert any(said in problem for problem in found.unexpected), found.problems
    assert not found.held


@pytest.mark.parametrize(
    ("story", "said"),
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
        (run_of(genomes=["b"])[1:], "genome 1 was added twice, as b the second time"),
        ([FIRST, PLAYED, COUNTED, TrialReopened(genome=1, trial=1)], "was reopened, and had the fitness 1"),
    ],
)
def test_what_cannot_have_happened(story: Sequence[Fact], said: str) -> None:
    """The course of attempts and trials is checked as well, whatever came of it."""
    problems = audit([*OPENED, *story], archive(result(FIRST, Outcome.COMPLETED))).problems

    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize("settlement", [Settlement.COMPLETED, Settlement.TIMED_OUT])
def test_a_result_that_decided_must_say_so_itself(settlement: Settlement) -> None:
    """The archive is compared for time-outs as for fitnesses."""
    outcome = Outcome(settlement.value)
    story = [FIRST, answered(outcome, FIRST), settled(settlement, 1.0, ATTEMPT)]

    found = audit([*run_of(1, 1.0), *story], archive(result(FIRST, outcome, seed=1)))

    assert "it says seed 1, counted was" in found.unexpected[0]


def test_an_agent_that_could_not_read_its_order_echoes_nothing() -> None:
    """That is no contradiction."""
    silent = result(FIRST, Outcome.FAILED, trial=None, seed=None, genome_sha256=None)

    assert audit([*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED], archive(silent)).held


@pytest.mark.parametrize(
    ("results", "said"),
    [([], "it is missing"), ([result(FIRST, Outcome.INTERRUPTED)], "it says outcome interrupted, counted was failed")],
)
def test_the_report_of_a_failure_is_kept_as_well(results: Sequence[ResultRecord], said: str) -> None:
    """It is why the trial has no fitness."""
    found = audit([*OPENED, FIRST, answered(Outcome.FAILED, FIRST, archived=True), FAILED], archive(*results))

    assert found.others == [f"attempts/{ATTEMPT}: {said}"]


def test_an_unfinished_run_has_lost_nothing() -> None:
    """Open is not lost: the same command resumes."""
    found = audit(OPENED, NOTHING)

    assert (found.open, found.lost, found.held) == (1, [], True)


def test_a_failed_trial_needs_no_result() -> None:
    """It is settled without a fitness, and the row of its genome is empty."""
    rows = [{"fitness": "", "sha256": "0" * 64}]
    counts = {"submitted": 1, "completed": 0, "failed": 1, "open": 0, "lost": 0, "duplicated": 0}
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=counts)

    assert audit([*OPENED, FIRST, GAVE_UP, FAILED, RunFinished()], evidence).problems == []


def test_two_accepted_results_are_a_duplicate() -> None:
    """However the trial was settled."""
    story = [FIRST, GAVE_UP, SECOND, answered(Outcome.COMPLETED, SECOND), PLAYED]

    assert audit([*OPENED, *story], NOTHING).duplicated == ["trial 1 of a: 2 results were accepted"]


def test_a_result_that_was_archived_and_did_not_decide_is_missed_as_well() -> None:
    """An interrupted attempt's report is evidence, and was promised to lie there."""
    interrupted = answered(Outcome.INTERRUPTED, FIRST, archived=True)

    assert audit([*OPENED, FIRST, interrupted], NOTHING).others == [f"attempts/{ATTEMPT}: it is missing"]


def test_a_settlement_of_a_genome_that_nobody_added() -> None:
    """A fold that made up a genome would be found out."""
    stray = structs.replace(COUNTED, genome=7)

    assert audit([*OPENED, FIRST, stray], NOTHING).unexpected == ["trial 1 of genome 7: no such genome in the roster"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "results.csv has 0 genomes, the ledger 1"),
        ([{"fitness": "2.5", "sha256": "0" * 64}], "results.csv gives a the fitness 2.5, the ledger none"),
        ([{"fitness": "", "sha256": "1" * 64}], "results.csv gives a the fitness none, the ledger none"),
    ],
)
def test_a_table_that_does_not_say_what_the_ledger_says(rows: list[dict[str, str]], said: str) -> None:
    """A row too few, a fitness that is no number, another genome's digest."""
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=None)

    problems = audit([*OPENED, FIRST, GAVE_UP, FAILED, RunFinished()], evidence).problems

    assert any(said in problem for problem in problems)


def test_a_fitness_in_the_table_that_is_no_number() -> None:
    """It is told, not tripped over."""
    rows = [{"fitness": "high", "sha256": "0" * 64}]
    evidence = replace(archive(result(FIRST, Outcome.TIMED_OUT)), rows=rows)
    story = [FIRST, TIME_IS_UP, settled(Settlement.TIMED_OUT, -5.0, ATTEMPT), RunFinished()]

    found = audit([*run_of(1, -5.0), *story], evidence)

    assert found.unexpected == ["results.csv gives a the fitness high, the ledger -5"]
