"""The ledger on a real disk: its content, its readers, a full disk, and hosts that are killed."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    EpochOpened,
    EpochRaised,
    Fact,
    HostStarted,
    HostStopped,
    ResultLate,
)
from pipeline.errors import LedgerError
from pipeline.storage import ledger as ledgers
from pipeline.storage.ledger import Ledger
from pipeline.storage.ledger_rows import SCHEMA
from tests.harness.ledger_files import STORY, issued, reads, written_ledger
from tests.harness.records import attempt
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def written(folder: Path) -> Path:
    """A ledger with the facts of `STORY`, closed properly; its path."""
    return written_ledger(folder)


# ------------------------------------------------------------------------------------------------------------ content


def test_facts_are_replayed_in_order(folder: Path) -> None:
    """The next process replays the appended facts, numbered from one, with time, generation and run."""
    ledger = Ledger(folder)
    assert list(ledger.entries()) == []
    ledger.append(STORY[:2], at=1.5, generation=7, run=1)
    ledger.append([], at=2.0, generation=7, run=1)
    ledger.append(STORY[2:], at=2.5, generation=8, run=2)
    ledger.close()

    entries = reads(folder)

    assert [entry.fact for entry in entries] == list(STORY)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [(entry.at, entry.generation, entry.run) for entry in entries] == [(1.5, 7, 1)] * 2 + [(2.5, 8, 2)] * 3


def test_next_process_appends_to_ledger(folder: Path, written: Path) -> None:
    """The next process appends after the last fact of the previous one."""
    ledger = Ledger(folder)
    ledger.append([issued(4)], at=3.0, generation=7, run=1)

    assert [entry.fact for entry in ledger.entries()] == [*STORY, issued(4)]
    ledger.close()


def test_entries_after_number(folder: Path, written: Path) -> None:
    """A reader of the first three facts asks for the later ones."""
    ledger = Ledger(folder)

    assert [entry.seq for entry in ledger.entries(after=3)] == [4, 5]
    assert list(ledger.entries(after=5)) == []
    ledger.close()


def test_farm_id_is_kept(folder: Path, tmp_path: Path) -> None:
    """The id is generated when the ledger is created, and kept; another folder is another farm."""
    ids = []
    for _ in range(3):
        ledger = Ledger(folder)
        ids.append(ledger.farm_id)
        ledger.close()
    other = Ledger(tmp_path / "other")
    other.close()

    assert len(set(ids)) == 1
    assert other.farm_id != ids[0]


def test_duplicate_attempt_id_is_refused(folder: Path, written: Path) -> None:
    """An id that was ever issued is refused, and nothing of the same commit is written."""
    ledger = Ledger(folder)

    with pytest.raises(LedgerError, match="cannot be written"):
        ledger.append([HostStarted(pid=2, workers=1), issued(2)], at=2.0, generation=9, run=1)

    assert [entry.fact for entry in ledger.entries()] == list(STORY)
    ledger.append([issued(4)], at=2.0, generation=9, run=1)
    assert reads(folder)[-1].fact == issued(4)
    ledger.close()


def test_has_issued_finds_ids_of_all_runs(folder: Path, written: Path) -> None:
    """Of every generation and run, and of nothing else."""
    ledger = Ledger(folder)

    assert ledger.has_issued(attempt(2))
    assert not ledger.has_issued(attempt(99))
    assert (ledger.generation_of(attempt(2)), ledger.generation_of(attempt(99))) == (7, None)
    ledger.close()


def test_has_collected_finds_results_of_all_runs(folder: Path, written: Path) -> None:
    """Collected, or recorded as late, also during another generation; attempts that the host ended have none."""
    withdrawn = AttemptEnded(attempt=attempt(2), outcome=Outcome.WITHDRAWN, reason="host ended", by_host=True)
    back_after_all = AttemptEnded(attempt=attempt(2), outcome=Outcome.COMPLETED, fitness=1.0, has_result=True)
    ledger = Ledger(folder)
    ledger.append(
        [AttemptEnded(attempt=attempt(1), outcome=Outcome.FAILED, has_result=True), withdrawn, issued(4)], 2.0, 7, 1
    )
    ledger.append([ResultLate(attempt=attempt(3), worker="vm-0", outcome=Outcome.COMPLETED)], 3.0, 8, 1)

    assert [number for number in range(1, 6) if ledger.has_collected(attempt(number))] == [1, 3]
    ledger.append([back_after_all], 4.0, 7, 1)
    assert ledger.has_collected(attempt(2))
    ledger.close()


def test_entries_are_selected_by_kind(folder: Path, written: Path) -> None:
    """Epochs of all generations, in order, and the facts of one generation."""
    epochs: list[Fact] = [
        EpochOpened(worker="vm-0", epoch=1),
        EpochRaised(worker="vm-1", epoch=1, reason="first contact"),
        EpochOpened(worker="vm-1", epoch=1),
    ]
    ledger = Ledger(folder)
    ledger.append([EpochRaised(worker="vm-0", epoch=1, reason="first contact"), issued(4)], 2.0, 7, 1)
    ledger.append([epochs[0], HostStopped(reason="ended")], 3.0, 8, 1)
    ledger.append(epochs[1:], 4.0, 7, 2)

    assert [entry.fact for entry in ledger.entries_of_shares(after=len(STORY) + 1)] == epochs
    assert [entry.seq for entry in ledger.entries_of_shares()] == [6, 8, 10, 11]
    assert [entry.seq for entry in ledger.entries_of(7, after=4)] == [5, 6, 7, 10, 11]
    assert [entry.seq for entry in ledger.entries_of(8)] == [8, 9]
    ledger.close()


def test_selection_uses_index(folder: Path, written: Path) -> None:
    """SQLite uses an index, whatever the size of the ledger."""
    ledger, asked = Ledger(folder), list[str]()
    assert isinstance(ledger._db, sqlite3.Connection)
    ledger._db.set_trace_callback(asked.append)
    queries: list[Callable[[], object]] = [
        lambda: ledger.has_issued(attempt(1)),
        lambda: ledger.has_collected(attempt(1)),
        lambda: ledger.has(7),
        lambda: list(ledger.entries_of(7, after=2)),
        lambda: list(ledger.entries_of_shares(after=2)),
    ]
    for query in queries:
        query()
    ledger._db.set_trace_callback(None)

    assert len(asked) == len(queries)
    for question in asked:
        plan = [step for *_numbers, step in ledger._db.execute(f"EXPLAIN QUERY PLAN {question}")]
        assert plan[0].startswith("SEARCH") and ("INDEX" in plan[0] or "PRIMARY KEY" in plan[0]), (question, plan)
        assert len(plan) == 1, "the order is that of the index"
    ledger.close()


def test_generations_are_listed(folder: Path, written: Path) -> None:
    """Without reading their facts."""
    ledger = Ledger(folder)

    assert [ledger.has(generation) for generation in (6, 7, 8)] == [False, True, False]
    assert ledger.generations() == [7]
    ledger.close()


def test_any_text_round_trips(folder: Path) -> None:
    """Facts have lines from evaluators: quotes, other scripts, control characters."""
    reason = "'\"\\ Ⅸ 🎲 \x00\x1b[2J ; DROP TABLE facts"
    ledger = Ledger(folder)
    ledger.append([HostStopped(reason=reason)], at=1.0, generation=1, run=1)
    ledger.close()

    assert reads(folder)[0].fact == HostStopped(reason=reason)


def test_where_nothing_was_run_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert not ledgers.has_ledger(tmp_path)
    assert not ledgers.has_ledger(tmp_path / "nowhere")
    assert not ledgers.has_ledger(tmp_path / "file")


# ---------------------------------------------------------------------------------------------------------- readers


def test_reader_sees_whole_commits(folder: Path) -> None:
    """A reader sees every commit of the writer, and never a part of one in progress."""
    writer = Ledger(folder)
    writer.append([STORY[0]], at=1.0, generation=7, run=1)
    reader = Ledger(folder, read_only=True)
    assert [entry.fact for entry in reader.entries()] == [STORY[0]]

    writer._db.execute("BEGIN IMMEDIATE")
    writer._db.execute("INSERT INTO commits VALUES (2, 1, 1.0, 7, 1, 0, 'half of a commit', 0)")
    assert list(reader.entries(after=1)) == []
    writer._db.execute("ROLLBACK")

    writer.append(STORY[1:], at=1.0, generation=7, run=1)
    assert [entry.fact for entry in reader.entries(after=1)] == list(STORY[1:])
    assert reader.farm_id == writer.farm_id
    reader.close()
    writer.close()


def test_append_does_not_disturb_open_reader(folder: Path, written: Path) -> None:
    """Facts that are appended during a read do not disturb the reader."""
    writer, reader = Ledger(folder), Ledger(folder, read_only=True)
    entries = reader.entries()
    found = [next(entries)]
    writer.append([issued(4)], at=1.0, generation=7, run=1)
    found += entries

    assert [entry.fact for entry in found] == list(STORY)
    reader.close()
    writer.close()


def test_commit_during_open_does_not_raise(folder: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between the first and the last query of a reader does not look like missing facts."""
    writer, numbers = Ledger(folder), iter(range(100, 200))

    class Interrupted(sqlite3.Connection):
        """A real connection; another process commits before each of its queries."""

        def execute(self, *question: Any) -> sqlite3.Cursor:
            writer.append([issued(next(numbers))], at=1.0, generation=7, run=1)
            return super().execute(*question)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Interrupted))
        reader = Ledger(folder, read_only=True)

    assert [entry.fact for entry in reader.entries()][: len(STORY)] == list(STORY)
    reader.close()
    writer.close()


