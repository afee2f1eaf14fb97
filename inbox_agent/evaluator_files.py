"""The files of an evaluator: which they are, the digests of their contents, and the version that follows from them.

The same code runs on the host and in each agent, so equal files have equal versions.
Not here: how the version is computed (inbox_agent.evaluation.version) and what patterns mean (file_search, there).
"""

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from inbox_agent.evaluation.file_search import TooManyNames, find_files
from inbox_agent.evaluation.version import evaluator_version, printable
from inbox_agent.evaluation.versioned import FilesState
from inbox_agent.protocol.layout import clean
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.file_retry import retry_while_busy

_DEFAULT_PATTERN = "**/*.py"
_AN_ARGUMENT = -1  #: in place of the number of a pattern
_READS_MAX = 3
_LINE_CHARS_MAX = 600
_CHUNK_BYTES = 1024 * 1024
#: A digest is kept only if its file was older when it was read: a change within one tick of the file system's clock,
#: which is 2 s for FAT, would go unnoticed.
_SETTLED_S = 2.0
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_CHOOSE = 'say which files count with `files = ["bots/**/*.lua"]` in [evaluator], or set `version` there'

_Signature = tuple[int, ...]  #: differs if a file was changed or replaced, as far as the system says


class EvaluatorFilesError(ValueError):
    """The files of the evaluator cannot be determined or read; the message is one line: what, where, what to do."""


class _FileChanged(Exception):
    """A file changed or vanished while it was read; the message is its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How much is searched and read."""

    files_max: int = 1000
    total_bytes_max: int = 2**28  #: read in one step of the agent, whose heartbeat may pause for 30 s
    names_max: int = 50_000  #: names that the search looks at


DEFAULT_LIMITS = FileLimits()


@dataclass(frozen=True, slots=True)
class _FoundFile:
    path: str
    size: int
    signature: _Signature
    changed_s: float  #: when it was last changed, in seconds since the epoch


def open_to_read(path: str) -> int:
    """A descriptor of a file. A FIFO does not block, and a terminal does not become this process's own."""
    return os.open(path, _READ_FLAGS)


