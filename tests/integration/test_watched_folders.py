"""Looks at the folders below `genomes/`, with real files: what is named, what is listed, and how often."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.core.due_generations import DueGenerations, RecordedRun
from pipeline.host.watched_folders import NAMED_MAX, PAUSE_MAX_S, POLL_S, WatchedFolders
from pipeline.paths import ProjectPaths
from pipeline.storage.snapshots import LOOK_STEP
from tests.harness.other_user import allow_traversal, as_unprivileged_user


class Watched:
    """A project whose folders are looked at, on a clock of its own."""

    def __init__(self, root: Path) -> None:
        self.paths, self.due, self.now = ProjectPaths(root), DueGenerations(), 0.0
        self.asked: list[int] = []  #: generations of which the ledger was read
        self.folders = WatchedFolders(self.paths, self.due, self._recorded, lambda: self.now)
        self.paths.all_genomes.mkdir()

    def _recorded(self, generation: int) -> RecordedRun:
        self.asked.append(generation)
        return RecordedRun()

    def add(self, generation: int, *names: str) -> None:
        self.paths.genomes(generation).mkdir(exist_ok=True)
        for name in names:
            (self.paths.genomes(generation) / name).write_bytes(b"genome")

    def look(self, times: int = 1) -> int:
        """Makes whole looks, one a second; returns the steps that they took."""
        steps = 0
        for _ in range(times):
            self.now += POLL_S
            before = self.folders.looks
            while self.folders.looks == before:
                self.folders.step()
                steps += 1
        return steps

    @property
    def next(self) -> int | None:
        return self.due.next_due(self.now)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_generation_is_found_with_its_complete_files(watched: Watched) -> None:
    """The ledger is asked once."""
    watched.add(7, "a", ".hidden", "b.part")
    watched.look(2)

    assert watched.next == 7
    assert watched.due.complete(7) == {"a"}
    assert watched.asked == [7]


def test_other_names_are_named_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers that are written in another way, files, and folders with other names; no hidden ones."""
    for name in ("gen-7", "gen-0000", "gen-12345678901", "other", ".hidden"):
        (watched.paths.all_genomes / name).mkdir()
    (watched.paths.all_genomes / "gen-0008").touch()
    watched.look(3)
    for number in range(NAMED_MAX + 2):
        (watched.paths.all_genomes / f"x{number}").touch()
    watched.look(2)

    first, second = (record.getMessage().partition("not played: ")[2] for record in caplog.records)
    assert (
        first
        == "gen-0000, gen-0008, gen-12345678901, gen-7, other; generations are folders that are named like gen-0007"
    )
    assert second.startswith("x0, x1, x2, x3, x4 and 2 more;")
    assert watched.asked == []


def test_missing_folder_is_named_once_and_waited_for(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.paths.all_genomes.rmdir()
    watched.look(2)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "there is no such folder yet; put generations there"
    ]
    watched.paths.all_genomes.mkdir()
    watched.add(1, "a")
    watched.look(2)

    assert watched.next == 1


def test_removed_generation_is_forgotten(watched: Watched) -> None:
    watched.add(1, "a")
    watched.look(2)
    shutil.rmtree(watched.paths.genomes(1))

    watched.look()

    assert watched.next is None
    assert not watched.due.knows(1)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_unreadable_folder_is_named_and_the_others_are_played(
    watched: Watched, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unknown is not empty: what was seen of it before is still known."""
    allow_traversal(tmp_path)
    watched.add(1, "a")
    watched.add(2, "a")
    watched.paths.genomes(1).chmod(0o000)

    with as_unprivileged_user():
        watched.look(3)

    assert watched.next == 2
    assert [record.getMessage().partition("gen-0001: ")[2] for record in caplog.records] == [
        "cannot be read: Permission denied; what is there is not played until then"
    ]
    watched.paths.genomes(1).chmod(0o700)


def test_look_at_many_files_takes_steps_and_is_paid_for(watched: Watched) -> None:
    """Between them the generation that is played goes on; the next look comes later, but not much."""
    watched.add(1, *map(str, range(3 * LOOK_STEP)))

    assert watched.look() >= 4
    assert POLL_S <= watched.folders.wait_s() <= PAUSE_MAX_S


def test_notification_makes_the_next_look_come_sooner(watched: Watched) -> None:
    watched.look()
    assert watched.folders.wait_s() == POLL_S

    watched.folders.hurry()

    assert watched.folders.wait_s() == 0


def test_folder_that_rests_is_not_listed(watched: Watched) -> None:
    """A file that is filled in place is found when its turn comes."""
    watched.add(1, "a")
    watched.look(2)
    watched.due.note_begun(1)
    watched.due.note_ended(1, watched.now, finished=True)
    watched.look(8)
    info = os.stat(watched.paths.genomes(1))
    (watched.paths.genomes(1) / "a").write_bytes(b"other bytes")
    os.utime(watched.paths.genomes(1), ns=(info.st_atime_ns, info.st_mtime_ns))
    watched.look(4)
    assert watched.next is None

    watched.look(60)

    assert watched.next == 1
