"""The ledger on a real disk: its content, its order, and its errors when it is damaged."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from io import FileIO
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    EpochOpened,
    EpochRaised,
    Fact,
    HostStarted,
    HostStopped,
    ResultLate,
)
from pipeline.errors import LedgerError
from pipeline.paths import LEDGER_FILE
from pipeline.storage import ledger as ledgers
from pipeline.storage.ledger import Ledger
from pipeline.storage.ledger_rows import SCHEMA
from tests.harness.records import attempt
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S

FIX = "restore the state folder from a backup, or move it away to begin a new farm"


def issued(number: int) -> AttemptIssued:
    return AttemptIssued(
        attempt=attempt(number), genome=1, trial=1, number=number, worker="vm-0", epoch=1, publication=number
    )


class UnknownFact(Fact, frozen=True, kw_only=True, tag="from_the_future"):
    """A fact of a later version."""


STORY: Sequence[Fact] = (HostStarted(pid=1, workers=2), issued(1), issued(2), issued(3), HostStopped(reason="ended"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def written(folder: Path) -> Path:
    """A ledger with a few facts in three commits, closed properly; its path."""
    ledger = Ledger(folder)
    for facts in (STORY[:2], STORY[2:4], STORY[4:]):
        ledger.append(facts, at=1.5, generation=7, run=1)
    ledger.close()
    return ledger.path


def reads(folder: Path, *, read_only: bool = False) -> list[Entry]:
    """Everything that a new process reads."""
    ledger = Ledger(folder, read_only=read_only)
    try:
        return list(ledger.entries())
    finally:
        ledger.close()


def alter(path: Path, *statements: str) -> None:
    """Changes the database without the ledger's code."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def complaint(folder: Path, *, read_only: bool = False) -> str:
    """The error of a damaged ledger, when it is opened or read; it must be a LedgerError."""
    message, other = "", "no error was raised"
    try:
        reads(folder, read_only=read_only)
    except LedgerError as error:
        message = str(error)
    except Exception as error:
        other = repr(error)
    assert message, other
    assert str(folder / LEDGER_FILE) in message
    return message


def files_held_by_a_refusal(folder: Path) -> list[str]:
    """The files of the folder that are open while its ledger is refused."""
    try:
        Ledger(folder)
    except LedgerError as _error:  # the exception still holds the objects created so far
        return [file.path for file in psutil.Process().open_files() if Path(file.path).parent == folder]
    raise AssertionError("it was not refused")


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


# ------------------------------------------------------------------------------------------------------------- damage


def test_flipped_bit_in_fact_is_detected(folder: Path, written: Path) -> None:
    """Every commit is checked when it is read; earlier ones are still returned, none is guessed."""
    data = bytearray(written.read_bytes())
    where = data.find(b'"attempt":"' + attempt(3).encode())
    assert where > 0
    for bit in range(8):
        damaged = data.copy()
        damaged[where] ^= 1 << bit
        written.write_bytes(damaged)

        ledger = Ledger(folder)
        entries = ledger.entries()
        assert [next(entries).fact for _ in range(2)] == list(STORY[:2])
        with pytest.raises(LedgerError, match=f"fact 4 .*{FIX}"):
            next(entries)
        ledger.close()


@pytest.mark.parametrize("last", [2, 4, 5])
@pytest.mark.parametrize(
    "change", ["crc = crc + 1", "body = CAST(body || ' ' AS BLOB)", "body = CAST(body AS TEXT)", "body = x''"]
)
def test_changed_commit_is_detected(folder: Path, written: Path, last: int, change: str) -> None:
    """First, middle or last: the checksum shows it."""
    alter(written, f"UPDATE commits SET {change} WHERE last = {last}")

    assert f"the commit of fact {last} is damaged; {FIX}" in complaint(folder)


@pytest.mark.parametrize(
    "change",
    [
        *("at = 99.0", "generation = 8", "run = 2", "epochs = 1"),
        *("facts = 1", "facts = 'x'"),
    ],
)
def test_changed_columns_of_commit_are_detected(folder: Path, written: Path, change: str) -> None:
    """The checksum covers every column, because queries select facts by them."""
    alter(written, f"UPDATE commits SET {change} WHERE last = 4")

    assert FIX in complaint(folder)


@pytest.mark.parametrize("value", ["NULL", "1.5", str(2**62), "3"])
def test_changed_column_type_is_detected(folder: Path, written: Path, value: str) -> None:
    """A flipped bit may turn text into a number or NULL."""
    any_type = "UPDATE sqlite_master SET sql = replace(sql, 'body BLOB NOT NULL', 'body')"
    as_before = "UPDATE sqlite_master SET sql = replace(sql, 'body', 'body BLOB NOT NULL') WHERE name = 'commits'"
    alter(written, "PRAGMA writable_schema = ON", any_type)
    alter(written, f"UPDATE commits SET body = {value} WHERE last = 4")
    alter(written, "PRAGMA writable_schema = ON", as_before)

    assert f"the commit of fact 4 is damaged; {FIX}" in complaint(folder)


