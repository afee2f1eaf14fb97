"""The ledger for a user who may not write it: while a host runs, after it ended, and after it was killed."""

import contextlib
import secrets
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipeline.core.facts import Entry, Fact, HostStarted, HostStopped
from pipeline.errors import HostError, InputError
from pipeline.paths import LEDGER_FILE
from pipeline.storage import ledger as ledgers
from pipeline.storage.ledger import Ledger
from tests.harness.other_user import UNKNOWN_UID, allow_traversal, as_unprivileged_user, reader_prefix
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S

rights_of_posix = pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")

STORY: list[Fact] = [HostStarted(pid=1, workers=2), HostStopped(reason="ended")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder with the ledger of a host that has ended."""
    folder = tmp_path / "state"
    ledger = Ledger(folder)
    ledger.append(STORY, at=1.0, generation=7, run=1)
    ledger.close()
    return folder


def reads(folder: Path) -> list[Entry]:
    """Everything that a new reader reads."""
    ledger = Ledger(folder, read_only=True)
    try:
        return list(ledger.entries())
    finally:
        ledger.close()


def test_ledger_that_is_being_made_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that looks at this moment finds no ledger, and not a damaged one; a host that is killed leaves none."""
    seen = list[bool]()

    def look(count: int) -> str:
        seen.append(ledgers.has_ledger(tmp_path))
        return "ab" * count

    monkeypatch.setattr(secrets, "token_hex", look)

    Ledger(tmp_path).close()

    assert seen == [False]
    assert reads(tmp_path) == []


class OtherReader:
    """A process of another user, who may read a ledger and write nothing, and has it open."""

    PROGRAM = """
import sys
from pathlib import Path
from pipeline.storage.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), read_only=True)
for line in sys.stdin:
    print(ledger.last()[0], len(list(ledger.entries())), flush=True)
"""

    def __init__(self, folder: Path) -> None:
        allow_traversal(folder)
        folder.chmod(0o755)
        self._process = subprocess.Popen(
            [*reader_prefix(UNKNOWN_UID), sys.executable, "-c", self.PROGRAM, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def counts(self) -> tuple[int, ...]:
        """The number of the last fact, and how many there are."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._process.communicate()[1]
        return tuple(map(int, answer.split()))

    def close(self) -> None:
        """Ends it."""
        self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0


def as_reader(folder: Path) -> AbstractContextManager[None]:
    """For the duration of the block this process may only read the folder."""
    allow_traversal(folder)
    folder.chmod(0o555)
    return as_unprivileged_user()


@rights_of_posix
def test_reader_without_right_to_write_reads_ended_ledger(folder: Path) -> None:
    """No host runs, so there is no log, and SQLite could not make one. Nothing is left behind."""
    with as_reader(folder):
        assert [entry.fact for entry in reads(folder)] == STORY

    assert [path.name for path in folder.iterdir()] == [LEDGER_FILE]


@pytest.mark.needs("setpriv", root=True)
def test_reader_without_right_to_write_follows_hosts(folder: Path) -> None:
    """One reader, and one host after the other: every fact is seen once it is committed, also between them."""
    reader = OtherReader(folder)
    assert reader.counts() == (len(STORY), len(STORY))
    for number in range(1, 4):
        host = Ledger(folder)
        for _ in range(2):
            host.append([HostStopped(reason=f"{number}")] * 400, at=1.0, generation=7, run=1)  # some are checkpointed
            assert reader.counts() == (host.last()[0],) * 2
        host.close()
        assert reader.counts() == (len(STORY) + 800 * number,) * 2
    reader.close()


@pytest.mark.needs("setpriv", root=True)
def test_reader_reads_log_of_killed_host(folder: Path) -> None:
    """With the log that it left. Without the log's index the facts in it are not skipped: a user who may write has to
    make it once."""
    host, copy = Ledger(folder), folder.parent / "killed"
    host.append([HostStopped(reason="killed")], at=9.0, generation=7, run=1)
    shutil.copytree(folder, copy)
    host.close()
    reader = OtherReader(copy)
    assert reader.counts() == (len(STORY) + 1,) * 2
    reader.close()

    (copy / f"{LEDGER_FILE}-shm").unlink()
    with pytest.raises(AssertionError, match="a user who may write here helps"):
        OtherReader(copy).counts()
    assert len(reads(copy)) == len(STORY) + 1
    reader = OtherReader(copy)
    assert reader.counts() == (len(STORY) + 1,) * 2
    reader.close()


@rights_of_posix
def test_copied_ledger_is_renewed_when_it_changed(folder: Path) -> None:
    """A host began and ended between two queries, so no log is there before or after."""
    with as_reader(folder):
        reader = Ledger(folder, read_only=True)
    first = reader.last()[0]
    writer = Ledger(folder)
    writer.append([HostStopped(reason="between")], at=9.0, generation=7, run=1)
    writer.close()

    with as_unprivileged_user():
        assert reader.last()[0] == first + 1
    reader.close()


@rights_of_posix
def test_reader_leaves_no_file_that_host_may_not_write(folder: Path) -> None:
    """Another user may write in the folder but not the ledger: a log of this user would stop the next host."""
    allow_traversal(folder)
    folder.chmod(0o777)

    with as_unprivileged_user():
        assert len(reads(folder)) == len(STORY)

    assert [path.name for path in folder.iterdir()] == [LEDGER_FILE]


@rights_of_posix
def test_missing_right_is_not_reported_as_damage(folder: Path) -> None:
    """A reader or a host without it gets a message about it, and no advice to delete the farm."""
    allow_traversal(folder)
    folder.chmod(0o555)
    (folder / LEDGER_FILE).chmod(0o600)

    with as_unprivileged_user(), pytest.raises(InputError, match="give this user the right to read it"):
        Ledger(folder, read_only=True)
    with as_unprivileged_user(), pytest.raises(HostError, match="give this user the right to write it"):
        Ledger(folder)


@rights_of_posix
def test_unsearchable_folder_is_not_reported_empty(folder: Path) -> None:
    """Otherwise another user would be advised to start a new farm there."""
    assert ledgers.has_ledger(folder)
    allow_traversal(folder)
    folder.chmod(0o600)

    with as_unprivileged_user(), pytest.raises(InputError, match="give this user the right to read it"):
        ledgers.has_ledger(folder)
