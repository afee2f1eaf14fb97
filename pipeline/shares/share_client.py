"""The host's side of one share: executes a request through `ShareFiles` and returns what it found.

Owns: the order of reads and writes (record first when deleting, payload first when publishing, heartbeat before
`outbox/`) and how often a damaged result is read again. Not here: what follows from it; an error becomes an *unknown*
scan, damage a `CollectedResult` without a record.
See: the laws of share_layout.md.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import (
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
    PayloadRef,
    ResultRecord,
    StartRecord,
    UnknownLayout,
)
from inbox_agent.protocol.readers import DamagedOwner, read_heartbeat, read_owner, read_record
from inbox_agent.system.file_retry import is_busy
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.core.share_problems import in_words, inbox_unwritable, record_unreadable
from pipeline.errors import HostError

READS_MAX = 3  #: reads of an invalid result or payload, one per scan
REFUSALS_MAX = 6  #: reads of a refused payload: an open file is closed before that, a virus scanner never allows it
ENTRIES_MAX = 10_000  #: a folder with more names than this is not read; the share is unavailable
RESULTS_PER_SCAN_MAX = 256


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
        self, worker: str, farm_id: str, files: ShareFiles, incoming: Path, genome: Callable[[str, str], bytes | Path]
    ) -> None:
        """`genome` gives a genome's bytes, or their path, by their SHA-256 and its name. It may raise HostError."""
        self.worker = worker
        self._farm_id = farm_id
        self._files = files
        self._incoming = incoming
        self._genome = genome
        self._reads: dict[str, int] = {}
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
        for start in action.publish:
            with _noting_write_problems(response):
                self._publish(start, response)

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

    def _publish(self, start: StartRecord, response: ShareResponse) -> None:
        response.sent[start.attempt] = False
        genome, record = (f"{INBOX}/{kind.of(start.attempt)}" for kind in (Kind.GENOME, Kind.START))
        content = self._genome(start.genome_sha256, start.genome_name)
        self._files.deliver(genome, content, record, layout.encode(start))
        response.sent[start.attempt] = True

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
            names = self._names(INBOX)
        except Unavailable:
            if INBOX in self._names(""):
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
                staged = self._names(f"{INBOX}/{STAGING}")
                ours = [name for name in staged if layout.attempt_of(name) or layout.epoch_of(name)]
                self._files.remove([f"{INBOX}/{STAGING}/{name}" for name in ours])

    def _scan_outbox(self, request: ScanRequest, scan: ShareScan) -> ShareScan:
        found: dict[str, set[Kind]] = {}
        for name in self._names(OUTBOX):
            if (known := layout.attempt_of(name)) is not None:
                found.setdefault(known[0], set()).add(known[1])
        answers = {attempt for attempt, kinds in found.items() if Kind.RESULT in kinds}
        for attempt in self._reads.keys() - answers:
            del self._reads[attempt]
        unread = sorted(answers - request.handled)[:RESULTS_PER_SCAN_MAX]
        content = self._read_together({attempt: found[attempt] for attempt in unread})
        results = tuple(result for attempt in unread if (result := self._collect(attempt, content)) is not None)
        return replace(
            scan,
            claims=frozenset(attempt for attempt, kinds in found.items() if Kind.STARTED in kinds),
            answers=frozenset(answers),
            results=results,
        )

    def _read_together(self, unread: Mapping[str, Set[Kind]]) -> dict[str, bytes | ShareError]:
        """Results and logs by name, read in one exchange where the share supports it."""
        bytes_max = {Kind.RESULT: layout.RECORD_BYTES_MAX, Kind.LOG: layout.LOG_BYTES_MAX}
        names = {kind.of(attempt): kind for attempt, kinds in unread.items() for kind in bytes_max if kind in kinds}
        content = self._files.read_all([(f"{OUTBOX}/{name}", bytes_max[kind]) for name, kind in names.items()])
        return dict(zip(names, content, strict=True))

    def _names(self, folder: str) -> list[str]:
        names = self._files.names(folder)
        if len(names) > ENTRIES_MAX:
            raise Unavailable(f"{folder or 'the share'} holds {len(names)} entries, a flood")
        return names

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

    # ------------------------------------------------------------------------------------------------- collecting

    def _collect(self, attempt: str, content: Mapping[str, bytes | ShareError]) -> CollectedResult | None:
        """A result with its log and artifacts; None if the next scan should read it again.

        Raises:
            Unavailable: share or result cannot be read, which proves nothing (law 5 of share_layout.md).
        """
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
        log_bytes = b""
        missing: dict[str, int] = {}  # incomplete payload -> the most reads to try
        if record.log is not None:
            log_bytes = self._check_log(attempt, record.log, content, missing)
        artifacts = [ref.name for ref in record.artifacts if self._fetch_artifact(attempt, ref, missing)]
        if missing and self._reads_left(attempt, max(missing.values())):
            return None
        self._reads.pop(attempt, None)
        return CollectedResult(
            attempt=attempt,
            record=record,
            data=data,
            log=log_bytes,
            artifacts=tuple(artifacts),
            missing=tuple(missing),
        )

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

    def _fetch_artifact(self, attempt: str, ref: PayloadRef, missing: dict[str, int]) -> bool:
        readings = READS_MAX
        if layout.is_artifact(ref.name):
            folder = self._incoming / attempt
            source = f"{OUTBOX}/{Kind.FILES.of(attempt)}/{ref.name}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if self._files.fetch(source, folder / ref.name, ref.size_bytes) == ref.sha256:
                    return True
            except (FileMissing, FileInvalid):
                pass
            except FileRefused:
                readings = REFUSALS_MAX
            except OSError as error:  # of this host's disk: errors of the share are ShareErrors
                if is_busy(error):  # a program on this host has the copy of an earlier scan open; try again
                    raise Unavailable(str(error)) from error
                with contextlib.suppress(OSError):  # a partial copy would take space on the full disk
                    (folder / ref.name).unlink(missing_ok=True)
                raise HostError(f"{self._incoming}: {error}") from error
            with contextlib.suppress(OSError):  # it is overwritten, or removed with its folder
                (folder / ref.name).unlink(missing_ok=True)
        missing[layout.clean(ref.name, 64)] = readings
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


def _or_raise(found: bytes | ShareError) -> bytes:
    if isinstance(found, ShareError):
        raise found
    return found


ExecuteRequest = Callable[[ShareRequest], ShareResponse]