def test_read_only_ledger_refuses_append(folder: Path, written: Path) -> None:
    """A reader never changes the ledger."""
    reader = Ledger(folder, read_only=True)

    with pytest.raises(LedgerError, match="cannot be written"):
        reader.append([issued(4)], at=1.0, generation=7, run=1)

    reader.close()
    assert len(reads(folder)) == len(STORY)


def test_read_only_open_creates_nothing(folder: Path) -> None:
    """Without any run a reader raises an error and creates no folder."""
    with pytest.raises(LedgerError):
        Ledger(folder, read_only=True)

    assert not folder.exists()


URI_CHARACTERS = ["C#", "100%25", *(["why?"] if sys.platform != "win32" else [])]


@pytest.mark.parametrize("name", ["plain", "with space", "Ⅸ", "a&b=c;d", *URI_CHARACTERS])
def test_ledger_opens_in_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """Also if the name contains characters that SQLite reads as part of a URI."""
    Ledger(tmp_path / name).close()

    assert reads(tmp_path / name, read_only=True) == []


# --------------------------------------------------------------------------------------------------------- a full disk


def test_full_disk_writes_no_partial_commit(folder: Path, written: Path) -> None:
    """A commit that does not fit raises and writes nothing; when there is room again, the same facts are written."""
    ledger = Ledger(folder)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    much = [HostStopped(reason="x" * 1000) for _ in range(50)]

    for _ in range(2):
        with pytest.raises(LedgerError, match="cannot be written: database or disk is full"):
            ledger.append(much, at=2.0, generation=7, run=1)
        assert [entry.fact for entry in ledger.entries()] == list(STORY)
        assert len(reads(folder)) == len(STORY)

    ledger._db.execute("PRAGMA max_page_count = 100000")
    ledger.append(much, at=2.0, generation=7, run=1)
    assert [entry.seq for entry in ledger.entries()] == list(range(1, len(STORY) + 51))
    ledger.close()


