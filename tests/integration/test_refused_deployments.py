"""What `pipeline deploy` refuses: one line that says what is wrong, exit code 2, and nothing is deployed."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inbox_agent import evaluator_archive
from inbox_agent.evaluator_archive import pack_evaluator
from pipeline.host import evaluator_packing
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore
from tests.harness.command_line import pipeline
from tests.harness.links import link_folder

pytestmark = pytest.mark.timeout(120)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names and links")

WORKERS = "[local]\nworkers = 0\n[[worker]]\nname = 'vm-1'\nshare = 'share'\n"
FUNCTION = "[evaluator]\npython = 'play:play'\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one worker behind a share, whose agent is silent."""
    root = tmp_path / "farm"
    (root / "share").mkdir(parents=True)
    (root / "pipeline.toml").write_text(FUNCTION + WORKERS)
    (root / "play.py").write_text("def play(genome, trial):\n    return 1.0\n")
    return root


@pytest.fixture
def refused(root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Deploys, and returns the one line that was printed."""

    def refused(*args: object, code: int = 2) -> str:
        before = DeploymentStore(ProjectPaths(root)).archive("*").parent
        kept = sorted(before.glob("*.zip")) if before.exists() else []
        found, out, err = pipeline(capsys, "deploy", *args, "--wait", "0", "--root", root)
        assert (found, out) == (code, ""), err
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].isprintable()
        assert (sorted(before.glob("*.zip")) if before.exists() else []) == kept
        assert not (before / "new").exists()
        return lines[0]

    return refused


def configure(root: Path, text: str) -> None:
    (root / "pipeline.toml").write_text(text)


# -------------------------------------------------------------------------------------------------------- configuration


def test_project_without_workers_behind_shares(root: Path, refused: Callable[..., str]) -> None:
    configure(root, FUNCTION + "[local]\nworkers = 2\n")
    assert "there is no [[worker]]: local workers play the files of this project as they are" in refused()


def test_unknown_worker(refused: Callable[..., str]) -> None:
    assert "--to vm-7: no [[worker]] of that name; there are vm-1" in refused("--to", "vm-7")


def test_version_in_place_of_files(root: Path, refused: Callable[..., str]) -> None:
    configure(root, FUNCTION + "version = '7'\n" + WORKERS)
    assert "[evaluator] has `version`, and so no files" in refused()


def test_nothing_to_play(root: Path, refused: Callable[..., str]) -> None:
    configure(root, WORKERS)
    assert "[evaluator] does not say what is played" in refused()


def test_folder_beside_local_workers(root: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """These play the files of the project, so that one generation would be played by two versions."""
    configure(root, FUNCTION + WORKERS.replace("workers = 0", "workers = 1"))
    (tmp_path / "other").mkdir()
    assert "the local workers play the files of" in refused(tmp_path / "other")


@pytest.mark.parametrize("options", [("--to", "vm-1"), ("--what-if",), (".",)], ids=str)
def test_rollback_of_a_part(refused: Callable[..., str], options: tuple[str, ...]) -> None:
    assert "--rollback deploys an earlier version to all workers" in refused("--rollback", *options)


# --------------------------------------------------------------------------------------------------------------- files


def test_folder_of_nothing(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "there are no files" in refused(tmp_path / "empty")


def test_pattern_that_matches_nothing(root: Path, refused: Callable[..., str]) -> None:
    configure(root, FUNCTION + "files = ['*.lua']\n" + WORKERS)
    assert "no file matches '*.lua'" in refused()


@posix
def test_link_to_a_file(root: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "secret.py").write_text("password = 1\n")
    (root / "lib.py").symlink_to(tmp_path / "secret.py")
    assert "lib.py is a link or behind one; put the file itself there" in refused()


def test_link_to_a_folder(root: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """On Windows a junction."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lib.py").write_text("x = 1\n")
    link_folder(root / "lib", tmp_path / "elsewhere")
    configure(root, FUNCTION + "files = ['*.py', 'lib/*.py']\n" + WORKERS)
    assert "lib/lib.py is a link or behind one" in refused()


@posix
def test_link_that_leads_nowhere(root: Path, refused: Callable[..., str]) -> None:
    (root / "lib.py").symlink_to(root / "nowhere")
    assert "lib.py is a link that leads to no file" in refused()


@posix
def test_link_to_itself(root: Path, refused: Callable[..., str]) -> None:
    (root / "loop.py").symlink_to(root / "loop.py")
    assert "loop.py is a link that leads to no file" in refused()


def test_files_of_two_gigabytes(root: Path, refused: Callable[..., str]) -> None:
    """Sparse, so that nothing of it is on the disk; it is not read."""
    with open(root / "weights.py", "wb") as file:
        os.truncate(file.fileno(), 2 * 2**30)
    assert "the files that count for the evaluator have more than 256 MiB" in refused()


def test_more_than_a_thousand_files(root: Path, refused: Callable[..., str]) -> None:
    for number in range(1001):
        (root / f"m{number}.py").touch()
    assert "more than 1000 files count for the evaluator" in refused()


@posix
@pytest.mark.parametrize(
    "name", ["con.py", "ab:c.py", "nul", "tail.", "tail ", 'q".py', "a\\b.py", "a\x1b[2J.py", "a\n.py"]
)
def test_name_that_windows_does_not_allow(root: Path, refused: Callable[..., str], name: str) -> None:
    (root / name).write_text("x = 1\n")
    configure(root, FUNCTION + "files = ['*']\n" + WORKERS)
    (root / "notes").mkdir()
    assert "has a name that Windows does not allow" in refused()


