"""`ShareFiles` on a path: file operations on a local or mounted share, for agent and host.

Owns: how a file is published atomically; that only regular files are opened, and nothing is waited for.
Not here: what the files mean, and which of them are wanted; how folders are reached (`local_folders`).
"""

import contextlib
import errno
import hashlib
import os
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
from inbox_agent.protocol.local_folders import Folder, Folders, folders_of
from inbox_agent.system.atomic_file import write_all
from inbox_agent.system.file_kind import SAFE_FLAGS, is_regular, open_regular
from inbox_agent.system.file_retry import is_busy, retry_while_busy

T = TypeVar("T")

SPARES_MAX = 256  # staged names that are kept for reuse; one worker's share needs a few
SPARES_TRIED_MAX = 4
_SPARE_BYTES = 64 * 1024  # larger payloads are written in place: they would take space as spares
_CHUNK_BYTES = 1024 * 1024
_COPY_BYTES = 1024 * 1024 * 1024
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})  # on Windows, EACCES also means open or locked elsewhere
_NOT_REGULAR = frozenset({errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP})  # of opening a link, a FIFO or a socket
_READ_FLAGS = os.O_RDONLY | SAFE_FLAGS
_REFILL_FLAGS = os.O_WRONLY | SAFE_FLAGS
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS
_FLUSH_FLAGS = os.O_RDWR | SAFE_FLAGS


