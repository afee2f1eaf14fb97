"""The genomes of one call of a program, as files of a generation's folder: all of them, or none.

Owns: which names and contents are refused, and that a call that fails leaves the folder as it was.
Not here: which files of the folder are genomes, and which of those cannot be used (`snapshots`).
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

from inbox_agent.system.atomic_file import replace_file, write_all
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.errors import GenomeError, disk_errors
from pipeline.storage.snapshots import is_ignored, refuse_bad_name

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    class _Array(Protocol):
        """A numpy array: before Python 3.12 its type does not say that it is a buffer."""

        @property
        def nbytes(self) -> int: ...
        def tobytes(self) -> bytes: ...

    GenomeSource = ReadableBuffer | _Array | os.PathLike[str]
else:
    GenomeSource = bytes | bytearray | memoryview | os.PathLike[str]

_WINDOWS_REFUSES = set('<>:"|?*\\')
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


@contextmanager
def put_genomes(folder: Path, genomes: Mapping[str, GenomeSource], recorded: Callable[[], set[str]]) -> Iterator[None]:
    """Puts genomes into a generation's folder, around the block that begins the generation.

    If anything fails, in the block too, the folder and its files are again what they were before.

    Args:
        recorded: the names that the ledger has as genomes of the generation. If there are any, no file's bytes can
            change. A block that fails after it has recorded more of them keeps their files.

    Raises:
        GenomeError: a name or content cannot be used.
        HostError: the folder cannot be written.
    """
    names, known = _checked_names(genomes), recorded()
    staged, kept = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("new", "old"))
    with ExitStack() as always, ExitStack() as undo:
        if not folder.parent.exists():
            always.callback(_remove_if_empty, folder.parent)
        for aside in (staged, kept):
            shutil.rmtree(aside, ignore_errors=True)  # left by a killed program
            always.callback(shutil.rmtree, aside, ignore_errors=True)
        _stage(staged, genomes, names)
        with disk_errors(folder):
            _install(folder, staged, kept, names, undo, begun=bool(known))
        done = False
        try:
            yield
            done = True
        finally:
            if done or recorded() - known:
                undo.pop_all()


def put_genome(folder: Path, name: str, content: bytes) -> None:
    """Writes the file of one genome into the folder of an open generation; replaces one that is there.

    Raises:
        GenomeError: something else has its name, or the disk has no file of that name.
        HostError: the folder cannot be written.
    """
    path = folder / name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _name_errors(name):
            if os.path.lexists(path):
                if not path.is_file():
                    raise GenomeError(f"{path}: not a regular file; move it away")
                if name not in os.listdir(folder):
                    raise _other_spelling(folder, name)
            retry_while_busy(lambda: replace_file(path, content))


def genome_content(name: Any, source: Any) -> bytes:
    """The bytes of one genome: of any object with bytes, or of a file. Raises GenomeError, also for its name."""
    refuse_names([name], windows=os.name == "nt")
    return _content(name, source)


def refuse_names(names: Iterable[str], *, windows: bool) -> None:
    """Refuses names that cannot be stored as genome files, before any is written.

    Raises:
        GenomeError: a name is not a plain file name, would be ignored, or is the same file as another one.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise GenomeError(f"genome name {name!r}: expected a str, found {type(name).__name__}")
        if (PureWindowsPath if windows else PurePosixPath)(name).name != name or name in ("", ".", ".."):
            raise GenomeError(f"genome name {name!r}: a plain file name is needed")
        refuse_bad_name(name, f"genome name {name!r}")
        if is_ignored(name):
            raise GenomeError(f"genome name {name!r}: files of that name are not taken for genomes; choose another")
        if not windows:
            continue
        if PureWindowsPath(name).is_reserved() or name.rstrip(". ") != name or set(name) & _WINDOWS_REFUSES:
            raise GenomeError(f"genome name {name!r}: Windows has no file of that name; choose another")
        same = seen.setdefault(name.casefold(), name)
        if same != name:
            raise GenomeError(f"genome names {same!r} and {name!r} are one file on Windows; rename one")


