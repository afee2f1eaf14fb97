"""The host's side of one share: executes a request through `ShareFiles` and returns what it found.

Owns: the order of reads and writes (record first when deleting, payload first when publishing, heartbeat before
`outbox/`). Not here: reading results (`result_collector`), and what follows from it all; an error becomes an *unknown*
scan.
See: the laws of share_layout.md.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import archive_name, deployment_of, record_name, recorded_deployment
from inbox_agent.protocol.files import (
    Delivery,
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    ShareError,
    ShareFiles,
    Unavailable,
)
from inbox_agent.protocol.layout import (
    HEARTBEAT,
    INBOX,
    OUTBOX,
    STAGING,
    HostRecord,
    Kind,
    LayoutError,
    StartRecord,
    UnknownLayout,
)
from inbox_agent.protocol.readers import DamagedOwner, read_heartbeat, read_owner, read_record
from pipeline.core.limits import Limits
from pipeline.core.observation import ShareScan
from pipeline.core.requests import ScanRequest, SendDeployment, ShareAction, ShareRequest
from pipeline.core.share_problems import in_words, inbox_unwritable, record_unreadable
from pipeline.errors import HostError
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.result_collector import ResultCollector

ENTRIES_MAX = 10_000  #: a folder with more names than this is not read; the share is unavailable


@dataclass(slots=True, kw_only=True)
class ShareResponse:
    """The outcome of a request."""

    worker: str
    removed: frozenset[str] = frozenset()
    held_open: frozenset[str] = frozenset()  #: attempts with a removed start signal and a genome that cannot be removed
    sent: dict[str, bool] = field(default_factory=dict)  #: attempt -> whether it was confirmed
    scan: ShareScan | None = None
    error: str = ""  #: why an operation failed; it will be planned again
    write_problem: str | None = None  #: why `inbox/` could not be written; empty: it was; None: nothing was written
    fatal: str = ""  #: why this host cannot go on: a damaged snapshot or a failed local disk


class ShareClient:
    """One worker's share, from the host's side."""

    def __init__(
        self,
        worker: str,
        farm_id: str,
        files: ShareFiles,
        incoming: Path,
        genome: Callable[[str, str], bytes | Path],
        room: ArtifactRoom | None = None,
        archive: Callable[[str], bytes | Path] = Path,
    ) -> None:
        """`genome` gives a genome's bytes, or their path, by their SHA-256 and its name, and may raise HostError; all
        shares have one `room`. `archive` gives the archive of a deployed evaluator, or its path, by its SHA-256.
        """
        self.worker = worker
        self._farm_id = farm_id
        self._files = files
        self._incoming = incoming
        self._genome, self._archive = genome, archive
        self._collector = ResultCollector(worker, files, incoming, room or ArtifactRoom(Limits()))
        self._staging_cleared = False

    def execute(self, request: ShareRequest) -> ShareResponse:
        """Executes one request. Returns errors of share and disk in the response; any other one is a defect."""
        response = ShareResponse(worker=request.worker)
        try:
            match request:
                case ScanRequest():
                    response.scan = self._scan(request)
                case ShareAction():
                    self._act(request, response)
        except ShareError as error:
            response.error = layout.clean(str(error), 300)
        except HostError as error:
            response.fatal = str(error)
        return response

    # ---------------------------------------------------------------------------------------------------- writing

    def _act(self, action: ShareAction, response: ShareResponse) -> None:
        if action.host is not None:
            with _noting_write_problems(response):
                self._files.make_folders()
            # If it fails, the next scan shows whether it is there, and which farm it names.
            with contextlib.suppress(ShareError), _noting_write_problems(response):
                self._publish_host_record(action.host)
        self._remove(action.remove, response)
        if action.publish:
            with _noting_write_problems(response):
                self._publish(action.publish, response)
        if action.deploy is not None:
            with _noting_write_problems(response):
                self._deploy(action.deploy)

    def _deploy(self, deploy: SendDeployment) -> None:
        record = deploy.record
        archive, name = (f"{INBOX}/{name(record.number)}" for name in (archive_name, record_name))
        self._files.deliver(archive, self._archive(record.archive_sha256), name, layout.encode(record))
        earlier = (name(number) for number in deploy.earlier for name in (record_name, archive_name))
        self._files.remove([f"{INBOX}/{name}" for name in earlier])

    def _publish_host_record(self, host: HostRecord) -> None:
        try:
            self._files.publish(f"{INBOX}/{layout.host_name(host.epoch)}", layout.encode(host), durable=True)
        except FileAlreadyExists:
            self._repair_host_record(host)

    def _repair_host_record(self, host: HostRecord) -> None:
        """Rewrites an unreadable `host.json`: on a full disk the rename succeeded, the write did not."""
        name = layout.host_name(host.epoch)
        try:
            read_record(self._files, HostRecord, INBOX, name)
        except (FileInvalid, LayoutError):
            self._files.remove([f"{INBOX}/{name}"])
            self._files.publish(f"{INBOX}/{name}", layout.encode(host), durable=True)

    def _remove(self, attempts: tuple[str, ...], response: ShareResponse) -> None:
        """Removes start signals and genomes. A genome that cannot be removed stays, and blocks nothing else.

        Raises:
            Unavailable: the share does not answer, or a start signal stays; the agent would play it first.
        """
        try:
            self._remove_kinds(attempts, Kind.START, Kind.GENOME)
            response.removed = frozenset(attempts)
        except Unavailable as error:
            self._remove_kinds(attempts, Kind.START)
            response.error = layout.clean(str(error), 300)
            response.removed = frozenset(attempt for attempt in attempts if self._try_remove_genome(attempt))
            response.held_open = frozenset(attempts) - response.removed

    def _remove_kinds(self, attempts: Iterable[str], *kinds: Kind) -> None:
        # The record first: while it is there, its payload must be there too.
        self._files.remove([f"{INBOX}/{kind.of(attempt)}" for attempt in attempts for kind in kinds])

    def _try_remove_genome(self, attempt: str) -> bool:
        try:
            self._remove_kinds([attempt], Kind.GENOME)
        except Unavailable:
            return False
        return True

    def _publish(self, starts: Sequence[StartRecord], response: ShareResponse) -> None:
        """Publishes start signals, each after its genome. Raises ShareError: why the first one is not confirmed."""
        errors: list[ShareError] = []
        outcomes = self._files.deliver_all(self._delivery(start) for start in starts)
        for start, error in zip(starts, outcomes, strict=False):  # those that were not tried have no outcome
            response.sent[start.attempt] = error is None
            if error is not None:
                errors.append(error)
        for error in errors:
            raise error

    def _delivery(self, start: StartRecord) -> Delivery:
        genome, record = (f"{INBOX}/{kind.of(start.attempt)}" for kind in (Kind.GENOME, Kind.START))
        content = self._genome(start.genome_sha256, start.genome_name)
        return Delivery(genome, content, record, layout.encode(start))

    # ---------------------------------------------------------------------------------------------------- reading

    def _scan(self, request: ScanRequest) -> ShareScan:
        try:
            if not request.full:
                return self._scan_outbox(request, ShareScan(worker=self.worker))
            return self._scan_all(request)
        except (ShareError, LayoutError) as error:
            return ShareScan(worker=self.worker, full=request.full, unknown=layout.clean(str(error), 300))

    def _scan_all(self, request: ScanRequest) -> ShareScan:
        try:
            names = self._files.names(INBOX, ENTRIES_MAX)
        except Unavailable:
            if INBOX in self._files.names("", ENTRIES_MAX):
                raise
            return ShareScan(worker=self.worker, full=True, no_folders=True, no_heartbeat=True)
        found_owner = read_owner(self._files, names)
        owner = found_owner if isinstance(found_owner, HostRecord) else None
        if owner is not None and (owner.farm, owner.worker) == (self._farm_id, self.worker):
            self._clear_staging_once()
        found = [known for name in names if (known := layout.attempt_of(name)) is not None]
        starts = frozenset(attempt for attempt, kind in found if kind is Kind.START)
        # The heartbeat before the outbox: an agent that is silent by now has written its last result already.
        scan = self._scan_heartbeat(ShareScan(worker=self.worker, full=True))
        scan = replace(
            scan,
            owner=owner,
            damaged_epoch=found_owner.epoch if isinstance(found_owner, DamagedOwner) else 0,
            damage=layout.clean(str(found_owner.error), 200) if isinstance(found_owner, DamagedOwner) else "",
            starts=starts,
            deployments=frozenset(filter(None, map(recorded_deployment, names))),
            payloads=frozenset(attempt for attempt, kind in found if kind is Kind.GENOME),
            complete=frozenset(
                a for a, sizes in request.expected_sizes.items() if a in starts and self._is_complete(a, sizes)
            ),
        )
        return self._scan_outbox(request, scan)

    def _clear_staging_once(self) -> None:
        """Removes files that this farm staged and never published; those that cannot be removed are harmless."""
        if not self._staging_cleared:
            self._staging_cleared = True
            with contextlib.suppress(ShareError):
                staged = self._files.names(f"{INBOX}/{STAGING}", ENTRIES_MAX)
                ours = [n for n in staged if layout.attempt_of(n) or layout.epoch_of(n) or deployment_of(n)]
                self._files.remove([f"{INBOX}/{STAGING}/{name}" for name in ours])

    def _scan_outbox(self, request: ScanRequest, scan: ShareScan) -> ShareScan:
        found: dict[str, set[Kind]] = {}
        for name in self._files.names(OUTBOX, ENTRIES_MAX):
            if (known := layout.attempt_of(name)) is not None:
                found.setdefault(known[0], set()).add(known[1])
        return replace(
            scan,
            claims=frozenset(attempt for attempt, kinds in found.items() if Kind.STARTED in kinds),
            answers=frozenset(attempt for attempt, kinds in found.items() if Kind.RESULT in kinds),
            results=self._collector.collect(request, found),
        )

    def _scan_heartbeat(self, scan: ShareScan) -> ShareScan:
        """Adds the heartbeat, or why there is none. That proves nothing; silence is measured by the clock."""
        try:
            return replace(scan, heartbeat=read_heartbeat(self._files))
        except UnknownLayout as error:
            return replace(scan, unknown_heartbeat=layout.clean(error.reason, 100))
        except FileMissing:
            return replace(scan, no_heartbeat=True)
        except (ShareError, LayoutError) as error:
            return replace(scan, heartbeat_problem=in_words(record_unreadable(HEARTBEAT, str(error))))

    def _is_complete(self, attempt: str, sizes: tuple[int, int]) -> bool:
        try:
            return sizes == (
                self._files.size(f"{INBOX}/{Kind.START.of(attempt)}"),
                self._files.size(f"{INBOX}/{Kind.GENOME.of(attempt)}"),
            )
        except (FileMissing, FileInvalid):
            return False


@contextlib.contextmanager
def _noting_write_problems(response: ShareResponse) -> Iterator[None]:
    """Around writing to `inbox/`: notes whether that failed, and why."""
    try:
        yield
    except FileAlreadyExists:
        raise  # the folder can be written
    except ShareError as error:
        response.write_problem = in_words(inbox_unwritable(error.reason, refused=isinstance(error, FileRefused)))
        raise
    response.write_problem = ""


ExecuteRequest = Callable[[ShareRequest], ShareResponse]