class LocalFiles(OneByOne):
    """`ShareFiles` on a mounted path. `is_busy` tells a transient error from a permanent one; tests replace it.

    Until `close` it may keep folders of the share open: the share's disk is then in use, and cannot be unmounted.
    """

    def __init__(
        self,
        root: Path,
        *,
        is_busy: Callable[[OSError], bool] = is_busy,
        folders: Callable[[Path], Folders] = folders_of,
    ) -> None:
        self.root = root
        self._base = os.fspath(root) + os.sep
        self._folders = folders(root)
        self._is_busy = is_busy
        #: folder and name of staged files that are second names of published ones, oldest first
        self._spares: deque[tuple[str, str]] = deque()

    def close(self) -> None:
        """Closes the folders that are kept open; one that is used again is opened again."""
        self._folders.close()

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        names = self._ask(folder, lambda: self._folders.find(folder).names(entries_max), missing=Unavailable)
        return require_few(names, folder, entries_max)

    def size(self, path: str) -> int:
        place, name = self._place_to_read(path)
        try:
            info = self._ask(path, lambda: _look(place, name))
        except FileMissing:
            self._require_folder(path)
            raise
        if not is_regular(info):
            raise FileInvalid(f"{path}: not a regular file")
        return info.st_size

    def read(self, path: str, bytes_max: int) -> bytes:
        place, name = self._place_to_read(path)
        descriptor = self._open(path, place, name)
        try:
            found = os.fstat(descriptor)
            if not is_regular(found):
                raise FileInvalid(f"{path}: not a regular file")
            data = os.read(descriptor, bytes_max + 1)
            while len(data) <= bytes_max and (more := os.read(descriptor, bytes_max + 1 - len(data))):
                data += more
            # Valid only if the name still leads to this file: a removed record's file is refilled, also during a read.
            if not os.path.samestat(found, _look(place, name)):
                raise FileMissing(f"{path}: removed while it was read")
        except OSError as error:
            raise self._share_error(path, error, FileMissing) from error
        finally:
            os.close(descriptor)
        if len(data) > bytes_max:
            raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        digest, left = hashlib.sha256(), bytes_max
        descriptor = self._open(path, *self._place_to_read(path))
        try:
            self._require_regular(path, descriptor)
            # Opened without truncating: refilling a file costs a fraction of creating one.
            refilled = retry_while_busy(lambda: open_regular(destination, os.O_WRONLY | os.O_CREAT))
            try:
                while piece := self._read_chunk(path, descriptor):
                    left -= len(piece)
                    if left < 0:
                        raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
                    digest.update(piece)
                    write_all(refilled, piece)
                os.ftruncate(refilled, bytes_max - left)
            finally:
                os.close(refilled)
        finally:
            os.close(descriptor)
        return digest.hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        folder, _, name = path.rpartition("/")
        parent, _, inner = folder.rpartition("/")
        if parent:  # an artifact's folder; the layout's own exist already
            self._make_folder(parent, inner)
        place = self._folder(folder)
        is_staged = sys.platform != "win32" and f"{folder}/{STAGING}" in FOLDERS
        if is_staged and isinstance(source, bytes) and len(source) <= _SPARE_BYTES:
            with contextlib.suppress(FileAlreadyExists):  # a leftover that nothing refers to
                self._publish(folder, place, name, source)  # not for its atomicity: a new file costs more than a spare
                return
        self._fill(folder, place, name, source)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        folder, _, name = path.rpartition("/")
        place = self._folder(folder)
        self._publish(folder, place, name, data)
        if durable:
            # Flushed under its final name: flushing the file also flushes its directory entry.
            self._ask(path, lambda: _flush(place, name), missing=Unavailable)

    def replace(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        place, staged = self._folder(folder), f"{name}.new"
        self._fill(folder, place, staged, data)
        self._ask(path, lambda: _move(os.replace, place, staged, place, name), missing=Unavailable)

    def remove(self, paths: Iterable[str]) -> None:
        places: dict[str, Folder] = {}
        for path in paths:
            folder, _, name = path.rpartition("/")
            place = places.get(folder) or places.setdefault(folder, self._folder(folder))
            if not self._ask(path, lambda place=place, name=name: _remove(place, name)):  # type: ignore[misc]
                self._require_folder(path)  # nothing removed: raise if the folder is missing

    def make_folders(self) -> None:
        for folder in FOLDERS:
            parent, _, name = folder.rpartition("/")
            self._make_folder(parent, name)  # never the share itself: it may not be mounted

    # ------------------------------------------------------------------------------------------------------- folders

    def _folder(self, folder: str) -> Folder:
        try:
            return self._folders.find(folder)
        except OSError as error:
            raise self._share_error(folder, error, Unavailable) from error

    def _make_folder(self, parent: str, name: str) -> None:
        place = self._folder(parent)
        with contextlib.suppress(FileAlreadyExists):
            self._ask(
                f"{parent}/{name}",
                lambda: os.mkdir(place.at(name), dir_fd=place.descriptor),
                missing=Unavailable,
            )

    def _require_folder(self, path: str) -> None:
        """Raises Unavailable if the folder of a path is missing or a link: its files are then unknown, not absent."""
        top = path.partition("/")[0] if "/" in path else ""
        self._ask(top, lambda: self._folders.find(top), missing=Unavailable)

    def _place_to_read(self, path: str) -> tuple[Folder, str]:
        """The folder and the name of a file.

        Raises:
            FileMissing, FileInvalid: an attempt's folder of artifacts is missing, or is a link or a file.
            Unavailable: a folder of the layout is.
        """
        folder, _, name = path.rpartition("/")
        if "/" not in folder:
            return self._folder(folder), name
        try:
            return self._ask(folder, lambda: self._folders.find(folder)), name
        except FileMissing as error:
            self._require_folder(path)
            if _errno(error) == errno.ENOTDIR:
                raise FileInvalid(f"{folder}: not a folder") from error
            raise

    # --------------------------------------------------------------------------------------------------------- files

    def _open(self, path: str, place: Folder, name: str) -> int:
        try:
            if sys.platform == "win32":  # replaces O_NOFOLLOW, which Windows lacks
                if not is_regular(self._ask(path, lambda: _look(place, name))):
                    raise FileInvalid(f"{path}: not a regular file")
            return self._ask(path, lambda: os.open(place.at(name), _READ_FLAGS, dir_fd=place.descriptor))
        except FileMissing:
            self._require_folder(path)
            raise
        except Unavailable as error:
            code = _errno(error)
            if code in _NOT_REGULAR:
                raise FileInvalid(f"{path}: not a regular file") from error
            if sys.platform == "win32" and code == errno.EINVAL:
                # The C runtime's code for a file blocked by a virus scanner (ERROR_VIRUS_INFECTED), among others.
                self.names(path.partition("/")[0])  # raises if the whole share is unavailable
                raise FileRefused(f"{path}: kept back, perhaps by a virus scanner") from error
            raise

    def _require_regular(self, path: str, descriptor: int) -> None:
        try:
            info = os.fstat(descriptor)
        except OSError as error:
            raise self._share_error(path, error, Unavailable) from error
        if not is_regular(info):
            raise FileInvalid(f"{path}: not a regular file")

    def _read_chunk(self, path: str, descriptor: int) -> bytes:
        try:
            return os.read(descriptor, _CHUNK_BYTES)
        except OSError as error:
            raise self._share_error(path, error, Unavailable) from error

    def _publish(self, folder: str, place: Folder, name: str, data: bytes) -> None:
        staging = f"{folder}/{STAGING}"
        staged_in = self._folder(staging)
        staged = self._stage(staging, staged_in, name, data)
        # Staged in an unwatched sub-folder and moved up: a watcher sees one plain "created", and a reader sees the
        # whole record or nothing. Close before the move: Windows cannot move an open file.
        path = f"{folder}/{name}"
        if self._ask(path, lambda: _publish_staged(staged_in, staged, place, name), missing=Unavailable):
            self._spares.append((staging, staged))

    def _stage(self, staging: str, place: Folder, name: str, data: bytes) -> str:
        """Writes a record or a payload into a staging folder; returns its staged name.

        Reuses a file if what it was published as is gone: creating a file costs many times as much as
        refilling one. `read` detects when that happens to the file it has open.
        """
        for _ in range(min(len(self._spares), SPARES_TRIED_MAX)):
            spare = self._spares.popleft()
            if spare[0] == staging and _refill(place, spare[1], data):
                return spare[1]
            self._spares.append(spare)
        if len(self._spares) >= SPARES_MAX:
            folder, oldest = self._spares.popleft()
            self.remove([f"{folder}/{oldest}"])
        self._fill(staging, place, name, data)
        return name

    def _fill(self, folder: str, place: Folder, name: str, source: bytes | Path) -> None:
        try:
            self._ask(f"{folder}/{name}", lambda: _fill(place, name, source), missing=Unavailable)
        except FileAlreadyExists as error:  # another program made it again; that is no published record
            raise Unavailable(str(error), error.reason) from error

    def _ask(self, path: str, call: Callable[[], T], missing: type[ShareError] = FileMissing) -> T:
        """Runs one file operation, retries while the file is busy, and translates the error."""
        try:
            return retry_while_busy(call, self._is_busy)
        except OSError as error:
            raise self._share_error(path, error, missing) from error

    def _share_error(self, path: str, error: OSError, missing: type[ShareError]) -> ShareError:
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
        reason = error.strerror or str(error)
        return kind(f"{self._base}{path}: {reason}", reason)  # an OSError names a file relative to its folder


def _errno(error: ShareError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _look(place: Folder, name: str) -> os.stat_result:
    return os.stat(place.at(name), dir_fd=place.descriptor, follow_symlinks=False)


def _publish_staged(staged_in: Folder, staged: str, place: Folder, name: str) -> bool:
    """Gives a staged record its final name, without replacing; returns whether the staged name remains as well."""
    if sys.platform == "win32":
        os.rename(staged_in.at(staged), place.at(name))  # on Windows, rename refuses to replace
        return False
    try:
        _move(os.link, staged_in, staged, place, name)  # rename would replace; link refuses
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links. One writer per folder, so nothing happens between check and rename.
        with contextlib.suppress(FileNotFoundError):
            _look(place, name)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
        _move(os.rename, staged_in, staged, place, name)
        return False
    return True


def _move(how: Callable[..., None], source: Folder, name: str, target: Folder, new: str) -> None:
    """Renames, replaces or links a file, from one folder to another."""
    how(source.at(name), target.at(new), src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)


def _fill(place: Folder, name: str, source: bytes | Path) -> None:
    """Writes a new file. A leftover of its name is unlinked first: it may be a second name of a published record."""
    full = place.at(name)
    try:
        descriptor = os.open(full, _NEW_FLAGS, 0o666, dir_fd=place.descriptor)
    except FileExistsError:
        os.unlink(full, dir_fd=place.descriptor)
        descriptor = os.open(full, _NEW_FLAGS, 0o666, dir_fd=place.descriptor)
    try:
        if isinstance(source, bytes):
            write_all(descriptor, source)
        else:
            with open(open_regular(source), "rb", buffering=0) as file:
                _copy(file.fileno(), descriptor)
    finally:
        os.close(descriptor)


def _copy(source: int, target: int) -> None:
    """Copies the rest of a file: in the kernel where it can, which shares the blocks on disks that support it."""
    if sys.platform == "linux":
        try:
            while os.copy_file_range(source, target, _COPY_BYTES):
                pass
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            # Another disk, or one that cannot do it: the rest is copied here.
    while piece := os.read(source, _CHUNK_BYTES):
        write_all(target, piece)


def _refill(place: Folder, spare: str, data: bytes) -> bool:
    """Refills a staged file; False if it is a second name of a record, not a regular file, or cannot be written."""
    try:
        descriptor = os.open(place.at(spare), _REFILL_FLAGS, dir_fd=place.descriptor)
    except OSError:
        return False
    try:
        info = os.fstat(descriptor)
        if info.st_nlink != 1 or not is_regular(info):
            return False
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _flush(place: Folder, name: str) -> None:
    descriptor = os.open(place.at(name), _FLUSH_FLAGS, dir_fd=place.descriptor)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(place: Folder, name: str) -> bool:
    """Removes a file or a flat folder; False if it did not exist."""
    full = place.at(name)
    try:
        os.unlink(full, dir_fd=place.descriptor)
    except FileNotFoundError:
        return False
    except (IsADirectoryError, PermissionError) as error:
        try:
            folder = place.inner(name)
        except NotADirectoryError:  # a file that may not be removed
            raise error from None
        for inner in folder.names(sys.maxsize):  # an attempt's artifacts: one flat folder, never a tree
            os.unlink(folder.at(inner), dir_fd=folder.descriptor)
        os.rmdir(full, dir_fd=place.descriptor)
    return True
