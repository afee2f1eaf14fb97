"""Intake: a folder of genome files becomes an immutable snapshot with digests. One genome in memory at a time.

It decides which files are genomes and refuses what cannot be trusted to stay what it was; it does not know what a
generation is for. The snapshot is content-addressed: equal bytes under two names are two genomes and one file.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import NamedTuple

from inbox_agent.protocol.layout import GENOME_BYTES_MAX, safe_suffix
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.core.model import GenomeFile
from pipeline.errors import GenomeError, HostError, disk_errors

_CHUNK_BYTES = 1024 * 1024
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
#: What file managers leave behind is not a genome.
_IGNORED = re.compile(r"\..*|thumbs\.db|desktop\.ini", re.IGNORECASE)


class Snapshots:
    """The genomes' bytes under their digest, on the host's local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = os.fspath(folder) + os.sep

    def path(self, sha256: str) -> str:
        """Where a genome's bytes lie."""
        return f"{self._base}{sha256[:2]}{os.sep}{sha256}"

    def import_folder(self, folder: Path, *, bytes_max: int = GENOME_BYTES_MAX) -> list[GenomeFile]:
        """Every genome of a folder, copied and digested, in the order of their names.

        Raises:
            GenomeError: the folder is missing or empty, or something in it cannot be a genome; nothing was decided.
            HostError: the snapshots cannot be written.
        """
        names = list(_genome_names(folder))
        taken: list[GenomeFile] = []
        problems: list[str] = []
        for name in names:
            try:
                taken.append(self._import_file(folder, name, bytes_max))
            except GenomeError as error:
                problems.append(str(error))
        if problems:
            raise GenomeError("\n".join(problems))
        if not taken:
            raise GenomeError(f"{folder}: no genome files; put one file per genome there")
        return taken

    def _import_file(self, folder: Path, name: str, bytes_max: int) -> GenomeFile:
        path = f"{folder}{os.sep}{name}"
        shown = path if name.isprintable() else f"{folder}{os.sep}{name!r}"
        _refuse_bad_name(name, shown)
        try:
            _refuse_irregular_file(os.lstat(path), shown, bytes_max)
            # What was looked at may be something else by now: the opened file is looked at again, a link not opened.
            with open(os.open(path, _READ_FLAGS), "rb", buffering=0) as source:
                before = os.fstat(source.fileno())
                _refuse_irregular_file(before, shown, bytes_max)
                digest, taken = self._copy(source, before.st_size)
                after = os.fstat(source.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HostError(f"{self._folder}: {error.strerror}; make room and run again") from error
            if error.errno == errno.ELOOP:
                raise GenomeError(f"{shown}: a link; put the file itself there") from error
            raise GenomeError(f"{shown}: cannot be read: {error.strerror}; mend its rights or remove it") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or before.st_size != taken.size:
            raise GenomeError(f"{shown}: it changes while it is read; run again when it is written")
        with disk_errors(self._folder):
            self._keep(taken, digest)
        return GenomeFile(name, safe_suffix(name), taken.size, digest)

    def _copy(self, source: FileIO, size_bytes: int) -> tuple[str, "_Content"]:
        """Digest and bytes of a file; those of a large one go through a staged copy, a piece at a time."""
        if size_bytes <= _CHUNK_BYTES:
            data = source.read(_CHUNK_BYTES + 1) or b""
            return hashlib.sha256(data).hexdigest(), _Content(len(data), data)
        digest, size = hashlib.sha256(), 0
        os.makedirs(self._folder, exist_ok=True)
        with self._staged() as copy:
            while (piece := source.read(_CHUNK_BYTES)) and size <= size_bytes:
                digest.update(piece)
                copy.write(piece)
                size += len(piece)
            return digest.hexdigest(), _Content(size, copy.name)

    @contextmanager
    def _staged(self) -> Iterator[BufferedWriter]:
        """A file beside the snapshots to write to; if that fails, the room it took is given back."""
        path = f"{self._base}staged"
        _discard(path)  # of a host that was killed; write-protected already, maybe
        try:
            with open(path, "wb") as copy:
                yield copy
        except OSError:
            _discard(path)
            raise

    def _keep(self, taken: "_Content", digest: str) -> None:
        final = self.path(digest)
        if _is_stored(final, digest):
            if isinstance(taken.content, str):
                os.unlink(taken.content)
            return
        os.makedirs(os.path.dirname(final), exist_ok=True)
        aside = taken.content
        if isinstance(aside, bytes):
            with self._staged() as copy:
                copy.write(aside)
                aside = copy.name
        os.chmod(aside, stat.S_IREAD)  # a snapshot never changes, so shares may link to it
        if sys.platform == "win32" and os.path.exists(final):
            os.chmod(final, stat.S_IWRITE)  # a damaged one; write-protected files cannot be replaced there
        retry_while_busy(lambda: os.replace(aside, final))


def is_ignored(name: str) -> bool:
    """Whether a file of that name is left alone: what systems and editors leave in folders."""
    return _IGNORED.fullmatch(name) is not None


def _discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path, stat.S_IWRITE)  # Windows removes nothing that is write-protected
        retry_while_busy(lambda: os.unlink(path))


def _is_stored(path: str, digest: str) -> bool:
    """Whether a snapshot is there and what its name says: a power cut may have left less."""
    try:
        with open(path, "rb", buffering=0) as snapshot:
            return hashlib.file_digest(snapshot, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


class _Content(NamedTuple):
    """What was read: small content itself, or the path of a staged copy."""

    size: int
    content: bytes | str


def _genome_names(folder: Path) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        raise GenomeError(f"{folder}: no such folder; put one file per genome there") from None
    except OSError as error:
        raise GenomeError(f"{folder}: cannot be listed: {error.strerror}") from error
    return (name for name in names if not is_ignored(name))


def _refuse_bad_name(name: str, shown: str) -> None:
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for letter in name):
        raise GenomeError(f"{shown}: control characters or broken Unicode in its name; rename it")
    if len(name) > 255:
        raise GenomeError(f"{shown}: its name is longer than 255 characters; rename it")


def _refuse_irregular_file(info: os.stat_result, shown: str, bytes_max: int) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise GenomeError(f"{shown}: a folder; a generation is a flat folder of files, move it away")
    reparse = getattr(info, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    if stat.S_ISLNK(info.st_mode) or reparse:
        raise GenomeError(f"{shown}: a link; put the file itself there")
    if not stat.S_ISREG(info.st_mode):
        raise GenomeError(f"{shown}: not a regular file; move it away")
    if info.st_size == 0:
        raise GenomeError(f"{shown}: empty; write it or remove it")
    if info.st_size > bytes_max:
        raise GenomeError(
            f"{shown}: {info.st_size} bytes, allowed are {bytes_max}; raise [generation] genome_bytes_max or remove it"
        )
