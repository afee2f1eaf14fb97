"""`pipeline prune` on a real project: what goes, what stays, and that `verify` can tell pruned from lost."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import open_executor, open_farm
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.errors import ExitCode
from pipeline.host.host import Host
from pipeline.paths import ProjectPaths
from pipeline.storage.pruned_record import PRUNED_BYTES_MAX
from tests.harness.command_line import pipeline
from tests.harness.other_user import allow_traversal, as_unprivileged_user

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
posix = pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
GAME = """
def play(genome, trial):
    print("a line of the log")
    (trial.scratch / "artifacts").mkdir(exist_ok=True)
    (trial.scratch / "artifacts" / "replay.bin").write_bytes(bytes(1000))
    assert genome.read_bytes() != b"bad"
    return float(trial.seed)
"""
CONFIG = """
[generation]
trials_per_genome = 1
failures_max = 1
seeds = "fixed"
reuse = "same-seeds"

[evaluator]
python = "play:play"
files = ["play.py"]

[local]
workers = 2
"""
TABLES = {"results.csv", "attempts.csv", "summary.json"}
ELITE, BAD, FIRST_ONLY = b"elite", b"bad", b"first"
#: Kills itself at the n-th file that it is about to remove or rename.
KILLED = """
import os, sys
from pipeline.cli import main
left = int(sys.argv[1])
def hook(event, args):
    global left
    if event in ("os.remove", "os.rename", "os.rmdir"):
        left -= 1
        if not left:
            os._exit(9)
