"""A share in memory: `ShareFiles` without a disk, for tests that decide what happens when.

It satisfies the contract of `test_share_files.py`. The content is plain data, `files` and `folders`; a test may read
and change it like any other program.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from inbox_agent.protocol.files import (
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    OneByOne,
    ShareFull,
    Unavailable,
    require_few,
)
from inbox_agent.protocol.layout import FOLDERS, STAGING

#: The reason of FileRefused; tests/unit/host compares it.
HELD = "another process has it open"


class MemoryFiles(OneByOne):
    """Paths to bytes. The share itself is the folder with the empty name: without it every request fails."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = {""}
        self.held: set[str] = set()  #: files that another program holds open

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        self._require(folder)
        start = f"{folder}/" if folder else ""
        everything = [*self.files, *(self.folders - {""})]
        names = [path[len(start) :] for path in everything if path.startswith(start) and "/" not in path[len(start) :]]
        return require_few(names, folder, entries_max)

    def size(self, path: str) -> int:
        return len(self._content(path))

    def read(self, path: str, bytes_max: int) -> bytes:
        data = self._content(path)
        if len(data) > bytes_max:
            raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        data = self.read(path, bytes_max)
        destination.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        self._require(_layout_folder(path))
        if isinstance(source, Path):
            try:
                source = source.read_bytes()
            except OSError as error:
                raise Unavailable(str(error)) from error
        folder = _folder(path)
        while folder not in self.folders:  # the folder of an artifact; the layout's own folders are made once
            self.folders.add(folder)
            folder = _folder(folder)
        self._put(path, source)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        self._require(f"{_folder(path)}/{STAGING}")
        if path in self.files or path in self.folders:
            raise FileAlreadyExists(path)
        self.files.pop(f"{_folder(path)}/{STAGING}/{path.rsplit('/', 1)[1]}", None)
        self._put(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._require(_folder(path))
        self._put(path, data)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._require(_layout_folder(path))
            if path in self.folders:
                self._remove_folder(path)
            elif path in self.files:
                self._give(path)
                del self.files[path]

    def make_folders(self) -> None:
        self._require("")
        self.folders |= set(FOLDERS)

    def _require(self, folder: str) -> None:
        if folder not in self.folders or "" not in self.folders:
            raise Unavailable(f"{folder or 'the share'}: no such folder")

    def _content(self, path: str) -> bytes:
        self._require(_layout_folder(path))
        if path in self.folders:
            raise FileInvalid(f"{path}: not a regular file")
        if path not in self.files:
            raise FileMissing(path)
        self._give(path)
        return self.files[path]

    def _give(self, path: str) -> None:
        if path in self.held:
            raise FileRefused(f"{path}: {HELD}")

    def _put(self, path: str, data: bytes) -> None:
        if path in self.folders:
            raise Unavailable(f"{path}: a folder")
        self._give(path)
        self.files[path] = bytes(data)

    def _remove_folder(self, path: str) -> None:
        for name in self.names(path):  # one flat folder without subfolders
            if f"{path}/{name}" in self.folders:
                raise Unavailable(f"{path}/{name}: a folder")
            self._give(f"{path}/{name}")
            del self.files[f"{path}/{name}"]
        self.folders.remove(path)


class ProbedFiles(MemoryFiles):
    """A share that records what was changed and read, and fails where the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[tuple[str, str]] = []  #: method and path, in order
        self.asked: list[str] = []  #: what was listed, read or fetched, in order
        self.troubles: set[tuple[str, str]] = set()  #: method and folder, or file, of what is Unavailable now
        self.unheard: set[tuple[str, str]] = set()  #: the same for changes that take effect although they raise
        self.unlisted: set[str] = set()  #: paths that listings omit, as a stale cache does
        self.too_big: set[str] = set()  #: paths for which there is no room; half of a payload is written
        self.on_write: Callable[[], object] = lambda: None  #: called while a payload is written

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        self._pass("names", folder)
        self.asked.append(folder)
        return [name for name in super().names(folder, entries_max) if f"{folder}/{name}" not in self.unlisted]

    def read(self, path: str, bytes_max: int) -> bytes:
        self._pass("read", _layout_folder(path))
        self.asked.append(path)
        return super().read(path, bytes_max)

    def write(self, path: str, source: bytes | Path) -> None:
        self._change("write", path)
        self.on_write()
        if path in self.too_big:
            super().write(path, b"half")
            raise ShareFull(path)
        super().write(path, source)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        self._pass("publish", _layout_folder(path))
        if path in self.too_big:
            raise ShareFull(path)
        self.journal.append(("publish durably" if durable else "publish", path))
        super().publish(path, data, durable=durable)
        if ("publish", _layout_folder(path)) in self.unheard:
            raise Unavailable(f"{path}: the answer was lost")

    def replace(self, path: str, data: bytes) -> None:
        self._change("replace", path)
        super().replace(path, data)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._change("remove", path)
            super().remove([path])

    def _change(self, verb: str, path: str) -> None:
        self._pass(verb, _layout_folder(path))
        self._pass(verb, path)
        self.journal.append((verb, path))

    def _pass(self, verb: str, where: str) -> None:
        if (verb, where) in self.troubles:
            raise Unavailable(f"{where}: cannot {verb} there now")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _layout_folder(path: str) -> str:
    """The folder of the layout that contains a path. It must exist, or the request fails."""
    return path.partition("/")[0]
