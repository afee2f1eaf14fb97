"""Publishes results: log and artifacts first, then the record that refers to them.

Owns: which payloads a result leaves out so that its fitness is still reported, and which artifacts are in the share
already.
"""

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from inbox_agent.evaluation.protocol import EvaluationResult
from inbox_agent.identity import AgentIdentity
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileAlreadyExists, FileRefused, ShareFiles, ShareFull, Unavailable
from inbox_agent.protocol.layout import OUTBOX, HostRecord, Kind, PayloadRef, ResultRecord, StartRecord
from inbox_agent.system.file_kind import open_regular

log = logging.getLogger(__name__)
REFUSALS_MAX = 3  #: of one payload: an open file is closed by then, a file blocked by a virus scanner is not


class ResultWriter:
    """Writes results into one share; calls `heartbeat` between artifacts, because each may be large."""

    def __init__(self, files: ShareFiles, identity: AgentIdentity, heartbeat: Callable[[], None]) -> None:
        self._files, self._identity, self._heartbeat = files, identity, heartbeat
        self._copied: dict[Path, PayloadRef] = {}  #: artifacts of the finished evaluation that are in the share
        self._refusals: Counter[str] = Counter()

    def forget(self) -> None:
        """Drops the state of the last evaluation."""
        self._copied.clear()
        self._refusals.clear()

    def publish(
        self,
        attempt: str,
        of: StartRecord | HostRecord,
        finished: EvaluationResult,
        *,
        agent_stopped: bool = False,
    ) -> None:
        """Publishes a result; it echoes the start signal, or the share's owner where that could not be read.

        Raises:
            Unavailable: the share cannot be asked; a second call continues where this one stopped.
            ShareFull: there is no room for the record itself.
        """
        start = of if isinstance(of, StartRecord) else None
        record = ResultRecord(
            farm=of.farm,
            worker=of.worker,
            epoch=of.epoch,
            attempt=attempt,
            trial=start.trial if start else None,
            seed=start.seed if start else None,
            genome_sha256=start.genome_sha256 if start else None,
            evaluator=finished.evaluator,
            outcome=finished.outcome,
            fitness=finished.fitness,
            metrics=finished.metrics,
            reason=layout.clean(finished.reason, layout.REASON_CHARS_MAX),
            agent_stopped=agent_stopped,
            seconds=finished.seconds,
            boot_id=self._identity.boot_id,
            run_id=self._identity.run_id,
            log=self._write_log(attempt, finished.log),
            artifacts=self._write_artifacts(attempt, finished.artifacts),
        )
        try:
            # Payloads first, the record last: a reader of the record finds every payload it names.
            self._files.publish(f"{OUTBOX}/{Kind.RESULT.of(attempt)}", layout.encode(record))
        except FileAlreadyExists:
            log.warning("%s already has a result; this one is dropped", attempt)

    def _write_log(self, attempt: str, data: bytes) -> PayloadRef | None:
        name = Kind.LOG.of(attempt)
        if not data or not self._write_payload(name, data):
            return None
        return PayloadRef(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _write_artifacts(self, attempt: str, paths: Sequence[Path]) -> list[PayloadRef]:
        """Copies artifacts into the share; one that cannot be read or has no room is left out."""
        refs: dict[str, PayloadRef] = {}
        for number, path in enumerate(paths[: layout.ARTIFACTS_MAX]):
            if path not in self._copied:
                name = path.name if layout.is_artifact(path.name) else f"artifact-{number}"
                while name in refs:
                    name = f"{name[:60]}-{number}"
                self._copy_artifact(attempt, path, name)
                with contextlib.suppress(Unavailable):
                    self._heartbeat()
            if (ref := self._copied.get(path)) is not None:
                refs[ref.name] = ref
        return list(refs.values())

    def _copy_artifact(self, attempt: str, path: Path, name: str) -> None:
        try:
            with open(open_regular(path), "rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
                size_bytes = data.tell()
        except OSError as error:
            log.warning("artifact %s cannot be read and is left out: %s", path.name, error)
            return
        if self._write_payload(f"{Kind.FILES.of(attempt)}/{name}", path):
            self._copied[path] = PayloadRef(name=name, size_bytes=size_bytes, sha256=digest)

    def _write_payload(self, name: str, source: bytes | Path) -> bool:
        try:
            self._files.write(f"{OUTBOX}/{name}", source)
        except ShareFull as error:
            log.warning("%s has no room and is left out: %s", name, error)
            self._files.remove([f"{OUTBOX}/{name}"])
            return False
        except FileRefused as error:
            self._refusals[name] += 1
            if self._refusals[name] < REFUSALS_MAX:
                raise
            log.warning("%s is not let into the share, and is left out: %s", name, error)
            return False
        return True
