"""Artifacts of results: from a site, which has collected them, to this host's disk, before they are archived.

Owns: that what cannot be brought in one scan is brought by the next one, and that the host's room counts it.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from inbox_agent.protocol.layout import PayloadRef
from inbox_agent.system.full_disk import is_disk_full
from pipeline.core.observation import CollectedResult
from pipeline.errors import HostError
from pipeline.machines.sites.messages import AnswerError
from pipeline.shares.artifact_room import NO_ROOM, ArtifactRoom

#: Attempt, name and offset -> the next part of an artifact. Raises SiteUnavailable, AnswerError.
FetchPart = Callable[[str, str, int], bytes]


class ArtifactTransfer:
    """Brings the artifacts of one worker's results. Threads: one at a time."""

    def __init__(self, worker: str, incoming: Path, room: ArtifactRoom, fetch: FetchPart) -> None:
        self._worker, self._incoming, self._room, self._fetch = worker, incoming, room, fetch
        self._taken: dict[str, int] = {}  #: attempt -> bytes of room for it, in the transfer under way

    def bring(self, generation: int, results: Iterable[CollectedResult]) -> tuple[CollectedResult, ...]:
        """The results with the artifacts that are here now; those that are not are named as missing.

        Raises:
            HostError: this computer's disk failed.
            SiteUnavailable, AnswerError: of `fetch`; nothing of these results is here then.
        """
        self._taken = {}
        with contextlib.ExitStack() as failing:
            failing.callback(self._drop, generation)
            try:
                brought = tuple(self._with_artifacts(generation, result) for result in results)
            except OSError as error:
                raise HostError(f"{self._incoming}: {error}") from error
            failing.pop_all()
        return brought

    def _drop(self, generation: int) -> None:
        for attempt, size_bytes in self._taken.items():
            self._room.give_back(generation, self._worker, size_bytes)
            shutil.rmtree(self._incoming / attempt, ignore_errors=True)

    def _with_artifacts(self, generation: int, result: CollectedResult) -> CollectedResult:
        if not result.artifacts or result.record is None:
            return result
        refs = {ref.name: ref for ref in result.record.artifacts}
        here: list[str] = []
        missing = list(result.missing)
        for name in result.artifacts:
            if why := self._bring(generation, result.attempt, refs[name]):
                missing.append(f"{name} ({why})")
            else:
                here.append(name)
        return replace(result, artifacts=tuple(here), missing=tuple(missing))

    def _bring(self, generation: int, attempt: str, ref: PayloadRef) -> str:
        """Brings one artifact; returns why it is left out, or the empty string."""
        taken = self._taken.setdefault(attempt, 0)
        why = "over result_artifact_bytes_max" if taken + ref.size_bytes > self._room.result_bytes_max else ""
        if why := why or self._room.take(generation, self._worker, ref.size_bytes):
            self._room.warn(self._worker, why)
            return why
        self._taken[attempt] += ref.size_bytes
        copy = self._incoming / attempt / ref.name
        try:
            if self._copy(attempt, ref, copy) == ref.sha256:
                return ""
            why = "it has arrived with another digest"
        except OSError as error:
            if not is_disk_full(error):
                raise
            why = NO_ROOM
            self._room.warn(self._worker, why)
        finally:
            self._room.note_arrived(ref.size_bytes)
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        self._taken[attempt] -= ref.size_bytes
        self._room.give_back(generation, self._worker, ref.size_bytes)
        return why

    def _copy(self, attempt: str, ref: PayloadRef, copy: Path) -> str:
        copy.parent.mkdir(parents=True, exist_ok=True)
        digest, size_bytes = hashlib.sha256(), 0
        with copy.open("wb") as file:
            while size_bytes < ref.size_bytes:
                data = self._fetch(attempt, ref.name, size_bytes)
                size_bytes += len(data)
                if not data or size_bytes > ref.size_bytes:
                    raise AnswerError(f"{ref.name} of {attempt} has another size than its record names")
                file.write(data)
                digest.update(data)
        return digest.hexdigest()
