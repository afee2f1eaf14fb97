"""`attempts.csv` while its generation runs: the row of an attempt is appended when the attempt is over.

Owns: that the file has the row of each attempt that is over once. Whatever casts doubt on that has the whole file
written anew: a new host process, a row that cannot be appended, a file that others have changed, an attempt that ended
once more because its result came after it was given up.
Not here: when to append or to write (`outputs`).
"""

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path

from inbox_agent.system.atomic_file import write_all
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt
from pipeline.host.csv_file import ROWS_PER_SLICE, encoded_rows, write_in_slices
from pipeline.views.results import ATTEMPT_COLUMNS, attempt_rows


class AttemptsTable:
    """The file of one generation, as far as this process has written it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = 0  #: in the file
        self._size_bytes: int | None = None  #: of the file; None: it is to be written anew
        self._waiting: deque[Attempt] = deque()  #: over, and not yet in the file

    def note_over(self, attempts: Iterable[Attempt]) -> None:
        """Attempts that have just ended."""
        self._waiting.extend(attempts)

    @property
    def appendable(self) -> int:
        """How many rows wait to be appended; 0 while the whole file is to be written anew."""
        return len(self._waiting) if self._size_bytes is not None else 0

    def must_be_written(self, farm: Farm) -> bool:
        """Whether the whole file is to be written anew."""
        return self._size_bytes is None or self._rows + len(self._waiting) != farm.outcomes.total()

    def append(self) -> None:
        """Appends rows that wait, at most one slice of them. Raises OSError; then the file is to be written anew."""
        assert self.appendable
        size_bytes, self._size_bytes = self._size_bytes, None
        with open(self._path, "ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != size_bytes:
                return
            rows = [self._waiting.popleft() for _ in range(min(len(self._waiting), ROWS_PER_SLICE))]
            data = encoded_rows(attempt_rows(rows))
            try:
                write_all(file.fileno(), data)
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size_bytes)  # no part of a row
                raise
        self._rows, self._size_bytes = self._rows + len(rows), size_bytes + len(data)

    def write_anew(self, farm: Farm) -> Generator[None, None, None]:
        """Writes the rows of all attempts that are over now, in the sequence of issue, a slice at each step.

        Raises OSError: the old file is kept.
        """
        over = [attempt for attempt in farm.attempts.values() if attempt.outcome is not None]
        self._waiting.clear()  # what ends meanwhile waits
        self._rows, self._size_bytes = len(over), None
        self._size_bytes = yield from write_in_slices(self._path, ATTEMPT_COLUMNS, attempt_rows(over))
