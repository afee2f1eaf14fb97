"""Follows a project until it is closed: the newest generation, or one of a given number.

Owns: what is followed, and what is waited for.
Not here: which ledger is there (`current_reader`), how often to look, and the display (`ui.terminal`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.facts import DatedFact
from pipeline.core.farm import Farm
from pipeline.core.model import IllegalFact
from pipeline.errors import PipelineError
from pipeline.inspection.current_reader import CurrentReader
from pipeline.inspection.project_reader import ProjectReader
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
        self._current, self._generation = CurrentReader(root), generation
        self._has_looked = False

    def look(self) -> View | str:
        """The followed generation, or a line that says what is waited for.

        Raises:
            PipelineError: at the first look only: this is no project, or its ledger cannot be read. Later it is part
                of the line, because it may pass.
        """
        was_open = self._current.is_open
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
        reader = self._current.get()
        return self._view(reader) if reader is not None else self._waiting("no generation was run here yet")

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
        self._current.close()
