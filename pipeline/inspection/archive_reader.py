"""Reads the archive of a generation: `results.jsonl`, and the folders in which earlier versions kept results.

A generation that was begun by an earlier version and continued by this one has both; a line counts before a folder.
Not here: the form of a line (`storage.result_lines`), what a result must say (`inspection.audit`).
"""

import contextlib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileMissing, FileRefused, ShareError
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.errors import InputError
from pipeline.inspection.archived_result import MISSING, ArchivedResult, read_archived_result
from pipeline.paths import ATTEMPT_RESULT, ATTEMPTS, RESULTS_JSONL
from pipeline.storage.result_lines import read_result_lines


@dataclass(frozen=True, slots=True)
class Extent:
    """What was in an archive at one moment."""

    bytes_of_lines: int = 0
    folders: frozenset[str] = frozenset()


@dataclass(slots=True)
class ArchiveContent:
    """What was read of an archive."""

    results: dict[str, ArchivedResult | str] = field(default_factory=dict)  #: by attempt; or why it cannot be read
    damaged: list[int] = field(default_factory=list)  #: numbers of the lines that cannot be read
    missing: str = MISSING  #: why another result is not in `results`


def extent_of(results: Path) -> Extent:
    """What is in the archive of a results folder now."""
    size_bytes = 0
    with contextlib.suppress(OSError):
        size_bytes = (results / RESULTS_JSONL).stat().st_size
    return Extent(size_bytes, frozenset(_folders(LocalFiles(results))))


def read_archive(results: Path, issued: Container[str], before: Extent) -> ArchiveContent:
    """The results of the attempts that were `issued`, and whatever else was in the archive `before`.

    Raises:
        InputError: this user may not read them.
    """
    content, files = ArchiveContent(), LocalFiles(results)
    try:
        for line in read_result_lines(results / RESULTS_JSONL):
            if line.attempt and (line.attempt in issued or line.offset < before.bytes_of_lines):
                content.results[line.attempt] = read_archived_result(line.record)
            elif not line.attempt and line.offset < before.bytes_of_lines:  # otherwise it may be in the making
                content.damaged.append(line.number)
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise forbidden(error) from error
    except OSError as error:
        content.missing = f"{RESULTS_JSONL}: {error.strerror}"
    for attempt in sorted(_folders(files) - content.results.keys()):
        if attempt in issued or attempt in before.folders:
            content.results[attempt] = _result_in_folder(files, attempt)
    return content


def forbidden(error: Exception) -> InputError:
    """The error for a file that this user may not read: it is no evidence against the count."""
    return InputError(f"{error}; give this user the right to read it, or verify as a user who has it")


def _folders(files: LocalFiles) -> set[str]:
    try:
        return {name for name in files.names(ATTEMPTS) if layout.is_attempt(name)}
    except FileRefused as error:
        raise forbidden(error) from error
    except ShareError:
        return set()


def _result_in_folder(files: LocalFiles, attempt: str) -> ArchivedResult | str:
    try:
        return read_archived_result(files.read(f"{ATTEMPTS}/{attempt}/{ATTEMPT_RESULT}", layout.RECORD_BYTES_MAX))
    except FileMissing:
        return MISSING  # a folder for its log and artifacts has none
    except FileRefused as error:
        raise forbidden(error) from error
    except ShareError as error:
        return str(error)
