"""The folder of the generation that is being played: new files join, changed and deleted ones are named.

Owns: how often it is looked at, how long a file in the making is waited for, the lines about files for the user.
Not here: when a file is complete (`core.folder_looks`), which files are genomes (`storage.snapshots`).
A snapshot is stored before its genome is recorded, and a genome is recorded before any attempt at it.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from inbox_agent.protocol.layout import clean
from pipeline.core.facts import Fact
from pipeline.core.farm import Farm
from pipeline.core.folder_looks import FolderLooks, Stamp
from pipeline.core.model import GenomeFile
from pipeline.core.runs import changed_files, joining_facts
from pipeline.errors import GenomeError
from pipeline.storage.snapshots import FileInUseError

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
TIME_FRACTION_MAX = 0.02  #: of the host's time is spent on looking at the names
FILES_PER_LOOK_MAX = 200  #: are read before the control loop goes on
UNFINISHED_WAIT_S = 30.0  #: for files in the making, when everything else is settled


class FilesOfGeneration(Protocol):
    """The files of a generation's folder."""

    def look_in_steps(self) -> Generator[None, None, dict[str, Stamp]]:
        """The files that may be genomes, with their stamps; between steps the caller may do something else.

        Raises OSError: the folder cannot be listed.
        """

    def take(self, name: str) -> GenomeFile:
        """Stores the snapshot of a file. Raises GenomeError; FileInUseError: it cannot be read now; HostError."""

    def digest(self, name: str) -> str:
        """The digest of a file as it is now. Raises GenomeError or FileInUseError."""


@dataclass(frozen=True, slots=True)
class FileNotes:
    """Lines about files that differ from what was counted, for the end of a run."""

    not_counted: tuple[str, ...] = ()  #: about files in the folder without a fitness of their bytes
    deleted: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()  #: names of files that were still being written, or used by another program


@dataclass(slots=True)
class _Look:
    """A look at the folder that is being made."""

    steps: Generator[None, None, dict[str, Stamp]]
    begun: float
    is_last: bool  #: it began when every trial was settled
    spent_s: float = 0.0


