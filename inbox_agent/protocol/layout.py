"""The wire protocol of a share: file names, records and limits. Pure; imported by host and agent.

Owns: names, records, limits and what is well-formed.
Not here: file I/O (files), and what follows when two records disagree.
See: share_layout.md, which describes the same.
"""

import enum
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from inbox_agent.protocol.printable import clean as clean  # noqa: PLC0414  read from here as well
from inbox_agent.protocol.printable import has_hidden

LAYOUT = 2  # the version in every record; an agent answers a start signal of another version with `rejected`

INBOX, OUTBOX, STATUS, STAGING = "inbox", "outbox", "status", "tmp"
FOLDERS = (INBOX, f"{INBOX}/{STAGING}", OUTBOX, f"{OUTBOX}/{STAGING}", STATUS)  #: a folder after the one it is in
HEARTBEAT = "agent.json"
AGENT_LOCK = "agent.lock"  #: in `status/`; on an own disk the agent keeps it locked while it runs
EVALUATOR = "evaluator.json"

RECORD_BYTES_MAX = 64 * 1024
LOG_BYTES_MAX = 64 * 1024
GENOME_BYTES_MAX = 256 * 1024 * 1024
ARTIFACT_BYTES_MAX = 64 * 1024 * 1024
ARCHIVE_BYTES_MAX = 256 * 1024 * 1024  #: of the archive of an evaluator, and of the files in it
ARTIFACTS_MAX = 16
METRICS_MAX = 64
VALUE_MAX = 1e300  #: of fitness and metrics, either sign: sums and differences of thousands are finite
SETTINGS_MAX = 64
SETTINGS_BYTES_MAX = 32 * 1024
REASON_CHARS_MAX = 500
PROGRESS_CHARS_MAX = 200
SESSION_CHARS_MAX = 64
TARGET_CHARS_MAX = 1000
FILES_MAX = 1000
FILES_BYTES_MAX = 48 * 1024

assert LOG_BYTES_MAX <= ARTIFACT_BYTES_MAX <= GENOME_BYTES_MAX
assert RECORD_BYTES_MAX >= 2 * SETTINGS_BYTES_MAX
assert RECORD_BYTES_MAX >= 2 * METRICS_MAX * 128 + 4 * REASON_CHARS_MAX  # a full result always fits in a record


class LayoutError(ValueError):
    """The peer violated the protocol."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class UnknownLayout(LayoutError):
    """A complete record of a layout version that this side does not support."""


# ---------------------------------------------------------------------------------------------------------- names


class Kind(enum.Enum):
    """The kind of an attempt's file, identified by its suffix."""

    START = ".start.json"
    GENOME = ".genome"
    STARTED = ".started.json"
    RESULT = ".result.json"
    LOG = ".log"
    FILES = ".files"

    def of(self, attempt: str) -> str:
        """The file name of this kind for an attempt id."""
        return attempt + self.value


_KIND_BY_SUFFIX = {kind.value: kind for kind in Kind}
_ATTEMPT = re.compile(r"g\d{4,9}-\d{4,9}-t\d{1,6}-a\d{1,6}-[0-9a-z]{12}", re.ASCII)
_HOST = re.compile(r"([1-9]\d{0,8})\.host\.json", re.ASCII)
_ARTIFACT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
RESERVED_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII | re.IGNORECASE)
_SUFFIX = re.compile(r"\.[a-z0-9]{1,16}", re.ASCII)


#: Suffixes of the names that an agent waits for, and of those that a host waits for; other arrivals do not wake either.
ORDERS = (Kind.START.value, ".host.json", ".deploy.json")
ANSWERS = (Kind.RESULT.value,)


def attempt_id(generation: int, genome: int, trial: int, number: int, nonce: str) -> str:
    """The readable id of an attempt at a trial: `g0007-0042-t1-a2-<nonce>`, the fencing token of all its files.

    `genome`, `trial` and `number` count from 1; `nonce` is 12 characters of [0-9a-z], new for every attempt, so that
    no two farms and no two ledgers issue the same id.
    """
    name = f"g{generation:04d}-{genome:04d}-t{trial}-a{number}-{nonce}"
    assert is_attempt(name), name
    return name


