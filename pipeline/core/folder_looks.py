"""What successive looks at the folder of a running generation mean: files that are complete, unfinished, or gone. Pure.

Owns: when a file may be read. A file is complete if looks have shown the same stamp for about a second, which those at
a file that was renamed into the folder do, too. Looks may be closer: two at one moment prove nothing.
Not here: looking and reading (`host.genome_folder`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

STEADY_S = 0.9  #: a little less than between two looks that are due


class Stamp(NamedTuple):
    """What a look shows of a file; a file with another stamp was written in between."""

    size_bytes: int
    modified_ns: int
    changed_ns: int  #: when name, rights or content were changed; on Windows when it was created
    number: int = 0  #: of the file in its file system


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look shows that was not known."""

    complete: list[str]  #: files to be read: new, or written since they were read
    unfinished: set[str]  #: files that may be in the making; the next look decides
    gone: set[str]  #: genomes whose files were there and are not any more


class FolderLooks:
    """The looks at one folder; `before` is what it showed before its genomes were read.

    Times are in seconds, by any clock that does not go back.
    """

    def __init__(self, before: Mapping[str, Stamp]) -> None:
        self._read = dict(before)  #: name -> its stamp when it was read or refused
        self._last: Mapping[str, Stamp] = dict(before)
        self._since: dict[str, float] = {}  #: name -> when a look first showed what the last one did, if any changed it
        self._had_changes = False  #: whether the last look showed any

    def is_as_before(self, look: Mapping[str, Stamp]) -> bool:
        """Whether a look shows no changes since the one before had none and showed the same: no need to `compare`."""
        return not self._had_changes and look == self._last

    def compare(
        self, look: Mapping[str, Stamp], genomes: Collection[str], at: float, until: float | None = None
    ) -> Changes:
        """What is new since the look before; `genomes` are the names of the generation's genomes.

        The look was made from `at` to `until`, by default at one moment.
        """
        changed = {name for name in look.keys() | self._last.keys() if look.get(name) != self._last.get(name)}
        kept = {name: since for name, since in self._since.items() if name in look or name in self._read}
        self._since = {**kept, **dict.fromkeys(changed, at if until is None else until)}
        self._last = look
        todo = {name for name, stamp in look.items() if self._read.get(name) != stamp}
        complete = {name for name in todo if self._is_steady(name, at)}
        missing = self._read.keys() - look.keys()
        for name in missing - set(genomes):
            del self._read[name]  # it was refused and is gone
        missing &= set(genomes)
        gone = {name for name in missing if self._is_steady(name, at)}
        self._had_changes = bool(todo or missing)
        return Changes(sorted(complete), (todo - complete) | (missing - gone), gone)

    def _is_steady(self, name: str, at: float) -> bool:
        return at - self._since.get(name, -inf) >= STEADY_S

    def note_read(self, name: str) -> None:
        """A file was read or refused as the last look showed it; it is complete again when that changes."""
        self._read[name] = self._last[name]

    def note_unread(self, names: Iterable[str]) -> None:
        """These files could not be read after all: each is reported as complete again."""
        for name in names:
            self._read.pop(name, None)
        self._had_changes = True
