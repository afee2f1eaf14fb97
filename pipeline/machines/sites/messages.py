"""The messages between a host and a site, and what of an answer is refused. Pure.

Both sides have the same version of this program, which is compared first; so messages have no version of their own.
A site's answer is the input of another computer: its size, its types, and what it says of which attempt are checked.
"""

import hashlib
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import (
    ARCHIVE_BYTES_MAX,
    GENOME_BYTES_MAX,
    Digest,
    Kind,
    LayoutError,
    ResultRecord,
    Token,
)
from inbox_agent.settings import EnvironmentTable
from pipeline.core.facts import RecoveryAction
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult, MachineStatus, ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.shares.share_client import ShareResponse

ANSWER_BYTES_MAX = 64 * 1024**2
CHUNK_BYTES = 4 * 1024**2  #: of a genome, an archive or an artifact in one message
_ERROR_CHARS_MAX = 300

Bytes = Annotated[int, Meta(ge=0, le=max(GENOME_BYTES_MAX, ARCHIVE_BYTES_MAX))]


class AnswerError(ValueError):
    """A site has answered something that no site of this version answers; the message is one line."""


class Message(Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages."""


# ----------------------------------------------------------------------------------------------------------- requests


class OpenSite(Message, frozen=True, kw_only=True):
    """Make the site of a farm, or find it. An open site with other settings is closed first."""

    version: str  #: of this program, on the host
    farm: Token
    folder: str  #: of all sites on that computer; empty: the default one
    workers: tuple[str, ...]
    environment: EnvironmentTable
    hidden_variables: tuple[str, ...]
    limits: Limits
    #: within this time the host calls again, and gives a call up. What comes after a longer silence may be an order of
    #: long ago that waited in the network: it is not carried out, and the host opens the site again
    silence_limit_s: Annotated[float, Meta(gt=0, le=3600)]


class Execute(Message, frozen=True, kw_only=True):
    """Execute a request on the share of one of its workers."""

    farm: Token
    scan: ScanRequest | None = None
    action: ShareAction | None = None
    contents: dict[Digest, bytes] = {}  #: genomes that come along, by their SHA-256


class StoreChunk(Message, frozen=True, kw_only=True):
    """Store a part of a genome or an archive; the parts come in their order."""

    farm: Token
    sha256: Digest
    offset: Bytes
    total_bytes: Bytes
    data: bytes


class FetchChunk(Message, frozen=True, kw_only=True):
    """Return a part of an artifact that the last scan of a share has collected."""

    farm: Token
    worker: str
    attempt: str
    name: str
    offset: Bytes


class RunAgent(Message, frozen=True, kw_only=True):
    """Start the agent of a worker, after a recovery action if there is one."""

    farm: Token
    worker: str
    recovery: RecoveryAction | None = None


class AwaitChanges(Message, frozen=True, kw_only=True):
    """Return what has changed after a number, or wait for a change."""

    farm: Token
    after: int
    timeout_s: float


class Describe(Message, frozen=True, kw_only=True):
    """Say what a site would have; no site is opened."""

    version: str
    folder: str


class CloseSite(Message, frozen=True, kw_only=True):
    """End the agents."""

    farm: Token


Request = OpenSite | Execute | StoreChunk | FetchChunk | RunAgent | AwaitChanges | Describe | CloseSite

# ------------------------------------------------------------------------------------------------------------ answers


class SiteOpened(Message, frozen=True, kw_only=True):
    """The site is open."""

    host_name: str
    folder: str
    python: str


class Described(Message, frozen=True, kw_only=True):
    """What there is for a site."""

    host_name: str
    folder: str
    python: str
    free_bytes: int


class Refused(Message, frozen=True, kw_only=True):
    """It was not done."""

    reason: str
    is_final: bool = False  #: whether it is refused again until something is changed there


class NotOpen(Message, frozen=True, kw_only=True):
    """The site of this farm is not open: its process is new."""


class Executed(Message, frozen=True, kw_only=True):
    """The response to a request."""

    response: ShareResponse


class Lacks(Message, frozen=True, kw_only=True):
    """Nothing was done, since these contents are not in the site's store."""

    digests: frozenset[Digest]


class Chunk(Message, frozen=True, kw_only=True):
    """A part of an artifact; empty at its end."""

    data: bytes


class SiteChanges(Message, frozen=True, kw_only=True):
    """Workers with new results, and the state of all agents."""

    changes: int
    results: frozenset[str]
    machines: dict[str, MachineStatus]
    restores: dict[str, int]  #: how often each share went back to an empty one since the site was opened


class SiteDone(Message, frozen=True, kw_only=True):
    """It was done."""


Answer = SiteOpened | Described | Refused | NotOpen | Executed | Lacks | Chunk | SiteChanges | SiteDone

_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """The bytes of a message. Of results only the bytes of their records travel, which the host reads itself."""
    if isinstance(message, Executed) and (scan := message.response.scan) is not None and scan.results:
        bare = tuple(replace(result, record=None) for result in scan.results)
        message = Executed(response=replace(message.response, scan=replace(scan, results=bare)))
    return _encoder.encode(message)


def decode_request(data: bytes) -> Request:
    """The request in `data`. Raises ValueError."""
    return _request_decoder.decode(data)


def decode_answer(data: object) -> Answer:
    """The answer in `data`. Raises AnswerError."""
    if not isinstance(data, bytes):
        raise AnswerError(f"it has answered {type(data).__name__} instead of bytes")
    if len(data) > ANSWER_BYTES_MAX:
        raise AnswerError(f"it has answered {len(data)} bytes, allowed are {ANSWER_BYTES_MAX}")
    try:
        return _answer_decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"its answer cannot be read: {layout.clean(str(error), _ERROR_CHARS_MAX)}") from None