def test_partly_created_ledger_is_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The creation was interrupted between two tables: either all of them exist, or none."""
    monkeypatch.setattr(ledgers, "SCHEMA", f"{SCHEMA}THE END;")
    with pytest.raises(LedgerError):
        Ledger(folder)
    monkeypatch.undo()

    ledger = Ledger(folder)

    assert ledger.farm_id
    ledger.close()


# ------------------------------------------------------------------------------------------------------ killed hosts


def test_killed_host_leaves_whole_commits(folder: Path) -> None:
    """Every commit that was reported is there, and no part of another one."""
    program = """
import sys
from pathlib import Path
from pipeline.core.facts import HostStopped
from pipeline.storage.ledger import Ledger
from pipeline.storage.ledger_rows import SCHEMA
ledger = Ledger(Path(sys.argv[1]))
while True:
    ledger.append([HostStopped(reason="x" * 300)] * 7, at=1.0, generation=7, run=1)
    print(ledger.last()[0], flush=True)
"""
    host = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, cwd=ROOT)
    assert host.stdout is not None
    for _ in range(20):
        host.stdout.readline()
    host.kill()
    *_earlier, reported = host.stdout.read().split() or [b"140"]
    host.wait(PATIENCE_S)
    host.stdout.close()

    found = len(reads(folder))

    assert found >= int(reported)
    assert found % 7 == 0


def test_commit_that_was_made_and_reported_as_failed_is_kept(
    folder: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may fail after it has stored a commit. This process writes nothing more; the next one continues it."""

    class FailingLate(sqlite3.Connection):
        def __exit__(self, *error: Any) -> Any:
            super().__exit__(*error)
            raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FailingLate))
        ledger = Ledger(folder)
    with pytest.raises(LedgerError, match="cannot be written: disk I/O error"):
        ledger.append([issued(4), issued(5)], at=2.0, generation=7, run=1)
    for facts in ([issued(6)], [issued(6), issued(7)], [issued(6), issued(7), issued(8)]):
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.append(facts, at=3.0, generation=7, run=1)
    ledger.close()

    assert [entry.fact for entry in reads(folder)] == [*STORY, issued(4), issued(5)]
