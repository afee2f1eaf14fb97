"""The facts of the ledger: events, named in the past tense. Pure data.

A fact is never changed or deleted. A fact's tag, its fields' names on disk and the values of enums are the ledger's
format: changing one of them needs another `VERSION` of the ledger. Class names are free.
Not here: what a fact changes (`Farm.evolve`), when it is added (`dispatcher`).
"""

import enum
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from inbox_agent.protocol.layout import Outcome, Setting


class Settlement(enum.StrEnum):
    """The final state of a trial."""

    COMPLETED = "completed"  #: has a fitness
    FAILED = "failed"  #: no fitness: the genome's fault, or given up
    TIMED_OUT = "timed_out"  #: the last try hit the time limit; a fitness only if `timed_out_fitness` is set
    SKIPPED = "skipped"  #: another trial of the genome failed


class RecoveryAction(enum.StrEnum):
    """What can be done to recover a worker, least disruptive first."""

    RESTART_AGENT = "restart_agent"
    REBOOT = "reboot"  #: guest shutdown, then start
    POWER_CYCLE = "power_cycle"
    RESTORE = "restore"  #: revert to the clean checkpoint, which reverts the share too


#: Which seeds trials get: others in each generation, or the same in all of them.
Seeds = Literal["per-generation", "fixed"]
#: Which results of the generation before count again, without a game: none, or the completed trials of genomes with the
#: same bytes, which have the same seeds.
Reuse = Literal["none", "same-seeds"]


class RunSettings(Struct, frozen=True, kw_only=True):
    """The settings that a fitness depends on; fixed at the first run of a generation."""

    trials_per_genome: Annotated[int, Meta(ge=1, le=1000)]
    seed: int
    settings: dict[str, Setting]
    evaluator: str  #: the command or the callable, as text
    time_limit_s: float
    timed_out_fitness: float | None = None
    evaluator_version: str = ""  #: empty: the host does not know it, and the first worker's counts
    allow_mixed_evaluators: bool = False
    seeds: Seeds = "per-generation"
    reuse: Reuse = "none"


class ReusedResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the fitness of a trial comes from that was not played in this generation."""

    generation: int  #: the one in which it was played
    evaluator: str  #: the version that played it
    metrics: dict[str, float] = {}


class Fact(Struct, frozen=True, kw_only=True, tag_field="fact", omit_defaults=True):
    """A decision or an observation of the host."""


# ------------------------------------------------------------------------------------------------ host, generation


class HostStarted(Fact, frozen=True, kw_only=True, tag="host_started"):
    """A host process opened the ledger. All waits and back-offs restart."""

    pid: int
    workers: int
    boot_id: str = ""  #: the run of the host's operating system; empty: not known


class HostStopped(Fact, frozen=True, kw_only=True, tag="host_stopped"):
    """The host ended gracefully; a killed one leaves no such fact."""

    reason: str


class RunOpened(Fact, frozen=True, kw_only=True, tag="run_opened"):
    """A run of a generation began: the first, or a new one as with `--fresh`."""

    generation: int
    run: int
    settings: RunSettings


class GenomeAdded(Fact, frozen=True, kw_only=True, tag="genome_added"):
    """A genome was added to the run; its bytes are in the snapshot store under their digest."""

    genome: int  #: its number, from 1
    name: str
    suffix: str
    size_bytes: int
    sha256: str
    params: dict[str, Setting] = {}  #: what the program that submitted it says of it


class EvaluatorFixed(Fact, frozen=True, kw_only=True, tag="evaluator_fixed"):
    """The host does not know the evaluator's version: that of this worker counts for the generation."""

    version: str
    worker: str


class EvaluatorAccepted(Fact, frozen=True, kw_only=True, tag="evaluator_accepted"):
    """At the user's request the generation goes on with another evaluator; what was counted stays."""

    version: str  #: empty: the first worker's counts


class RunFinished(Fact, frozen=True, kw_only=True, tag="run_finished"):
    """Every trial of the run is settled."""


# ------------------------------------------------------------------------------------------------ attempts, trials


class AttemptIssued(Fact, frozen=True, kw_only=True, tag="attempt_issued"):
    """An attempt got its id and its place in a worker's queue; it may be published."""

    attempt: str
    genome: int
    trial: int
    number: int
    worker: str
    epoch: int
    publication: int


class AttemptClaimed(Fact, frozen=True, kw_only=True, tag="attempt_claimed"):
    """The worker's claim was seen before its result."""

    attempt: str


class AttemptEnded(
    Fact,
    frozen=True,
    kw_only=True,
    tag="attempt_ended",
    rename={"by_host": "ordered", "has_result": "answered", "left_published": "kept", "run_alone": "isolate"},
):
    """An attempt is over, by a result or by the host's decision."""

    attempt: str
    outcome: Outcome
    reason: str = ""
    has_result: bool = False  #: ended by a result; False: by the host
    by_host: bool = False  #: the host withdrew it; neither worker nor genome is blamed
    #: its start signal stays: it was lost only because the share could not be read, or a second copy is played as well
    left_published: bool = False
    run_alone: bool = False  #: the culprit is unknown: the next attempt at the trial runs alone
    fitness: float | None = None
    metrics: dict[str, float] = {}
    seconds: float = 0.0
    archived: bool = False  #: its result is in the archive
    evaluator: str = ""  #: the version that played it, if the generation is played by any


class AttemptReleased(Fact, frozen=True, kw_only=True, tag="attempt_released"):
    """A left-published attempt is no longer waited for; its start signal may be removed."""

    attempt: str


