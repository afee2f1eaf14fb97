"""`ShareFiles` on a path: file operations on a local or mounted share, for agent and host.

Owns: how a file is published atomically.
Not here: what the files mean, and which of them are wanted.
"""

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from inbox_agent.protocol.files import (
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    OneByOne,
    ShareError,
    ShareFull,
    Unavailable,
    require_few,
)
from inbox_agent.protocol.layout import FOLDERS, STAGING
from inbox_agent.system.atomic_file import write_all
from inbox_agent.system.file_kind import is_link, is_regular
from inbox_agent.system.file_retry import is_busy, retry_while_busy

T = TypeVar("T")

SPARES_MAX = 256  # staged names that are kept for reuse; one worker's share needs a few
SPARES_TRIED_MAX = 4
_CHUNK_BYTES = 1024 * 1024
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})  # on Windows, EACCES also means open or locked elsewhere
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)  # a link planted in a share is never followed
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO planted in a share never blocks the reader
)
_FILL_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW_FLAGS = _FILL_FLAGS | os.O_EXCL


class LocalFiles(OneByOne):
    """`ShareFiles` on a mounted path. `is_busy` tells a transient error from a permanent one; tests replace it."""

    def __init__(self, root: Path, *, is_busy: Callable[[OSError], bool] = is_busy) -> None:
        self.root = root
        self._base = os.fspath(root) + os.sep
        self._is_busy = is_busy
        self._spares: deque[str] = deque()  #: staged names that are second names of published records, oldest first

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        self._require_folder(folder)
        names = self._ask(lambda: os.listdir(self._base + folder), missing=Unavailable)
        return require_few(names, folder, entries_max)

    def size(self, path: str) -> int:
        self._refuse_link(path)
        try:
            info = self._ask(lambda: os.lstat(self._base + path))
        except FileMissing:
            self._require_folder(path.partition("/")[0])
            raise
        if not is_regular(info):
            raise FileInvalid(f"{path}: not a regular file")
        return info.st_size

    def read(self, path: str, bytes_max: int) -> bytes:
        descriptor = self._open(path)
        try:
            if not is_regular(os.fstat(descriptor)):
                raise FileInvalid(f"{path}: not a regular file")
            data = os.read(descriptor, bytes_max + 1)
            while len(data) <= bytes_max and (more := os.read(descriptor, bytes_max + 1 - len(data))):
                data += more
            # Valid only if the name still leads to this file: a removed record's file is refilled, also during a read.
            if not os.path.samestat(os.fstat(descriptor), os.lstat(self._base + path)):
                raise FileMissing(f"{path}: removed while it was read")
        except OSError as error:
            raise _share_error(error, FileMissing) from error
        finally:
            os.close(descriptor)
        if len(data) > bytes_max:
            raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        digest, left = hashlib.sha256(), bytes_max
        descriptor = self._open(path)
        try:
            if not is_regular(self._ask(lambda: os.fstat(descriptor), missing=Unavailable)):
                raise FileInvalid(f"{path}: not a regular file")
            # Opened without truncating: refilling a file costs a fraction of creating one.
            with open(retry_while_busy(lambda: os.open(destination, _FILL_FLAGS, 0o666)), "wb", buffering=0) as out:
                while piece := _read_chunk(descriptor):
                    left -= len(piece)
                    if left < 0:
                        raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
                    digest.update(piece)
                    write_all(out.fileno(), piece)
                out.truncate()
        finally:
            os.close(descriptor)
        return digest.hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        def put() -> None:
            if path.count("/") > 1:  # an artifact's folder; the layout's own exist already
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.dirname(self._base + path))
            if isinstance(source, bytes) or not _link(source, self._base + path):
                self._fill(self._base + path, source)

        self._ask(put, missing=Unavailable)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        folder, name = path.rsplit("/", 1)
        staged, final = self._stage(f"{self._base}{folder}/{STAGING}/", name, data), self._base + path
        # Staged in an unwatched sub-folder and moved up: a watcher sees one plain "created", and a reader sees the
        # whole record or nothing. Close before the move: Windows cannot move an open file.
        if self._ask(lambda: _publish_staged(staged, final), missing=Unavailable):
            self._spares.append(staged)
        if durable:
            # Flushed under its final name: flushing the file also flushes its directory entry.
            self._ask(lambda: _flush(final), missing=Unavailable)

    def replace(self, path: str, data: bytes) -> None:
        staged, final = f"{self._base}{path}.new", self._base + path
        self._ask(lambda: self._fill(staged, data), missing=Unavailable)
        self._ask(lambda: os.replace(staged, final), missing=Unavailable)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            if not self._ask(lambda full=self._base + path: _remove(full)):  # type: ignore[misc]
                self._require_folder(path.partition("/")[0])  # nothing removed: raise if the folder is missing

    def make_folders(self) -> None:
        def make() -> None:
            for folder in FOLDERS:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._base + folder)  # never the share itself: it may not be mounted

        self._ask(make, missing=Unavailable)

    def _require_folder(self, folder: str) -> None:
        """Raises Unavailable if a folder is missing or a link: its files are then unknown, not absent."""
        info = self._ask(lambda: os.lstat(self._base + folder), missing=Unavailable)
        if folder and (not stat.S_ISDIR(info.st_mode) or is_link(info)):
            raise Unavailable(f"{folder}: not a folder")

    def _open(self, path: str) -> int:
        full = self._base + path
        self._refuse_link(path)
        try:
            if sys.platform == "win32":  # replaces O_NOFOLLOW, which Windows lacks
                info = self._ask(lambda: os.lstat(full))
                if not is_regular(info):
                    raise FileInvalid(f"{path}: not a regular file")
            return self._ask(lambda: os.open(full, _READ_FLAGS))
        except FileMissing:
            self._require_folder(path.partition("/")[0])
            raise
        except Unavailable as error:
            code = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
            if code in (errno.ELOOP, errno.ENXIO):
                raise FileInvalid(f"{path}: not a regular file") from error
            if sys.platform == "win32" and code == errno.EINVAL:
                # The C runtime's code for a file blocked by a virus scanner (ERROR_VIRUS_INFECTED), among others.
                self.names(path.partition("/")[0])  # raises if the whole share is unavailable
                raise FileRefused(f"{path}: kept back, perhaps by a virus scanner") from error
            raise

    def _refuse_link(self, path: str) -> None:
        """Raises FileInvalid if an attempt's artifacts folder is a link, which could lead out of the share."""
        if path.count("/") > 1:
            parent = path.rpartition("/")[0]
            info = self._ask(lambda: os.lstat(self._base + parent))
            if not stat.S_ISDIR(info.st_mode) or is_link(info):
                raise FileInvalid(f"{parent}: not a folder")

    def _stage(self, folder: str, name: str, data: bytes) -> str:
        """Writes a record into a staging folder; returns its staged name.

        Reuses a file if the record that it was published as is gone: creating a file costs many times as much as
        refilling one. `read` detects when that happens to the file it has open.
        """
        for _ in range(min(len(self._spares), SPARES_TRIED_MAX)):
            spare = self._spares.popleft()
            if spare.startswith(folder) and _refill(spare, data):
                return spare
            self._spares.append(spare)
        if len(self._spares) >= SPARES_MAX:
            self._ask(lambda: _remove(self._spares.popleft()))
        staged = folder + name
        self._ask(lambda: self._fill(staged, data), missing=Unavailable)
        return staged

    def _fill(self, full: str, source: bytes | Path) -> None:
        """Writes a new file. A leftover of its name is unlinked first: it may be a hard link of a kept file."""
        try:
            descriptor = os.open(full, _NEW_FLAGS, 0o666)
        except FileExistsError:
            os.unlink(full)
            descriptor = os.open(full, _NEW_FLAGS, 0o666)
        try:
            if isinstance(source, bytes):
                write_all(descriptor, source)
            else:
                with open(source, "rb", buffering=0) as pieces:
                    while piece := pieces.read(_CHUNK_BYTES):
                        write_all(descriptor, piece)
        finally:
            os.close(descriptor)

    def _ask(self, call: Callable[[], T], missing: type[ShareError] = FileMissing) -> T:
        """Runs one file operation, retries while the file is busy, and translates the error."""
        try:
            return retry_while_busy(call, self._is_busy)
        except OSError as error:
            raise _share_error(error, missing) from error