# ------------------------------------------------------------------------------------- what a response may be about


def checked_response(request: ShareRequest, response: ShareResponse) -> ShareResponse:
    """A site's response to a request, with the records of its results. Raises AnswerError: it is about something else.

    A disk of the site that fails makes its share *unknown*; only this host's own disk ends the host.
    """
    if response.worker != request.worker:
        raise AnswerError(f"it has answered for worker {layout.clean(response.worker, 64)}")
    if isinstance(request, ShareAction):
        started = {start.attempt for start in request.publish}
        if response.sent.keys() - started or (response.removed | response.held_open) - set(request.remove):
            raise AnswerError("it has answered about attempts that it was not asked about")
    elif response.sent or response.removed or response.held_open:
        raise AnswerError("it has answered a scan with what it has changed")
    if response.fatal:
        error = layout.clean(f"its disk: {response.fatal}", _ERROR_CHARS_MAX)
        response = replace(response, fatal="", error=error, scan=unknown_scan(request, error))
    for text in (response.error, response.write_problem or ""):
        if len(text) > layout.REASON_CHARS_MAX:
            raise AnswerError("it has answered an error of too many characters")
    return replace(response, scan=_checked_scan(request, response.scan))


def unknown_scan(request: ShareRequest, reason: str) -> ShareScan:
    """The scan of a share of which nothing is known."""
    is_full = not isinstance(request, ScanRequest) or request.full
    return ShareScan(worker=request.worker, full=is_full, unknown=layout.clean(reason, _ERROR_CHARS_MAX))


def _checked_scan(request: ShareRequest, scan: ShareScan | None) -> ShareScan | None:
    if scan is None:
        if isinstance(request, ScanRequest):
            raise AnswerError("it has answered a scan without what it has found")
        return None
    if (scan.worker, scan.requested_at, scan.unknown_starts) != (request.worker, float("inf"), frozenset()):
        raise AnswerError("it has answered with a scan of another share")
    if scan.unknown:
        return unknown_scan(request, scan.unknown)
    if not isinstance(request, ScanRequest) or scan.full != request.full:
        raise AnswerError("it has answered with a scan that it was not asked for")
    named = scan.starts | scan.payloads | scan.complete | scan.claims | scan.answers
    if wrong := next((attempt for attempt in named if not layout.is_attempt(attempt)), None):
        raise AnswerError(f"{layout.clean(wrong, 64)!r} is no attempt")
    if not scan.complete <= request.expected_sizes.keys():
        raise AnswerError("it has answered about publications that it was not asked about")
    if len({result.attempt for result in scan.results}) != len(scan.results):
        raise AnswerError("it has answered with two results of one attempt")
    return replace(
        scan,
        damage=_shortened(scan.damage),
        unknown_heartbeat=_shortened(scan.unknown_heartbeat),
        heartbeat_problem=_shortened(scan.heartbeat_problem),
        results=tuple(_checked_result(request, scan, result) for result in scan.results),
    )


def _shortened(text: str) -> str:
    return layout.clean(text, _ERROR_CHARS_MAX)


def _checked_result(request: ScanRequest, scan: ShareScan, result: CollectedResult) -> CollectedResult:
    name = Kind.RESULT.of(result.attempt)
    if result.attempt not in scan.answers or result.attempt in request.handled:
        raise AnswerError("it has answered with a result that it was not asked for")
    if result.issued_in_other_run or result.collected_in_other_run or len(result.log) > layout.LOG_BYTES_MAX:
        raise AnswerError(f"its result of {result.attempt} is none")
    missing = tuple(map(_shortened, result.missing[: layout.ARTIFACTS_MAX + 1]))
    if not result.data:
        if result.artifacts or result.log:
            raise AnswerError(f"its result of {result.attempt} has files and no record")
        return replace(result, record=None, problem=_shortened(result.problem), missing=missing)
    try:
        record = layout.decode(ResultRecord, result.data, name)
    except LayoutError as error:
        raise AnswerError(f"its result of {result.attempt}: {layout.clean(str(error), 200)}") from None
    refs = {ref.name for ref in record.artifacts}
    if not set(result.artifacts) <= refs or not all(map(layout.is_artifact, result.artifacts)):
        raise AnswerError(f"its result of {result.attempt} has artifacts that its record does not name")
    if result.log and (record.log is None or hashlib.sha256(result.log).hexdigest() != record.log.sha256):
        raise AnswerError(f"its result of {result.attempt} has another log than its record names")
    return replace(result, record=record, missing=missing)
