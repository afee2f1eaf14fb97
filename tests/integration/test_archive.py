"""The archive on a real disk: a line for each accepted result, a folder for its log and artifacts."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.observation import CollectedResult
from pipeline.paths import ProjectPaths
from pipeline.storage.archive import Archive
from pipeline.storage.result_lines import ResultLine, read_result_lines
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
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(ProjectPaths(tmp_path))
    yield made
    made.close()


def seen(**other: Any) -> CollectedResult:
    fields: dict[str, Any] = {"attempt": attempt(1), "record": records.result(1), "data": b"{}", "log": b"hello"}
    return CollectedResult(**{**fields, **other})


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines_in(results: Path) -> list[ResultLine]:
    return list(read_result_lines(results / "results.jsonl"))


def arrives(incoming: Path, name: str, data: bytes, worker: str = WORKER) -> None:
    """Simulates an artifact that was fetched from a worker's share."""
    (incoming / worker / attempt(1)).mkdir(parents=True, exist_ok=True)
    (incoming / worker / attempt(1) / name).write_bytes(data)


def test_accepted_result_is_stored_with_log_and_artifacts(archive: Archive, incoming: Path, results: Path) -> None:
    """The record is in a line, log and artifacts are in a folder, and nothing is left in the incoming folder."""
    arrives(incoming, "replay", b"replay")

    archive.store(GENERATION, [(WORKER, seen(artifacts=("replay",)))])

    folder = f"attempts/{attempt(1)}"
    assert files_in(results) == {
        "results.jsonl": b'{"attempt":"%s","log":true,"files":["replay"],"record":{}}\n' % attempt(1).encode(),
        f"{folder}/log.txt": b"hello",
        f"{folder}/files/replay": b"replay",
    }
    assert files_in(incoming) == {}


def test_result_without_log_and_artifacts_has_no_folder(archive: Archive, results: Path) -> None:
    """All results of a tick are in one file."""
    archive.store(GENERATION, [(WORKER, seen(attempt=attempt(number), log=b"")) for number in (1, 2)])

    assert [line.attempt for line in lines_in(results)] == [attempt(1), attempt(2)]
    assert set(files_in(results)) == {"results.jsonl"}


def test_result_may_be_stored_again(archive: Archive, incoming: Path, results: Path) -> None:
    """archived -> the host is killed before it records it -> collected again: two lines that say the same."""
    for _ in range(2):
        arrives(incoming, "replay", b"replay")
        archive.store(GENERATION, [(WORKER, seen(artifacts=("replay",)))])

    assert len(files_in(results)) == 3
    one, other = lines_in(results)
    assert (one.attempt, one.record, one.log, one.files) == (other.attempt, other.record, other.log, other.files)


def test_artifact_that_was_archived_before_is_named_again(archive: Archive, incoming: Path, results: Path) -> None:
    """The host was killed before the line was written; this time nothing is fetched for one of the names."""
    arrives(incoming, "replay", b"replay")
    archive.store(GENERATION, [(WORKER, seen(artifacts=("replay",)))])
    archive.close()
    (results / "results.jsonl").unlink()

    archive.store(GENERATION, [(WORKER, seen(artifacts=("replay", "picture")))])

    [line] = lines_in(results)
    assert line.files == ["replay"]


def test_each_generation_has_its_own_lines(archive: Archive, tmp_path: Path) -> None:
    """The archive goes on with another generation, and comes back."""
    for generation in (7, 8, 7):
        archive.store(generation, [(WORKER, seen())])

    assert [len(lines_in(ProjectPaths(tmp_path).results(generation))) for generation in (7, 8)] == [2, 1]


def test_folder_of_closed_archive_can_be_renamed(archive: Archive, results: Path, tmp_path: Path) -> None:
    """Also on Windows, where a file that is open keeps its folder. What is stored afterwards is in a new one."""
    archive.store(GENERATION, [(WORKER, seen())])
    archive.close()
    results.rename(tmp_path / "moved")

    archive.store(GENERATION, [(WORKER, seen(attempt=attempt(2)))])

    assert [line.attempt for line in lines_in(tmp_path / "moved")] == [attempt(1)]
    assert [line.attempt for line in lines_in(results)] == [attempt(2)]


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

    archive.store(GENERATION, [(WORKER, seen(artifacts=("replay",)))])

    assert (results / "attempts" / attempt(1) / "files/replay").read_bytes() == b"replay"


def test_unreadable_result_is_not_set_aside(archive: Archive, results: Path) -> None:
    """A corrupt result has no bytes to keep."""
    archive.set_aside(GENERATION, WORKER, seen(record=None, data=b""), "corrupt")

    assert files_in(results) == {}


@pytest.mark.parametrize("part", ["data", "log"])
def test_full_disk_raises_on_store(tiny_disk: Path, part: str) -> None:
    """A record or log is archived completely, or there is an error before the ledger counts it."""
    paths = ProjectPaths(tiny_disk)
    archive, large = Archive(paths), {"data": b'{"reason":"%s"}' % (b"x" * 60_000), "log": b"x" * 60_000}
    archive.store(GENERATION, [(WORKER, seen(log=b""))])
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
    (tiny_disk / "filler").write_bytes(b"x" * (room - 32 * 1024))
    small = seen(attempt=attempt(2), log=b"")

    with pytest.raises(OSError, match="No space left"):
        archive.store(GENERATION, [(WORKER, small), (WORKER, seen(**{"log": b"", part: large[part]}))])
    (tiny_disk / "filler").unlink()

    assert [line.attempt for line in lines_in(paths.results(GENERATION))] == [attempt(1)], "some lines of a tick"
    archive.store(GENERATION, [(WORKER, small)])
    assert [line.attempt for line in lines_in(paths.results(GENERATION))] == [attempt(1), attempt(2)]


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

    archive.store(GENERATION, [(WORKER, seen(artifacts=("large",)))])
    archive.discard(WORKER, attempt(1))

    assert "artifacts are left out" in caplog.text
    there = {"filler", "gen-0007/results.jsonl", f"gen-0007/attempts/{attempt(1)}/log.txt"}
    assert set(files_in(tiny_disk)) == there
    assert [line.files for line in lines_in(tiny_disk / "gen-0007")] == [[]]
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
        archive.store(GENERATION, [(WORKER, seen(artifacts=("replay",)))])


def test_what_an_earlier_host_fetched_is_removed(archive: Archive, incoming: Path) -> None:
    """It was killed before it archived it."""
    arrives(incoming, "replay", b"replay")
    archive.clear_incoming()
    archive.clear_incoming()

    assert not incoming.exists()