def _share_error(error: OSError, missing: type[ShareError]) -> ShareError:
    """The ShareError for an OSError; `missing` is the class for a file that does not exist."""
    kind: type[ShareError] = Unavailable
    if isinstance(error, FileExistsError):
        kind = FileAlreadyExists
    elif error.errno in _MISSING:
        kind = missing
    elif error.errno in NO_ROOM:
        kind = ShareFull
    elif error.errno in _REFUSED:
        kind = FileRefused
    return kind(str(error), error.strerror or "")


def _read_chunk(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError as error:
        raise _share_error(error, Unavailable) from error


def _publish_staged(staged: str, final: str) -> bool:
    """Gives a staged record its final name, without replacing; returns whether the staged name remains as well."""
    if sys.platform == "win32":
        os.rename(staged, final)  # on Windows, rename refuses to replace
        return False
    try:
        os.link(staged, final)  # rename would replace; link refuses
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links. One writer per folder, so nothing happens between check and rename.
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final) from error
        os.rename(staged, final)
        return False
    return True


def _refill(spare: str, data: bytes) -> bool:
    """Refills a staged file; False if it is still a hard link of a published record or cannot be written."""
    try:
        descriptor = os.open(spare, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_nlink != 1:
            return False
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _link(source: Path, final: str) -> bool:
    """Hard-links a file if it is write-protected and so will not change; False if it was not linked.

    Not on Windows, where a write-protected file cannot be deleted under any of its names.
    """
    if sys.platform == "win32" or os.stat(source).st_mode & stat.S_IWUSR:
        return False
    try:
        os.link(source, final)
    except FileExistsError:
        return os.path.samefile(source, final)
    except OSError:  # another disk, or no links there
        return False
    return True


def _flush(final: str) -> None:
    descriptor = os.open(final, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(full: str) -> bool:
    """Removes a file or a flat folder; False if it did not exist."""
    try:
        os.unlink(full)
    except FileNotFoundError:
        return False
    except (IsADirectoryError, PermissionError):
        if not os.path.isdir(full) or os.path.islink(full):
            raise
        for name in os.listdir(full):  # an attempt's artifacts: one flat folder, never a tree
            os.unlink(os.path.join(full, name))
        os.rmdir(full)
    return True