class EvaluatorFiles:
    """The files of an evaluator in a folder.

    Keeps the digests of unchanged files, so that a repeated call costs a listing and an `os.stat` of each file. For
    one thread.
    """

    def __init__(
        self,
        table: EvaluatorTable,
        folder: Path,
        *,
        limits: FileLimits = DEFAULT_LIMITS,
        open_file: Callable[[str], int] = open_to_read,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`open_file` and `now` are for tests."""
        self._table, self._folder, self._limits = table, os.path.abspath(folder), limits
        self._open, self._now = open_file, now
        self._kept: dict[str, tuple[_Signature, str]] = {}
        self._stamp = 0

    def version(self, files: Mapping[str, str] | None = None) -> str:
        """`version` of the table, else the digest of command or function and files.

        Args:
            files: what `read` has returned; None: reads them.

        Raises:
            EvaluatorFilesError: as of `read`.
        """
        if self._table.version is not None:
            return self._table.version
        files = self.read() if files is None else files
        if self._table.python is not None:
            return evaluator_version("python", [self._table.python], files)
        return evaluator_version("command", self._table.command or (), files)

    def look(self) -> FilesState:
        """The version, and a stamp that differs after any change of a file. Raises EvaluatorFilesError."""
        files = self.read()
        return FilesState(self.version(files), self._stamp, files)

    def read(self) -> dict[str, str]:
        """Path, with `/`, -> SHA-256 in hexadecimal digits, of all files that count; none if the table has a version.

        Paths are relative to the folder. An argument of the command that names a file elsewhere is a path of its own.

        Raises:
            EvaluatorFilesError: the table says nothing to play, a pattern matches no file, a file or folder cannot be
                read or is no regular one, a file changes all the time, or a limit is exceeded.
        """
        if self._table.version is not None:
            return {}
        if not self._table.is_playable:
            raise self._error("[evaluator] does not say what is played; give `command` or `python`, or `version`")
        if not os.path.isdir(self._folder):
            raise self._error("no such folder; correct the folder of the evaluator's files")
        changed = ""
        for _ in range(_READS_MAX):
            try:
                return self._read()
            except _FileChanged as error:
                changed = str(error)
        raise self._error(
            f"{changed} changes while it is read; stop what writes it, or leave it out with `files` in [evaluator]"
        )

    def _read(self) -> dict[str, str]:
        found = self._find()
        digests = {key: self._digest(key, file) for key, file in found.items()}
        self._stamp = hash(tuple(sorted((key, file.signature) for key, file in found.items())))
        paths = {file.path for file in found.values()}
        self._kept = {path: kept for path, kept in self._kept.items() if path in paths}
        return digests

    def _find(self) -> dict[str, _FoundFile]:
        found: dict[str, _FoundFile] = {}
        matched: set[int] = set()
        total_bytes = 0
        for key, number in self._keys():
            matched.add(number)
            if key in found:
                continue
            found[key] = file = self._look(key)
            total_bytes += file.size
            if len(found) > self._limits.files_max:
                raise self._error(f"more than {self._limits.files_max} files count for the evaluator; {_CHOOSE}")
            if total_bytes > self._limits.total_bytes_max:
                size = f"{self._limits.total_bytes_max / 2**20:.0f} MiB"
                raise self._error(f"the files that count for the evaluator have more than {size}; {_CHOOSE}")
        for number, pattern in enumerate(self._table.files or ()):
            if number not in matched:
                is_folder = os.path.isdir(os.path.join(self._folder, pattern))
                fix = f"it is a folder, write {pattern}/** for the files in it" if is_folder else "correct the pattern"
                raise self._error(f"no file matches {pattern!r} of `files` in [evaluator]; {fix}")
        return found

    def _keys(self) -> Iterator[tuple[str, int]]:
        """Each file that counts: its path, and the number of the pattern that it matches."""
        if self._table.files is None:
            yield from ((key, _AN_ARGUMENT) for key in self._arguments())
        patterns = self._table.files or [_DEFAULT_PATTERN]
        try:
            yield from find_files(self._folder, patterns, names_max=self._limits.names_max)
        except TooManyNames:
            raise self._error(
                f"more than {self._limits.names_max} names were searched for the evaluator's files; {_CHOOSE}"
            ) from None
        except (FileNotFoundError, NotADirectoryError) as error:  # a folder vanished
            raise _FileChanged(printable(os.fspath(error.filename))) from error
        except OSError as error:
            raise self._error(
                f"the folder {printable(os.fspath(error.filename))} cannot be listed: {error.strerror}; "
                f"correct its rights, or {_CHOOSE}"
            ) from error

    def _arguments(self) -> Iterator[str]:
        """The arguments of the command that name files, as a `CommandEvaluator` replaces them by paths."""
        for number, argument in enumerate(self._table.command or ()):
            if number == 0 and argument == "python":  # the interpreter that runs the agent, whatever is in the folder
                continue
            path = os.path.join(self._folder, argument)
            try:
                mode = os.stat(path).st_mode
            except (OSError, ValueError):  # most arguments are no paths
                if argument and os.path.islink(path):
                    yield PurePath(argument).as_posix()
                continue
            # A device, such as /dev/null or NUL, has no content to compare.
            if not (stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                yield PurePath(argument).as_posix()

    def _look(self, key: str) -> _FoundFile:
        path = os.path.join(self._folder, key)
        try:
            info = os.stat(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not os.path.islink(path):
                raise _FileChanged(printable(key)) from error
            if os.path.islink(path):
                reason = f"is a link that leads to no file: {error.strerror}; correct or remove the link"
                raise self._error(f"{printable(key)} {reason}") from error
            raise self._unreadable(key, error) from error
        if not stat.S_ISREG(info.st_mode):
            raise self._error(f"{printable(key)} is no regular file; remove it, or {_CHOOSE}")
        changed_s = info.st_mtime if sys.platform == "win32" else info.st_ctime
        return _FoundFile(path, info.st_size, _signature(info), changed_s)

    def _digest(self, key: str, file: _FoundFile) -> str:
        kept = self._kept.get(file.path)
        if kept is not None and kept[0] == file.signature:
            return kept[1]
        # A time in the future is that of another clock; the next change will have another one.
        is_settled = abs(self._now() - file.changed_s) > _SETTLED_S
        try:
            digest = self._hash(file)
        except FileNotFoundError as error:
            raise _FileChanged(printable(key)) from error
        except OSError as error:
            raise self._unreadable(key, error) from error
        if digest is None or self._look(key).signature != file.signature:
            raise _FileChanged(printable(key))
        if is_settled:
            self._kept[file.path] = file.signature, digest
        return digest

    def _hash(self, file: _FoundFile) -> str | None:
        """The digest of a file's content; None if it changed meanwhile. Raises OSError."""
        digest = hashlib.sha256()
        descriptor = retry_while_busy(lambda: self._open(file.path))
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return None
            left = file.size + 1  # not to its end: it may grow as fast as it is read
            while chunk := os.read(descriptor, min(_CHUNK_BYTES, left)):
                digest.update(chunk)
                left -= len(chunk)
            is_whole = left == 1 and _signature(os.fstat(descriptor)) == _signature(before)
        finally:
            os.close(descriptor)
        return digest.hexdigest() if is_whole else None

    def _unreadable(self, key: str, error: OSError) -> EvaluatorFilesError:
        return self._error(f"{printable(key)} cannot be read: {error.strerror}; correct its rights, or {_CHOOSE}")

    def _error(self, problem: str) -> EvaluatorFilesError:
        line = f"{self._folder}: {problem}".encode("utf-8", "backslashreplace").decode()
        return EvaluatorFilesError(clean(line, _LINE_CHARS_MAX))


def _signature(info: os.stat_result) -> _Signature:
    """What differs after a change of content.

    A change that keeps the size and sets back the time of modification is noticed on POSIX, where nothing sets back
    `st_ctime`. On Windows, where that is the time of creation, it is noticed only if the file was replaced by another.
    """
    times = (info.st_mtime_ns,) if sys.platform == "win32" else (info.st_mtime_ns, info.st_ctime_ns)
    return (info.st_dev, info.st_ino, info.st_size, *times)
