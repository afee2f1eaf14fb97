"""Reads the results in an `outbox/`, with the logs and artifacts of those that may count.

Owns: which results are read in one scan, how often a damaged one is read again, what of its artifacts is fetched.
What a scan reads is bounded whatever is in the share. Until a result is judged its artifacts are in
`incoming/<attempt>/`; of one that is read again, or was not read at all, nothing is there.
Not here: what a result means (`pipeline.core.acceptance`); damage becomes a `CollectedResult` without a record.
"""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import (
    FileInvalid,
    FileMissing,
    FileRefused,
    ShareError,
    ShareFiles,
    Unavailable,
)
from inbox_agent.protocol.layout import OUTBOX, Kind, LayoutError, PayloadRef, ResultRecord, UnknownLayout
from inbox_agent.system.file_retry import is_busy
from inbox_agent.system.full_disk import is_disk_full
from pipeline.core.observation import CollectedResult
from pipeline.core.requests import ScanRequest
from pipeline.errors import HostError
from pipeline.shares.artifact_room import NO_ROOM, ArtifactRoom

READS_MAX = 3  #: reads of an invalid result or payload, one per scan
REFUSALS_MAX = 6  #: reads of a refused payload: an open file is closed before that, a virus scanner never allows it
RESULTS_PER_SCAN_MAX = 256  #: of attempts that the worker was issued
OTHERS_PER_SCAN_MAX = 16  #: results of other attempts, which do not count
COLLECT_LIMIT_S = 10.0  #: a scan that has collected results for so long leaves the others to the next one
ARTIFACT_BYTES_PER_SCAN = 64 * 1024**2  #: once a scan has fetched so much, the next one reads the other results
_NAMED_MAX = 3  #: artifacts that were left out for one reason and are named


class _NoRoomLeft(Exception):
    """An artifact is left out, for the reason that this has as its text."""


