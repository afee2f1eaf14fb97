"""What programs elsewhere can do with a project, whichever way they are connected. Types only.

Owns: the operations, what they take and what they answer. The structs are encoded as JSON as they are.
Not here: how the operations are carried out (`project_operations`), who may call which (`access`), HTTP and MCP.
Every operation raises `NotFoundError` for a generation, genome or worker that does not exist, `InputError` for what
cannot be used, and `ConflictError` for what cannot be done now.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from inbox_agent.protocol.layout import Setting
from pipeline.errors import PipelineError


class GenerationState(enum.StrEnum):
    """What a generation is doing."""

    OPEN = "open"  #: is played, and takes genomes
    CLOSED = "closed"  #: is played, and takes no more genomes
    FINISHED = "finished"  #: every genome is settled
    STOPPED = "stopped"  #: is not played, and not finished: open it again to resume
    STALLED = "stalled"  #: cannot go on: `reason` says why; open it again to resume


class GenomeStatus(enum.StrEnum):
    """What became of a genome."""

    WAITING = "waiting"  #: is stored, and joins the generation when a worker has room
    OPEN = "open"  #: is played
    COMPLETED = "completed"  #: every trial has a fitness
    FAILED = "failed"  #: a trial is settled without a fitness
    REFUSED = "refused"  #: cannot join: `reason` says why; it is not counted


class GenerationStatus(Struct, frozen=True, kw_only=True):
    """A generation in numbers."""

    number: int
    state: GenerationState
    reason: str = ""  #: why it cannot go on
    waiting: int = 0  #: genomes that are stored and have not joined yet; they are not among `genomes`
    genomes: int
    completed: int  #: genomes
    failed: int  #: genomes
    trials: int
    settled: int  #: trials
    best_genome: str = ""
    best: float | None = None
    mean: float | None = None
    evaluator: str = ""  #: version


class GenomeResult(Struct, frozen=True, kw_only=True):
    """One genome of a generation."""

    name: str
    status: GenomeStatus
    fitness: float | None = None
    reason: str = ""  #: why it has no fitness
    trials: Sequence[float | None] = ()  #: the fitness of each
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Setting] = field(default_factory=dict)
    attempts: Sequence[str] = ()  #: ids of those that decided the trials
    evaluator: str = ""  #: the version that gave the fitness
    sha256: str = ""  #: of its bytes; empty while it is waiting


class GenomePage(Struct, frozen=True, kw_only=True):
    """Some genomes of a generation."""

    generation: int
    items: Sequence[GenomeResult]
    #: give it as `after` for what follows; None: nothing does. Of settled genomes it is always given.
    next: int | None = None


class Artifact(Struct, frozen=True, kw_only=True):
    """A file that a game has left."""

    attempt: str  #: that decided a trial
    name: str
    size_bytes: int


class ArtifactList(Struct, frozen=True, kw_only=True):
    """The artifacts of a genome, by trial."""

    generation: int
    genome: str
    items: Sequence[Artifact]


class GenerationPage(Struct, frozen=True, kw_only=True):
    """Some generations."""

    items: Sequence[GenerationStatus]
    next: int | None = None


class SubmittedGenome(Struct, frozen=True, kw_only=True):
    """A genome that is submitted. In JSON `content` is base64."""

    name: str
    content: bytes
    sha256: str = ""  #: of the content; empty: it is not compared
    params: Mapping[str, Setting] = field(default_factory=dict)


class SubmissionState(enum.StrEnum):
    """What became of a submission."""

    ACCEPTED = "accepted"  #: is stored on the host's disk
    KNOWN = "known"  #: had been submitted before with the same bytes
    REFUSED = "refused"  #: `reason` says why; nothing is stored


class SubmissionAnswer(Struct, frozen=True, kw_only=True):
    """The answer to one submitted genome."""

    name: str
    state: SubmissionState
    reason: str = ""


class SubmissionAnswers(Struct, frozen=True):
    """The answers to several submitted genomes, in their order."""

    answers: Sequence[SubmissionAnswer]


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker as the generation that was played last knows it."""

    name: str
    state: str
    genome: str = ""  #: what it plays
    trial: int = 0
    playing_s: float = 0.0
    waiting: int = 0  #: attempts in its queue
    losses: int = 0  #: in a row
    progress: str = ""
    problem: str = ""


