"""`pipeline verify` on a real run: it holds, and whoever tampers with ledger, results or snapshots is found out."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from msgspec import structs

from inbox_agent.share_layout import Outcome
from pipeline import cli
from pipeline.core.audit import Evidence, audit
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Fact,
    GenomeAdded,
    RunFinished,
    RunOpened,
    RunSettings,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.edges.ledger import Ledger
from pipeline.exit_codes import ALL_COMPLETED, BAD_INPUT, SOME_FAILED, STANDSTILL
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


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lose_a_result, "unexpected: trial 1 of"),
        (change_a_result, "counted was"),
        (swap_results, "says attempt g0001"),
        (link_a_result, "cannot be used"),
        (edit_the_table, "unexpected: results.csv gives camel.txt the fitness 99.5"),
        (lose_the_table, "results.csv cannot be read; `pipeline run` of this generation writes it anew"),
        (edit_the_summary, "summary.json says {'submitted': 4, 'completed': 5"),
        (spoil_a_snapshot, "its snapshot has the digest"),
        (plant_an_orphan, "attempts/g0001-0001-t1-a9-zzzzzzzzzzzz was never issued in this run"),
        (settle_twice, "duplicated: trial 1 of camel.txt was settled twice"),
        (settle_by_a_stranger, "decided by g0001-0001-t1-a9-zzzzzzzzzzzz, which was never issued"),
        (lose_a_trial, "lost: trial 1 of camel.txt"),
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

ATTEMPT = "g0001-0001-t1-a1-000000000001"
OPENED: list[Fact] = [
    RunOpened(
        generation=1,
        run=1,
        settings=RunSettings(trials_per_genome=1, seed=0, settings={}, evaluator="test", time_limit_s=1.0),
    ),
    GenomeAdded(genome=1, name="a", suffix="", size_bytes=1, sha256="0" * 64),
]
NOTHING = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=None, summary=None)
ISSUED = AttemptIssued(attempt=ATTEMPT, genome=1, trial=1, number=1, worker="w", epoch=1, publication=1)


def settled(settlement: Settlement, fitness: float | None = None, attempt: str = ATTEMPT, trial: int = 1) -> Fact:
    return TrialSettled(genome=1, trial=trial, settlement=settlement, attempt=attempt, fitness=fitness)


def test_an_unfinished_run_has_lost_nothing() -> None:
    """Open is not lost: the same command resumes."""
    found = audit(OPENED, NOTHING)

    assert (found.open, found.lost, found.held) == (1, [], True)


def test_a_failed_trial_needs_no_result() -> None:
    """It is settled without a fitness, and the row of its genome is empty."""
    rows = [{"fitness": "", "sha256": "0" * 64}]
    counts = {"submitted": 1, "completed": 0, "failed": 1, "open": 0, "lost": 0, "duplicated": 0}
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=counts)

    assert audit([*OPENED, ISSUED, settled(Settlement.FAILED), RunFinished()], evidence).problems == []


def test_a_failed_trial_with_a_fitness_is_unexpected() -> None:
    assert audit([*OPENED, ISSUED, settled(Settlement.FAILED, 1.0)], NOTHING).unexpected


def test_a_result_of_another_trial_decides_nothing() -> None:
    """The attempt was issued for trial 1; it settles trial 2."""
    found = audit([*OPENED, ISSUED, settled(Settlement.COMPLETED, 1.0, trial=2)], NOTHING)

    assert "issued for another trial" in found.unexpected[0]


def test_two_accepted_results_are_a_duplicate() -> None:
    """However the trial was settled."""
    second = structs.replace(ISSUED, attempt=ATTEMPT.replace("a1", "a2"), number=2)
    ends = [
        AttemptEnded(attempt=fact.attempt, outcome=Outcome.COMPLETED, answered=True, fitness=1.0)
        for fact in (ISSUED, second)
    ]

    assert audit([*OPENED, ISSUED, second, *ends], NOTHING).duplicated == ["trial 1 of a: 2 results were accepted"]


def test_a_result_that_was_archived_and_did_not_decide_is_missed_as_well() -> None:
    """An interrupted attempt's report is evidence, and was promised to lie there."""
    ended = AttemptEnded(attempt=ATTEMPT, outcome=Outcome.INTERRUPTED, answered=True, archived=True)

    assert audit([*OPENED, ISSUED, ended], NOTHING).others == [f"attempts/{ATTEMPT}: it is missing"]


def test_a_settlement_of_a_genome_that_nobody_added() -> None:
    """A fold that made up a genome would be found out."""
    stray = TrialSettled(genome=7, trial=1, settlement=Settlement.COMPLETED, attempt=ATTEMPT, fitness=1.0)

    assert audit([*OPENED, ISSUED, stray], NOTHING).unexpected == ["trial 1 of genome 7: no such genome in the roster"]


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

    problems = audit([*OPENED, ISSUED, settled(Settlement.FAILED), RunFinished()], evidence).problems

    assert any(said in problem for problem in problems)


def test_a_fitness_in_the_table_that_is_no_number() -> None:
    """It is told, not tripped over."""
    rows = [{"fitness": "high", "sha256": "0" * 64}]
    evidence = Evidence(archived={}, snapshots={"0" * 64: ""}, rows=rows, summary=None)

    found = audit([*OPENED, ISSUED, settled(Settlement.TIMED_OUT, -5.0), RunFinished()], evidence)

    assert found.unexpected == ["results.csv gives a the fitness high, the ledger -5"]
