"""`state/read.json`: the files of a generation that were read, so that another start of the same command is quick.

Owns: which files need not be read again: those that are as they were when they were read, and whose snapshots are as
they were when their digests were compared. Such a genome is played from its snapshot, whose bytes are compared with
the digest again before they are sent: a wrong memory can only hide that a file was changed later, and never puts other
bytes under a digest.
"As it was" means size, time of the last change and number in the file system, which a copy and a restored backup do
not keep, and where the system has it the time of the last change of the number's entry, which no program can set. Two
changes at one moment of the file system's clock look the same, so a file is remembered only if its last change was
`STEADY_NS` ago when it was looked at.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from inbox_agent.protocol.layout import safe_suffix
from inbox_agent.system.atomic_file import replace_file
from pipeline.core.folder_looks import Stamp
from pipeline.core.model import GenomeFile
from pipeline.storage.snapshots import Snapshots

STEADY_NS = 3_000_000_000  #: longer than between two ticks of any file system's clock: 2 s on FAT


class ReadFile(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a file."""

    stamp: Stamp
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    snapshot: tuple[int, int]  #: number and time of the last change


class _Content(msgspec.Struct, frozen=True):
    generation: int
    files: dict[str, ReadFile]


class ReadFiles:
    """The files of the generation that was begun last."""

    def __init__(self, path: Path, snapshots: Snapshots) -> None:
        self._path, self._snapshots = path, snapshots

    def unchanged(self, generation: int, look: Mapping[str, Stamp], bytes_max: int) -> dict[str, GenomeFile]:
        """The genomes of those files that need not be read again."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors; then all files are read
            return {}
        remembered = content.files if content.generation == generation else {}
        return {
            name: GenomeFile(name, safe_suffix(name), stamp.size_bytes, known.sha256)
            for name, stamp in look.items()
            if (known := remembered.get(name)) is not None
            and known.stamp == stamp
            and stamp.size_bytes <= bytes_max
            and known.snapshot == self._snapshot(known.sha256, stamp.size_bytes)
        }

    def remember(
        self, generation: int, look: Mapping[str, Stamp], looked_at_ns: int, genomes: Iterable[GenomeFile]
    ) -> None:
        """Remembers genomes that were read after the `look` at their files. Raises OSError."""
        files = {}
        for genome in genomes:
            stamp = look.get(genome.name)
            if stamp is None or max(stamp.modified_ns, stamp.changed_ns) > looked_at_ns - STEADY_NS:
                continue
            if stamp.size_bytes == genome.size_bytes and (snapshot := self._snapshot(genome.sha256, stamp.size_bytes)):
                files[genome.name] = ReadFile(stamp, genome.sha256, snapshot)
        replace_file(self._path, msgspec.json.encode(_Content(generation, files)))

    def _snapshot(self, sha256: str, size_bytes: int) -> tuple[int, int] | None:
        """Number and time of a snapshot of that size; None if there is none."""
        try:
            info = os.lstat(self._snapshots.path(sha256))
        except OSError:
            return None
        return (info.st_ino, info.st_mtime_ns) if info.st_size == size_bytes else None
