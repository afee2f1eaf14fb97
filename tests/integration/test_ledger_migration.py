"""A ledger of version 2, which is converted when a host opens it: all of it, or nothing."""

import contextlib
import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.new_project import init
from pipeline.core.facts import encode_fact
from pipeline.errors import ExitCode, HostError, LedgerError
from pipeline.paths import LEDGER_FILE
from pipeline.storage.ledger import Ledger
from tests.harness.command_line import pipeline
from tests.programs.golden import GOLDEN, LEDGER_FARM_ID, tried

FIX = "restore the state folder from a backup, or move it away to begin a new farm"
Row = tuple[int, float, int, int, dict[str, Any]]  #: number, time, generation, run and fact


#: Settings that generations have had since, with the value that stands for those before.
ADDED_SETTINGS = {"seeds": "per-generation", "reuse": "none"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder as version 2 left it."""
    shutil.copytree(GOLDEN / "ledger-2", tmp_path / "state")
    return tmp_path / "state"


def version_2(folder: Path) -> list[Row]:
    """The facts of a ledger of version 2, read without the code under test."""
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as db:
        query = "SELECT seq, at, generation, run, body FROM facts ORDER BY seq"
        rows = [(*row[:4], json.loads(row[4])) for row in db.execute(query)]
    for _seq, _at, _generation, _run, fact in rows:
        if fact["fact"] == "run_opened":
            fact["settings"] |= ADDED_SETTINGS
    return rows


def migrated(folder: Path) -> list[Row]:
    """The facts that a host finds."""
    with contextlib.closing(Ledger(folder)) as ledger:
        return [(*entry[:4], json.loads(encode_fact(entry.fact))) for entry in ledger.entries()]


def version_of(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as db:
        (version,) = db.execute("SELECT version FROM farm").fetchone()
        return int(version)


def alter(folder: Path, statement: str) -> None:
    """Changes the database without the ledger's code."""
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE, isolation_level=None)) as db:
        db.execute(statement)


def test_migrated_facts_equal_those_of_version_2(state: Path) -> None:
    """With their numbers, times, generations and runs, for this host and the next one."""
    facts = version_2(state)
    assert len(facts) > 50

    assert migrated(state) == facts
    assert version_of(state) == 3
    assert migrated(state) == facts


def test_migrated_ledger_answers_queries(state: Path) -> None:
    """The farm is the same one, and its attempts are known."""
    Ledger(state).close()

    with contextlib.closing(Ledger(state, read_only=True)) as ledger:
        assert ledger.farm_id == LEDGER_FARM_ID
        assert ledger.generations() == [7, 8]
        assert (ledger.generation_of(tried(1, 1, 1, 8)), ledger.generation_of(tried(1, 1, 9))) == (8, 7)
        assert ledger.has_collected(tried(3, 2, 3)) and not ledger.has_collected(tried(4, 1, 2))
        assert {entry.generation for entry in ledger.entries_of_shares()} == {7}
        assert ledger.last()[0] == len(list(ledger.entries()))


def test_migrated_bodies_keep_fields_that_this_version_does_not_know(state: Path) -> None:
    """A pipeline that was newer within version 2 may have written more fields; they are not dropped."""
    with contextlib.closing(sqlite3.connect(state / LEDGER_FILE, isolation_level=None)) as db:
        old = db.execute("SELECT seq, at, generation, run, kind, worker, attempt, body FROM facts").fetchone()
        row = (*old[:-1], old[-1].replace("}", ',"new":"ü"}'))
        db.execute("UPDATE facts SET body = ?, crc = ? WHERE seq = 1", (row[-1], checksum_of_version_2(row)))

    Ledger(state).close()

    with contextlib.closing(sqlite3.connect(state / LEDGER_FILE)) as db:
        (body,) = db.execute("SELECT body FROM commits ORDER BY last").fetchone()
    assert json.loads(body.splitlines()[0])["new"] == "ü"


def checksum_of_version_2(row: tuple[object, ...]) -> int:
    return zlib.crc32(repr(row).encode())