def is_attempt(text: str) -> bool:
    """Whether `text` has the form of an attempt id; no other text from a share becomes part of a path."""
    return _ATTEMPT.fullmatch(text) is not None


def attempt_of(name: str) -> tuple[str, Kind] | None:
    """Attempt id and kind of a file name in `inbox/` or `outbox/`; None for a name outside of the protocol."""
    attempt, dot, suffix = name.partition(".")
    kind = _KIND_BY_SUFFIX.get(dot + suffix)
    return (attempt, kind) if kind is not None and is_attempt(attempt) else None


def host_name(epoch: int) -> str:
    """The name of the file that names the share's owner in one epoch."""
    return f"{epoch}.host.json"


def epoch_of(name: str) -> int | None:
    """The epoch in a `<epoch>.host.json` name; None for any other name."""
    match = _HOST.fullmatch(name)
    return int(match[1]) if match else None


def is_artifact(name: str) -> bool:
    """Whether an artifact's name is valid on every file system; artifacts with other names are stored by number."""
    return _ARTIFACT.fullmatch(name) is not None and RESERVED_NAME.fullmatch(name) is None and not name.endswith(".")


def safe_suffix(name: str) -> str:
    """The suffix of a genome's name, lower-cased, if it is safe on every file system; otherwise the empty string."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else ""
    return suffix if _SUFFIX.fullmatch(suffix) else ""


# --------------------------------------------------------------------------------------------------------- records


class Outcome(enum.StrEnum):
    """The outcome of an attempt."""

    COMPLETED = "completed"  #: the evaluation ended and has a fitness
    FAILED = "failed"  #: the evaluator failed or returned no valid answer
    TIMED_OUT = "timed_out"  #: the time limit passed and the agent killed the evaluator
    INTERRUPTED = "interrupted"  #: claimed, then the agent or its machine restarted
    #: record or payload could not be read, or never arrived completely, or the system could not start a program
    UNDELIVERED = "undelivered"
    REJECTED = "rejected"  #: a complete start signal of a layout version the agent does not support
    LOST = "lost"  #: no result arrived in time
    CORRUPT = "corrupt"  #: a result arrived that is not valid
    WITHDRAWN = "withdrawn"  #: taken back by the host; nothing is charged


#: The outcomes that an agent may write into a result; only the host sets the others.
SAID_BY_AGENT = frozenset(Outcome) - {Outcome.LOST, Outcome.CORRUPT, Outcome.WITHDRAWN}


class AgentState(enum.StrEnum):
    """What the agent did when it wrote its heartbeat."""

    IDLE = "idle"
    LOADING = "loading"  #: its evaluator is being loaded; it claims nothing yet
    BROKEN = "broken"  #: its evaluator cannot be loaded, `problem` says why; it claims nothing and tries again
    PLAYING = "playing"
    REPORTING = "reporting"  #: a result could not be published yet
    UNOWNED = "unowned"  #: no `host.json`: it claims nothing until it knows the share's owner


Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=10**9 - 1)]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Token = Annotated[str, Meta(pattern=r"\A[0-9a-zA-Z_.:-]{1,64}\Z")]
AttemptId = Annotated[str, Meta(pattern=r"\Ag[0-9]{4,9}-[0-9]{4,9}-t[0-9]{1,6}-a[0-9]{1,6}-[0-9a-z]{12}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]  # exact in every JSON reader
Setting = Annotated[str, Meta(max_length=1000)] | Whole | float | bool
Settings = Annotated[dict[Name, Setting], Meta(max_length=SETTINGS_MAX)]


class Record(Struct, frozen=True, kw_only=True):
    """Base of all records. Unknown fields are ignored, an unknown `layout` is not."""

    layout: int = LAYOUT


class HostRecord(Record, frozen=True, kw_only=True):
    """`inbox/<epoch>.host.json`: the owner of the share; the highest epoch counts."""

    farm: Token
    worker: Name
    epoch: Positive


class StartRecord(Record, frozen=True, kw_only=True):
    """`inbox/<attempt>.start.json`: the start signal and the lease; while it exists the attempt is wanted."""

    farm: Token
    worker: Name
    epoch: Positive
    publication: Positive  #: counts the start signals of this worker; the agent takes the lowest
    attempt: AttemptId
    trial: Positive
    seed: Seed
    time_limit_s: Annotated[float, Meta(gt=0, le=7 * 86400)]
    genome_name: Annotated[str, Meta(max_length=255)]  #: for people; never used as a path
    genome_suffix: Annotated[str, Meta(pattern=r"\A(\.[a-z0-9]{1,16})?\Z")]
    genome_bytes: Annotated[int, Meta(ge=1, le=GENOME_BYTES_MAX)]
    genome_sha256: Digest
    settings: Settings = {}
    evaluator: Token | None = None  #: the version of the evaluator that must play it; None: any
    new_process: bool = False  #: whether the evaluator must be loaded anew for it: an earlier attempt failed
    alone: bool = False  #: whether it may have crashed its system: every agent flushes the claim before it begins

    def __post_init__(self) -> None:
        _require_finite(self.settings)
        _require_finite({"time_limit_s": self.time_limit_s})


class StartedRecord(Record, frozen=True, kw_only=True):
    """`outbox/<attempt>.started.json`: the claim, flushed to disk before the evaluation begins."""

    farm: Token
    worker: Name
    epoch: Positive
    attempt: AttemptId
    evaluator: Token | None = None  #: the version that is loaded
    boot_id: Token
    run_id: Token


class PayloadRef(Struct, frozen=True, kw_only=True):
    """A file that a result refers to: its name in the share, its size and its digest."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    size_bytes: Annotated[int, Meta(ge=0, le=ARTIFACT_BYTES_MAX)]
    sha256: Digest