@posix
def test_name_with_a_drive(root: Path, refused: Callable[..., str]) -> None:
    (root / "a:b.py").write_text("x = 1\n")
    assert "a:b.py lies outside of the folder" in refused()


@posix
def test_names_that_differ_in_case(root: Path, refused: Callable[..., str]) -> None:
    for name in ("lib.py", "LIB.py"):
        (root / name).write_text("x = 1\n")
    assert "LIB.py and lib.py have the same name on Windows" in refused()


def test_path_that_is_too_long(root: Path, refused: Callable[..., str]) -> None:
    folder = root / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    (folder / "lib.py").touch()
    assert "has a path of more than 180 characters" in refused()


def test_argument_of_the_command_outside_of_the_folder(root: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "tool.py").write_text("x = 1\n")
    configure(root, "[evaluator]\ncommand = ['python', '../tool.py', '{genome}']\n" + WORKERS)
    assert "../tool.py lies outside of the folder" in refused()


def test_absolute_argument_of_the_command(root: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "tool.py").write_text("x = 1\n")
    configure(root, f"[evaluator]\ncommand = ['python', '{tmp_path / 'tool.py'}', '{{genome}}']\n" + WORKERS)
    assert "lies outside of the folder" in refused()


def test_file_that_changes_while_it_is_read(
    root: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its digest was computed, before it is packed."""

    def edit_first(folder: Path, files: dict[str, str], archive: Path) -> None:
        (root / "play.py").write_text("# edited\n")
        pack_evaluator(folder, files, archive)

    monkeypatch.setattr(evaluator_packing, "pack_evaluator", edit_first)
    assert "play.py changes while it is read; stop what writes it" in refused()


def test_file_that_vanishes_while_it_is_read(
    root: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_first(folder: Path, files: dict[str, str], archive: Path) -> None:
        (root / "play.py").unlink()
        pack_evaluator(folder, files, archive)

    monkeypatch.setattr(evaluator_packing, "pack_evaluator", remove_first)
    assert "play.py" in refused()


def test_more_than_an_archive_may_have(
    root: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator_archive, "ARCHIVE_BYTES_MAX", 2**20)
    (root / "data.py").write_bytes(b"#" * (2**20 + 1))
    assert "the files have more than 1 MiB" in refused()


# ------------------------------------------------------------------------------------------------------ its own state


def test_two_deploys_at_once(root: Path, refused: Callable[..., str]) -> None:
    with DeploymentStore(ProjectPaths(root)).changing():
        assert "another `pipeline deploy` is at work here" in refused()


def test_deploys_of_two_threads_get_two_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, or one of them is refused; the list is never damaged."""
    codes: list[int] = []

    def deploy(edition: int) -> None:
        folder = root.parent / f"edition-{edition}"
        folder.mkdir()
        (folder / "play.py").write_text(f"EDITION = {edition}\n")
        codes.append(pipeline(capsys, "deploy", folder, "--wait", "0", "--root", root)[0])

    threads = [threading.Thread(target=deploy, args=[edition]) for edition in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = DeploymentStore(ProjectPaths(root)).read().known
    assert [each.number for each in known] == list(range(1, len(known) + 1))
    assert len(known) == len([code for code in codes if code != 2])


@pytest.mark.parametrize("data", [b"", b"[", b"{}", b'[{"number": 1}]', b"\xff\xfe", b"\0" * 9], ids=repr)
def test_damaged_list_of_deployments(root: Path, refused: Callable[..., str], data: bytes) -> None:
    """It is named, and what to do about it."""
    path = ProjectPaths(root).deployments
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    for options in ((), ("--rollback",)):
        line = refused(*options)
        assert f"{path}: is damaged" in line
        assert "remove it, and deploy the evaluator again" in line
    path.unlink()


def test_damaged_list_stops_a_run_with_its_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which version the generation is to be played by is not known."""
    path = ProjectPaths(root).deployments
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[")
    (root / "genomes" / "gen-0001").mkdir(parents=True)
    (root / "genomes" / "gen-0001" / "a.json").write_text("{}")

    code, _out, err = pipeline(capsys, "run", "--gen", "1", "--root", root)

    assert code == 2
    assert f"{path}: is damaged" in err


@posix
def test_full_disk(tiny_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was deployed before stays, and no part of an archive is left. The same command works when there is room."""
    root = tiny_disk / "farm"
    (root / "share").mkdir(parents=True)
    (root / "pipeline.toml").write_text(FUNCTION + WORKERS)
    (root / "play.py").write_text("x = 1\n")
    assert pipeline(capsys, "deploy", "--wait", "0", "--root", root)[0] == 1
    (root / "play.py").write_bytes(b"x = '" + os.urandom(1_000_000).hex().encode() + b"'\n")
    paths = ProjectPaths(root)
    before = paths.deployments.read_bytes()
    with pytest.raises(OSError, match="No space"), open(tiny_disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 65536)

    code, out, err = pipeline(capsys, "deploy", "--wait", "0", "--root", root)

    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "No space left on device" in err
    assert paths.deployments.read_bytes() == before
    assert sorted(path.name for path in paths.all_deployments.glob("*.zip")) == [
        f"{each.archive_sha256}.zip" for each in DeploymentStore(paths).read().known
    ]
    assert not paths.new_archive.exists()
    (tiny_disk / "filler").unlink()
    assert pipeline(capsys, "deploy", "--wait", "0", "--root", root)[0] == 1
