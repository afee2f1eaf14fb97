"""The host's side of one share in memory, with snapshots and incoming folder; the test acts as the worker."""

from pathlib import Path
from typing import Any

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Kind, StartRecord
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.shares.share_client import READS_MAX, ShareClient, ShareResponse
from tests.fakes.memory_files import ProbedFiles
from tests.harness import records
from tests.harness.records import FARM, GENOME, WORKER, attempt, sha256


class HostShareHarness:
    """A host with one share, and the worker's writes to it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = ProbedFiles()
        self.share = ShareClient(WORKER, FARM, self.files, state / "incoming", lambda digest: str(state / digest))

    def act(self, **action: Any) -> ShareResponse:
        return self.share.execute(ShareAction(WORKER, **action))

    def scan(self, *, full: bool = True, **request: Any) -> ShareScan:
        self.files.asked.clear()
        scan = self.share.execute(ScanRequest(worker=WORKER, full=full, **request)).scan
        assert scan is not None
        assert (scan.worker, scan.full) == (WORKER, full)
        return scan

    def publish_owner(self, epoch: int = 1, **other: Any) -> None:
        """Writes the owner's host.json."""
        self.files.make_folders()
        self.files.publish(f"inbox/{epoch}.host.json", layout.encode(records.host(epoch, **other)))
        self.files.journal.clear()

    def snapshot(self, genome: bytes = GENOME) -> Path:
        """The snapshot of a genome's bytes; it is written if it is missing."""
        path = self.state / sha256(genome)
        if not path.exists():
            path.write_bytes(genome)
        return path

    def start(self, number: int = 1, genome: bytes = GENOME) -> StartRecord:
        """The start record of an attempt whose genome has a snapshot."""
        self.snapshot(genome)
        return records.start(number, genome)

    def publish_result(self, number: int = 1, data: bytes | None = None, **other: Any) -> str:
        """Writes a worker's result to the outbox, with any bytes."""
        data = layout.encode(records.result(number, **other)) if data is None else data
        self.files.files[f"outbox/{Kind.RESULT.of(attempt(number))}"] = data
        return attempt(number)

    def collect(self) -> CollectedResult | None:
        """The only result in the outbox, from one quick scan."""
        found = self.scan(full=False)
        assert not found.unknown
        return found.results[0] if found.results else None

    def collect_until_given_up(self) -> CollectedResult:
        """Scans until a result is taken or given up; this must take the maximum number of reads."""
        for _ in range(READS_MAX - 1):
            assert self.collect() is None
        seen = self.collect()
        assert seen is not None
        return seen

    @property
    def incoming(self) -> set[str]:
        """All files that were fetched from the share."""
        folder = self.state / "incoming"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