@pytest.mark.parametrize("last", [2, 4])
def test_deleted_commit_is_detected(folder: Path, written: Path, last: int) -> None:
    """A gap is found when the ledger is opened, by readers as well."""
    alter(written, f"DELETE FROM commits WHERE last = {last}")

    assert complaint(folder) == f"{written}: 2 of 5 facts are missing; {FIX}"
    assert FIX in complaint(folder, read_only=True)


def test_deleted_last_commit_is_detected(folder: Path, written: Path) -> None:
    """Without its end a ledger would count a settled trial again."""
    alter(written, "DELETE FROM commits WHERE last = 5")

    assert FIX in complaint(folder)


def test_commit_missing_while_ledger_is_open_is_detected(folder: Path, written: Path) -> None:
    """Its facts are not skipped."""
    ledger = Ledger(folder)
    alter(written, "DELETE FROM commits WHERE last = 4")

    with pytest.raises(LedgerError, match=f"fact 3 is missing; {FIX}"):
        list(ledger.entries())
    ledger.close()


def test_swapped_commits_are_detected(folder: Path, written: Path) -> None:
    """The checksum includes the number of the last fact."""
    alter(
        written,
        "UPDATE commits SET last = -2 WHERE last = 2",
        "UPDATE commits SET last = 2 WHERE last = 4",
        "UPDATE commits SET last = 4 WHERE last = -2",
    )

    assert "the commit of fact 2 is damaged" in complaint(folder)


def test_unknown_fact_is_refused(folder: Path, written: Path) -> None:
    """A fact that this version does not know is treated as damage."""
    ledger = Ledger(folder)
    ledger.append([UnknownFact()], at=1.0, generation=7, run=1)
    ledger.close()

    message = complaint(folder)
    assert (
        "the commit of fact 6 has a fact of kind 'from_the_future', which this pipeline does not know; "
        "use the pipeline that wrote it" in message
    )
    assert FIX in message


