"""What can have happened: the facts the ledger is made of, in the past tense. Pure data.

A fact is never changed and never taken back. It decides nothing: `farm.evolve` says what a fact means, the dispatcher
says when it is stated. A fact's tag, its fields' names and the values of enums are the format on disk: a change of one
of them needs another `VERSION` of the ledger. Class names are free.
"""

import enum
from dataclasses import dataclass
from typing import Annotated, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from inbox_agent.protocol.layout import Outcome, Setting


class Settlement(enum.StrEnum):
    """How a trial ended for good."""

    COMPLETED = "completed"  #: counted, with a fitness
    FAILED = "failed"  #: no fitness: the genome's fault, or given up
    TIMED_OUT = "timed_out"  #: the last try ran into the time limit; a fitness only if one is set for time-outs
    SKIPPED = "skipped"  #: not played on, since another trial of the genome had failed


class RecoveryAction(enum.StrEnum):
    """The steps of the recovery ladder, gentlest first."""

    RESTART_AGENT = "restart_agent"
    REBOOT = "reboot"  #: guest shutdown, then start
    POWER_CYCLE = "power_cycle"
    RESTORE = "restore"  #: back to the clean checkpoint; the share goes back in time with it


class RunSettings(Struct, frozen=True, kw_only=True):
    """What a fitness depends on; fixed at the first run of a generation."""

    trials_per_genome: Annotated[int, Meta(ge=1, le=1000)]
    seed: int
    settings: dict[str, Setting]
    evaluator: str  #: what is played, in words: the command or the callable
    time_limit_s: float
    timed_out_fitness: float | None = None


class Fact(Struct, frozen=True, kw_only=True, tag_field="fact", omit_defaults=True):
    """Something that was decided or observed."""


# ------------------------------------------------------------------------------------------------ host, generation


class HostStarted(Fact, frozen=True, kw_only=True, tag="host_started"):
    """A host process took up the ledger. Every wait begins anew with it."""

    pid: int
    workers: int


class HostStopped(Fact, frozen=True, kw_only=True, tag="host_stopped"):
    """The host ended in order; a killed one leaves no such fact."""

    reason: str


class RunOpened(Fact, frozen=True, kw_only=True, tag="run_opened"):
    """A generation is played: its first run, or one begun afresh."""

    generation: int
    run: int
    settings: RunSettings


class GenomeAdded(Fact, frozen=True, kw_only=True, tag="genome_added"):
    """A genome joined the roster; its bytes are in the snapshot under their digest."""

    genome: int  #: its number, from 1
    name: str
    suffix: str
    size_bytes: int
    sha256: str


class RunFinished(Fact, frozen=True, kw_only=True, tag="run_finished"):
    """Every trial of the run is settled."""


# ------------------------------------------------------------------------------------------------ attempts, trials


class AttemptIssued(Fact, frozen=True, kw_only=True, tag="attempt_issued"):
    """An attempt got its id and its place in a worker's queue; it may be published from now on."""

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
    """An attempt is over, as its worker or the host said."""

    attempt: str
    outcome: Outcome
    reason: str = ""
    has_result: bool = False  #: a result said so; False: the host did
    by_host: bool = False  #: the host caused it, so nobody is blamed
    left_published: bool = False  #: lost only because the share could not be read: its start signal stays
    run_alone: bool = False  #: the share could not tell who was at fault: the trial is next played alone
    fitness: float | None = None
    metrics: dict[str, float] = {}
    seconds: float = 0.0
    archived: bool = False  #: its result lies in `attempts/<attempt>/`


class AttemptReleased(Fact, frozen=True, kw_only=True, tag="attempt_released"):
    """A kept attempt is waited for no longer: its start signal need not stay."""

    attempt: str


class ResultLate(Fact, frozen=True, kw_only=True, tag="result_late"):
    """A result came from an attempt that nobody waited for any more; noted once, never counted."""

    attempt: str
    worker: str
    outcome: Outcome
    reason: str = ""


class ResultUnexpected(Fact, frozen=True, kw_only=True, tag="result_unexpected"):
    """A result came under an id that this ledger never issued; set aside, never counted."""

    attempt: str
    worker: str


class GenomeCharged(Fact, frozen=True, kw_only=True, tag="genome_charged"):
    """A loss was charged to the genome whose claim was found without a result."""

    attempt: str
    genome: int
    worker: str


class GenomePoisoned(Fact, frozen=True, kw_only=True, tag="genome_poisoned"):
    """A genome took down too many workers; they are forgiven the losses it caused."""

    genome: int
    charges: int


class TrialSettled(Fact, frozen=True, kw_only=True, tag="trial_settled"):
    """A trial is over for good. This is the count: one such fact for each trial."""

    genome: int
    trial: int
    settlement: Settlement
    attempt: str = ""  #: the one that decided it; empty where none did
    fitness: float | None = None
    reason: str = ""


class TrialReopened(Fact, frozen=True, kw_only=True, tag="trial_reopened"):
    """A failed or skipped trial is to be tried again, because the user said so."""

    genome: int
    trial: int


# --------------------------------------------------------------------------------------------------- shares, workers


class EpochRaised(Fact, frozen=True, kw_only=True, tag="epoch_raised"):
    """The share may have gone back in time, or was never ours: a new epoch begins, all older attempts are over."""

    worker: str
    epoch: int
    reason: str


class EpochOpened(Fact, frozen=True, kw_only=True, tag="epoch_opened"):
    """The share was seen to carry this epoch's `host.json`."""

    worker: str
    epoch: int


class WorkerOut(Fact, frozen=True, kw_only=True, tag="worker_excluded"):
    """The worker takes no further part in this run; the reason says what cures it."""

    worker: str
    reason: str


class RecoveryStarted(Fact, frozen=True, kw_only=True, tag="recovery_started", rename={"action": "rung"}):
    """A step of the recovery ladder was ordered."""

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
    """A quarantined worker gets one attempt to show that it is well."""

    worker: str


AnyFact = (
    HostStarted
    | HostStopped
    | RunOpened
    | GenomeAdded
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
    | EpochRaised
    | EpochOpened
    | WorkerOut
    | RecoveryStarted
    | WorkerRecovered
    | WorkerQuarantined
    | ProbationBegan
)

encode_fact = msgspec.json.Encoder().encode
decode_fact = msgspec.json.Decoder(AnyFact).decode


def kind_of(fact: Fact) -> str:
    """The tag that a fact is written with."""
    return str(fact.__struct_config__.tag)


#: The tags that `decode_fact` knows.
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyFact))


class Entry(NamedTuple):
    """A fact as it stands in the ledger."""

    seq: int
    at: float
    generation: int
    run: int
    fact: Fact


@dataclass(frozen=True, slots=True)
class DatedFact:
    """A fact, and when it was stated."""

    at: float
    fact: Fact
