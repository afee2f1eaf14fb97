"""Local files and folders that are complete or absent: a reader sees the old content or the new, also after a crash.

Not here: records of a share, which are published without replacing (`inbox_agent.protocol`).
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

_NAME_CHARS_MAX = 50  # of the staged name: a file's own name may be as long as its disk allows


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes a hidden file beside `path`, then gives it that name. One thread may write a path at a time.

    Args:
        durable: it survives a power failure, or the old content does.

    Raises:
        OSError: the old content is kept. The hidden file remains only if this process is killed, until the next call.
    """
    with replacement(path) as file:
        write_all(file.fileno(), data)
        if durable:
            os.fsync(file.fileno())
    if durable:
        flush_names(path.parent)


def flush_names(folder: Path) -> None:
    """Writes the names of a folder's entries to the disk. Raises OSError."""
    if sys.platform != "win32":  # it opens no folders; NTFS keeps a journal of its names
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacement(path: Path) -> Iterator[FileIO]:
    """A hidden file beside `path` for a block that writes it; afterwards it gets that name. If the block fails, it is
    removed and the old content is kept.
    """
    staged = path.with_name(f".{path.name[:_NAME_CHARS_MAX]}.new")
    with ExitStack() as failing:
        failing.callback(_remove, staged)
        with open(staged, "wb", buffering=0) as file:
            yield file
        os.replace(staged, path)
        failing.pop_all()


@contextmanager
def new_file(path: Path, data: bytes) -> Iterator[None]:
    """Writes a file that does not exist yet, for a block that does the rest; deletes it if the block fails."""
    with ExitStack() as failing:
        failing.callback(_remove, path)
        replace_file(path, data)
        yield
        failing.pop_all()


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Makes a folder with those above it, for a block that fills it; if the block fails, removes the new ones again.

    One that is not empty then stays.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    with ExitStack() as failing:
        for folder in reversed(new):
            failing.callback(_remove_folder, folder)
        path.mkdir(parents=True, exist_ok=True)
        yield
        failing.pop_all()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_folder(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`: a disk that fills up takes a part first, and fails at the next write."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])
