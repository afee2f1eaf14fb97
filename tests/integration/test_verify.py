"""`pipeline verify` on a real run: it passes, and any tampering with ledger, results or snapshots is detected."""

import csv
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from inbox_agent.protocol.layout import Kind
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Fact,
    RunFinished,
    RunOpened,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.errors import ExitCode, InputError
from pipeline.host.host import Host
from pipeline.inspection.archived_result import ArchivedResult, read_archived_result
from pipeline.inspection.audit import Audit
from pipeline.inspection.verify import _look as look_once
from pipeline.inspection.verify import verify
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from tests.harness import records
from tests.harness.command_line import pipeline
from tests.harness.farm_project import FarmProject, games
from tests.harness.other_user import allow_traversal, as_unprivileged_user
from tests.programs.golden import GOLDEN

pytestmark = [pytest.mark.rules, pytest.mark.timeout(60)]
posix = pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
STRANGER = "g0001-0001-t1-a9-zzzzzzzzzzzz"  #: an attempt that was never issued


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one generation of a real run: four genomes, three trials each."""
    root = tmp_path_factory.mktemp("played")
    assert main.run_commands(["init", str(root)]) == ExitCode.OK
    assert main.run_commands(["run", "--gen", "1", "--root", str(root)]) == ExitCode.OK
    return root


@pytest.fixture
def verified_project(played: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(played, tmp_path / "project"))


@pytest.fixture(scope="module")
def spoilt_outputs(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another copy, whose outputs are changed repeatedly."""
    return Path(shutil.copytree(played, tmp_path_factory.mktemp("spoilt") / "project"))


def facts_of(root: Path) -> list[Fact]:
    ledger = Ledger(root / "state", read_only=True)
    try:
        return [entry.fact for entry in ledger.entries()]
    finally:
        ledger.close()


def append(root: Path, *facts: Fact) -> None:
    """Appends facts that no host would record, to a valid ledger."""
    ledger = Ledger(root / "state")
    ledger.append(facts, 0.0, 1, 1)
    ledger.close()


def a_settlement(root: Path) -> TrialSettled:
    """The settlement of camel.txt's first trial; trials end in any order."""
    settled = (fact for fact in facts_of(root) if isinstance(fact, TrialSettled))
    return min(settled, key=lambda fact: (fact.genome, fact.trial))


def version_of(root: Path) -> str:
    """The version that the generation was opened with."""
    return next(fact.settings.evaluator_version for fact in facts_of(root) if isinstance(fact, RunOpened))


def lines_of(root: Path) -> Path:
    return root / "results" / "gen-0001" / "results.jsonl"


def folder_of(root: Path, attempt: str) -> Path:
    return root / "results" / "gen-0001" / "attempts" / attempt


def change_lines(root: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Changes the lines of the archive."""
    path = lines_of(root)
    lines = change([orjson.loads(line) for line in path.read_bytes().splitlines()])
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def test_valid_run_passes(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the generation, and exit code 0. On a slow machine an attempt may have gone to an idle worker."""
    code, out, err = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, err) == (ExitCode.OK, "")
    counted = "4 genomes, 12 trials: lost 0, duplicated 0, unexpected 0"
    assert re.fullmatch(rf"generation 1, run 1: {counted}, recovered \d+: verified\n", out)


