"""What the tools take, with the limits that their schemas name. Types only."""

from typing import Annotated

from msgspec import Meta, Struct

from inbox_agent.protocol.layout import SETTINGS_MAX, Name, Setting
from pipeline.core.workers import WORKER_NAME

PAGE_MAX = 500
PAGE_ITEMS = 50  #: of a page, if nothing else is asked for
WAIT_MAX_S = 60
SUBMITTED_MAX = 100
SUBMITTED_BYTES_MAX = 1024 * 1024  #: of one genome

Generation = Annotated[int, Meta(ge=1, description="The number of a generation.")]
Latest = Annotated[int | None, Meta(description="The number of a generation; none: the one that was played last.")]
After = Annotated[int, Meta(ge=0, description="What `next` of the page before said; 0: from the beginning.")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="So many at most.")]
WaitS = Annotated[float, Meta(ge=0, le=WAIT_MAX_S, description="Waits so many seconds for one if there is none yet.")]
GenomeName = Annotated[str, Meta(min_length=1, max_length=255, description="The name of a genome.")]
What = Annotated[str, Meta(min_length=1, max_length=1000, description="The name of a genome, an attempt or a worker.")]
Key = Annotated[
    str, Meta(max_length=128, description="Any text of your own. The same key opens the same generation again.")
]


class ToolArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No arguments."""


class PageArguments(ToolArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of a list."""

    after: After = 0
    limit: Limit = PAGE_ITEMS


class GenerationsArguments(PageArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of generations."""

    after: Annotated[int, Meta(description="What `next` of the page before said; -10: the last ten.")] = -10


class LatestArguments(ToolArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A generation, or the one that was played last."""

    generation: Latest = None


class GenomesArguments(PageArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of a generation's genomes."""

    generation: Latest = None


class GenomeArguments(LatestArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A genome."""

    name: GenomeName


class ExplainArguments(LatestArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be explained."""

    what: What


class WaitArguments(PageArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of what may be yet to come."""

    wait_s: WaitS = 0.0


class SettledArguments(WaitArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of settled genomes."""

    generation: Latest = None


class EventsArguments(WaitArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of events."""

    after: Annotated[
        int, Meta(description="What `next` of the page before said; -200: those among the last 200 facts.")
    ] = -200


class GenerationArguments(ToolArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A generation."""

    generation: Generation


class OpenArguments(ToolArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A generation to open or to resume."""

    generation: Annotated[int | None, Meta(description="Its number; none: the next one.")] = None
    key: Key = ""


class GenomeToSubmit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A genome to submit."""

    name: GenomeName
    content: Annotated[bytes, Meta(max_length=SUBMITTED_BYTES_MAX, description="Its bytes in base64.")]
    sha256: Annotated[str, Meta(max_length=64, description="Of its bytes, in hexadecimal; empty: not compared.")] = ""
    params: Annotated[dict[Name, Setting], Meta(max_length=SETTINGS_MAX)] = {}


class SubmitArguments(GenerationArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Genomes to submit."""

    genomes: Annotated[list[GenomeToSubmit], Meta(min_length=1, max_length=SUBMITTED_MAX)]


class CancelArguments(GenerationArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A genome that waits."""

    name: GenomeName


class WorkerArguments(ToolArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker."""

    worker: Annotated[str, Meta(pattern=f"^{WORKER_NAME.pattern}$", description="The name of a worker.")]
