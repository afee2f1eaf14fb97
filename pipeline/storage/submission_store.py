"""Genomes that programs elsewhere have submitted and that have not joined their generation yet, in SQLite.

Owns: what was answered to a program survives a kill of this host. With `synchronous=FULL` it survives a power cut.
Not here: genomes that have joined; the ledger and the generation's folder have them.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipeline.core.params import Params
from pipeline.errors import HostError

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS generations (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE, takes_genomes INTEGER NOT NULL, is_played INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS submissions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    content BLOB NOT NULL, params BLOB NOT NULL, refused TEXT NOT NULL DEFAULT '', UNIQUE (generation, name)
);
"""


@dataclass(frozen=True, slots=True)
class StoredSubmission:
    """One genome that waits."""

    name: str
    sha256: str
    content: bytes
    params: Params
    refused: str = ""  #: why it cannot join; such a genome has no content any more


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """A generation that was opened by a program elsewhere."""

    number: int
    takes_genomes: bool


class SubmissionStore:
    """The submissions of a project. Any thread may call.

    Raises:
        HostError: the file cannot be read or written. Nothing of that call is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                self._db.close()
                raise HostError(f"{path}: of version {version}, and this pipeline reads version {VERSION} only")
            self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    # ---------------------------------------------------------------------------------------------------- generations

    def open_generation(self, number: int, key: str) -> None:
        """Notes that a generation is played, and no other one, that it takes genomes, and the key that opened it."""
        with self._change() as db:
            db.execute("UPDATE generations SET is_played = 0 WHERE number != ?", (number,))
            db.execute(
                "INSERT INTO generations VALUES (?, ?, 1, 1) ON CONFLICT (number) DO UPDATE SET takes_genomes = 1,"
                " is_played = 1, key = coalesce(excluded.key, key)",
                (number, key or None),
            )

    def close_generation(self, number: int) -> None:
        """Notes that a generation takes no more genomes and is played, and no other one."""
        with self._change() as db:
            db.execute("UPDATE generations SET is_played = 0 WHERE number != ?", (number,))
            db.execute(
                "INSERT INTO generations VALUES (?, NULL, 0, 1) ON CONFLICT (number) DO UPDATE SET takes_genomes = 0,"
                " is_played = 1",
                (number,),
            )

    def end_generation(self, number: int) -> None:
        """Notes that a generation is not played any more. Its key stays known, and what waits goes on waiting."""
        with self._change() as db:
            db.execute("UPDATE generations SET is_played = 0 WHERE number = ?", (number,))

    def opened_by(self, key: str) -> int | None:
        """The generation that a key has opened."""
        rows = self._rows("SELECT number FROM generations WHERE key = ?", key)
        return rows[0][0] if rows else None

    def played(self) -> StoredGeneration | None:
        """The generation that a host that starts goes on with."""
        rows = self._rows("SELECT number, takes_genomes FROM generations WHERE is_played")
        return StoredGeneration(rows[0][0], bool(rows[0][1])) if rows else None

    # ----------------------------------------------------------------------------------------------------- submissions

    def add(self, generation: int, genomes: Sequence[StoredSubmission]) -> None:
        """Stores genomes, all or none. None of them may be stored already."""
        rows = [(generation, each.name, each.sha256, each.content, orjson.dumps(dict(each.params))) for each in genomes]
        with self._change() as db:
            db.executemany(
                "INSERT INTO submissions (generation, name, sha256, content, params) VALUES (?, ?, ?, ?, ?)", rows
            )

    def remove(self, generation: int, names: Iterable[str]) -> None:
        """Removes genomes that have joined, or were withdrawn."""
        with self._change() as db:
            db.executemany(
                "DELETE FROM submissions WHERE generation = ? AND name = ?", [(generation, name) for name in names]
            )

    def refuse(self, generation: int, name: str, reason: str) -> None:
        """Notes why a stored genome cannot join."""
        with self._change() as db:
            db.execute(
                "UPDATE submissions SET refused = ?, content = x'' WHERE generation = ? AND name = ?",
                (reason, generation, name),
            )

    def of(self, generation: int) -> list[StoredSubmission]:
        """The stored genomes of a generation, in the order of their submission."""
        rows = self._rows(
            "SELECT name, sha256, content, params, refused FROM submissions WHERE generation = ? ORDER BY id",
            generation,
        )
        return [StoredSubmission(name, sha, data, orjson.loads(params), why) for name, sha, data, params, why in rows]

    # ---------------------------------------------------------------------------------------------------------- inside

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Around one commit; nothing of it is stored if the block raises."""
        with self._lock, self._errors(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HostError(
                f"{self._path}: {error}; nothing of it is stored, try again when it can be written"
            ) from error
