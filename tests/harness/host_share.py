"""The host's side of one share in memory, with its snapshots and incoming folder; the test acts as the worker."""

from pathlib import Path
from typing import Any

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Kind, StartRecord
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.result_collector import READS_MAX
from pipeline.shares.share_client import ShareClient, ShareResponse
from tests.fakes.memory_files import ProbedFiles
from tests.harness import records
from tests.harness.records import FARM, GENOME, WORKER, attempt, sha256

RESULT = Kind.RESULT.value


class HostShareHarness:
    """A share client, and methods that change the share like a worker."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = ProbedFiles()
        self.limit()

    def limit(self, **limits: Any) -> None:
        """Begins with another client, and with these budgets."""
        room = ArtifactRoom(Limits(**limits), [self.state])
        self.share = ShareClient(
            WORKER, FARM, self.files, self.state / "incoming", lambda digest, _name: self.state / digest, room
        )

    def act(self, **action: Any) -> ShareResponse:
        return self.share.execute(ShareAction(WORKER, **action))

    def scan(self, *, full: bool = True, **request: Any) -> ShareScan:
        """Scans the share; unless the request says otherwise, all results are of attempts that are wanted."""
        self.files.asked.clear()
        answered = frozenset(path[7 : -len(RESULT)] for path in self.files.files if path.endswith(RESULT))
        request = {"generation": 1, "unanswered": answered, "wanted": answered, **request}
        scan = self.share.execute(ScanRequest(worker=WORKER, full=full, **request)).scan
        assert scan is not None
        assert (scan.worker, scan.full) == (WORKER, full)
        return scan

    def publish_owner(self, epoch: int = 1, **other: object) -> None:
        """Publishes a `host.json` in the share."""
        self.files.make_folders()
        self.files.publish(f"inbox/{epoch}.host.json", layout.encode(records.host(epoch, **other)))
        self.files.journal.clear()

    def snapshot(self, genome: bytes = GENOME) -> Path:
        """The path of a genome's snapshot, which is written if it is missing."""
        path = self.state / sha256(genome)
        if not path.exists():
            path.write_bytes(genome)
        return path

    def start(self, number: int = 1, genome: bytes = GENOME) -> StartRecord:
        """The start record of an attempt whose genome has a snapshot."""
        self.snapshot(genome)
        return records.start(number, genome)

    def publish_result(self, number: int = 1, data: bytes | None = None, **other: object) -> str:
        """Puts a worker's result with any bytes into the outbox; returns the attempt."""
        data = layout.encode(records.result(number, **other)) if data is None else data
        self.files.files[f"outbox/{Kind.RESULT.of(attempt(number))}"] = data
        return attempt(number)

    def collect(self) -> CollectedResult | None:
        """Collects the only result with a quick scan; None if it is not collected yet."""
        found = self.scan(full=False)
        assert not found.unknown
        return found.results[0] if found.results else None

    def collect_until_given_up(self) -> CollectedResult:
        """Scans until a result is collected or given up; requires that this takes `READS_MAX` scans."""
        for _ in range(READS_MAX - 1):
            assert self.collect() is None
        seen = self.collect()
        assert seen is not None
        return seen

    @property
    def incoming(self) -> set[str]:
        """The files that were fetched from the share."""
        folder = self.state / "incoming"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