sys.addaudithook(hook)
sys.exit(main.run_commands(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two finished generations; the second one has the elite of the first, and does not play it."""
    root = tmp_path_factory.mktemp("played")
    (root / "pipeline.toml").write_text(CONFIG)
    (root / "play.py").write_text(GAME)
    for number, genomes in ((1, {"elite": ELITE, "bad": BAD, "first": FIRST_ONLY}), (2, {"elite": ELITE, "new": b"n"})):
        (folder := root / f"genomes/gen-000{number}").mkdir(parents=True)
        for name, data in genomes.items():
            (folder / name).write_bytes(data)
        main.run_commands(["run", "--gen", str(number), "--root", str(root)])
    aside = root / "results/gen-0001/set-aside"
    aside.mkdir()
    (aside / "g0001-0001-t1-a1-0123456789ab.late.json").write_bytes(b"{}")
    return root


@pytest.fixture
def project(played: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(played, tmp_path / "project"))


def results_of(root: Path, generation: int = 1) -> Path:
    return root / f"results/gen-000{generation}"


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder but those that SQLite makes to read a ledger."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and "ledger.db-" not in path.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def attempts_of(root: Path, generation: int = 1) -> dict[str, str]:
    """Genome -> its attempt, which is the only one."""
    lines = (results_of(root, generation) / "attempts.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    return {line.split(",")[1]: line.split(",")[0] for line in lines}


def snapshots_of(root: Path) -> set[str]:
    return {path.name for path in (root / "state/genomes").rglob("*") if path.is_file()}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def prune(capsys: pytest.CaptureFixture[str], root: Path, *options: str) -> str:
    """Prunes what is finished, however young; returns what it prints."""
    code, out, err = pipeline(capsys, "prune", "--older-than", "0d", *options, "--root", root)
    assert (code, err) == (ExitCode.OK, "")
    return out


def verified(capsys: pytest.CaptureFixture[str], root: Path) -> tuple[int, list[str]]:
    code, out, _err = pipeline(capsys, "verify", "--root", root)
    return code, out.splitlines()


# -------------------------------------------------------------------------------------------------------- what goes


def test_old_generations_keep_their_tables_and_records(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the folder of genomes, which is the user's."""
    genomes, tables = files_in(project / "genomes"), files_in(results_of(project))

    out = prune(capsys, project)

    kept = {"results.jsonl", "pruned.json", *TABLES}
    assert {name: set(files_in(results_of(project, name))) for name in (1, 2)} == {1: kept, 2: kept}
    assert {name: tables[name] for name in TABLES} == {
        name: data for name, data in files_in(results_of(project)).items() if name in TABLES
    }
    assert files_in(project / "genomes") == genomes
    assert snapshots_of(project) == set()
    assert [line.split("  ")[0] for line in out.splitlines()[1:-1]] == ["1", "1", "2", "all", "all"]
    assert out.endswith(" freed; the counts are intact in the ledger and the tables\n")


def test_what_if_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the table that the command prints afterwards."""
    before = files_in(project)

    foreseen = prune(capsys, project, "--what-if", "--keep", "summary")

    assert files_in(project) == before
    assert foreseen.endswith(" would be freed; nothing was changed\n")
    assert prune(capsys, project, "--keep", "summary").splitlines()[:-1] == foreseen.splitlines()[:-1]


def test_second_time_there_is_nothing_to_remove(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the record of the first time stays as it is."""
    prune(capsys, project)
    before = files_in(project)

    assert prune(capsys, project) == "there is nothing to remove that is older than 0d\n"
    assert files_in(project / "results") == {
        name.removeprefix("results/"): data for name, data in before.items() if name.startswith("results/")
    }


def test_empty_folder_that_a_kill_left_goes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune(capsys, project)
    (results_of(project) / "attempts" / attempts_of(project)["first"]).mkdir(parents=True)

    prune(capsys, project)

    assert not (results_of(project) / "attempts").exists()


def test_young_generations_keep_everything(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(project / "results")

    code, out, _err = pipeline(capsys, "prune", "--older-than", "1h", "--root", project)

    assert (code, out) == (ExitCode.OK, "there is nothing to remove that is older than 1h\n")
    assert files_in(project / "results") == before


def test_keep_failed_leaves_what_shows_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log and artifacts of the attempt that failed, and results that were set aside."""
    failed = attempts_of(project)["bad"]

    prune(capsys, project, "--keep", "failed")

    assert os.listdir(results_of(project) / "attempts") == [failed]
    assert (results_of(project) / "attempts" / failed / "log.txt").exists()
    assert os.listdir(results_of(project) / "set-aside")
    assert verified(capsys, project)[0] == ExitCode.OK


def test_keep_summary_leaves_the_tables_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The count is verified by the ledger; `--unpack` says why it has nothing."""
    prune(capsys, project, "--keep", "summary")

    assert set(files_in(results_of(project))) == {"pruned.json", *TABLES}
    code, lines = verified(capsys, project)
    assert (code, len(lines)) == (ExitCode.OK, 2)
    assert all("lost 0, duplicated 0, unexpected 0" in line for line in lines)
    assert "pruned.json says that they were removed" in pipeline(capsys, "results", "--unpack", "--root", project)[2]


def test_results_of_earlier_runs_go(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fresh` has moved them aside; those of another generation, and other folders, stay."""
    for name in ("gen-0001.before-1", "gen-0012.before-1", "gen-0001.before-mine"):
        (project / "results" / name / "attempts").mkdir(parents=True)
        (project / "results" / name / "attempts/file").write_bytes(b"1")

    prune(capsys, project, "--gen", "1")

    assert set(os.listdir(project / "results")) == {"gen-0001", "gen-0002", "gen-0012.before-1", "gen-0001.before-mine"}


def test_leftovers_of_the_state_folder_go(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evidence of machines that is old, and files of evaluators that no generation is of."""
    for name in ("20260101-000000-vm-1", "20991231-000000-vm-1"):
        (project / "state/evidence" / name).mkdir(parents=True)
        (project / "state/evidence" / name / "worker.json").write_bytes(b"{}")
    os.utime(project / "state/evidence/20991231-000000-vm-1", (2**32, 2**32))
    (project / "state/evaluators/0123456789abcdef.json").write_bytes(b"{}")
    used = {path.name for path in (project / "state/evaluators").iterdir()} - {"0123456789abcdef.json"}

    prune(capsys, project, "--gen", "1")
    assert len(os.listdir(project / "state/evidence")) == 2
    pipeline(capsys, "prune", "--older-than", "1h", "--root", project)
    assert {path.name for path in (project / "state/evaluators").iterdir()} == used
    prune(capsys, project)

    assert os.listdir(project / "state/evidence") == ["20991231-000000-vm-1"]
    assert os.listdir(project / "state/evaluators") == []


def test_files_of_a_user_stay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside what this program has stored, in the same folders."""
    attempt = results_of(project) / "attempts" / attempts_of(project)["first"]
    (attempt / "notes.txt").write_text("mine")
    (results_of(project) / "attempts/mine").mkdir()

    prune(capsys, project, "--keep", "summary")

    assert [os.listdir(attempt), os.listdir(results_of(project) / "attempts/mine")] == [["notes.txt"], []]
    assert verified(capsys, project)[0] == ExitCode.OK


# ------------------------------------------------------------------------------------------------ what is still needed


def test_snapshot_of_two_generations_stays_with_one_of_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second generation is verified, and could be played again without the folder of its genomes."""
    prune(capsys, project, "--gen", "1")

    assert snapshots_of(project) == {digest(ELITE), digest(b"n")}
    code, (first, second) = verified(capsys, project)
    assert code == ExitCode.OK
    assert first.endswith(", counts intact")
    assert second.endswith(": verified")


def test_files_of_a_reused_result_stay_with_the_generation_that_counts_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elite = attempts_of(project)["elite"]

    prune(capsys, project, "--gen", "1")
    assert os.listdir(results_of(project) / "attempts") == [elite]
    prune(capsys, project)

    assert not (results_of(project) / "attempts").exists()


@pytest.fixture
def unfinished(project: Path) -> Path:
    """The project with a third generation, which has begun and is not finished; its files are gone."""
    (folder := project / "genomes/gen-0003").mkdir()
    (folder / "first").write_bytes(FIRST_ONLY)
    (folder / "other").write_bytes(digest(b"value").encode())
    with Host(project, load_config(project), project) as host:
        host.begin(3, follow_folder=True)
        assert host.play(proceed=lambda: False).stopped
    for path in folder.iterdir():
        path.unlink()
    return project


def test_generation_that_is_not_finished_can_be_resumed(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has a genome of the first generation, too, and both are only in the snapshots."""
    out = prune(capsys, unfinished, "--keep", "summary")
    code, told, err = pipeline(capsys, "run", "--gen", "3", "--root", unfinished)

    assert out.endswith("not finished, so nothing of it is removed: generation 3\n")
    assert (code, verified(capsys, unfinished)[0]) == (ExitCode.OK, ExitCode.OK), (told, err)


def test_generation_that_is_not_finished_is_refused_by_number(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _out, err = pipeline(capsys, "prune", "--older-than", "0d", "--gen", "3", "--root", unfinished)

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "generation 3 is not finished, so all of it is needed; `pipeline run --gen 3` resumes it" in err


def test_shared_values_stay_while_a_call_has_their_digest(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directly, or by another shared value."""
    inner, unused = digest(b"inner"), digest(b"unused")
    (shared := unfinished / "state/shared").mkdir()
    contents = {digest(b"value"): f"@{inner}@".encode(), inner: b"1", unused: b"2"}
    for name, content in contents.items():
        (shared / f"{name}.pickle").write_bytes(content)
    (shared / "mine.txt").write_bytes(b"3")

    prune(capsys, unfinished)

    assert set(os.listdir(shared)) == {f"{digest(b'value')}.pickle", f"{inner}.pickle", "mine.txt"}


def test_shared_value_of_real_calls_stays_while_their_run_is_young(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_executor(tmp_path, workers=1) as executor:
        assert executor.submit(sum, executor.shared([1, 2, 3])).result() == 6
    shared = tmp_path / "state/shared"

    assert pipeline(capsys, "prune", "--older-than", "1h", "--root", tmp_path)[0] == ExitCode.OK
    assert len(os.listdir(shared)) == 1
    prune(capsys, tmp_path)

    assert os.listdir(shared) == []


def test_pruned_generation_can_be_played_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same genome with `--only`; the old record is pruned, the new one is there and is compared."""
    prune(capsys, project, "--keep", "summary")

    code, _out, _err = pipeline(capsys, "run", "--gen", "1", "--only", "first", "--root", project)

    assert code == ExitCode.FAILED  # the bad genome has still no fitness
    assert len((results_of(project) / "results.jsonl").read_bytes().splitlines()) == 1
    assert verified(capsys, project)[0] == ExitCode.OK


def test_what_was_pruned_of_an_earlier_run_excuses_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fresh` begins the generation again, in the folder that has only tables and the record."""
    prune(capsys, project, "--keep", "summary", "--gen", "1")
    pipeline(capsys, "run", "--gen", "1", "--fresh", "--root", project)
    assert verified(capsys, project)[1][0].endswith(": verified")
    (results_of(project) / "results.jsonl").unlink()

    code, lines = verified(capsys, project)

    assert (code, len(lines)) == (ExitCode.FILES_DIFFER, 2 + len(attempts_of(project)))


# ----------------------------------------------------------------------------------------------------- verify's view


def test_verify_says_when_files_were_pruned(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune(capsys, project)

    code, lines = verified(capsys, project)

    date = json.loads((results_of(project) / "pruned.json").read_bytes())["files"]["at"][:10]
    assert code == ExitCode.OK
    assert all(line.endswith(f": verified; pruned on {date}, counts intact") for line in lines)


def test_records_that_were_not_pruned_are_missed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only logs and artifacts were."""
    prune(capsys, project)
    (results_of(project) / "results.jsonl").unlink()

    code, lines = verified(capsys, project)

    assert code == ExitCode.FILES_DIFFER
    assert any("it is missing; it is only in a backup" in line for line in lines)


def test_snapshots_that_were_not_pruned_are_missed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of the second generation, when only the first was pruned."""
    prune(capsys, project, "--gen", "1")
    path = project / "state/genomes" / digest(b"n")[:2] / digest(b"n")
    path.chmod(0o600)
    path.unlink()

    code, lines = verified(capsys, project)

    assert (code, lines[-1].split(";")[0]) == (ExitCode.FILES_DIFFER, "  files: genome new: its snapshot is missing")


def test_record_that_came_after_pruning_is_missed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The generation went on, so its new results are not excused."""
    prune(capsys, project, "--keep", "summary")
    (project / "genomes/gen-0001/late").write_bytes(b"late")
    pipeline(capsys, "run", "--gen", "1", "--root", project)
    assert verified(capsys, project)[0] == ExitCode.OK
    (results_of(project) / "results.jsonl").unlink()

    code, lines = verified(capsys, project)

    assert code == ExitCode.FILES_DIFFER
    assert [line.split(":")[1] for line in lines if line.startswith("  files")] == [
        f" result of {attempts_of(project)['late']}"
    ]


def test_what_was_pruned_and_is_still_there_is_compared(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill may leave it. A changed fitness in it is found."""
    lines = (results_of(project) / "results.jsonl").read_bytes()
    prune(capsys, project, "--keep", "summary")
    (results_of(project) / "results.jsonl").write_bytes(lines.replace(b'"fitness":', b'"fitness":1'))

    assert verified(capsys, project)[0] == ExitCode.FAILED


def test_unpacked_results_are_records(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As earlier versions of this program kept them: they stay with the records, and go with them."""
    pipeline(capsys, "results", "--unpack", "--gen", "1", "--root", project)
    (results_of(project) / "results.jsonl").unlink()

    prune(capsys, project)
    stayed = {name.rpartition("/")[2] for name in files_in(results_of(project) / "attempts")}
    assert (stayed, verified(capsys, project)[0]) == ({"result.json"}, ExitCode.OK)
    prune(capsys, project, "--keep", "summary")

    assert not (results_of(project) / "attempts").exists()
    assert verified(capsys, project)[0] == ExitCode.OK


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"files": {"at": "2026-11-30T00:00:00", "facts": 1}}', "timezone"),
        (b'{"files": {"at": "9999-12-31T23:59:59-14:00", "facts": 1}}', "in UTC"),
        (b'{"files": {"at": "2026-11-30T00:00:00Z", "facts": -1}}', ">= 0"),
        (b" " * (PRUNED_BYTES_MAX + 1), "larger than"),
        (b"[" * 60_000, ""),
    ],
)
def test_damaged_record_excuses_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], content: bytes, why: str
) -> None:
    """`verify` names it, and `prune` does nothing: it would forget what was pruned before."""
    (results_of(project) / "pruned.json").write_bytes(content)
    (results_of(project) / "results.jsonl").unlink()
    before = files_in(project)

    code, lines = verified(capsys, project)
    refused, _out, err = pipeline(capsys, "prune", "--older-than", "0d", "--root", project)

    assert code == ExitCode.FILES_DIFFER
    assert any(why in line and "pruned.json: it cannot be read" in line for line in lines), lines
    assert (refused, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert set(files_in(project)) - {"state/host.lock", "state/host.lock.pid"} == set(before) - {
        "state/host.lock",
        "state/host.lock.pid",
    }


def test_record_of_a_later_version_is_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kind that this version does not know excuses nothing here, and stays in the file."""
    path = results_of(project) / "pruned.json"
    path.write_text('{"thumbnails": {"at": "2026-11-30T00:00:00Z", "facts": 1, "by": "someone"}}')

    prune(capsys, project)

    assert set(json.loads(path.read_bytes())) > {"thumbnails", "files"}
    assert verified(capsys, project)[0] == ExitCode.OK


# ------------------------------------------------------------------------------------------ kills, hosts, links, input


def test_project_is_verified_after_a_kill_at_any_instant(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first time it is killed at the first change of a file, then at the second one, and so on to the end."""
    words = ["prune", "--older-than", "0d", "--keep", "summary", "--root", str(project)]
    kills = 0
    while subprocess.run(
        [sys.executable, "-c", KILLED, str(kills + 1), *words], capture_output=True, check=False
    ).returncode:
        kills += 1
        assert kills < 100
        code, lines = verified(capsys, project)
        assert code == ExitCode.OK, lines

    assert kills > 4
    assert not list(project.glob("results/*/attempts"))
    assert [set(files_in(results_of(project, number))) for number in (1, 2)] == [{"pruned.json", *TABLES}] * 2
    assert snapshots_of(project) == set()
    assert verified(capsys, project)[0] == ExitCode.OK


def test_running_host_is_not_disturbed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and nothing is removed; `--what-if` may look."""
    before = files_in(project / "results")

    with Host(project, load_config(project), project):
        code, _out, err = pipeline(capsys, "prune", "--older-than", "0d", "--root", project)
        foreseen = prune(capsys, project, "--what-if")

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "another process has this project open" in err
    assert files_in(project / "results") == before
    assert "would be freed" in foreseen


@posix
def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 3; the same command goes on when the rights are corrected."""
    allow_traversal(project)
    for path in (project, *project.rglob("*")):
        path.chmod(0o777)
    kept = results_of(project) / "attempts" / attempts_of(project)["first"] / "files"
    kept.chmod(0o555)
    with as_unprivileged_user():
        code, _out, err = pipeline(capsys, "prune", "--older-than", "0d", "--gen", "1", "--root", project)
    kept.chmod(0o755)

    assert (code, err.count("\n")) == (ExitCode.STOPPED, 1)
    assert "cannot be removed: " in err and "replay.bin: Permission denied; the rest is removed" in err
    assert set(os.listdir(results_of(project) / "attempts")) == {kept.parent.name, attempts_of(project)["elite"]}
    assert verified(capsys, project)[0] == ExitCode.OK
    prune(capsys, project)
    assert not (results_of(project) / "attempts").exists()


def test_nothing_is_removed_if_it_cannot_be_recorded(
    project: Path, tiny_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full to the last byte."""
    root = Path(shutil.copytree(project, tiny_disk / "project"))
    with (tiny_disk / "filler").open("wb") as filler:
        while free := os.statvfs(tiny_disk).f_bavail:
            filler.write(bytes(free * os.statvfs(tiny_disk).f_frsize))
            filler.flush()
    before = files_in(root / "results")

    code, _out, err = pipeline(capsys, "prune", "--older-than", "0d", "--root", root)

    assert (code, err.count("\n")) == (ExitCode.STOPPED, 1)
    assert "; nothing is lost" in err
    assert files_in(root / "results") == before


@posix
def test_links_are_not_followed(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever an attempt has left: the files that links lead to stay, and are not counted."""
    (outside := tmp_path / "outside").mkdir()
    (outside / "log.txt").write_bytes(bytes(10_000_000))
    attempts = results_of(project) / "attempts"
    first, elite, bad = (attempts / attempts_of(project)[name] for name in ("first", "elite", "bad"))
    shutil.rmtree(first)
    first.symlink_to(outside)
    shutil.rmtree(elite / "files")
    (elite / "files").symlink_to(outside)
    (bad / "files/link").symlink_to(outside)
    shutil.rmtree(results_of(project) / "set-aside")
    (results_of(project) / "set-aside").symlink_to(outside)
    (project / "results/gen-0001.before-1").symlink_to(outside)

    out = prune(capsys, project, "--keep", "summary")

    assert (outside / "log.txt").stat().st_size == 10_000_000
    assert "MiB" not in out
    assert not elite.exists() and not bad.exists() and not (results_of(project) / "set-aside").is_symlink()


@posix
@pytest.mark.parametrize("name", ["attempts", "."])
def test_folder_that_is_a_link_is_left_alone(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The attempts' folder, or that of all results of the generation."""
    folder, elsewhere = results_of(project) / name, tmp_path / "elsewhere"
    shutil.move(folder, elsewhere)
    results_of(project).joinpath(name).symlink_to(elsewhere)
    before = {path for path in files_in(elsewhere) if path != "pruned.json"}

    prune(capsys, project)

    assert {path for path in files_in(elsewhere) if path != "pruned.json"} == before


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30 days", "1e9d", "9999999d", ""])
def test_unclear_age_is_refused(project: Path, capsys: pytest.CaptureFixture[str], age: str) -> None:
    code, _out, err = pipeline(capsys, "prune", f"--older-than={age}", "--root", project)

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "expected a number of hours, days or weeks, e.g. 12h, 30d or 8w" in err


@pytest.mark.parametrize("options", [[], ["--gen", "7"]])
def test_nothing_was_run(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    """In the project, or of that generation; nothing is made."""
    root = project if options else tmp_path / "empty"

    code, _out, err = pipeline(capsys, "prune", "--older-than", "0d", *options, "--root", root)

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert not (tmp_path / "empty").exists()


# ------------------------------------------------------------------------------------------------------- `keep`


def play_again(root: Path, keep: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Plays the first generation anew with that setting."""
    path = root / "pipeline.toml"
    path.write_text(path.read_text().replace("[generation]\n", f'[generation]\nkeep = "{keep}"\n'))
    pipeline(capsys, "run", "--gen", "1", "--fresh", "--root", root)


@pytest.mark.parametrize(
    ("keep", "attempts", "others"),
    [
        ("all", {"elite", "bad", "first"}, {"results.jsonl"}),
        ("failed", {"bad"}, {"results.jsonl", "pruned.json"}),
        ("results", set[str](), {"results.jsonl", "pruned.json"}),
        ("summary", set[str](), {"pruned.json"}),
    ],
)
def test_finished_generation_keeps_what_is_configured(
    project: Path, capsys: pytest.CaptureFixture[str], keep: str, attempts: set[str], others: set[str]
) -> None:
    """Its snapshots stay, the count is verified, and the page links to the files that are there."""
    play_again(project, keep, capsys)

    ids = {attempts_of(project)[genome] for genome in attempts}
    folder = results_of(project)
    assert set(os.listdir(folder)) == {*TABLES, *others, *(["attempts"] if attempts else [])}
    assert {path.parent.name for path in folder.glob("attempts/*/log.txt")} == ids
    assert {digest(ELITE), digest(BAD), digest(FIRST_ONLY)} <= snapshots_of(project)
    assert verified(capsys, project)[0] == ExitCode.OK
    pipeline(capsys, "report", "--gen", "1", "--root", project)
    page = (project / "results/report-gen-0001.html").read_text(encoding="utf-8")
    assert f'"folders":{json.dumps({"1": sorted(ids)}, separators=(",", ":"))}' in page


def test_finished_generation_that_was_not_tidied_is_by_the_next_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a kill, or if the setting was made later."""
    path = project / "pipeline.toml"
    path.write_text(path.read_text().replace("[generation]\n", '[generation]\nkeep = "results"\n'))

    pipeline(capsys, "run", "--gen", "1", "--root", project)

    assert not (results_of(project) / "attempts").exists()
    assert (results_of(project, 2) / "attempts").exists()


def test_files_that_cannot_be_removed_are_no_failure_of_a_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results are complete. One warning says why they stay."""
    path = project / "pipeline.toml"
    path.write_text(path.read_text().replace("[generation]\n", '[generation]\nkeep = "results"\n'))
    (results_of(project, 2) / "pruned.json").write_bytes(b"{")

    code, _out, err = pipeline(capsys, "run", "--gen", "2", "--root", project)

    assert (code, err.count("\n")) == (ExitCode.OK, 1)
    assert err.startswith('WARNING: keep = "results": cannot be removed: ')
    assert (results_of(project, 2) / "attempts").exists()


def test_program_gets_its_scores_and_keeps_no_files(project: Path) -> None:
    with open_farm(project, keep="summary", reuse="none") as farm:
        scores = farm.evaluate({"a": b"1", "b": b"2"})

    assert all(found.value is not None and found.files is None for found in scores.values())
    assert set(os.listdir(ProjectPaths(project).results(3))) == {"pruned.json", *TABLES}