class ResultRecord(Record, frozen=True, kw_only=True):
    """`outbox/<attempt>.result.json`: the result, published last. The echoes tie it to one start signal."""

    farm: Token
    worker: Name
    epoch: Positive
    attempt: AttemptId
    trial: Positive | None  #: None where the start signal could not be read, so there was nothing to echo
    seed: Seed | None
    genome_sha256: Digest | None
    evaluator: Token | None  #: the version that played it; None where nothing was played
    outcome: Outcome
    fitness: float | None = None
    metrics: Annotated[dict[Name, float], Meta(max_length=METRICS_MAX)] = {}
    reason: Line = ""
    agent_stopped: bool = False  #: with `interrupted`: the agent was asked to stop, and no game is the cause
    seconds: Annotated[float, Meta(ge=0, le=8 * 86400)] = 0.0
    boot_id: Token
    run_id: Token
    log: PayloadRef | None = None
    artifacts: Annotated[list[PayloadRef], Meta(max_length=ARTIFACTS_MAX)] = []

    def __post_init__(self) -> None:
        if self.outcome not in SAID_BY_AGENT:
            raise ValueError(f"outcome {self.outcome!s} is not an agent's to say")
        completed = self.outcome is Outcome.COMPLETED
        if completed != (self.fitness is not None):
            raise ValueError("a fitness belongs to `completed` and to nothing else")
        if completed and None in (self.trial, self.seed, self.genome_sha256, self.evaluator):
            raise ValueError("`completed` must echo trial, seed and genome_sha256, and name its evaluator")
        _require_finite({"seconds": self.seconds})
        _require_values(self.metrics)
        if (name := next(filter(has_hidden, self.metrics), None)) is not None:
            raise ValueError(f"metric {name!r} has a character that is invisible or controls a terminal")
        if self.fitness is not None:
            _require_values({"fitness": self.fitness})


