"""How the folders of a share on a mounted path are reached: by descriptor where the system can, else by path.

Owns: that nothing is reached through a link in place of a folder. Where folders have descriptors, one is opened without
following links and kept, and its files are named relative to it: exchanging the folder for a link changes nothing.
Windows has no such calls; there each folder of a path is looked at before its names are used.
Not here: what is done with files (`local_files`). The share itself may be reached through a link.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Protocol

from inbox_agent.protocol.layout import FOLDERS
from inbox_agent.system.file_kind import is_link

_KEPT = frozenset(FOLDERS)  # an attempt's folder of artifacts is used once
_KEPT_BELOW = 512  # folders with higher descriptors are closed after use: many systems allow a process 1024
#: Linux opens a folder to reach its files without the right to list it.
_REACH_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_LIST_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Folder(Protocol):
    """A folder that is no link. Functions of `os` reach its files by `at(name)` with `dir_fd=descriptor`."""

    @property
    def descriptor(self) -> int | None: ...

    def at(self, name: str) -> str:
        """What names a file of this folder."""

    def names(self, entries_max: int) -> list[str]:
        """The names in it, and no more than one name more than this. Raises OSError."""

    def inner(self, name: str) -> "Folder":
        """A folder in this one. Raises OSError: missing, or a link or a file."""


class Folders(Protocol):
    """The folders of one share, by their paths in it; the share itself is the empty path."""

    def find(self, folder: str) -> Folder:
        """A folder, for the calls that follow.

        Raises OSError: this folder, or one that it is in, is missing, or a link or a file.
        """

    def close(self) -> None:
        """Closes the folders that are kept open; `find` may open them again."""


def folders_of(root: Path) -> Folders:
    """The folders of a share, as this system reaches them best."""
    return OpenFolders(root) if os.open in os.supports_dir_fd else FoldersByPath(root)


def _names(folder: int | str, entries_max: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, min(entries_max + 1, sys.maxsize))]


# ------------------------------------------------------------------------------------------------------ by descriptor


class _OpenFolder:
    """A folder that stays open until nothing refers to it; no other folder can have its identity meanwhile."""

    __slots__ = ("_identity", "_path", "descriptor")

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor, self._path = descriptor, path
        info = os.fstat(descriptor)
        self._identity = (info.st_dev, info.st_ino)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.descriptor)

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it: a share may be unmounted, or replaced by another one."""
        try:
            info = os.lstat(self._path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self._identity

    def at(self, name: str) -> str:
        return name

    def names(self, entries_max: int) -> list[str]:
        # Opened anew: the position in a listing belongs to the descriptor, and some network disks keep its content.
        listing = os.open(".", _LIST_FLAGS, dir_fd=self.descriptor)
        try:
            return _names(listing, entries_max)
        finally:
            os.close(listing)

    def inner(self, name: str) -> "_OpenFolder":
        try:
            descriptor = os.open(name, _REACH_FLAGS | _NO_LINK, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno != errno.ELOOP:  # what some systems say of a link, others that it is no folder
                raise
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from error
        return _OpenFolder(descriptor, f"{self._path.rstrip('/')}/{name}")


class OpenFolders:
    """Keeps the folders of the layout open, and notices when other ones have taken their places."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._open: dict[str, _OpenFolder] = {}

    def find(self, folder: str) -> _OpenFolder:
        found = self._open.get(folder)
        if found is not None and found.is_in_place:
            return found
        self._open.pop(folder, None)
        found = self._opened(folder)
        if folder in _KEPT and found.descriptor < _KEPT_BELOW:
            self._open[folder] = found
        return found

    def close(self) -> None:
        self._open.clear()  # each is closed when no call in progress refers to it any more

    def _opened(self, folder: str) -> _OpenFolder:
        if not folder:
            return _OpenFolder(os.open(self._root, _REACH_FLAGS), f"{self._root}/")  # it may be a link
        parent, _, name = folder.rpartition("/")
        return self.find(parent).inner(name)


# ------------------------------------------------------------------------------------------------------------ by path


class _FolderByPath:
    """A folder by its path, which names its files."""

    __slots__ = ("_base",)

    descriptor = None

    def __init__(self, base: str) -> None:
        self._base = base

    def at(self, name: str) -> str:
        return self._base + name

    def names(self, entries_max: int) -> list[str]:
        return _names(self._base, entries_max)

    def inner(self, name: str) -> "_FolderByPath":
        _require_folder(self._base + name)
        return _FolderByPath(self._base + name + os.sep)


class FoldersByPath:
    """Folders of a system whose calls take paths only."""

    def __init__(self, root: Path) -> None:
        self._base = os.fspath(root) + os.sep

    def find(self, folder: str) -> _FolderByPath:
        if not folder:
            _require_folder(self._base, may_be_link=True)
            return _FolderByPath(self._base)
        names = folder.split("/")
        for depth in range(len(names)):  # a link further up leads out of the share, too
            _require_folder(self._base + os.sep.join(names[: depth + 1]))
        return _FolderByPath(self._base + folder + os.sep)

    def close(self) -> None:
        pass  # none is kept open


def _require_folder(path: str, *, may_be_link: bool = False) -> None:
    info = os.lstat(path)
    if not may_be_link and (not stat.S_ISDIR(info.st_mode) or is_link(info)):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