class FarmEvent(Struct, frozen=True, kw_only=True):
    """Something that happened, as `pipeline top` tells it."""

    number: int  #: of the fact in the ledger; rises
    at: str  #: UTC, ISO 8601
    generation: int
    kind: str  #: of the fact, e.g. `trial_settled`
    text: str  #: one line for people


class EventPage(Struct, frozen=True, kw_only=True):
    """Some events, oldest first."""

    items: Sequence[FarmEvent]
    next: int  #: give it as `after` for what follows


class ProjectStatus(Struct, frozen=True, kw_only=True):
    """A project."""

    name: str  #: of its folder
    version: str  #: of this program
    is_controlled: bool  #: whether genomes can be submitted here
    open_generation: int | None  #: the one that is played
    latest_generation: int | None  #: the one that was played last
    workers: Sequence[WorkerStatus]


class ReadOperations(Protocol):
    """What does not change anything. Any thread may call."""

    def wait_for_fact(self, known: int, wait_s: float) -> int:
        """The number of the last fact as soon as it is another one than `known`, or after `wait_s`.

        It rises with every change.
        """

    def project(self) -> ProjectStatus:
        """The project and its workers."""

    def generations(self, *, after: int = 0, limit: int = 100) -> GenerationPage:
        """The generations that were begun, by number; those after the number `after`."""

    def generation(self, number: int) -> GenerationStatus:
        """One generation."""

    def genomes(self, number: int, *, after: int = 0, limit: int = 100) -> GenomePage:
        """The genomes that have joined a generation, in this order; those after the first `after`."""

    def genome(self, number: int, name: str) -> GenomeResult:
        """One genome, also one that waits."""

    def settled(self, number: int, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> GenomePage:
        """The genomes that were settled after the fact `after`, in the order in which that happened.

        If there is none yet, it waits up to `wait_s` for one. A genome may come more than once: one that was opened
        again does.
        """

    def artifacts(self, number: int, name: str) -> ArtifactList:
        """The artifacts of a genome that are kept."""

    def artifact(self, number: int, name: str, attempt: str, file: str, *, bytes_max: int) -> bytes:
        """The bytes of an artifact of a genome. Raises NotFoundError: there is none, or it has more bytes."""

    def explain(self, what: str, number: int | None = None) -> str:
        """Why a genome, an attempt or a worker is where it is, in some lines for people."""

    def events(self, *, after: int = 0, limit: int = 100, wait_s: float = 0.0) -> EventPage:
        """What happened after the fact `after`; waits up to `wait_s` for it. A negative `after`: the last ones."""


class FarmOperations(ReadOperations, Protocol):
    """Everything. Any thread may call."""

    def open_generation(self, number: int | None = None, *, key: str = "") -> GenerationStatus:
        """Opens a generation or resumes it; None: the next one. The same key opens the same generation again.

        Raises ConflictError: another generation is being played.
        """

    def submit(self, number: int, genomes: Sequence[SubmittedGenome]) -> list[SubmissionAnswer]:
        """Stores genomes on this host's disk and answers each; what was answered joins, also if this host is killed.

        Raises ConflictError: the generation is not open. QueueFullError: too many genomes wait.
        """

    def submit_together(
        self, number: int, requests: Sequence[Sequence[SubmittedGenome]]
    ) -> Sequence[list[SubmissionAnswer] | PipelineError]:
        """Stores the genomes of several requests at once, as `submit` those of one, and has an outcome for each.

        Raises ConflictError: the generation is not open; nothing was stored.
        """

    def cancel(self, number: int, name: str) -> None:
        """Withdraws a genome that waits. Raises ConflictError: it has joined."""

    def close_generation(self, number: int) -> GenerationStatus:
        """Takes no more genomes; the generation is finished when everything is settled."""

    def stop_generation(self, number: int) -> GenerationStatus:
        """Stops playing; what is counted is kept. It can be opened again."""

    def drain_worker(self, name: str) -> WorkerStatus:
        """Gives a worker no more attempts, until `return_worker`; it finishes its game. Takes effect within seconds."""

    def return_worker(self, name: str) -> WorkerStatus:
        """Gives a drained worker attempts again."""

    def restart_worker(self, name: str) -> WorkerStatus:
        """Restarts a worker's machine, or its agent on this computer or a site. Raises ConflictError: neither."""

    def reopen_failed(self, number: int) -> GenerationStatus:
        """Plays the failed genomes of a finished generation once more. Raises ConflictError: another one is played."""