def test_verify_does_not_write(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be run beside a host."""
    before = {
        path: path.read_bytes() for path in verified_project.rglob("*") if path.is_file() and "ledger" not in path.name
    }

    pipeline(capsys, "verify", "--gen", "1", "--root", verified_project)

    after = {
        path: path.read_bytes() for path in verified_project.rglob("*") if path.is_file() and "ledger" not in path.name
    }
    assert after == before


def rewrite(root: Path, change: Callable[[Fact], Fact]) -> None:
    """Writes the ledger again with changed facts."""
    ledger = Ledger(root / "state", read_only=True)
    entries = list(ledger.entries())
    ledger.close()
    for path in (root / "state").glob("ledger.db*"):
        path.unlink()
    ledger = Ledger(root / "state")
    for entry in entries:
        ledger.append([change(entry.fact)], entry.at, entry.generation, entry.run)
    ledger.close()


def change_archived(root: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes every archived result."""
    change_lines(root, lambda lines: [{**line, "record": change(line["record"])} for line in lines])


def archive_in_folders(root: Path, count: int | None = None) -> None:
    """Keeps the first results in folders, as earlier releases of this program did, or all."""
    path = lines_of(root)
    lines = path.read_bytes().splitlines(keepends=True)
    for line in map(orjson.loads, lines[:count]):
        folder = folder_of(root, line["attempt"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_bytes(orjson.dumps(line["record"], option=orjson.OPT_INDENT_2))
    if count is None:
        path.unlink()
    else:
        path.write_bytes(b"".join(lines[count:]))


def without_version(fact: Fact) -> Fact:
    """A fact as it was before versions of evaluators were recorded."""
    if isinstance(fact, RunOpened):
        return structs.replace(fact, settings=structs.replace(fact.settings, evaluator_version=""))
    return structs.replace(fact, evaluator="") if isinstance(fact, AttemptEnded) else fact


def in_layout_1(result: dict[str, Any]) -> dict[str, Any]:
    """A result as it was archived then."""
    return {**{name: value for name, value in result.items() if name != "evaluator"}, "layout": 1}


def forget_evaluator_in_outputs(root: Path) -> None:
    """Removes column, counts and byte order mark that older outputs lack."""
    table, summary = (root / "results/gen-0001" / name for name in ("results.csv", "summary.json"))
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "evaluator"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    counts = orjson.loads(summary.read_bytes())
    summary.write_bytes(orjson.dumps({name: counts[name] for name in counts if not name.startswith("evaluator")}))


def test_results_of_before_versions_are_verified(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ledger, archive and outputs of an earlier release of this program, as they are on users' disks."""
    rewrite(verified_project, without_version)
    change_archived(verified_project, in_layout_1)
    archive_in_folders(verified_project)
    forget_evaluator_in_outputs(verified_project)

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, out.endswith(": verified\n")) == (ExitCode.OK, True), out
    assert (
        pipeline(capsys, "run", "--gen", "1", "--root", verified_project)[0] == ExitCode.OK
    )  # writes the outputs again
    assert pipeline(capsys, "verify", "--root", verified_project)[1] == out


def test_archived_result_of_golden_share_is_read() -> None:
    """It was written by an agent of layout version 1."""
    found = read_archived_result((GOLDEN / "share-1/outbox" / Kind.RESULT.of(records.attempt(1))).read_bytes())

    assert isinstance(found, ArchivedResult)
    assert (found.layout, found.attempt, found.fitness, found.evaluator) == (1, records.attempt(1), 41.5, None)


def test_mixed_generation_is_named(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One genome is played by an evaluator that the user accepted: it passes, and both versions are named."""
    play = verified_project / "play.py"
    play.write_text(play.read_text() + "# changed\n")
    (verified_project / "genomes/gen-0001/late.txt").write_text("late")
    refused = pipeline(capsys, "run", "--gen", "1", "--root", verified_project)[0]
    code, played, _ = pipeline(capsys, "run", "--gen", "1", "--accept-evaluator", "--root", verified_project)
    assert (refused, code) == (ExitCode.BAD_INPUT, ExitCode.OK)

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    versions = orjson.loads((verified_project / "results/gen-0001/summary.json").read_bytes())["evaluators"]
    assert (code, len(versions)) == (ExitCode.OK, 2)
    assert out.endswith(f": verified; MIXED: its fitness is of evaluators {', '.join(versions)}\n")
    assert f"  mixed: its fitness is of evaluators {', '.join(versions)}; results.csv says which\n" in played


def lose_a_result(root: Path) -> None:
    attempt = a_settlement(root).attempt
    change_lines(root, lambda lines: [line for line in lines if line["attempt"] != attempt])


def lose_all_results(root: Path) -> None:
    shutil.rmtree(root / "results")


def lose_the_lines(root: Path) -> None:
    lines_of(root).unlink()


def lose_the_snapshots(root: Path) -> None:
    snapshots = root / "state" / "genomes"
    for path in snapshots.rglob("*"):
        path.chmod(0o700)  # Windows removes no write-protected file
    shutil.rmtree(snapshots)


def change_a_result(root: Path) -> None:
    attempt = a_settlement(root).attempt

    def change(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "fitness": record["fitness"] + 1} if record["attempt"] == attempt else record

    change_archived(root, change)


def damage_a_result(root: Path) -> None:
    path = lines_of(root)
    attempt = a_settlement(root).attempt.encode()
    lines = [line[:200] if attempt in line else line for line in path.read_bytes().splitlines()]
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def swap_results(root: Path) -> None:
    def swap(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        one, other = lines[:2]
        return [{**one, "record": other["record"]}, {**other, "record": one["record"]}, *lines[2:]]

    change_lines(root, swap)


def link_the_lines(root: Path) -> None:
    path = lines_of(root)
    elsewhere = root / "elsewhere.jsonl"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def edit_the_table(root: Path) -> None:
    path = root / "results" / "gen-0001" / "results.csv"
    head, first, *others = path.read_text(encoding="utf-8").splitlines()
    cells = first.split(",")
    cells[1] = "99.5"
    path.write_text("\n".join([head, ",".join(cells), *others]) + "\n", encoding="utf-8")


def cut_the_table(root: Path) -> None:
    path = root / "results" / "gen-0001" / "results.csv"
    head, first, *others = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, first.split(",", maxsplit=1)[0], *others]) + "\n", encoding="utf-8")


def name_another_evaluator(root: Path) -> None:
    path = root / "results" / "gen-0001" / "results.csv"
    path.write_text(path.read_text().replace(version_of(root), "another-version", 1))


def archive_another_evaluator(root: Path) -> None:
    change_archived(root, lambda result: {**result, "evaluator": "another-version"})


def archive_an_unknown_layout(root: Path) -> None:
    change_archived(root, lambda result: {**result, "layout": 3})


def ask_for_another_evaluator(root: Path) -> None:
    """The ledger says that another version was in force from the start."""

    def change(fact: Fact) -> Fact:
        if not isinstance(fact, RunOpened):
            return fact
        return structs.replace(fact, settings=structs.replace(fact.settings, evaluator_version="another-version"))

    rewrite(root, change)


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
    with lines_of(root).open("ab") as lines:
        lines.write(b'{"attempt":"%s","log":false,"files":[],"record":{}}\n' % STRANGER.encode())


def plant_a_folder(root: Path) -> None:
    folder_of(root, STRANGER).mkdir(parents=True)


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
            attempt=STRANGER,
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
    settle_as(root, settlement=Settlement.FAILED, fitness=None, attempt=STRANGER)


BROKEN, FILES = ExitCode.FAILED, ExitCode.FILES_DIFFER


@pytest.mark.parametrize(
    ("tamper", "code", "expected"),
    [
        (lose_a_result, FILES, "files: result of g0001-0001-t1-"),
        (lose_all_results, FILES, "files: results/gen-0001 has neither its tables nor any of its 12 archived results"),
        (lose_the_lines, FILES, "files: results/gen-0001 lacks 12 of its 12 archived results, the first"),
        (change_a_result, BROKEN, "counted was"),
        (damage_a_result, FILES, "files: result of g0001-0001-t1-"),
        (swap_results, BROKEN, "says attempt g0001"),
        pytest.param(link_the_lines, FILES, "results.jsonl: ", marks=posix),
        (edit_the_table, FILES, "files: results.csv gives camel.txt the fitness 99.5"),
        (cut_the_table, FILES, "files: results.csv gives camel.txt the fitness none"),
        (
            name_another_evaluator,
            FILES,
            "files: results.csv gives camel.txt the evaluator another-version, the ledger ",
        ),
        (archive_another_evaluator, BROKEN, "it says evaluator another-version, counted was "),
        (archive_an_unknown_layout, FILES, "it has layout 3, known are 1 and 2"),
        (ask_for_another_evaluator, BROKEN, ", counted was another-version"),
        (lose_the_table, FILES, "files: results.csv is missing or cannot be read; `pipeline run --gen 1` writes it"),
        (edit_the_summary, FILES, "files: summary.json says {'submitted': 4, 'completed': 5"),
        (spoil_a_snapshot, FILES, "its snapshot has the digest"),
        (lose_the_snapshots, FILES, "files: … and 1 more like this"),
        (plant_an_orphan, BROKEN, f"result of {STRANGER}: it was never issued in this run"),
        (plant_a_folder, BROKEN, f"result of {STRANGER}: it was never issued in this run"),
        (settle_twice, BROKEN, "duplicated: trial 1 of camel.txt was settled twice"),
        (settle_by_a_stranger, BROKEN, f"decided by {STRANGER}, which was never issued"),
        (lose_a_trial, BROKEN, "lost: trial 1 of camel.txt"),
        (time_out_with_a_fitness, BROKEN, "unexpected: trial 1 of camel.txt: is timed_out, and g0001-0001-t1-a1-"),
        (fail_by_a_stranger, BROKEN, f"decided by {STRANGER}, which was never issued"),
    ],
)
def test_tampering_is_detected(
    verified_project: Path,
    capsys: pytest.CaptureFixture[str],
    tamper: Callable[[Path], None],
    code: ExitCode,
    expected: str,
) -> None:
    """An exit code and words of its own for a wrong count; the counts, and a line with the place and what to do."""
    tamper(verified_project)

    found, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert found == code, out
    assert ("NOT VERIFIED" in out, "count verified, FILES MISSING OR CHANGED" in out) == (code == BROKEN, code == FILES)
    assert re.search(r"lost \d+, duplicated \d+, unexpected \d+, recovered \d+: ", out)
    assert expected in out
    if code == FILES:
        assert "lost 0, duplicated 0, unexpected 0" in out


@pytest.mark.parametrize(
    "tamper", [lose_the_table, edit_the_table, edit_the_summary, spoil_a_snapshot, lose_the_snapshots]
)
def test_run_restores_what_the_message_says(
    verified_project: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None]
) -> None:
    """Tables come from the ledger, snapshots from the genomes; a finished generation is not played again."""
    tamper(verified_project)
    assert "`pipeline run --gen 1`" in pipeline(capsys, "verify", "--root", verified_project)[1]
    before = len(facts_of(verified_project))

    code, out, _ = pipeline(capsys, "run", "--gen", "1", "--root", verified_project)

    assert (code, "nothing is played" in out) == (ExitCode.OK, True)
    assert pipeline(capsys, "verify", "--root", verified_project)[0] == ExitCode.OK
    assert not any(isinstance(fact, AttemptIssued) for fact in facts_of(verified_project)[before:])


def test_tables_of_a_deleted_folder_are_written_again(
    verified_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then only the archived results are missing."""
    tables = [verified_project / "results/gen-0001" / name for name in ("results.csv", "attempts.csv", "summary.json")]
    before = [path.read_bytes() for path in tables[:2]]
    lose_all_results(verified_project)

    assert pipeline(capsys, "run", "--gen", "1", "--root", verified_project)[0] == ExitCode.OK

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)
    assert (code, len(out.splitlines())) == (FILES, 2)
    assert "results/gen-0001 lacks 12 of its 12 archived results" in out
    assert [path.read_bytes() for path in tables[:2]] == before


def test_wrong_count_outweighs_missing_files(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle_twice(verified_project)
    lose_all_results(verified_project)

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, "NOT VERIFIED" in out, "FILES MISSING" in out) == (BROKEN, True, False)
    assert "files: results/gen-0001 has neither" in out


@given(table=st.binary(max_size=200) | st.text('a,\n\r"0.e-', max_size=60).map(str.encode), summary=st.binary())
@settings(deadline=None, max_examples=8)  # each opens a ledger, which takes seconds under Wine
def test_damaged_outputs_are_reported(spoilt_outputs: Path, table: bytes, summary: bytes) -> None:
    """They are reported without an exception."""
    results = spoilt_outputs / "results" / "gen-0001"
    (results / "results.csv").write_bytes(table)
    (results / "summary.json").write_bytes(summary)

    (found,) = verify(spoilt_outputs, 1)

    assert not found.passed


def test_damaged_ledger_is_reported(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the fix; nothing is guessed."""
    with sqlite3.connect(verified_project / "state" / "ledger.db") as db:
        db.execute("DELETE FROM commits WHERE last = (SELECT MAX(last) FROM commits)")
    db.close()

    code, out, err = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, out) == (ExitCode.CANNOT_CONTINUE, "")
    assert "1 of" in err
    assert "facts are missing" in err


@pytest.mark.parametrize(
    ("args", "expected"), [((), "nothing was run here yet"), (("--gen", "9"), "generation 9 was never run here")]
)
def test_verify_refuses_generation_that_never_ran(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: Sequence[str], expected: str
) -> None:
    """Exit code 2."""
    code, _, err = pipeline(capsys, "verify", *args, "--root", played if args else tmp_path)

    assert code == ExitCode.BAD_INPUT
    assert expected in err


def test_verify_rereads_while_host_records(verified_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host archives before it records; a difference in between is checked again."""
    plant_an_orphan(verified_project)
    LiveStatusFile(verified_project / "state").write({})
    looks: list[list[Audit]] = []

    def look(root: Path, generation: int | None) -> list[Audit]:
        looks.append(look_once(root, generation))
        change_lines(verified_project, lambda lines: [line for line in lines if line["attempt"] != STRANGER])
        return looks[-1]

    monkeypatch.setattr("pipeline.inspection.verify._look", look)

    assert all(found.passed for found in verify(verified_project, None))
    assert [found.passed for found in looks[0]] == [False]
    assert len(looks) == 2


def test_lasting_problem_is_reported_beside_host(verified_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is repeated several times, not for ever."""
    plant_an_orphan(verified_project)
    LiveStatusFile(verified_project / "state").write({})
    monkeypatch.setattr("pipeline.inspection.verify.LOOK_AGAIN_S", 0.001)

    assert not all(found.passed for found in verify(verified_project, None))


@pytest.mark.parametrize("count", [None, 5])
def test_results_in_folders_are_verified(
    verified_project: Path, capsys: pytest.CaptureFixture[str], count: int | None
) -> None:
    """A generation was played by an earlier version of this program, or begun by it and continued."""
    archive_in_folders(verified_project, count)

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, out.endswith(": verified\n")) == (ExitCode.OK, True), out


@pytest.mark.parametrize("change", ["lose", "edit"])
def test_tampering_with_results_in_folders_is_detected(
    verified_project: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    """As with lines."""
    archive_in_folders(verified_project)
    path = folder_of(verified_project, a_settlement(verified_project).attempt) / "result.json"
    if change == "lose":
        path.unlink()
    else:
        path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "fitness": 1e9}))

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert code == (FILES if change == "lose" else BROKEN)
    assert f"esult of {path.parent.name}" in out


def test_last_line_of_an_attempt_counts(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two hosts the first one was killed before it recorded what it archived, so that is not what was counted."""

    def repeat(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = {**lines[0], "record": {**lines[0]["record"], "fitness": 1e9}}
        return [first, *lines, lines[3]]

    change_lines(verified_project, repeat)

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert (code, out.endswith(": verified\n")) == (ExitCode.OK, True), out


def test_damaged_lines_are_named(verified_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill or a power failure leaves them; every counted result has its line."""
    path = lines_of(verified_project)
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[:100] + b"\n" + first + b"".join(others) + first[:50])

    code, out, _ = pipeline(capsys, "verify", "--root", verified_project)

    assert code == ExitCode.OK, out
    assert ": verified\n  warning: results.jsonl has 2 damaged lines, skipped: 1, 14; " in out


@pytest.mark.processes
def test_result_that_was_archived_and_not_recorded_is_archived_again(
    project: FarmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host was killed in between, and its last line is torn: the next host goes on behind it."""
    project.configure(workers=1)
    project.add_genomes(games(4))
    append = Ledger.append

    def die(ledger: Ledger, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        if any(isinstance(fact, AttemptEnded) for fact in facts):
            raise KeyboardInterrupt
        append(ledger, facts, at, generation, run)

    monkeypatch.setattr(Ledger, "append", die)
    with pytest.raises(KeyboardInterrupt), Host(project.root, load_config(project.root), project.root) as dying:
        dying.begin(1)
        dying.play()
    monkeypatch.undo()
    path = lines_of(project.root)
    archived = path.read_bytes()
    attempt = orjson.loads(archived.splitlines()[0])["attempt"]
    path.write_bytes(archived + archived[:99])

    assert project.run()[0] == 0

    project.assert_counted_once()
    assert path.read_bytes().count(b'{"attempt":"%s"' % attempt.encode()) == 3
    code, out = project.run("verify")
    number = archived.count(b"\n") + 1
    assert (code, f"results.jsonl has 1 damaged line, skipped: {number}; " in out) == (0, True), out


@pytest.mark.processes
def test_running_farm_can_be_verified(project: FarmProject) -> None:
    """Repeated checks pass during the run."""
    project.configure(trials=3)
    project.add_genomes({f"g{n:03d}.json": {"n": n} for n in range(100)})
    host, looks = project.start(), 0
    project.wait_until(lambda: project.archived() > 3)
    while host.poll() is None:
        broken = [found.problems for found in verify(project.root, None) if not found.passed]
        assert broken == []
        looks += 1

    assert project.wait_for_end(host)[0] == 0
    assert looks > 1


def test_ledger_without_run_is_not_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused run leaves one: it cannot be verified, which is not the same as a passed check."""
    Ledger(tmp_path / "state").close()

    for command in (["verify"], ["results", "--all"]):
        code, out, err = pipeline(capsys, *command, "--root", tmp_path)
        assert (code, out) == (ExitCode.BAD_INPUT, ""), command
        assert "nothing was run here yet" in err


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
@pytest.mark.parametrize("what", ["results.jsonl", "attempts", "results.csv"])
def test_forbidden_file_is_no_failed_audit(verified_project: Path, what: str) -> None:
    """Nothing is lost: this user may not read it."""
    [results] = (verified_project / "results").glob("gen-*")
    (results / "attempts").mkdir(exist_ok=True)
    allow_traversal(verified_project)
    (results / what).chmod(0)

    with as_unprivileged_user(), pytest.raises(InputError, match="give this user the right to read it"):
        verify(verified_project, None)
