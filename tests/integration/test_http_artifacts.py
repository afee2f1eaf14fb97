"""The artifacts of a genome over HTTP: only regular files of attempts that decided its trials, to be saved."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.local_folders import Folders, FoldersByPath, folders_of
from pipeline.control import genome_artifacts
from pipeline.http_api.request_body import BodyMemory
from tests.harness.farm_project import FarmProject, games
from tests.harness.http_farm import HttpFarm, http_farm, problem
from tests.harness.links import link_folder, unlink_folder

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right on Windows")
REPLAY = b"<script>alert(1)</script>"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    """Generation 1 is finished, and its games have left nothing."""
    project = FarmProject(tmp_path_factory.mktemp("artifacts") / "farm")
    project.configure(workers=1)
    project.add_genomes(games(2))
    code, out = project.run()
    assert code == 0, out
    with http_farm(project.root, control=False) as farm:
        yield farm


@pytest.fixture
def client(farm: HttpFarm) -> Iterator[httpx.Client]:
    with farm.client("read") as client:
        yield client


@pytest.fixture
def names() -> list[str]:
    return sorted(games(2))


def attempt_of(client: httpx.Client, name: str) -> str:
    (attempt,) = client.get(f"/generations/1/genomes/{name}").json()["attempts"]
    return str(attempt)


@pytest.fixture
def files(farm: HttpFarm, client: httpx.Client, names: list[str]) -> Path:
    """The folder of the artifacts of the first genome, with one."""
    folder = farm.root / "results" / "gen-0001" / "attempts" / attempt_of(client, names[0]) / "files"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replay.html").write_bytes(REPLAY)
    return folder


def test_artifact_is_listed_and_saved(client: httpx.Client, names: list[str], files: Path) -> None:
    """A browser neither shows it nor guesses what it is. A genome without artifacts has an empty list."""
    attempt = attempt_of(client, names[0])
    listed = client.get(f"/generations/1/genomes/{names[0]}/artifacts").json()
    assert listed == {
        "generation": 1,
        "genome": names[0],
        "items": [{"attempt": attempt, "name": "replay.html", "size_bytes": len(REPLAY)}],
    }
    answer = client.get(f"/generations/1/genomes/{names[0]}/artifacts/{attempt}/replay.html")
    assert answer.content == REPLAY
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="replay.html"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get(f"/generations/1/genomes/{names[1]}/artifacts").json()["items"] == []


@pytest.mark.parametrize(
    ("file", "status"),
    [
        ("missing.txt", 404),
        ("%2e%2e", 400),
        ("..%2f..%2f..%2fresults.jsonl", 400),
        ("%2fetc%2fpasswd", 400),
        ("..%5cresults.jsonl", 400),
        ("REPLAY.HTML", 400),
        ("nul", 404),
        ("replay.html%00", 400),
        ("replay.html::$data", 400),
        ("replay.html.", 404),
        ("x" * 65, 400),
        ("log.txt", 404),
    ],
)
def test_hostile_name_reaches_no_file(
    client: httpx.Client, names: list[str], files: Path, file: str, status: int
) -> None:
    attempt = attempt_of(client, names[0])
    answer = client.get(f"/generations/1/genomes/{names[0]}/artifacts/{attempt}/{file}")
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("attempt", ["..", "%2e%2e%2f%2e%2e", "g0001-0001-t1-a1-000000000000", "x"])
def test_other_attempt_reaches_no_file(client: httpx.Client, names: list[str], files: Path, attempt: str) -> None:
    answer = client.get(f"/generations/1/genomes/{names[0]}/artifacts/{attempt}/replay.html")
    assert answer.status_code in (400, 404)


def test_attempt_of_another_genome_is_not_found(client: httpx.Client, names: list[str], files: Path) -> None:
    attempt = attempt_of(client, names[0])
    answer = client.get(f"/generations/1/genomes/{names[1]}/artifacts/{attempt}/replay.html")
    assert problem(answer) == (404, "not-found")
    for path in (f"/generations/9/genomes/{names[0]}/artifacts", "/generations/1/genomes/none.json/artifacts"):
        assert problem(client.get(path)) == (404, "not-found")


@posix
def test_links_and_other_kinds_of_files_are_left_out(
    farm: HttpFarm, client: httpx.Client, names: list[str], files: Path, tmp_path: Path
) -> None:
    """A link to a file, a folder, a pipe, and a link in place of the folder itself."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (files / "link.txt").symlink_to(secret)
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe")
    path = f"/generations/1/genomes/{names[0]}/artifacts"
    try:
        assert [each["name"] for each in client.get(path).json()["items"]] == ["replay.html"]
        for name in ("link.txt", "folder", "pipe"):
            assert problem(client.get(f"{path}/{attempt_of(client, names[0])}/{name}")) == (404, "not-found")
    finally:
        (files / "link.txt").unlink()
        (files / "folder").rmdir()
        (files / "pipe").unlink()
    aside = files.rename(files.with_name("aside"))
    files.symlink_to(tmp_path)
    try:
        assert client.get(path).json()["items"] == []
        assert problem(client.get(f"{path}/{attempt_of(client, names[0])}/secret.txt")) == (404, "not-found")
    finally:
        files.unlink()
        aside.rename(files)


@pytest.mark.parametrize("folders", [folders_of, FoldersByPath])
@pytest.mark.parametrize("up", [0, 1])
def test_link_in_place_of_a_folder_is_not_followed(
    client: httpx.Client,
    names: list[str],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folders: Callable[[Path], Folders],
    up: int,
) -> None:
    """Of the artifacts' folder, or of its attempt's; on Windows a junction."""
    monkeypatch.setattr(genome_artifacts, "LocalFiles", partial(LocalFiles, folders=folders))
    path, attempt = f"/generations/1/genomes/{names[0]}/artifacts", attempt_of(client, names[0])
    place = [files, files.parent][up]
    aside = place.rename(tmp_path / "aside")
    try:
        link_folder(place, aside)
        try:
            assert (files / "replay.html").exists()
            assert client.get(path).json()["items"] == []
            assert problem(client.get(f"{path}/{attempt}/replay.html")) == (404, "not-found")
        finally:
            unlink_folder(place)
    finally:
        aside.rename(place)
    assert [each["name"] for each in client.get(path).json()["items"]] == ["replay.html"]


def test_large_artifacts_wait_for_memory(farm: HttpFarm, names: list[str], files: Path) -> None:
    """All bodies and artifacts that are being sent share one limit."""
    memory = BodyMemory(bytes_max=len(REPLAY) - 1)
    with http_farm(farm.root, control=False, bodies=memory) as small:
        small._secrets.update(farm._secrets)  # the tokens of the project
        with small.client("read") as client:
            attempt = attempt_of(client, names[0])
            answer = client.get(f"/generations/1/genomes/{names[0]}/artifacts/{attempt}/replay.html")
            assert problem(answer) == (503, "busy")
