"""The folders below `genomes/` of a watched project: which generations there are, and what their folders show.

Owns: when they are looked at, which names are no generations, the lines about folders that cannot be read. A look takes
steps, so that one at very many files delays neither a signal nor the generation that is being played.
Not here: what follows from a look (`core.due_generations`).
"""

import logging
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

from inbox_agent.protocol.layout import clean
from pipeline.core.due_generations import DueGenerations, RecordedRun
from pipeline.paths import GENERATION_FOLDER, ProjectPaths, generation_folder
from pipeline.storage.snapshots import is_ignored, look_in_steps

log = logging.getLogger(__name__)

POLL_S = 1.0  #: between two looks
TIME_FRACTION_MAX = 0.02  #: of the time is spent on looks, unless the pause would be longer than the following
PAUSE_MAX_S = 5.0
FOLDERS_PER_STEP = 200
NAMED_MAX = 5  #: names that are no generations, in one line


class WatchedFolders:
    """Looks at all folders, and notes in `due` what they show.

    Threads: all methods belong to the thread that plays.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        due: DueGenerations,
        recorded: Callable[[int], RecordedRun],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`recorded` is what the ledger has of a generation that was not known before."""
        self._paths, self._due, self._recorded, self._clock = paths, due, recorded, clock
        self._steps: Generator[None, None, None] | None = None  #: a look that is being made
        self._spent_s = 0.0
        self._due_at = self._not_before = clock()
        self._problems: dict[Path, str] = {}  #: folder -> why it cannot be read, as it was logged
        self._strange: frozenset[str] = frozenset()  #: names that are no generations, as they were logged
        self.looks = 0  #: that are complete

    def wait_s(self) -> float:
        """How long until the next step is due; 0 if it is."""
        return 0.0 if self._steps is not None else max(0.0, self._due_at - self._clock())

    def hurry(self) -> None:
        """Something was notified: the next look is due as soon as its share of the time allows."""
        self._due_at = min(self._due_at, self._not_before)

    def step(self) -> None:
        """Makes a step of a look, if it is due."""
        if self.wait_s() > 0:
            return
        begun = self._clock()
        if self._steps is None:
            self._steps, self._spent_s = self._look(), 0.0
        is_complete = next(self._steps, _END) is _END
        self._spent_s += (now := self._clock()) - begun
        if is_complete:
            self._steps = None
            self.looks += 1
            self._not_before = now + min(self._spent_s / TIME_FRACTION_MAX, PAUSE_MAX_S)
            self._due_at = max(self._not_before, now + POLL_S)

    # -------------------------------------------------------------------------------------------------------- inside

    def _look(self) -> Generator[None, None, None]:
        found = self._generations()
        if found is None:  # unknown is not empty
            return
        self._due.note_folders(found)
        again = self._due.to_list_again(self._clock())
        for number, generation in enumerate(sorted(found), 1):
            if not self._due.knows(generation):
                self._due.note_run(generation, self._recorded(generation))
                yield
            yield from self._look_at(generation, always=generation == again)
            if number % FOLDERS_PER_STEP == 0:
                yield

    def _look_at(self, generation: int, *, always: bool) -> Generator[None, None, None]:
        folder, at = self._paths.genomes(generation), self._clock()
        try:
            if self._due.must_list(generation, os.stat(folder).st_mtime_ns, at) or always:
                shown = yield from look_in_steps(folder)
                self._due.note_look(generation, shown, at, self._clock())
            self._problems.pop(folder, None)
        except FileNotFoundError:
            pass  # it was renamed or removed since it was listed: the next look does not show it
        except OSError as error:
            self._warn(folder, f"{folder}: cannot be read: {error.strerror}; what is there is not played until then")

    def _generations(self) -> set[int] | None:
        """The generations that have a folder; None if that cannot be told."""
        folder = self._paths.all_genomes
        try:
            names = os.listdir(folder)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._warn(folder, f"{folder}: there is no such folder yet; put generations there")
                return set()
            self._warn(folder, f"{folder}: cannot be listed: {error.strerror}; correct its rights")
            return None
        self._problems.pop(folder, None)
        found, strange = set(), set()
        for name in names:
            match = GENERATION_FOLDER.fullmatch(name)
            number = int(match[1]) if match is not None else 0
            if number and name == generation_folder(number) and self._is_folder(folder / name):
                found.add(number)
            elif not is_ignored(name):
                strange.add(name)
        self._name_strange(strange)
        return found

    def _is_folder(self, path: Path) -> bool:
        with suppress(OSError):
            return stat.S_ISDIR(os.stat(path).st_mode)
        return False

    def _name_strange(self, names: set[str]) -> None:
        if new := sorted(names - self._strange):
            shown = ", ".join(clean(name, 100) for name in new[:NAMED_MAX])
            more = f" and {len(new) - NAMED_MAX} more" if len(new) > NAMED_MAX else ""
            example = generation_folder(7)
            log.warning(
                "%s: not played: %s%s; generations are folders that are named like %s",
                self._paths.all_genomes,
                shown,
                more,
                example,
            )
        self._strange = frozenset(names)

    def _warn(self, folder: Path, text: str) -> None:
        if self._problems.get(folder) != text:
            self._problems[folder] = text
            log.warning("%s", text)


_END = object()