class ResultCollector:
    """The results of one worker's share."""

    def __init__(self, worker: str, files: ShareFiles, incoming: Path, room: ArtifactRoom) -> None:
        self._worker, self._files, self._incoming, self._room = worker, files, incoming, room
        self._reads: dict[str, int] = {}
        self._generation = 0
        self._fetched: dict[str, int] = {}  #: attempt -> bytes of its artifacts that this scan has fetched

    def collect(self, request: ScanRequest, found: Mapping[str, Set[Kind]]) -> tuple[CollectedResult, ...]:
        """The results that are new; `found` has the kinds of files by attempt.

        Raises:
            ShareError: share or result cannot be read, which proves nothing (law 5 of share_layout.md).
            HostError: this computer's disk failed.
        """
        answers = {attempt for attempt, kinds in found.items() if Kind.RESULT in kinds}
        for attempt in self._reads.keys() - answers:
            del self._reads[attempt]
        unread = _unread(request, answers)
        content = self._read_together(request, {attempt: found[attempt] for attempt in unread})
        self._generation, self._fetched = request.generation, {}
        results: list[CollectedResult] = []
        deadline = time.monotonic() + COLLECT_LIMIT_S
        try:
            for attempt in unread:
                if sum(self._fetched.values()) >= ARTIFACT_BYTES_PER_SCAN or (results and time.monotonic() >= deadline):
                    break
                if (result := self._collect(attempt, request, content)) is not None:
                    results.append(result)
        except (ShareError, OSError) as error:  # none of these results will be judged
            for attempt in [*self._fetched]:
                self._drop(attempt)
            if isinstance(error, OSError):  # of this computer's disk: errors of the share are ShareErrors
                raise HostError(f"{self._incoming}: {error}") from error
            raise
        return tuple(results)

    def _read_together(self, request: ScanRequest, unread: Mapping[str, Set[Kind]]) -> dict[str, bytes | ShareError]:
        """Results and logs by name, read in one exchange where the share supports it."""
        asked = {Kind.RESULT.of(attempt): layout.RECORD_BYTES_MAX for attempt in unread}
        with_log = [attempt for attempt, kinds in unread.items() if Kind.LOG in kinds and attempt in request.wanted]
        asked |= {Kind.LOG.of(attempt): layout.LOG_BYTES_MAX for attempt in with_log}
        content = self._files.read_all([(f"{OUTBOX}/{name}", bytes_max) for name, bytes_max in asked.items()])
        return dict(zip(asked, content, strict=True))

    def _collect(
        self, attempt: str, request: ScanRequest, content: Mapping[str, bytes | ShareError]
    ) -> CollectedResult | None:
        """A result; None if the next scan should read it again."""
        name = Kind.RESULT.of(attempt)
        try:
            data = _or_raise(content[name])
            record = layout.decode(ResultRecord, data, name)
        except UnknownLayout as error:
            return CollectedResult(attempt=attempt, record=None, problem=str(error), unknown_layout=True)
        except (FileMissing, FileInvalid, LayoutError) as error:
            if self._reads_left(attempt, READS_MAX):
                return None
            return CollectedResult(attempt=attempt, record=None, problem=layout.clean(str(error), 300))
        if attempt in request.wanted:
            return self._with_payloads(CollectedResult(attempt=attempt, record=record, data=data), record, content)
        return CollectedResult(attempt=attempt, record=record, data=data)

    def _with_payloads(
        self, result: CollectedResult, record: ResultRecord, content: Mapping[str, bytes | ShareError]
    ) -> CollectedResult | None:
        """The result with its log and artifacts; None if the next scan should read it again."""
        attempt, log_bytes = result.attempt, b""
        missing: dict[str, int] = {}  # incomplete payload -> the most reads to try
        if record.log is not None:
            log_bytes = self._check_log(attempt, record.log, content, missing)
        artifacts: list[str] = []
        left_out: dict[str, list[str]] = {}  # why -> names
        for ref in record.artifacts:
            try:
                if self._fetch_artifact(attempt, ref, missing):
                    artifacts.append(ref.name)
            except _NoRoomLeft as shortage:
                left_out.setdefault(str(shortage), []).append(ref.name)
        is_incomplete = bool(missing) and self._reads_left(attempt, max(missing.values()))
        if is_incomplete or not artifacts:
            self._drop(attempt)
        if is_incomplete:
            return None
        self._reads.pop(attempt, None)
        for why in left_out:
            self._room.warn(self._worker, why)
        shortages = [f"{_named(names)} ({why})" for why, names in left_out.items()]
        return replace(result, log=log_bytes, artifacts=tuple(artifacts), missing=(*missing, *shortages))

    def _reads_left(self, attempt: str, reads_max: int) -> bool:
        self._reads[attempt] = self._reads.get(attempt, 0) + 1
        return self._reads[attempt] < reads_max

    def _check_log(
        self, attempt: str, ref: PayloadRef, content: Mapping[str, bytes | ShareError], missing: dict[str, int]
    ) -> bytes:
        # A name from the share is compared, never opened.
        data = content.get(ref.name, b"") if ref.name == Kind.LOG.of(attempt) else None
        if isinstance(data, bytes) and (len(data), hashlib.sha256(data).hexdigest()) == (ref.size_bytes, ref.sha256):
            return data
        missing["log"] = REFUSALS_MAX if isinstance(data, FileRefused) else READS_MAX
        return b""

    # ------------------------------------------------------------------------------------------------- artifacts

    def _fetch_artifact(self, attempt: str, ref: PayloadRef, missing: dict[str, int]) -> bool:
        """Whether an artifact was fetched; if not, it is added to `missing`.

        Raises:
            _NoRoomLeft: it is left out.
        """
        readings = READS_MAX
        if layout.is_artifact(ref.name):
            self._take_room(attempt, ref.size_bytes)
            copy = self._incoming / attempt / ref.name
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                source = f"{OUTBOX}/{Kind.FILES.of(attempt)}/{ref.name}"
                if self._files.fetch(source, copy, ref.size_bytes) == ref.sha256:
                    return True
            except (FileMissing, FileInvalid):
                pass
            except FileRefused:
                readings = REFUSALS_MAX
            except OSError as error:
                if is_busy(error):  # a program on this host has an older copy open; try again
                    raise Unavailable(str(error)) from error
                if not is_disk_full(error):
                    raise
                self._leave_out(attempt, copy, ref.size_bytes)
                raise _NoRoomLeft(NO_ROOM) from error
            finally:
                self._room.note_arrived(ref.size_bytes)
            self._leave_out(attempt, copy, ref.size_bytes)
        missing[layout.clean(ref.name, 64)] = readings
        return False

    def _take_room(self, attempt: str, size_bytes: int) -> None:
        fetched = self._fetched.setdefault(attempt, 0)
        if fetched + size_bytes > self._room.result_bytes_max:
            raise _NoRoomLeft("over result_artifact_bytes_max")
        if why := self._room.take(self._generation, self._worker, size_bytes):
            raise _NoRoomLeft(why)
        self._fetched[attempt] += size_bytes

    def _leave_out(self, attempt: str, copy: Path, size_bytes: int) -> None:
        """Removes what was fetched of an artifact; a copy that another program has open goes with its folder."""
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        self._fetched[attempt] -= size_bytes
        self._room.give_back(self._generation, self._worker, size_bytes)

    def _drop(self, attempt: str) -> None:
        """Removes all that was fetched of a result that is not handed on, or of one without any artifact."""
        if attempt in self._fetched:
            self._room.give_back(self._generation, self._worker, self._fetched.pop(attempt))
            shutil.rmtree(self._incoming / attempt, ignore_errors=True)


def _unread(request: ScanRequest, answers: Set[str]) -> list[str]:
    """The results to read: first those of the worker's own attempts, so that no others delay them."""
    new = answers - request.handled
    others = sorted(new - request.unanswered) if request.reads_others else []
    return [*sorted(new & request.unanswered)[:RESULTS_PER_SCAN_MAX], *others[:OTHERS_PER_SCAN_MAX]]


def _named(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED_MAX else f"{len(names)} artifacts"


def _or_raise(found: bytes | ShareError) -> bytes:
    if isinstance(found, ShareError):
        raise found
    return found
