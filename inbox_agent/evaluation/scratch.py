"""The scratch folder of an evaluation: cleaned before, searched for answer and artifacts after.

Owns: what is reused, what counts as an answer file and what as an artifact. Creating files is the most expensive
operation here, so the folder and the genome's file are kept. A folder that cannot be cleaned, because a process has a
file of it open or took the right to delete it, is replaced by a new one.
"""

import contextlib
import logging
import os
import secrets
import stat
import sys
import time
from functools import partial
from pathlib import Path

from inbox_agent.evaluation.trial import ARTIFACTS
from inbox_agent.protocol.layout import ARTIFACT_BYTES_MAX, ARTIFACTS_MAX, RECORD_BYTES_MAX
from inbox_agent.system.file_kind import is_link, is_regular
from inbox_agent.system.file_retry import retry_while_busy

log = logging.getLogger(__name__)

_REMOVE_AGAIN_S = 10.0
#: A FIFO must not block the agent, a link must not be followed.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

RESULT = "result.json"


class InvalidAnswer(ValueError):
    """The evaluator left no valid answer; the message says what is wrong."""


class Scratch:
    """A folder used by one evaluation after the other. `overwritten` names files that are written for each of them."""

    def __init__(self, folder: Path, *overwritten: str) -> None:
        self._base = Path(os.path.abspath(folder))
        self._overwritten = overwritten
        self._use(self._base)
        self._abandoned = [path for path in self._base.parent.glob(f"{self._base.name}-*") if path.is_dir()]
        self._remove_abandoned_at = 0.0
        with contextlib.suppress(OSError):  # the next `prepare` tries again and raises
            self.prepare("")  # files of a killed agent's last evaluation may fill the disk

    def _use(self, folder: Path) -> None:
        self.folder, self.result = folder, folder / RESULT
        self._artifacts = os.path.join(folder, ARTIFACTS)
        os.makedirs(folder, exist_ok=True)

    def prepare_or_replace(self, suffix: str) -> Path:
        """As `prepare`; a folder that cannot be cleaned is replaced by a new one, and removed once that is possible."""
        try:
            return self.prepare(suffix)
        except OSError as error:
            log.warning("%s cannot be cleaned, a new folder takes its place: %s", self.folder, error)
            self._abandoned.append(self.folder)
            self._remove_abandoned_at = time.monotonic() + _REMOVE_AGAIN_S
            self._use(self._base.with_name(f"{self._base.name}-{secrets.token_hex(4)}"))
            return self.prepare(suffix)

    def _remove_abandoned(self) -> None:
        """Removes abandoned folders, not too often: each file that is still open takes seconds on Windows."""
        if not self._abandoned or time.monotonic() < self._remove_abandoned_at:
            return
        self._remove_abandoned_at = time.monotonic() + _REMOVE_AGAIN_S
        for folder in list(self._abandoned):
            with contextlib.suppress(OSError):
                os.chmod(folder, stat.S_IRWXU)
                for name in os.listdir(folder):  # one by one: what stays must stay in this folder
                    _remove(os.path.join(folder, name))
                os.rmdir(folder)
            if not folder.exists():
                self._abandoned.remove(folder)

    def prepare(self, suffix: str) -> Path:
        """Removes the last evaluation's files; returns the path for the genome. Raises OSError if that fails."""
        self._remove_abandoned()
        genome = "genome" + suffix
        kept = (genome, *self._overwritten)
        artifacts_there = False
        for name in self._left_behind():
            path = os.path.join(self.folder, name)
            info = os.lstat(path)
            if name == ARTIFACTS and stat.S_ISDIR(info.st_mode) and not is_link(info):
                artifacts_there = True
            elif name not in kept or not _can_be_overwritten(info):
                _remove(path)
        if artifacts_there:
            for name in os.listdir(self._artifacts):
                _remove(os.path.join(self._artifacts, name))
        else:
            os.mkdir(self._artifacts)
        return self.folder / genome

    def _left_behind(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except FileNotFoundError:  # the evaluator removed the folder itself
            os.makedirs(self.folder)
            return []
        except PermissionError:  # the evaluator took the right to list it
            os.chmod(self.folder, stat.S_IRWXU)
            return os.listdir(self.folder)

    def answer(self) -> bytes:
        """The bytes of `result.json`. Raises InvalidAnswer."""
        try:
            if not is_regular(os.lstat(self.result)):
                raise InvalidAnswer(f"{RESULT} is not a regular file")
            # The game may still run, and put a FIFO or a link in its place after this look.
            with open(os.open(self.result, _OPEN_FLAGS), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise InvalidAnswer(f"{RESULT} is not a regular file")
                if found.st_size > RECORD_BYTES_MAX:
                    raise InvalidAnswer(f"{RESULT} has {found.st_size} bytes, allowed are {RECORD_BYTES_MAX}")
                return file.read(RECORD_BYTES_MAX + 1)
        except FileNotFoundError:
            raise InvalidAnswer(f"the evaluator ended well but wrote no {RESULT}") from None
        except OSError as error:
            raise InvalidAnswer(f"{RESULT} cannot be read: {error.strerror}") from None

    def artifacts(self) -> list[Path]:
        """The regular files in `artifacts/` up to `ARTIFACT_BYTES_MAX`, by name, at most `ARTIFACTS_MAX`."""
        try:
            names = os.listdir(self._artifacts)
            if not names or is_link(os.lstat(self._artifacts)):
                return []
        except OSError:  # the evaluator removed or replaced it
            return []
        paths = [Path(self._artifacts, name) for name in sorted(names)]
        return [path for path in paths if _is_fit(path)][:ARTIFACTS_MAX]


def _is_fit(path: Path) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return is_regular(info) and info.st_size <= ARTIFACT_BYTES_MAX


def _can_be_overwritten(info: os.stat_result) -> bool:
    # Other hard links of the file would be overwritten as well.
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and bool(info.st_mode & stat.S_IWRITE)


def _remove(path: str) -> None:
    """Removes a file, a link or a whole tree. Raises OSError.

    Not by recursion: a tree may be deeper than the stack, and its paths longer than the system allows. Every folder is
    moved up beside `path` before it is emptied; after a failure, the next cleaning finds it there.
    """
    waiting = [path] if retry_while_busy(partial(_remove_unless_folder, path)) else []
    while waiting:
        folder = waiting.pop()
        for name in os.listdir(folder):
            inner = os.path.join(folder, name)
            if retry_while_busy(partial(_remove_unless_folder, inner)):
                moved = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}")
                retry_while_busy(partial(os.replace, inner, moved))
                waiting.append(moved)
        retry_while_busy(partial(os.rmdir, folder))


def _remove_unless_folder(path: str) -> bool:
    """Removes a file, link or junction; for a real folder, makes it accessible and returns True."""
    try:
        info = os.lstat(path)
        if stat.S_ISDIR(info.st_mode) and not is_link(info):
            os.chmod(path, stat.S_IRWXU)
            return True
        if stat.S_ISDIR(info.st_mode):
            os.rmdir(path)  # a junction: its target is kept
        else:
            if sys.platform == "win32":
                os.chmod(path, stat.S_IWRITE)  # a read-only file cannot be deleted there
            os.unlink(path)
    except FileNotFoundError:
        pass
    return False
