"""The archive on a real disk: accepted results under their attempt ids, each complete or absent."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.observation import CollectedResult
from pipeline.paths import ProjectPaths
from pipeline.storage.archive import Archive
from tests.harness import records
from tests.harness.records import WORKER, attempt

GENERATION = 7


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return ProjectPaths(tmp_path).incoming


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return ProjectPaths(tmp_path).results(GENERATION)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(ProjectPaths(tmp_path))


def seen(**other: Any) -> CollectedResult:
    fields: dict[str, Any] = {"attempt": attempt(1), "record": records.result(1), "data": b"{}", "log": b"hello"}
    return CollectedResult(**{**fields, **other})


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arrives(incoming: Path, name: str, data: bytes, worker: str = WORKER) -> None:
    """Simulates an artifact that was fetched from a worker's share."""
    (incoming / worker / attempt(1)).mkdir(parents=True, exist_ok=True)
    (incoming / worker / attempt(1) / name).write_bytes(data)


def test_accepted_result_is_stored_with_log_and_artifacts(archive: Archive, incoming: Path, results: Path) -> None:
    """Record, log and artifacts are in one folder, and nothing is left in the incoming folder."""
    arrives(incoming, "replay", b"replay")

    archive.store(GENERATION, WORKER, seen(artifacts=("replay",)))

    folder = f"attempts/{attempt(1)}"
    assert files_in(results) == {
        f"{folder}/result.json": b"{}",
        f"{folder}/log.txt": b"hello",
        f"{folder}/files/replay": b"replay",
    }
    assert files_in(incoming) == {}


def test_store_is_idempotent(archive: Archive, incoming: Path, results: Path) -> None:
    """archived -> the host is killed before it records it -> collected again, under the same name."""
    for _ in range(2):
        arrives(incoming, "replay", b"replay")
        archive.store(GENERATION, WORKER, seen(artifacts=("replay",)))

    assert len(files_in(results)) == 3


def test_uncounted_result_is_set_aside(archive: Archive, incoming: Path, results: Path) -> None:
    """It is kept as evidence under its reason; its artifacts are not."""
    arrives(incoming, "replay", b"replay")

    archive.set_aside(GENERATION, WORKER, seen(artifacts=("replay",)), "late")
    archive.discard(WORKER, attempt(1))

    assert files_in(results) == {f"set-aside/{attempt(1)}.late.json": b"{}"}
    assert files_in(incoming) == {}


def test_artifacts_of_other_worker_are_not_stored(archive: Archive, incoming: Path, results: Path) -> None:
    """A result for an attempt of another worker leaves its bytes in its own folder."""
    arrives(incoming, "replay", b"replay")
    arrives(incoming, "replay", b"forged", worker="vm-99")

    archive.store(GENERATION, WORKER, seen(artifacts=("replay",)))

    assert (results / "attempts" / attempt(1) / "files/replay").read_bytes() == b"replay"


def test_unreadable_result_is_not_set_aside(archive: Archive, results: Path) -> None:
    """A corrupt result has no bytes to keep."""
    archive.set_aside(GENERATION, WORKER, seen(record=None, data=b""), "corrupt")

    assert files_in(results) == {}


@pytest.mark.parametrize("part", ["data", "log"])
def test_full_disk_raises_on_store(tiny_disk: Path, part: str) -> None:
    """A record or log is archived completely, or there is an error before the ledger counts it."""
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
    (tiny_disk / "filler").write_bytes(b"x" * (room - 32 * 1024))

    with pytest.raises(OSError, match="No space left"):
        Archive(ProjectPaths(tiny_disk)).store(GENERATION, WORKER, seen(**{"log": b"", part: b"x" * 60_000}))


def test_results_set_aside_have_a_budget(tmp_path: Path, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first ones are kept, also if the host restarts; one warning says that further ones are not."""
    for first in (1, 4):
        archive = Archive(ProjectPaths(tmp_path), set_aside_bytes_max=250)
        for number in range(first, first + 3):
            archive.set_aside(GENERATION, WORKER, seen(attempt=attempt(number), data=b"x" * 100), "unexpected")

    assert {path.name for path in (results / "set-aside").iterdir()} == {
        f"{attempt(number)}.unexpected.json" for number in (1, 2)
    }
    assert ["set_aside_bytes_max" in record.getMessage() for record in caplog.records] == [True, True]


def test_budget_is_that_of_one_run(results: Path, tmp_path: Path) -> None:
    """A run that begins anew moves the folder of the earlier one aside."""
    archive = Archive(ProjectPaths(tmp_path), set_aside_bytes_max=150)
    archive.set_aside(GENERATION, WORKER, seen(data=b"x" * 100), "late")
    results.rename(tmp_path / "moved")

    archive.set_aside(GENERATION, WORKER, seen(data=b"x" * 100), "late")

    assert len(files_in(results)) == 1


def test_full_disk_keeps_no_evidence(tiny_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A result that does not count stops no host."""
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
    (tiny_disk / "filler").write_bytes(b"x" * (room - 32 * 1024))

    Archive(ProjectPaths(tiny_disk)).set_aside(GENERATION, WORKER, seen(data=b"x" * 60_000), "late")

    assert "cannot be kept" in caplog.text


def test_full_disk_leaves_artifacts_out(
    tmp_path: Path, tiny_disk: Path, incoming: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The results are on another disk than what was fetched, and it fills up; record and log are archived."""
    os.symlink(tiny_disk, tmp_path / "results")
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
    (tiny_disk / "filler").write_bytes(b"x" * (room - 128 * 1024))
    arrives(incoming, "large", b"x" * 200_000)
    archive = Archive(ProjectPaths(tmp_path))

    archive.store(GENERATION, WORKER, seen(artifacts=("large",)))
    archive.discard(WORKER, attempt(1))

    assert "artifacts are left out" in caplog.text
    assert set(files_in(tiny_disk)) == {"filler"} | {
        f"gen-0007/attempts/{attempt(1)}/{name}" for name in ("result.json", "log.txt")
    }
    assert files_in(incoming) == {}


def test_other_errors_of_the_disk_are_raised(archive: Archive, incoming: Path, results: Path) -> None:
    """A file is where a folder is to be."""
    arrives(incoming, "replay", b"replay")
    results.mkdir(parents=True)
    (results / "set-aside").write_text("not a folder")
    (results / "attempts" / attempt(1)).mkdir(parents=True)
    (results / "attempts" / attempt(1) / "files").write_text("not a folder")

    with pytest.raises(OSError, match="set-aside"):
        archive.set_aside(GENERATION, WORKER, seen(), "late")
    with pytest.raises(FileExistsError):
        archive.store(GENERATION, WORKER, seen(artifacts=("replay",)))


def test_what_an_earlier_host_fetched_is_removed(archive: Archive, incoming: Path) -> None:
    """It was killed before it archived it."""
    arrives(incoming, "replay", b"replay")
    archive.clear_incoming()
    archive.clear_incoming()

    assert not incoming.exists()
