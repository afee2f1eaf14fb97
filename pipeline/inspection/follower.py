"""Follows a project until it is closed: the newest generation, or one of a given number.

Owns: what is followed, and what is waited for. The state folder may appear later, and a ledger may be moved away,
replaced or restored while it is followed; the next look opens what is there then.
Not here: how often to look, and the display (`ui.terminal`).
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import load_config
from pipeline.core.facts import DatedFact
from pipeline.core.farm import Farm, IllegalFact
from pipeline.errors import PipelineError
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import LEDGER_FILE, ProjectPaths
from pipeline.storage.ledger import has_ledger
from pipeline.views.progress import Progress


@dataclass(frozen=True, slots=True)
class View:
    """A generation at one moment."""

    now: Progress
    history: Sequence[DatedFact]
    farm: Farm


class Follower:
    """Looks at a project again and again."""

    def __init__(self, root: Path, generation: int | None = None) -> None:
        """`generation`: the one to follow; None: the one that is being played, or else was played last."""
        self._root, self._generation = root, generation
        self._ledger = ProjectPaths(root).state / LEDGER_FILE
        self._reader: ProjectReader | None = None
        self._file: tuple[int, int] | None = None  #: the ledger that the reader has open
        self._has_looked = False

    def look(self) -> View | str:
        """The followed generation, or a line that says what is waited for.

        Raises:
            PipelineError: at the first look only: this is no project, or its ledger cannot be read. Later it is part
                of the line, because it may pass.
        """
        was_open = self._reader is not None
        try:
            found = self._look()
        except PipelineError as error:
            self.close()
            if not self._has_looked:
                raise
            return f"{error}; waiting until it can be read"
        except IllegalFact:
            self.close()
            if not was_open:
                raise
            found = self._look()  # facts that do not follow from those read before: another ledger was written over it
        self._has_looked = True
        return found

    def _look(self) -> View | str:
        if self._reader is not None and _identity(self._ledger) != self._file:
            self.close()
        if self._reader is None:
            if not has_ledger(self._ledger.parent):
                load_config(self._root)  # raises if this is no project
                return self._waiting("no generation was run here yet")
            self._file = _identity(self._ledger)
            self._reader = ProjectReader(self._root)
        return self._view(self._reader)

    def _view(self, reader: ProjectReader) -> View | str:
        known = reader.generations()
        if not known:
            return self._waiting("no generation was run here yet")
        if self._generation is not None and self._generation not in known:
            return self._waiting(f"generation {self._generation} was not begun here yet")
        generation = self._generation or reader.playing()
        if generation not in known:
            generation = reader.latest()
        return View(reader.progress(generation), reader.history(generation), reader.farm(generation))

    def _waiting(self, reason: str) -> str:
        which = f" --gen {self._generation}" if self._generation is not None else ""
        return f"{reason}; waiting for `pipeline run{which}`"

    def close(self) -> None:
        """Closes the ledger; the next look opens it again."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._file = None, None


def _identity(path: Path) -> tuple[int, int] | None:
    """The file that a path leads to now; None if there is none."""
    with contextlib.suppress(OSError):
        seen = os.stat(path)
        return seen.st_dev, seen.st_ino
    return None