@pytest.mark.parametrize("column", ["body", "facts"])
def test_error_about_damaged_text_is_one_short_printable_line(folder: Path, written: Path, column: str) -> None:
    """SQLite quotes the damaged text, whatever it contains."""
    alter(written, f"UPDATE commits SET {column} = CAST(x'1b5b324aff' || zeroblob(10000) AS TEXT) WHERE last = 2")

    message = complaint(folder)

    assert message.isprintable()
    assert len(message) < 1000


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half of it": half,
    "its last page is missing": lambda data: data[:-4096],
    "one page of it": lambda data: data[:4096],
    "its first bytes": lambda data: data[:100],
    "something else": lambda data: b"a letter to a friend\n" * 400,
    "a broken schema": lambda data: data.replace(b"CREATE TABLE", b"CREATE TAILE", 1),
    "a broken schema that is no text": lambda data: data.replace(b"CREATE TABLE", b"CREATE T\xc5BLE", 1),
    "another condition of an index": lambda data: data.replace(b"WHERE epochs = 1", b"WHERE epochs = 3", 1),
    "an index of another column": lambda data: data.replace(
        b"(generation, last, facts)", b"(generation, last,    at)", 1
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_reported_with_fix(folder: Path, written: Path, damage: str) -> None:
    """A truncated or overwritten file is reported in one line with the fix, and is not changed."""
    written.write_bytes(DAMAGES[damage](written.read_bytes()))

    message = complaint(folder)

    assert FIX in message
    assert "\n" not in message


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_yields_no_facts(folder: Path, written: Path, damage: str) -> None:
    """Neither the host nor a reader gets a fact from it."""
    written.write_bytes(DAMAGES[damage](written.read_bytes()))

    complaint(folder)
    complaint(folder, read_only=True)


def test_other_ledger_version_is_refused(folder: Path, written: Path) -> None:
    """This version does not read the ledger of a newer one."""
    alter(written, "UPDATE farm SET version = 4")

    assert "a ledger of version 4, and this pipeline reads version 3 only" in complaint(folder)
    assert "a ledger of version 4, and this pipeline reads version 3 only" in complaint(folder, read_only=True)


def test_other_ledger_version_names_fix(folder: Path, written: Path) -> None:
    """The line names the fix."""
    alter(written, "UPDATE farm SET version = 4")

    assert f"; use the pipeline that wrote it, {FIX}" in complaint(folder)


def test_ledger_without_version_is_refused(folder: Path, written: Path) -> None:
    """It is never completed: its facts may be of any version."""
    alter(written, "DELETE FROM farm")

    for read_only in (False, True):
        assert f"it says neither its farm nor its version; {FIX}" in complaint(folder, read_only=read_only)


@pytest.mark.parametrize("table", ["CREATE TABLE commits (x)", "CREATE TABLE farm (name)"])
def test_foreign_database_is_refused(folder: Path, table: str) -> None:
    """A SQLite file of another program with tables of the same names is no ledger."""
    folder.mkdir()
    alter(folder / LEDGER_FILE, table)

    complaint(folder)


def test_foreign_database_is_not_changed(folder: Path) -> None:
    """The database of another program does not become a ledger."""
    folder.mkdir()
    alter(folder / LEDGER_FILE, "CREATE TABLE bookmarks (url)", "INSERT INTO bookmarks VALUES ('x')")
    before = (folder / LEDGER_FILE).read_bytes()

    complaint(folder)

    assert (folder / LEDGER_FILE).read_bytes() == before


def test_refused_ledger_file_is_closed(folder: Path, written: Path) -> None:
    """Its file can be moved away at once, as the fix says, also on Windows."""
    alter(written, "DELETE FROM commits WHERE last = 4")

    assert files_held_by_a_refusal(folder) == []


def test_where_nothing_was_run_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert not ledgers.has_ledger(tmp_path)
    assert not ledgers.has_ledger(tmp_path / "nowhere")
    assert not ledgers.has_ledger(tmp_path / "file")


@pytest.mark.parametrize(
    "ask",
    [
        Ledger.generations,
        Ledger.last,
        lambda ledger: ledger.has(7),
        lambda ledger: ledger.has_issued(attempt(1)),
        lambda ledger: ledger.has_collected(attempt(1)),
    ],
)
def test_every_query_of_damaged_ledger_raises_its_error(
    ask: Callable[[Ledger], object], folder: Path, written: Path
) -> None:
    """Also if it was damaged while it was open."""
    ledger = Ledger(folder)
    alter(written, "DROP TABLE commits", "DROP TABLE attempts")

    with pytest.raises(LedgerError, match="no such table"):
        ask(ledger)
    ledger.close()


def test_any_flipped_bit_is_detected_or_harmless(folder: Path, written: Path) -> None:
    """For bits all over the file: either the facts are unchanged, or the error names the fix."""
    data, entries = written.read_bytes(), reads(folder)
    wrong = []
    for position in range(0, len(data), 101):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        for leftover in folder.iterdir():
            leftover.unlink()
        written.write_bytes(damaged)
        try:
            if reads(folder) != entries:
                wrong.append((position, "other facts"))
        except LedgerError as error:
            if FIX not in str(error):
                wrong.append((position, str(error)))
        except Exception as error:
            wrong.append((position, repr(error)))

    assert wrong == []


def answers(folder: Path) -> list[object]:
    """What a reader is told about a small ledger."""
    with contextlib.closing(Ledger(folder, read_only=True)) as ledger:
        told: list[object] = [*ledger.entries(), *ledger.entries_of(7), *ledger.entries_of_shares(), ledger.last()]
        told += [ledger.farm_id, ledger.generations(), ledger.has(7), ledger.has(8)]
        return told + [ask(attempt(n)) for n in range(9) for ask in (ledger.generation_of, ledger.has_collected)]


def test_any_flipped_bit_of_the_schema_is_detected_or_harmless(folder: Path) -> None:
    """For every bit of the rows that describe tables and indexes; SQLite obeys whatever they say."""
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.append([issued(1), EpochOpened(worker="vm-0", epoch=1)], at=1.0, generation=7, run=1)
        ledger.append([AttemptEnded(attempt=attempt(1), outcome=Outcome.FAILED, has_result=True)], 2.0, 7, 1)
    data, expected, wrong = ledger.path.read_bytes(), answers(folder), []
    first = int.from_bytes(data[105:107], "big")  # of the cells, which end with page 1; SQLite, "B-tree Pages"
    assert first < min(data.index(b"CREATE"), data.index(b"attempts")) and data.rindex(b"CREATE") < 4096
    with ledger.path.open("r+b", buffering=0) as file:
        for position, mask in product(range(first, 4096), (1, 2, 4, 8, 16, 32, 64, 128)):
            _write_byte(file, position, data[position] ^ mask)
            try:
                if answers(folder) != expected:
                    wrong.append((position, mask, "other answers"))
            except LedgerError:
                pass
            except Exception as error:
                wrong.append((position, mask, repr(error)))
            _write_byte(file, position, data[position])

    assert wrong == []


def _write_byte(file: FileIO, position: int, value: int) -> None:
    file.seek(position)
    file.write(bytes([value]))


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", ["farm", "commits", "commits_by_generation", "commits_with_epochs", "attempts"])
def test_changed_schema_is_refused(folder: Path, written: Path, name: str, read_only: bool) -> None:
    """By writers and readers, with the name of the table or index."""
    change = f"UPDATE sqlite_master SET sql = replace(sql, ' (', '  (') WHERE name = '{name}'"
    alter(written, "PRAGMA writable_schema = ON", change)

    assert complaint(folder, read_only=read_only) == f"{written}: the schema of {name} is damaged; {FIX}"


def test_comments_of_the_schema_may_differ(folder: Path, written: Path) -> None:
    """Earlier pipelines wrote other ones."""
    change = "UPDATE sqlite_master SET sql = replace(sql, '-- 1: other', '      -- 1: some') WHERE name = 'commits'"
    alter(written, "PRAGMA writable_schema = ON", change)

    for read_only in (False, True):
        assert [entry.fact for entry in reads(folder, read_only=read_only)] == list(STORY)


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
