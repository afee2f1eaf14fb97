"""A ledger that is damaged, of another version or of another program: it is refused, and the error names the fix."""

import contextlib
from collections.abc import Callable
from io import FileIO
from itertools import product
from pathlib import Path

import psutil
import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import AttemptEnded, EpochOpened, Fact
from pipeline.errors import LedgerError
from pipeline.paths import LEDGER_FILE
from pipeline.storage.ledger import Ledger
from tests.harness.ledger_files import STORY, alter, issued, reads, written_ledger
from tests.harness.records import attempt

FIX = "restore the state folder from a backup, or move it away to begin a new farm"


class UnknownFact(Fact, frozen=True, kw_only=True, tag="from_the_future"):
    """A fact of a later version."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def written(folder: Path) -> Path:
    """A ledger with the facts of `STORY`, closed properly; its path."""
    return written_ledger(folder)


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
    """For every bit of the rows that describe tables and indexes; SQLite does whatever they say."""
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
