"""The tools: one for each operation, with typed arguments and results. Those that change something are a list of their
own, so that a server that only reads has not got them.

Not here: how a tool is called and what an error becomes (`server`), the limits of arguments (`arguments`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp_types import Tool, ToolAnnotations

from pipeline.control.operations import (
    EventPage,
    FarmOperations,
    GenerationPage,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    ProjectStatus,
    ReadOperations,
    SubmissionAnswers,
    SubmittedGenome,
    WorkerStatus,
)
from pipeline.errors import NotFoundError
from pipeline.mcp_server import arguments as args
from pipeline.mcp_server.answers import ChangeDone, ExplanationLines, ToolAnswer, explanation, schema_of

A = TypeVar("A", bound=args.ToolArguments)
R = TypeVar("R")

#: Effects of a tool, for clients that ask the user before some of them. Every answer has texts from games, so every
#: tool is one of the open world.
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_ADDS = _READS.model_copy(update={"read_only_hint": False, "idempotent_hint": False})
_ADDS_ONCE = _READS.model_copy(update={"read_only_hint": False})  #: a second call changes nothing more
_ENDS = _ADDS_ONCE.model_copy(update={"destructive_hint": True})
_TAKES_BACK = _ADDS.model_copy(update={"destructive_hint": True})


@dataclass(frozen=True)
class OperationTool:
    """A tool and how it is run."""

    tool: Tool  #: as it is listed
    arguments: type[args.ToolArguments]
    run: Callable[[Any], object]  #: blocks; raises PipelineError

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.tool.name


def _made(
    run: Callable[[A], R],
    arguments: type[A],
    result: type[R],
    effect: ToolAnnotations,
    name: str,
    title: str,
    description: str,
) -> OperationTool:
    envelope: Any = ToolAnswer[result]  # type: ignore[valid-type]
    tool = Tool(
        name=name,
        title=title,
        description=description,
        input_schema=schema_of(arguments),
        output_schema=schema_of(envelope),
        annotations=effect.model_copy(update={"title": title}),
    )
    return OperationTool(tool, arguments, run)


class _Reads:
    """The operations that change nothing, with the arguments of tools."""

    def __init__(self, operations: ReadOperations) -> None:
        self._operations = operations

    def _latest(self, generation: int | None) -> int:
        if generation is None:
            generation = self._operations.project().latest_generation
        if generation is None:
            raise NotFoundError("no generation was played here yet; run `pipeline run`, or open one")
        return generation

    def project(self, _given: args.ToolArguments) -> ProjectStatus:
        return self._operations.project()

    def generations(self, given: args.GenerationsArguments) -> GenerationPage:
        after = given.after
        if after < 0:
            after = max(0, (self._operations.project().latest_generation or 0) + after)
        return self._operations.generations(after=after, limit=given.limit)

    def generation(self, given: args.LatestArguments) -> GenerationStatus:
        return self._operations.generation(self._latest(given.generation))

    def genomes(self, given: args.GenomesArguments) -> GenomePage:
        return self._operations.genomes(self._latest(given.generation), after=given.after, limit=given.limit)

    def genome(self, given: args.GenomeArguments) -> GenomeResult:
        return self._operations.genome(self._latest(given.generation), given.name)

    def settled(self, given: args.SettledArguments) -> GenomePage:
        number = self._latest(given.generation)
        return self._operations.settled(number, after=given.after, limit=given.limit, wait_s=given.wait_s)

    def explain(self, given: args.ExplainArguments) -> ExplanationLines:
        return explanation(given.what, self._operations.explain(given.what, given.generation))

    def events(self, given: args.EventsArguments) -> EventPage:
        return self._operations.events(after=given.after, limit=given.limit, wait_s=given.wait_s)


class _Changes:
    """The operations that change something, with the arguments of tools."""

    def __init__(self, operations: FarmOperations) -> None:
        self._operations = operations

    def open(self, given: args.OpenArguments) -> GenerationStatus:
        return self._operations.open_generation(given.generation, key=given.key)

    def submit(self, given: args.SubmitArguments) -> SubmissionAnswers:
        genomes = [
            SubmittedGenome(name=genome.name, content=genome.content, sha256=genome.sha256, params=genome.params)
            for genome in given.genomes
        ]
        return SubmissionAnswers(self._operations.submit(given.generation, genomes))

    def cancel(self, given: args.CancelArguments) -> ChangeDone:
        self._operations.cancel(given.generation, given.name)
        return ChangeDone(f"{given.name} was withdrawn from generation {given.generation}")

    def close(self, given: args.GenerationArguments) -> GenerationStatus:
        return self._operations.close_generation(given.generation)

    def stop(self, given: args.GenerationArguments) -> GenerationStatus:
        return self._operations.stop_generation(given.generation)

    def reopen(self, given: args.GenerationArguments) -> GenerationStatus:
        return self._operations.reopen_failed(given.generation)

    def drain(self, given: args.WorkerArguments) -> WorkerStatus:
        return self._operations.drain_worker(given.worker)

    def give_back(self, given: args.WorkerArguments) -> WorkerStatus:
        return self._operations.return_worker(given.worker)

    def restart(self, given: args.WorkerArguments) -> WorkerStatus:
        return self._operations.restart_worker(given.worker)


def read_tools(operations: ReadOperations) -> Sequence[OperationTool]:
    """The tools that change nothing."""
    reads = _Reads(operations)
    what = {
        "project": "The project: which generation is played, and what each worker does.",
        "generations": "Generations in numbers: counts, best and mean fitness; the last ones, unless `after` is given.",
        "generation": "One generation in numbers, and why it cannot go on.",
        "genomes": "A generation's genomes with fitness, metrics and params, or why there is none.",
        "genome": "One genome of a generation, with its trials.",
        "settled": "Genomes in the order in which they were settled; waits for more.",
        "explain": "Why a genome, an attempt or a worker is where it is: what was tried, and what it waits for.",
        "events": "What happened in the farm, oldest first; waits for more.",
    }
    no, page, latest, one = args.ToolArguments, args.GenerationsArguments, args.LatestArguments, args.GenomeArguments
    some, settled, why, events = (
        args.GenomesArguments,
        args.SettledArguments,
        args.ExplainArguments,
        args.EventsArguments,
    )
    return (
        _made(reads.project, no, ProjectStatus, _READS, "project_status", "Project", what["project"]),
        _made(reads.generations, page, GenerationPage, _READS, "list_generations", "Generations", what["generations"]),
        _made(
            reads.generation, latest, GenerationStatus, _READS, "generation_status", "Generation", what["generation"]
        ),
        _made(reads.genomes, some, GenomePage, _READS, "list_genomes", "Genomes", what["genomes"]),
        _made(reads.genome, one, GenomeResult, _READS, "genome_result", "Genome", what["genome"]),
        _made(reads.settled, settled, GenomePage, _READS, "settled_genomes", "Settled genomes", what["settled"]),
        _made(reads.explain, why, ExplanationLines, _READS, "explain", "Explain", what["explain"]),
        _made(reads.events, events, EventPage, _READS, "list_events", "Events", what["events"]),
    )


def control_tools(operations: FarmOperations) -> Sequence[OperationTool]:
    """The tools that change something."""
    changes = _Changes(operations)
    what = {
        "open": "Opens a generation or resumes it, so that it is played and takes genomes. No number: the next one.",
        "submit": "Stores genomes in an open generation and answers each. The same genome again changes nothing.",
        "cancel": "Withdraws a genome that was submitted and still waits.",
        "close": "Takes no more genomes; it is finished when everything is settled. This is not undone.",
        "stop": "Stops playing a generation. What is counted is kept, and open_generation resumes it.",
        "reopen": "Plays the failed genomes of a finished generation once more.",
        "drain": "Gives a worker no more work within seconds; it finishes its game, and its machine is left alone.",
        "return": "Gives a drained worker work again within seconds.",
        "restart": "Restarts a worker's machine, or its agent here or on a site; another worker plays its game again.",
    }
    number, status = args.GenerationArguments, GenerationStatus
    submit, cancel, worker = args.SubmitArguments, args.CancelArguments, args.WorkerArguments
    return (
        _made(changes.open, args.OpenArguments, status, _ADDS, "open_generation", "Open a generation", what["open"]),
        _made(changes.submit, submit, SubmissionAnswers, _ADDS_ONCE, "submit_genomes", "Submit", what["submit"]),
        _made(changes.cancel, cancel, ChangeDone, _TAKES_BACK, "cancel_genome", "Withdraw a genome", what["cancel"]),
        _made(changes.close, number, status, _ENDS, "close_generation", "Close a generation", what["close"]),
        _made(changes.stop, number, status, _ENDS, "stop_generation", "Stop a generation", what["stop"]),
        _made(changes.reopen, number, status, _ADDS, "reopen_failed_genomes", "Play failed again", what["reopen"]),
        _made(changes.drain, worker, WorkerStatus, _ENDS, "drain_worker", "Drain a worker", what["drain"]),
        _made(changes.give_back, worker, WorkerStatus, _ADDS_ONCE, "return_worker", "Return a worker", what["return"]),
        _made(changes.restart, worker, WorkerStatus, _TAKES_BACK, "restart_worker", "Restart", what["restart"]),
    )