class AgentRecord(Record, frozen=True, kw_only=True):
    """`status/agent.json`: the heartbeat, the only file that is ever replaced."""

    farm: Token | None = None  #: None while there is no `host.json`
    worker: Name | None = None
    epoch: Positive | None = None
    boot_id: Token
    run_id: Token
    counter: Count
    state: AgentState
    attempt: AttemptId | None = None
    progress: Annotated[str, Meta(max_length=PROGRESS_CHARS_MAX)] = ""
    versions: Annotated[dict[Name, Annotated[str, Meta(max_length=64)]], Meta(max_length=16)] = {}
    session: Annotated[str, Meta(max_length=SESSION_CHARS_MAX)] = ""  #: the login session in which its windows open
    desktop: Annotated[str, Meta(max_length=SESSION_CHARS_MAX)] = ""  #: empty: no window can be shown there
    evaluator: Token | None = None  #: the version of the evaluator that is loaded; None: none is
    problem: Line = ""  #: why the evaluator cannot be loaded
    deployment: Count | None = None  #: the deployment that it took last, 0: none yet; None: it takes none


class EvaluatorRecord(Record, frozen=True, kw_only=True):
    """`status/evaluator.json`: what the loaded evaluator consists of, to say which files differ. For people."""

    evaluator: Token
    target: Annotated[str, Meta(max_length=TARGET_CHARS_MAX)]  #: the command or the function, as text
    #: path -> the first 16 hexadecimal digits of its SHA-256
    files: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=200)], Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]],
        Meta(max_length=FILES_MAX),
    ] = {}
    files_count: Count  #: how many they are, also those that did not fit into `files`


#: In place of a version: files of the evaluator were changed while the game was played, so its result never counts.
EVALUATOR_CHANGED = "changed-while-played"


# ------------------------------------------------------------------------------------------------ encode and decode

R = TypeVar("R", bound=Record)


_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class _Envelope(Struct):
    layout: int


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


_decoders: dict[type[Record], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[Record]) -> msgspec.json.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


def encode(record: Record) -> bytes:
    """A record as indented JSON, because people read the files in a share.

    Raises:
        LayoutError: it would be larger than `RECORD_BYTES_MAX`.
    """
    data = orjson.dumps(record, default=_fields, option=_OPTIONS)
    if len(data) > RECORD_BYTES_MAX:
        raise LayoutError(type(record).__name__, f"{len(data)} bytes, allowed are {RECORD_BYTES_MAX}")
    return data


def _fields(record: Struct) -> dict[str, Any]:
    """The fields of a record or a payload. `alone` is written only if it is set: a host that was updated compares the
    sizes of start signals that an older one has written.
    """
    fields = msgspec.structs.asdict(record)
    if fields.get("alone") is False:
        del fields["alone"]
    return fields


def decode(kind: type[R], data: bytes, name: str) -> R:
    """The record in `data`, strictly validated; `name` names the file in errors.

    Raises:
        UnknownLayout: well-formed, but of another layout version.
        LayoutError: anything else that is not a valid record of this kind.
    """
    if len(data) > RECORD_BYTES_MAX:
        raise LayoutError(name, f"{len(data)} bytes, allowed are {RECORD_BYTES_MAX}")
    version = _version_of(data)
    if version not in (None, LAYOUT):
        raise UnknownLayout(name, f"layout {clean(str(version), 12)}, this program uses layout {LAYOUT}")
    try:
        record: R = _decoder(kind).decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise LayoutError(name, clean(str(error), 200)) from None
    if version is None:
        raise LayoutError(name, "Object missing required field `layout`")
    return record


def _require_finite(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is not finite")


def _require_values(values: dict[str, float]) -> None:
    """Of fitness and metrics, which are added up."""
    _require_finite(values)
    for name, value in values.items():
        if abs(value) > VALUE_MAX:
            raise ValueError(f"{name} is {value:g}, allowed is at most {VALUE_MAX:g} of either sign")


def _version_of(data: bytes) -> int | None:
    """The layout version of a complete record; None for anything else."""
    try:
        return _decode_envelope(data).layout
    except (ValueError, RecursionError):
        return None
