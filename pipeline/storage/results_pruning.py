"""What is removed of the results folder of one generation, and how.

Workers have written what is there, so links are removed and not followed, and only what this program stores is removed:
logs, artifacts, records, results that are set aside. Other files of a user stay.
Not here: which attempts these are (`core.retention`), other generations and the state folder (`project_pruning`).
"""

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from inbox_agent.system.file_kind import is_link
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.core.retention import PrunedKind
from pipeline.paths import ATTEMPT_FILES, ATTEMPT_LOG, ATTEMPT_RESULT, ATTEMPTS, RESULTS_JSONL, SET_ASIDE
from pipeline.storage.disk_use import DiskUse, disk_use, is_folder


@dataclass(frozen=True, slots=True)
class Removal:
    """A file or folder that is to be removed."""

    what: str  #: in words
    generation: int  #: 0: it is of no single one
    path: Path
    use: DiskUse
    folder: Path | None = None  #: is removed if it is empty then; at the end also the folder that it is in


def removals_of_results(
    folder: Path, generation: int, kinds: Collection[PrunedKind], without_files: Collection[str], over: Collection[str]
) -> Iterator[Removal]:
    """What is removed of a results folder: files of the attempts `without_files`, records of those that are `over`.

    Raises:
        OSError: it cannot be listed.
    """
    if not is_folder(folder):
        return
    if is_folder(attempts := folder / ATTEMPTS):
        with_records = over if PrunedKind.RECORDS in kinds else ()
        yield from _empty(attempts, generation)
        for name in sorted(os.listdir(attempts)):
            parts = [ATTEMPT_LOG, ATTEMPT_FILES] if name in without_files else []
            parts += [ATTEMPT_RESULT] if name in with_records else []
            if parts and is_folder(attempts / name):
                yield from _removals_of_attempt(attempts / name, generation, parts)
    if PrunedKind.SET_ASIDE in kinds:
        yield from _removal("results that were set aside", generation, folder / SET_ASIDE)
    if PrunedKind.RECORDS in kinds:
        yield from _removal("results", generation, folder / RESULTS_JSONL)


def _removals_of_attempt(folder: Path, generation: int, parts: Iterable[str]) -> Iterator[Removal]:
    yield from _empty(folder, generation)
    for part in parts:
        what = "results" if part == ATTEMPT_RESULT else "logs and artifacts"
        yield from _removal(what, generation, folder / part, folder)


def _empty(folder: Path, generation: int) -> Iterator[Removal]:
    """A folder that a kill left."""
    if not os.listdir(folder):
        yield Removal("logs and artifacts", generation, folder, DiskUse(), folder)


def _removal(what: str, generation: int, path: Path, folder: Path | None = None) -> Iterator[Removal]:
    if os.path.lexists(path):
        yield Removal(what, generation, path, disk_use(path), folder)


def remove_all(removals: Iterable[Removal]) -> list[str]:
    """Removes them; returns what could not be removed, and why. The rest is removed nevertheless."""
    problems, emptied = [], dict[Path, None]()
    for removal in removals:
        try:
            retry_while_busy(partial(remove_tree, removal.path))
        except OSError as error:
            problems.append(f"{error.filename or removal.path}: {error.strerror}")
        if removal.folder is not None:
            _remove_if_empty(removal.folder)
            emptied[removal.folder.parent] = None
    for folder in emptied:  # once: it takes longer the more was in it
        _remove_if_empty(folder)
    return problems


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_tree(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it; nothing if there is none. Raises OSError."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode) or is_link(info):
        _unlink(os.unlink, os.fspath(path))
    elif sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=_once_more)
    else:
        shutil.rmtree(path, onerror=lambda act, name, raised: _once_more(act, name, raised[1]))


def _unlink(act: Callable[[str], Any], path: str) -> None:
    try:
        act(path)
    except PermissionError as error:
        _once_more(act, path, error)


def _once_more(act: Callable[..., Any], path: str, error: BaseException) -> None:
    """Windows removes write-protected files only if they are none any more."""
    if isinstance(error, FileNotFoundError):
        return
    if sys.platform != "win32" or not isinstance(error, PermissionError):
        raise error
    os.chmod(path, stat.S_IWRITE)
    act(path)
