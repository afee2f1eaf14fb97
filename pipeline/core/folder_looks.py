"""What successive looks at the folder of a running generation mean: files that are complete, unfinished, or gone. Pure.

Owns: when a file may be read. A file is complete if two looks in a row show the same stamp, which a file that was
renamed into the folder does, too.
Not here: looking and reading (`host.genome_folder`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Stamp(NamedTuple):
    """What a look shows of a file; a file with another stamp was written in between."""

    size_bytes: int
    modified_ns: int
    changed_ns: int  #: when name, rights or content were changed; on Windows when it was created


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look shows that was not known."""

    complete: list[str]  #: files to be read: new, or written since they were read
    unfinished: set[str]  #: files that may be in the making; the next look decides
    gone: set[str]  #: genomes whose files were there and are not any more


class FolderLooks:
    """The looks at one folder; `before` is what it showed before its genomes were read."""

    def __init__(self, before: Mapping[str, Stamp]) -> None:
        self._read = dict(before)  #: name -> its stamp when it was read or refused
        self._last = dict(before)

    def compare(self, look: Mapping[str, Stamp], genomes: Collection[str]) -> Changes:
        """What is new since the look before; `genomes` are the names of the generation's genomes."""
        todo = {name for name, stamp in look.items() if self._read.get(name) != stamp}
        complete = {name for name in todo if self._last.get(name) == look[name]}
        missing = self._read.keys() - look.keys()
        for name in missing - set(genomes):
            del self._read[name]  # it was refused and is gone
        missing &= set(genomes)
        gone = missing - self._last.keys()
        self._last = dict(look)
        return Changes(sorted(complete), (todo - complete) | (missing - gone), gone)

    def note_read(self, name: str) -> None:
        """A file was read or refused as the last look showed it; it is complete again when that changes."""
        self._read[name] = self._last[name]