DAMAGES = {
    "a changed body": "UPDATE facts SET body = replace(body, 'vm-0', 'vm-1') WHERE seq = 10",
    "a changed column": "UPDATE facts SET run = 5 WHERE seq = 10",
    "a column of another type": "UPDATE facts SET body = CAST(body AS BLOB) WHERE seq = 10",
    "a fact that is missing": "DELETE FROM facts WHERE seq = 10",
    "a missing end": "DELETE FROM facts WHERE seq = (SELECT MAX(seq) FROM facts)",
    "another table of the farm": "ALTER TABLE farm ADD COLUMN name",
    "text that is no text": "UPDATE facts SET body = CAST(x'ff' AS TEXT) WHERE seq = 10",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_ledger_is_not_migrated(state: Path, damage: str) -> None:
    """Every checksum and every number is compared; nothing is changed."""
    alter(state, DAMAGES[damage])
    before = (state / LEDGER_FILE).read_bytes()

    for _ in range(2):
        with pytest.raises(LedgerError, match=FIX):
            Ledger(state)
    with contextlib.closing(sqlite3.connect(state / LEDGER_FILE)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert (version_of(state), tables) == (2, {"farm", "facts"})
    assert len((state / LEDGER_FILE).read_bytes()) == len(before)


def test_unknown_fact_of_version_2_is_not_migrated(state: Path) -> None:
    """The pipeline that wrote it can still read it."""
    row = (1, 1.0, 7, 1, "from_the_future", None, None, '{"fact":"from_the_future"}')
    with contextlib.closing(sqlite3.connect(state / LEDGER_FILE, isolation_level=None)) as db:
        db.execute("DELETE FROM facts WHERE seq = 1")
        db.execute("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum_of_version_2(row)))

    with pytest.raises(LedgerError, match="of kind 'from_the_future', which this pipeline does not know"):
        Ledger(state)
    assert version_of(state) == 2


def test_flipped_bits_are_detected_or_harmless(state: Path) -> None:
    """For bits all over the file: either the facts are unchanged, or the error names the fix."""
    data, facts = (state / LEDGER_FILE).read_bytes(), version_2(state)
    wrong = []
    for position in range(0, len(data), 601):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        for leftover in state.iterdir():
            leftover.unlink()
        (state / LEDGER_FILE).write_bytes(damaged)
        try:
            if migrated(state) != facts:
                wrong.append((position, "other facts"))
        except LedgerError as error:
            if FIX not in str(error):
                wrong.append((position, str(error)))

    assert wrong == []


# ------------------------------------------------------------------------------------------------- kills and full disks


def connection(monkeypatch: pytest.MonkeyPatch, kind: type[sqlite3.Connection]) -> None:
    """Lets ledgers be opened with such a connection."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=kind))


def test_killed_migration_leaves_either_version(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files as they are before and after every statement, as a killed host leaves them, are a ledger of version 2
    or of version 3 with the same facts, and the next host converts them."""
    facts, left = version_2(state), list[Path]()

    class Copied(sqlite3.Connection):
        def _copied(self, statement: Callable[..., Any], *arguments: Any) -> Any:
            found = statement(*arguments)
            if self.in_transaction or arguments[0] == "SELECT id, version FROM farm":
                left.append(tmp_path / f"left-{len(left)}")
                shutil.copytree(state, left[-1], ignore=shutil.ignore_patterns("*-shm"))
            return found

        def execute(self, *arguments: Any) -> Any:
            return self._copied(super().execute, *arguments)

        def executemany(self, *arguments: Any) -> Any:
            return self._copied(super().executemany, *arguments)

        def executescript(self, *arguments: Any) -> Any:
            return self._copied(super().executescript, *arguments)

    with monkeypatch.context() as patch:
        connection(patch, Copied)
        Ledger(state).close()

    assert len(left) > 50
    assert {version_of(folder) for folder in left[:-1]} == {2}
    assert version_of(left[-1]) == 3, "the first copy after the commit"
    for folder in (*left[::10], *left[-3:]):
        assert migrated(folder) == facts


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_full_disk_leaves_version_2(state: Path, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """One line says it; with room the next host converts the ledger."""
    facts = version_2(state)

    class Full(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            (count,) = self.execute("PRAGMA page_count").fetchone()
            self.execute(f"PRAGMA max_page_count = {count + pages}")

    with monkeypatch.context() as patch, pytest.raises(HostError) as raised:
        connection(patch, Full)
        Ledger(state)

    assert str(raised.value) == (
        f"{state / LEDGER_FILE}: cannot be converted to version 3: database or disk is full; nothing is lost: "
        "free some space and run again"
    )
    assert version_2(state) == facts
    assert migrated(state) == facts


# ------------------------------------------------------------------------------------------------------ other commands


def test_reader_names_command_that_migrates(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that only reads changes nothing."""
    project = tmp_path / "project"
    init(project)
    shutil.copytree(state, project / "state")
    ledger = project / "state" / LEDGER_FILE
    before = ledger.read_bytes()

    code, out, err = pipeline(capsys, "status", "--root", project)

    assert (code, out) == (ExitCode.CANNOT_CONTINUE, "")
    assert err == f"pipeline: {ledger.resolve()}: a ledger of version 2; `pipeline run` converts it to version 3\n"
    assert ledger.read_bytes() == before
