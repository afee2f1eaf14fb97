"""`pipeline results --unpack`: a folder for each archived result, with its log and artifacts."""

import json
import shutil
from pathlib import Path

import pytest

from inbox_agent.protocol.layout import ResultRecord, decode
from pipeline.cli import main
from pipeline.errors import ExitCode
from tests.harness.command_line import pipeline
from tests.harness.links import link_folder

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one generation of a real run: four genomes, three trials each. Two attempts have more files."""
    root = tmp_path_factory.mktemp("played")
    assert main.run_commands(["init", str(root)]) == ExitCode.OK
    assert main.run_commands(["run", "--gen", "1", "--root", str(root)]) == ExitCode.OK
    for attempt in attempts_in(root)[:2]:
        folder = root / "results/gen-0001/attempts" / attempt
        (folder / "files").mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("hello")
        (folder / "files" / "replay").write_text("replay")
    return root


@pytest.fixture
def project(played: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(played, tmp_path / "project"))


def lines_in(root: Path) -> Path:
    return root / "results/gen-0001/results.jsonl"


def attempts_in(root: Path) -> list[str]:
    return [json.loads(line)["attempt"] for line in lines_in(root).read_bytes().splitlines()]


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_are_unpacked_beside_logs_and_artifacts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each record as an agent writes it; the same command again changes nothing."""
    attempts, folder = attempts_in(project), project / "results/gen-0001/attempts"
    for _ in range(2):
        code, out, err = pipeline(capsys, "results", "--unpack", "--gen", "1", "--root", project)
        assert (code, out, err) == (ExitCode.OK, f"12 results in {folder}\n", "")

    assert set(files_in(folder)) == {
        *(f"{attempt}/result.json" for attempt in attempts),
        *(f"{attempt}/{name}" for attempt in attempts[:2] for name in ("log.txt", "files/replay")),
    }
    for attempt in attempts:
        data = (folder / attempt / "result.json").read_bytes()
        assert decode(ResultRecord, data, "result").attempt == attempt
        assert data.startswith(b'{\n  "layout": ')
    assert pipeline(capsys, "verify", "--root", project)[0] == ExitCode.OK


def test_unpacked_results_are_verified_without_their_lines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folders are what earlier versions of this program wrote."""
    pipeline(capsys, "results", "--unpack", "--root", project)
    lines_in(project).unlink()

    assert pipeline(capsys, "verify", "--root", project)[0] == ExitCode.OK


def test_results_are_unpacked_into_another_folder(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With copies of logs and artifacts; the project stays as it was."""
    attempts, before, folder = attempts_in(project), files_in(project / "results"), tmp_path / "new" / "folder"

    code, out, _ = pipeline(capsys, "results", "--unpack", folder, "--root", project)

    assert (code, out) == (ExitCode.OK, f"12 results in {folder}\n")
    assert files_in(folder)[f"{attempts[0]}/files/replay"] == b"replay"
    assert len(list(folder.glob("*/result.json"))) == 12
    assert files_in(project / "results") == before


def test_files_behind_a_link_are_not_unpacked(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link in place of an attempt's folder; on Windows a junction. The record comes from `results.jsonl`."""
    attempt, folder = attempts_in(project)[0], tmp_path / "new"
    place = project / "results/gen-0001/attempts" / attempt
    link_folder(place, place.rename(tmp_path / "elsewhere"))
    assert (place / "files" / "replay").exists()

    code, _, _ = pipeline(capsys, "results", "--unpack", folder, "--root", project)

    assert code == ExitCode.OK
    assert set(files_in(folder / attempt)) == {"result.json"}


def test_last_line_of_an_attempt_is_unpacked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the one that counted. Damaged lines are skipped, and told."""
    path, attempt = lines_in(project), attempts_in(project)[0]
    last = b'{"attempt":"%s","record":{"last":true}}\n' % attempt.encode()
    path.write_bytes(path.read_bytes() + last + b'{"attempt":\n')

    code, out, err = pipeline(capsys, "results", "--unpack", "--root", project)

    assert (code, out.startswith("12 results in ")) == (ExitCode.OK, True)
    assert err == f"{path}: 1 damaged line skipped; `pipeline verify` says which\n"
    assert json.loads((path.parent / "attempts" / attempt / "result.json").read_bytes()) == {"last": True}


def test_record_in_a_string_is_unpacked_byte_for_byte(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was no JSON of Unicode."""
    path, attempt = lines_in(project), attempts_in(project)[0]
    path.write_bytes(b'{"attempt":"%s","record":"\\u00ff {"}\n' % attempt.encode())

    pipeline(capsys, "results", "--unpack", "--root", project)

    assert (path.parent / "attempts" / attempt / "result.json").read_bytes() == b"\xff {"


@pytest.mark.parametrize("more", [("--all",), ("--top", "3"), ("--json",), ("--csv",)])
def test_unpack_refuses_options_of_the_table(
    played: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    code, out, err = pipeline(capsys, "results", "--unpack", *more, "--root", played)

    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "leave out the options of the table" in err


def test_results_without_lines_are_not_unpacked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Earlier versions of this program wrote the folders themselves."""
    lines_in(project).unlink()

    code, out, err = pipeline(capsys, "results", "--unpack", "--root", project)

    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "there is no results.jsonl" in err


def test_place_that_cannot_be_written_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what to do."""
    in_the_way = project / "a-file"
    in_the_way.write_text("and no folder")

    code, out, err = pipeline(capsys, "results", "--unpack", in_the_way, "--root", project)

    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "a-file" in err and "give another place with --unpack" in err