class ResultLate(Fact, frozen=True, kw_only=True, tag="result_late"):
    """A result came for an attempt that was over; noted once, never counted."""

    attempt: str
    worker: str
    outcome: Outcome
    reason: str = ""


class ResultUnexpected(Fact, frozen=True, kw_only=True, tag="result_unexpected"):
    """A result came under an id that this ledger never issued; set aside, never counted."""

    attempt: str
    worker: str


class GenomeCharged(Fact, frozen=True, kw_only=True, tag="genome_charged"):
    """A loss was charged to the genome that was being evaluated."""

    attempt: str
    genome: int
    worker: str


class GenomePoisoned(Fact, frozen=True, kw_only=True, tag="genome_poisoned"):
    """A genome took down too many workers; the losses it caused are subtracted from theirs."""

    genome: int
    charges: int


class TrialSettled(Fact, frozen=True, kw_only=True, tag="trial_settled"):
    """A trial got its final state; exactly one such fact counts per trial."""

    genome: int
    trial: int
    settlement: Settlement
    attempt: str = ""  #: the one that decided it; empty if none did
    fitness: float | None = None
    reason: str = ""
    reused: ReusedResult | None = None  #: the attempt that decided it is of an earlier generation


class TrialReopened(Fact, frozen=True, kw_only=True, tag="trial_reopened"):
    """A failed or skipped trial is tried again at the user's request."""

    genome: int
    trial: int


class GenomeReopened(Fact, frozen=True, kw_only=True, tag="genome_reopened"):
    """At the user's request all trials of a genome are played again, with these bytes; its attempts so far are
    superseded: none of their results counts, also none that is still to come."""

    genome: int
    size_bytes: int
    sha256: str


# --------------------------------------------------------------------------------------------------- shares, workers


class EpochRaised(Fact, frozen=True, kw_only=True, tag="epoch_raised"):
    """The share is new or may have been reverted: a new epoch begins, and all older attempts are over."""

    worker: str
    epoch: int
    reason: str


class EpochOpened(Fact, frozen=True, kw_only=True, tag="epoch_opened"):
    """The share was seen to carry this epoch's `host.json`."""

    worker: str
    epoch: int


class WorkerOut(Fact, frozen=True, kw_only=True, tag="worker_excluded"):
    """The worker takes no further part in this run; the reason says how to fix it."""

    worker: str
    reason: str


class WorkerUnfit(Fact, frozen=True, kw_only=True, tag="worker_unfit"):
    """The worker is alive and cannot play this generation: its evaluator cannot be loaded, or is another one."""

    worker: str
    reason: str


class RecoveryStarted(Fact, frozen=True, kw_only=True, tag="recovery_started", rename={"action": "rung"}):
    """A recovery action was requested."""

    worker: str
    action: RecoveryAction
    reason: str


class WorkerRecovered(Fact, frozen=True, kw_only=True, tag="worker_recovered"):
    """The worker is alive again and gets work as before."""

    worker: str


class WorkerQuarantined(Fact, frozen=True, kw_only=True, tag="worker_quarantined"):
    """The worker gets no work for a while."""

    worker: str
    back_off_s: float
    reason: str


class ProbationBegan(Fact, frozen=True, kw_only=True, tag="probation_began"):
    """A quarantined worker gets one attempt as a test."""

    worker: str


class WorkerJoined(Fact, frozen=True, kw_only=True, tag="worker_joined"):
    """The worker was added while the generation was open, or is on a site that is new or back."""

    worker: str
    site: str = ""  #: the name of the site that it is on; empty: it is on none


class WorkerLeft(Fact, frozen=True, kw_only=True, tag="worker_left"):
    """The worker was removed while the generation was open; it holds nothing any more."""

    worker: str
    reason: str


class WorkerDrained(Fact, frozen=True, kw_only=True, tag="worker_drained"):
    """At the user's request the worker gets no more attempts; it plays the one that it has begun."""

    worker: str


class WorkerReturned(Fact, frozen=True, kw_only=True, tag="worker_returned"):
    """A drained worker gets attempts again."""

    worker: str


AnyFact = (
    HostStarted
    | HostStopped
    | RunOpened
    | GenomeAdded
    | EvaluatorFixed
    | EvaluatorAccepted
    | RunFinished
    | AttemptIssued
    | AttemptClaimed
    | AttemptEnded
    | AttemptReleased
    | ResultLate
    | ResultUnexpected
    | GenomeCharged
    | GenomePoisoned
    | TrialSettled
    | TrialReopened
    | GenomeReopened
    | EpochRaised
    | EpochOpened
    | WorkerOut
    | WorkerUnfit
    | RecoveryStarted
    | WorkerRecovered
    | WorkerQuarantined
    | ProbationBegan
    | WorkerJoined
    | WorkerLeft
    | WorkerDrained
    | WorkerReturned
)

_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(AnyFact)
encode_fact, encode_facts = _encoder.encode, _encoder.encode_lines
decode_fact, decode_facts = _decoder.decode, _decoder.decode_lines


#: What all generations depend on, also those that it was not recorded in: shares and which workers there are.
WorkerFact = EpochRaised | EpochOpened | WorkerJoined | WorkerLeft | WorkerDrained | WorkerReturned


def kind_of(fact: Fact) -> str:
    """The tag that a fact is written with."""
    return str(fact.__struct_config__.tag)


#: The tags that `decode_fact` knows.
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyFact))


class Entry(NamedTuple):
    """A fact with its position in the ledger."""

    seq: int
    at: float
    generation: int
    run: int
    fact: Fact


@dataclass(frozen=True, slots=True)
class DatedFact:
    """A fact and the wall time when it was recorded."""

    at: float
    fact: Fact
