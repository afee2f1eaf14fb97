"""Genome snapshots: immutable, content-addressed copies of the files in a genome folder.

Owns: which files are genomes; refuses files that may change while they are read; finds damaged snapshots before they
are sent. Not here: generations. Equal bytes under two names are two genomes and one snapshot. At most one genome is in
memory at a time.
Threads: those of the shares call `content`, also at the same time; the control loop's thread calls all else.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import stat
import sys
import threading
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import NamedTuple

from inbox_agent.protocol.layout import GENOME_BYTES_MAX, safe_suffix
from inbox_agent.system.file_kind import SAFE_FLAGS, is_link, open_regular
from inbox_agent.system.file_retry import is_busy, retry_while_busy
from pipeline.core.folder_looks import Stamp
from pipeline.core.model import GenomeFile
from pipeline.errors import GenomeError, HostError, disk_errors

log = logging.getLogger(__name__)

NAME_CHARS_MAX = 255
LOOK_STEP = 500  #: files that are looked at before others have their turn: a few milliseconds
_CHUNK_BYTES = 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: Hidden files, files of file managers, and the names under which programs write a file before they rename it.
_IGNORED = re.compile(
    r"\..*|thumbs\.db|desktop\.ini|~\$.*|.*\.(tmp|part|partial|filepart|crdownload)", re.IGNORECASE | re.DOTALL
)


class FileInUseError(GenomeError):
    """A file of the folder is being written, or another program does not let it be read."""


class Snapshots:
    """Genome bytes by digest, on the host's local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = os.fspath(folder) + os.sep
        self._staged_path = f"{self._base}staged"
        self._new: list[str] = []  #: paths that the last import made
        self._source: Path | None = None  #: the folder of the generation that was read last
        self._writing = threading.Lock()
        self._intact: dict[str, tuple[int, ...]] = {}  #: large snapshots as they were when their digest was compared

    def path(self, sha256: str) -> str:
        """The path of a genome's bytes."""
        return f"{self._base}{sha256[:2]}{os.sep}{sha256}"

    def stored(self) -> Iterator[tuple[str, int]]:
        """The digests of all snapshots, with their sizes. Raises OSError."""
        for folder in sorted(_entries(self._folder)):
            for name in sorted(_entries(self._folder / folder)) if re.fullmatch("[0-9a-f]{2}", folder) else ():
                if _DIGEST.fullmatch(name) and name.startswith(folder):
                    yield name, os.lstat(self.path(name)).st_size

    def content(self, sha256: str, name: str) -> bytes | Path:
        """A genome's bytes if it is small, else the path of its snapshot. They have this digest, whatever has happened.

        A damaged snapshot is taken again from the genome's file, `name` in the folder that was read last.

        Raises:
            HostError: it is damaged or missing, and that file has other bytes by now or is missing.
        """
        if (found := self._intact_content(sha256)) is None:
            self._take_again(sha256, name)
            found = self._intact_content(sha256)
        if found is None:
            where = self._source or "its folder"
            reason = f"this host's snapshot of {name} is damaged, and its file in {where} is missing or has other bytes"
            raise HostError(f"{self.path(sha256)}: {reason}; put the file back")
        return found

    def _intact_content(self, sha256: str) -> bytes | Path | None:
        path = self.path(sha256)
        try:
            with open(open_regular(path), "rb", buffering=0) as snapshot:
                info = os.fstat(snapshot.fileno())
                if info.st_size <= _CHUNK_BYTES:
                    data = snapshot.read(_CHUNK_BYTES + 1) or b""
                    return data if hashlib.sha256(data).hexdigest() == sha256 else None
                stamp = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                if self._intact.get(sha256) != stamp:
                    if hashlib.file_digest(snapshot, "sha256").hexdigest() != sha256:
                        return None
                    self._intact[sha256] = stamp
                return Path(path)
        except OSError:
            return None

    def _take_again(self, sha256: str, name: str) -> None:
        if self._source is None:
            return
        with contextlib.suppress(GenomeError):
            if self.digest(self._source, name) == sha256:
                log.warning("%s: a damaged snapshot; it is taken again from %s", self.path(sha256), self._source / name)
                self.import_file(self._source, name)

    def import_folder(
        self, folder: Path, *, bytes_max: int = GENOME_BYTES_MAX, known: Mapping[str, GenomeFile] = {}
    ) -> list[GenomeFile]:
        """Copies and digests every genome of a folder, except those that are `known`; returns all, sorted by name.

        Raises:
            GenomeError: the folder is missing or empty, or an entry cannot be a genome; no snapshot was added.
            HostError: the snapshots cannot be written.
        """
        names = list(_genome_names(folder))
        taken: list[GenomeFile] = []
        problems: list[str] = []
        self.keep_new()
        self._source = folder
        with ExitStack() as failing:
            failing.callback(self.discard_new)
            for name in names:
                try:
                    taken.append(known.get(name) or self.import_file(folder, name, bytes_max=bytes_max))
                except GenomeError as error:
                    problems.append(str(error))
            if problems:
                raise GenomeError("\n".join(problems))
            if not taken:
                raise GenomeError(f"{folder}: no genome files; put one file per genome there")
            failing.pop_all()
        return taken

    def keep_new(self) -> None:
        """Keeps the snapshots that were made so far, whatever is refused later."""
        self._new.clear()

    def discard_new(self) -> None:
        """Deletes the snapshots made since `keep_new`, because their genomes are refused: nothing refers to them."""
        for path in self._new:
            with contextlib.suppress(OSError):
                _discard(path)
                os.rmdir(os.path.dirname(path))  # if it was the only one there
        if self._new:
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)
        self._new.clear()

    def import_file(self, folder: Path, name: str, *, bytes_max: int = GENOME_BYTES_MAX) -> GenomeFile:
        """Copies and digests one file of a folder.

        Raises:
            GenomeError: it cannot be a genome. FileInUseError: it cannot be read now, and maybe later.
            HostError: the snapshot cannot be written.
        """
        self._source = folder
        with self._writing:
            with self._opened(folder, name, bytes_max) as (source, size_bytes):
                digest, taken = self._copy(source, size_bytes)
                if taken.size != size_bytes:
                    raise FileInUseError(_is_being_written(folder, name))
            with disk_errors(self._folder):
                self._keep(taken, digest)
        return GenomeFile(name, safe_suffix(name), taken.size, digest)

    def digest(self, folder: Path, name: str, *, bytes_max: int = GENOME_BYTES_MAX) -> str:
        """The digest of a file of a folder as it is now; nothing is copied. Raises GenomeError like `import_file`."""
        with self._opened(folder, name, bytes_max) as (source, _size_bytes):
            return hashlib.file_digest(source, "sha256").hexdigest()

    @contextmanager
    def _opened(self, folder: Path, name: str, bytes_max: int) -> Iterator[tuple[FileIO, int]]:
        """Opens a file that may be a genome, with its size; it must not change until it is closed."""
        path, shown = f"{folder}{os.sep}{name}", _shown(folder, name)
        refuse_bad_name(name, shown)
        try:
            _refuse_irregular_file(os.lstat(path), shown, bytes_max)
            # The path may be another file by now: check the opened file again; do not follow a link.
            with open(os.open(path, os.O_RDONLY | SAFE_FLAGS), "rb", buffering=0) as source:
                before = os.fstat(source.fileno())
                _refuse_irregular_file(before, shown, bytes_max)
                yield source, before.st_size
                after = os.fstat(source.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HostError(f"{self._folder}: {error.strerror}; make room and run again") from error
            if error.errno == errno.ELOOP:
                raise GenomeError(f"{shown}: a link; put the file itself there") from error
            reason = f"{shown}: cannot be read: {error.strerror}; correct its rights or remove it"
            # On Windows a program that writes a file may let no other one read it.
            raise (FileInUseError if error.errno == errno.ENOENT or is_busy(error) else GenomeError)(reason) from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise FileInUseError(_is_being_written(folder, name))

    def _copy(self, source: FileIO, size_bytes: int) -> tuple[str, "_Content"]:
        """Digest and content of a file; a large one is copied to a staged file, a chunk at a time."""
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
        return digest.hexdigest(), _Content(size, self._staged_path)

    @contextmanager
    def _staged(self) -> Iterator[BufferedWriter]:
        """Opens a temporary file beside the snapshots, write-protected for others; deletes it if writing fails."""
        path = self._staged_path
        try:
            descriptor = _create(path)
        except FileExistsError:
            _discard(path)  # left by a killed host
            descriptor = _create(path)
        try:
            with open(descriptor, "wb") as copy:
                yield copy
        except OSError:
            _discard(path)
            raise

    def _keep(self, taken: "_Content", digest: str) -> None:
        final, aside = self.path(digest), taken.content
        stored = _stored_digest(final)
        if stored == digest:
            if isinstance(aside, str):
                _discard(aside)
            return
        if stored is None:
            os.makedirs(os.path.dirname(final), exist_ok=True)
        if isinstance(aside, bytes):
            with self._staged() as copy:
                copy.write(aside)
            aside = self._staged_path
        if stored is None:
            self._new.append(final)
        elif sys.platform == "win32":
            os.chmod(final, stat.S_IWRITE)  # a damaged snapshot; Windows does not replace write-protected files
        retry_while_busy(lambda: os.replace(aside, final))


@dataclass(frozen=True, slots=True)
class GenomeFiles:
    """The folder of one generation, for one file at a time."""

    snapshots: Snapshots
    folder: Path
    bytes_max: int

    def look(self) -> dict[str, Stamp]:
        """The files that are not ignored, with their stamps. Raises OSError: the folder cannot be listed."""
        steps = self.look_in_steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return dict(end.value)

    def look_in_steps(self) -> Generator[None, None, dict[str, Stamp]]:
        """The same; after some files each the caller may do something else. Raises OSError."""
        return look_in_steps(self.folder)

    def take(self, name: str) -> GenomeFile:
        """Copies a file into the snapshots. Raises GenomeError, FileInUseError or HostError."""
        return self.snapshots.import_file(self.folder, name, bytes_max=self.bytes_max)

    def digest(self, name: str) -> str:
        """The digest of a file as it is now. Raises GenomeError or FileInUseError."""
        return self.snapshots.digest(self.folder, name, bytes_max=self.bytes_max)


def look_in_steps(folder: Path) -> Generator[None, None, dict[str, Stamp]]:
    """The files of a folder that are not ignored, with their stamps, some at each step.

    Raises OSError: the folder cannot be listed.
    """
    found: dict[str, Stamp] = {}
    for number, name in enumerate(os.listdir(folder), 1):
        if not is_ignored(name):
            with contextlib.suppress(FileNotFoundError):
                # Not from `os.scandir`: Windows updates what a folder says of a file only when it is closed.
                info = os.lstat(f"{folder}{os.sep}{name}")
                found[name] = Stamp(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        if number % LOOK_STEP == 0:
            yield
    return found


def is_ignored(name: str) -> bool:
    """Whether a file of that name is ignored: systems and editors leave such files in folders."""
    return _IGNORED.fullmatch(name) is not None


def _shown(folder: Path, name: str) -> str:
    return f"{folder}{os.sep}{name if name.isprintable() else repr(name)}"


def _is_being_written(folder: Path, name: str) -> str:
    return f"{_shown(folder, name)}: it changes while it is read; run again when it is written"


def refuse_bad_name(name: str, shown: str) -> None:
    """Refuses a name that cannot be shown, or that not every disk can store. Raises GenomeError with it as `shown`."""
    is_plain = name.isascii() and name.isprintable()
    if not is_plain and any(
        unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for letter in name
    ):
        raise GenomeError(f"{shown}: control characters or broken Unicode in its name; rename it")
    if len(name) > NAME_CHARS_MAX:
        raise GenomeError(f"{shown}: its name is longer than {NAME_CHARS_MAX} characters; rename it")


def _discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path, stat.S_IWRITE)  # Windows does not delete write-protected files
        retry_while_busy(lambda: os.unlink(path))


def _create(path: str) -> int:
    """A new file for a snapshot, which never changes."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS, stat.S_IREAD)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stored_digest(path: str) -> str | None:
    """The digest of a snapshot, which a power cut may have truncated; None if there is none."""
    try:
        with open(path, "rb", buffering=0) as snapshot:
            return hashlib.file_digest(snapshot, "sha256").hexdigest()
    except FileNotFoundError:
        return None


class _Content(NamedTuple):
    """Content read: the bytes if small, else the path of a staged copy."""

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


def _refuse_irregular_file(info: os.stat_result, shown: str, bytes_max: int) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise GenomeError(f"{shown}: a folder; a generation is a flat folder of files, move it away")
    if is_link(info):
        raise GenomeError(f"{shown}: a link; put the file itself there")
    if not stat.S_ISREG(info.st_mode):
        raise GenomeError(f"{shown}: not a regular file; move it away")
    if info.st_size == 0:
        raise GenomeError(f"{shown}: it is empty, and a genome has at least one byte; write it or remove it")
    if info.st_size > bytes_max:
        raise GenomeError(
            f"{shown}: {info.st_size} bytes, allowed are {bytes_max}; raise [generation] genome_bytes_max or remove it"
        )