class GenomeFolder:
    """The folder of the open generation; `before` is what it showed before the genomes of this farm were read.

    Threads: all methods belong to the control loop's thread.
    """

    def __init__(
        self,
        files: FilesOfGeneration,
        farm: Farm,
        before: Mapping[str, Stamp],
        record: Callable[[list[Fact]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files, self._record, self._clock = files, record, clock
        # Other files were not read: one that arrived while no host was running may be in the making.
        names = {genome.name for genome in farm.genomes}
        self._looks = FolderLooks({name: stamp for name, stamp in before.items() if name in names})
        self._look: _Look | None = None  #: that is being made, a step at each tick
        self._complete: list[str] = []  #: files that the last look showed as complete and that were not read since
        self._due = clock() + LOOK_INTERVAL_S
        self._settled_at: float | None = None  #: when the first look after the last settled trial was made
        self._digests: dict[str, str] = {}  #: of the genomes, at the last look that showed changes
        self._unfinished: dict[str, str] = {}  #: name of a file in the making -> what to say if it stays so
        self._not_counted: dict[str, str] = {}  #: name -> why its bytes are not counted
        self._deleted: dict[str, str] = {}
        self._folder_problem = ""
        self._is_unknown = False  #: the last look could not list the folder

    @property
    def notes(self) -> FileNotes:
        """What is to be said of files at the end of the run."""
        not_counted = {**self._unfinished, **self._not_counted}
        lines = [self._folder_problem] if self._folder_problem else []
        return FileNotes(
            (*lines, *(not_counted[name] for name in sorted(not_counted))),
            tuple(self._deleted[name] for name in sorted(self._deleted)),
            frozenset(self._unfinished),
        )

    def wait_s(self, farm: Farm) -> float:
        """How long until the next look is due; 0 if it is."""
        if self._look or self._complete or (not farm.open_trials and self._settled_at is None):
            return 0.0
        return max(0.0, self._due - self._clock())

    def update(self, farm: Farm) -> list[Fact]:
        """Looks at the folder if that is due, and records the genomes that join. Returns their facts.

        Raises:
            HostError: a snapshot or the ledger could not be written.
        """
        if farm.open_trials:
            self._settled_at = None
        if self.wait_s(farm) > 0:
            return []
        if self._complete:
            facts = self._read_some(farm)
        else:
            if self._look is None:
                self._look = _Look(self._files.look_in_steps(), self._clock(), is_last=not farm.open_trials)
            facts = self._go_on(farm, self._look)
        if farm.open_trials:  # of genomes that have just joined
            self._settled_at = None
        return facts

    def is_open(self, farm: Farm) -> bool:
        """Whether genomes may still join: a trial is open, the last look was not made, or files are in the making."""
        if farm.open_trials or self._settled_at is None or self._complete:
            return True
        waits = bool(self._unfinished) or self._is_unknown
        return waits and self._clock() - self._settled_at < UNFINISHED_WAIT_S

    def note_changed(self, farm: Farm, files: Iterable[GenomeFile]) -> None:
        """Names the files among these whose bytes are others than those of their genomes."""
        for file in changed_files(farm, files):
            self._note_changed(farm, file.name)

    def note_refused(self, refused: Mapping[str, str]) -> None:
        """Names files that `take_valid` has refused."""
        for name, text in refused.items():
            self._warn(self._not_counted, name, text)

    # -------------------------------------------------------------------------------------------------------- inside

    def _go_on(self, farm: Farm, look: "_Look") -> list[Fact]:
        """Makes one step of a look; after the last one, does what follows from it. Returns the facts of files."""
        begun, facts = self._clock(), list[Fact]()
        try:
            next(look.steps)
        except StopIteration as end:
            self._look = None
            self._compare(farm, end.value, look.begun)
            facts = self._read_some(farm)
        except OSError as error:  # unknown is not empty
            self._look = None
            self._note_folder_problem(error)
        now = self._clock()
        look.spent_s += now - begun
        if self._look is None:
            self._due = max(look.begun + look.spent_s / TIME_FRACTION_MAX, now + LOOK_INTERVAL_S)
            if not farm.open_trials and self._settled_at is None and look.is_last:
                self._settled_at = look.begun
        return facts

    def _compare(self, farm: Farm, found: dict[str, Stamp], begun: float) -> None:
        self._folder_problem, self._is_unknown = "", False
        if self._looks.is_as_before(found):
            return
        self._digests = {genome.name: genome.sha256 for genome in farm.genomes}
        changes = self._looks.compare(found, self._digests.keys(), begun, self._clock())
        self._forget(found)
        for name in sorted(changes.gone - self._deleted.keys()):
            self._warn(self._deleted, name, f"{clean(name, 200)} was deleted after it was read; {_KEPT}")
        self._unfinished = {
            name: _changed_text(farm, name) if name in self._digests else _unfinished_text(name)
            for name in changes.unfinished
        }
        self._complete = changes.complete

    def _read_some(self, farm: Farm) -> list[Fact]:
        """Reads some of the files that are complete, and records those that join. Returns their facts."""
        now, self._complete = self._complete[:FILES_PER_LOOK_MAX], self._complete[FILES_PER_LOOK_MAX:]
        if not (taken := self._read(farm, now, self._digests)):
            return []
        facts = joining_facts(farm, taken)
        self._record(facts)
        for file in taken:
            self._looks.note_read(file.name)
        return facts

    def _forget(self, look: Mapping[str, Stamp]) -> None:
        """Drops what was said of files that are gone, or there again."""
        for name in self._not_counted.keys() - look.keys():
            del self._not_counted[name]
        for name in self._deleted.keys() & look.keys():
            del self._deleted[name]

    def _read(self, farm: Farm, names: Iterable[str], digests: Mapping[str, str]) -> list[GenomeFile]:
        """Reads complete files: stores snapshots of new ones, which are returned, and compares the others."""
        taken = []
        for name in names:
            try:
                if name not in digests:
                    taken.append(self._files.take(name))
                    self._not_counted.pop(name, None)
                    continue
                if self._files.digest(name) == digests[name]:
                    self._not_counted.pop(name, None)
                else:
                    self._note_changed(farm, name)
            except FileInUseError as error:
                self._unfinished[name] = f"not counted: {error}"
                continue
            except GenomeError as error:
                if name in digests:
                    self._note_changed(farm, name)
                else:
                    self._warn(self._not_counted, name, f"not counted: {error}")
            self._looks.note_read(name)
        return taken

    def _note_changed(self, farm: Farm, name: str) -> None:
        self._warn(self._not_counted, name, _changed_text(farm, name))

    def _note_folder_problem(self, error: OSError) -> None:
        self._is_unknown = not isinstance(error, FileNotFoundError)
        if not self._is_unknown:
            self._unfinished = {}
        if not self._folder_problem:
            reason = error.strerror or str(error)
            self._folder_problem = f"not counted: what was put into {error.filename} since: {reason}"
            log.warning("%s", self._folder_problem)

    def _warn(self, notes: dict[str, str], name: str, text: str) -> None:
        if notes.get(name) != text:
            notes[name] = text
            log.warning("%s", text)


def take_valid(
    files: FilesOfGeneration, names: Iterable[str], known: Mapping[str, GenomeFile]
) -> tuple[list[GenomeFile], dict[str, str]]:
    """The files that can be genomes, and for each other one why it is not counted. Raises HostError.

    Those that are `known` are not read again.
    """
    taken, refused = list[GenomeFile](), dict[str, str]()
    for name in sorted(names):
        try:
            taken.append(known.get(name) or files.take(name))
        except GenomeError as error:
            refused[name] = f"not counted: {error}"
    return taken, refused


_KEPT = "the run plays the bytes that it had read"


def _changed_text(farm: Farm, name: str) -> str:
    shown = clean(name, 200)
    quoted = f'"{shown}"' if " " in shown else shown
    again = f"`pipeline run --gen {farm.generation} --only {quoted}` plays the new ones"
    return f"{shown} was changed after it was read; {_KEPT}; {again}"


def _unfinished_text(name: str) -> str:
    return f"not counted: {clean(name, 200)} was still being written at the end; the same command plays it"
