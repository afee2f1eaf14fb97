"""The reader of the ledger that a project has now: it may appear later, and be moved away, replaced or restored.

Not here: what to say while there is none.
"""

import contextlib
import os
from pathlib import Path

from pipeline.config import load_config
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import LEDGER_FILE, ProjectPaths
from pipeline.storage.ledger import has_ledger


class CurrentReader:
    """Opens the ledger of a project as soon as there is one, and anew when it is another file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ledger = ProjectPaths(root).state / LEDGER_FILE
        self._reader: ProjectReader | None = None
        self._file: tuple[int, int] | None = None  #: the ledger that the reader has open

    @property
    def is_open(self) -> bool:
        """Whether a ledger is open."""
        return self._reader is not None

    def get(self) -> ProjectReader | None:
        """The reader of the ledger that is there now, the same as before if it is the same file; None: there is none.

        Raises:
            InputError: this is no project, or this user may not read it.
            LedgerError: the ledger is damaged, or of another version.
        """
        if self._reader is not None and _identity(self._ledger) != self._file:
            self.close()
        if self._reader is None:
            if not has_ledger(self._ledger.parent):
                load_config(self._root)  # raises if this is no project
                return None
            self._file = _identity(self._ledger)
            self._reader = ProjectReader(self._root)
        return self._reader

    def close(self) -> None:
        """Closes the ledger; the next `get` opens it again."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._file = None, None


def _identity(path: Path) -> tuple[int, int] | None:
    """The file that a path leads to now; None if there is none."""
    with contextlib.suppress(OSError):
        seen = os.stat(path)
        return seen.st_dev, seen.st_ino
    return None