def _checked_names(genomes: Mapping[str, GenomeSource]) -> list[str]:
    if not isinstance(genomes, Mapping):
        raise GenomeError(f"genomes: expected a mapping of names to bytes or paths, found {type(genomes).__name__}")
    names = list(genomes)
    refuse_names(names, windows=os.name == "nt")
    return names


def _stage(staged: Path, genomes: Mapping[str, GenomeSource], names: Iterable[str]) -> None:
    """Writes all genomes into a new folder."""
    with disk_errors(staged):
        staged.mkdir(parents=True)
    for name in names:
        data = _content(name, genomes[name])
        try:
            with _name_errors(name), open(staged / name, "xb", buffering=0) as file, disk_errors(staged):
                write_all(file.fileno(), data)
        except FileExistsError as error:
            reason = "this disk has one file for it and for another of these names; rename one"
            raise GenomeError(f"genome name {name!r}: {reason}") from error
        except OSError:
            with disk_errors(staged):
                raise


@contextmanager
def _name_errors(name: str) -> Iterator[None]:
    """Around making a file: raises GenomeError if the disk has none of that name."""
    try:
        yield
    except OSError as error:
        too_long = os.name == "nt" and error.errno == errno.ENOENT  # Windows says so of a path that is too long
        if too_long or error.errno in _BAD_NAME:
            why = "its path is too long" if too_long else error.strerror
            raise GenomeError(f"genome name {name!r}: {why}; choose another") from error
        raise


def _content(name: str, source: Any) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        raise GenomeError(
            f"genome {name!r}: a str may be content or path; give bytes, as text.encode() does, or a pathlib.Path"
        )
    if isinstance(source, os.PathLike):
        return _content_of(Path(source))
    try:
        return memoryview(source).tobytes()
    except TypeError:
        what = type(source).__name__
        raise GenomeError(f"genome {name!r}: expected bytes or a pathlib.Path, found {what}") from None


def _content_of(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise GenomeError(f"{path}: not a regular file; give bytes or another path")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GenomeError(f"{path}: cannot be read: {reason}; give bytes or another path") from error


def _install(folder: Path, staged: Path, kept: Path, names: Iterable[str], undo: ExitStack, *, begun: bool) -> None:
    """Moves staged genomes to their places. `undo` gets what takes them back."""
    if not folder.exists():
        undo.callback(_remove_if_empty, folder)
        for name in names:
            undo.callback(_remove, folder / name)
        _move(staged, folder)  # all at once, also if this process is killed
        return
    there = set(os.listdir(folder))
    for name in names:
        if name not in there and os.path.lexists(folder / name):
            raise _other_spelling(folder, name)
    for name in [name for name in names if not _has(folder / name, staged / name, begun=begun)]:
        path = folder / name
        if path.exists():
            kept.mkdir(exist_ok=True)
            shutil.copy2(path, kept / name, follow_symlinks=False)
            undo.callback(_move, kept / name, path)
        else:
            undo.callback(_remove, path)
        _move(staged / name, path)


def _has(path: Path, staged: Path, *, begun: bool) -> bool:
    """Whether a genome is in its place already. Raises GenomeError: something else is, and cannot be replaced."""
    if not os.path.lexists(path):
        return False
    if not path.is_file():
        raise GenomeError(f"{path}: not a regular file; move it away")
    if path.read_bytes() == staged.read_bytes():
        return True
    if begun:
        reason = f"{path.parent.name} was begun with other bytes; give another generation"
        raise GenomeError(f"genome {path.name!r}: {reason}")
    return False


def _other_spelling(folder: Path, name: str) -> GenomeError:
    return GenomeError(f"genome name {name!r}: {folder} has this file in another spelling; use that name")


def _move(source: Path, target: Path) -> None:
    retry_while_busy(lambda: os.replace(source, target))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        retry_while_busy(lambda: path.unlink(missing_ok=True))


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another program may have put a file there
        folder.rmdir()
