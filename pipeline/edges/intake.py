"""Intake: a folder of genome files becomes an immutable snapshot with digests. One genome in memory at a time.

It decides which files are genomes and refuses what cannot be trusted to stay what it was; it does not know what a
generation is for. The snapshot is content-addressed: equal bytes under two names are two genomes and one file.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inbox_agent.share_layout import GENOME_BYTES_MAX, safe_suffix

_CHUNK_BYTES = 1024 * 1024
#: What file managers leave behind is not a genome.
_LITTER = re.compile(r"\..*|thumbs\.db|desktop\.ini", re.IGNORECASE)


class IntakeError(ValueError):
    """A genome folder cannot be used: one line per thing that is wrong, naming it and the cure."""


@dataclass(frozen=True, slots=True)
class GenomeFile:
    """A genome as it was taken in."""

    name: str
    suffix: str
    size_bytes: int
    sha256: str


class Snapshots:
    """The genomes' bytes under their digest, on the host's local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = os.fspath(folder) + os.sep

    def path(self, sha256: str) -> str:
        """Where a genome's bytes lie."""
        return f"{self._base}{sha256[:2]}{os.sep}{sha256}"

    def take_in(self, folder: Path, *, bytes_max: int = GENOME_BYTES_MAX) -> list[GenomeFile]:
        """Every genome of a folder, copied and digested, in the order of their names.

        Raises:
            IntakeError: the folder is missing or empty, or something in it cannot be a genome; nothing was decided.
        """
        names = list(_genome_names(folder))
        taken: list[GenomeFile] = []
        problems: list[str] = []
        for name in names:
            try:
                taken.append(self._take(folder / name, name, bytes_max))
            except IntakeError as error:
                problems.append(str(error))
        if problems:
            raise IntakeError("\n".join(problems))
        if not taken:
            raise IntakeError(f"{folder}: no genome files; put one file per genome there")
        return taken

    def _take(self, path: Path, name: str, bytes_max: int) -> GenomeFile:
        shown = f"{path.parent}{os.sep}{name!r}" if not name.isprintable() else str(path)
        _refuse_bad_name(name, shown)
        try:
            before = os.lstat(path)
            _refuse_odd_file(before, shown, bytes_max)
            digest, staged = self._copy(path, shown, before, bytes_max)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise IntakeError(f"{shown}: cannot be read: {error.strerror}; mend its rights or remove it") from error
        self._keep(staged, digest)
        return GenomeFile(name, safe_suffix(name), before.st_size, digest)

    def _copy(self, path: Path, shown: str, before: os.stat_result, bytes_max: int) -> tuple[str, Path | bytes]:
        """Digest and bytes of a file that does not change while it is read; large ones go through a staged copy."""
        digest = hashlib.sha256()
        small = before.st_size <= _CHUNK_BYTES
        staged = self._folder / "staged"
        with open(path, "rb", buffering=0) as source:
            if small:
                data = source.read(_CHUNK_BYTES + 1) or b""
                digest.update(data)
                read = len(data)
            else:
                self._folder.mkdir(parents=True, exist_ok=True)
                read = 0
                with open(staged, "wb", buffering=0) as copy:
                    while (piece := source.read(_CHUNK_BYTES)) and read <= bytes_max:
                        digest.update(piece)
                        copy.write(piece)
                        read += len(piece)
            after = os.fstat(source.fileno())
        same = (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
        if not same or read != before.st_size:
            raise IntakeError(f"{shown}: it changes while it is read; run again when it is written")
        return digest.hexdigest(), data if small else staged

    def _keep(self, staged: Path | bytes, digest: str) -> None:
        final = Path(self.path(digest))
        if final.exists():
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(staged, bytes):
            aside = final.with_suffix(".new")
            aside.write_bytes(staged)
            staged = aside
        os.replace(staged, final)


def _genome_names(folder: Path) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        raise IntakeError(f"{folder}: no such folder; put one file per genome there") from None
    except OSError as error:
        raise IntakeError(f"{folder}: cannot be listed: {error.strerror}") from error
    return (name for name in names if not _LITTER.fullmatch(name))


def _refuse_bad_name(name: str, shown: str) -> None:
    if not name.isprintable():
        raise IntakeError(f"{shown}: control characters or broken Unicode in its name; rename it")
    if len(name) > 255:
        raise IntakeError(f"{shown}: its name is longer than 255 characters; rename it")


def _refuse_odd_file(info: os.stat_result, shown: str, bytes_max: int) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise IntakeError(f"{shown}: a folder; a generation is a flat folder of files, move it away")
    reparse = getattr(info, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    if stat.S_ISLNK(info.st_mode) or reparse:
        raise IntakeError(f"{shown}: a link; put the file itself there")
    if not stat.S_ISREG(info.st_mode):
        raise IntakeError(f"{shown}: not a regular file; move it away")
    if info.st_size == 0:
        raise IntakeError(f"{shown}: empty; write it or remove it")
    if info.st_size > bytes_max:
        raise IntakeError(
            f"{shown}: {info.st_size} bytes, allowed are {bytes_max}; raise [generation] genome_bytes_max or remove it"
        )
