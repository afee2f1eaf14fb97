"""The resources: what an assistant or a person attaches to a conversation, by URI.

Owns: the URIs, and how results become CSV or JSON.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mcp.shared.uri_template import UriTemplate
from mcp_types import Resource, ResourceTemplate

from pipeline.control.operations import GenerationPage, GenomeResult, ReadOperations
from pipeline.errors import InputError, NotFoundError
from pipeline.mcp_server.answers import NOTE, answer, bounded, explanation, shown
from pipeline.views.csv_table import csv_text

LISTED_GENERATIONS_MAX = 10  #: whose results are listed, which costs the reading of each; templates reach the others
_GENOMES_PER_PAGE = 1000
JSON, CSV, TEXT = "application/json", "text/csv", "text/plain"
_COLUMNS = ("genome", "status", "fitness", "reason", "evaluator", "sha256")


@dataclass(frozen=True)
class _Kind:
    """The resources of one template."""

    template: UriTemplate
    name: str
    description: str
    mime_type: str
    read: Callable[..., str]


def _template(uri: str) -> UriTemplate:
    return UriTemplate.parse(f"pipeline://{uri}")


class Resources:
    """The resources of a project. Every method but `templates` blocks and raises PipelineError."""

    def __init__(self, operations: ReadOperations) -> None:
        self._operations = operations
        results, genome = "generations/{generation}/results", "generations/{generation}/genomes/{name}"
        self._kinds = (
            _Kind(_template("project"), "Project", "The project and its workers.", JSON, self._project),
            _Kind(_template("generations"), "Generations", "The last generations.", JSON, self._generations),
            _Kind(
                _template(f"{results}.csv"), "Results as a table", "Fitness of every genome.", CSV, self._results_csv
            ),
            _Kind(_template(f"{results}.json"), "Results", "Every genome with trials, metrics.", JSON, self._results),
            _Kind(_template(genome), "Genome", "One genome with its trials and metrics.", JSON, self._genome),
            _Kind(
                _template(f"{genome}/story"),
                "Story of a genome",
                "What was tried with it, and what it waits for.",
                TEXT,
                self._story,
            ),
        )

    def templates(self) -> list[ResourceTemplate]:
        """The resources that have a generation or a genome in their URI."""
        return [
            ResourceTemplate(
                uri_template=str(kind.template), name=kind.name, description=kind.description, mime_type=kind.mime_type
            )
            for kind in self._kinds
            if kind.template.variables
        ]

    def listed(self) -> list[Resource]:
        """The project, and the results of its last generations."""
        found = [
            Resource(uri=str(kind.template), name=kind.name, description=kind.description, mime_type=kind.mime_type)
            for kind in self._kinds
            if not kind.template.variables
        ]
        for number in reversed(self._last_generations()):
            for kind in self._kinds:
                if set(kind.template.variable_names) == {"generation"}:
                    uri = kind.template.expand({"generation": str(number)})
                    name = f"{kind.name} of generation {number}"
                    found.append(Resource(uri=uri, name=name, description=kind.description, mime_type=kind.mime_type))
        return found

    def read(self, uri: str) -> tuple[str, str]:
        """MIME type and text of a resource.

        Raises:
            NotFoundError: there is none of that URI.
            InputError: it is too large.
        """
        for kind in self._kinds:
            found = kind.template.match(uri)
            if found is not None:
                return kind.mime_type, bounded(kind.read(**found))
        raise NotFoundError(f"{shown(uri)}: there is no such resource; list the resources and their templates")

    def _last_generations(self) -> list[int]:
        return [status.number for status in self._last().items]

    def _last(self) -> GenerationPage:
        newest = self._operations.project().latest_generation or 0
        after = max(0, newest - LISTED_GENERATIONS_MAX)
        return self._operations.generations(after=after, limit=LISTED_GENERATIONS_MAX)

    def _project(self) -> str:
        return answer(self._operations.project())[1]

    def _generations(self) -> str:
        return answer(self._last())[1]

    def _genome(self, generation: str, name: str) -> str:
        return answer(self._operations.genome(_number(generation), name))[1]

    def _story(self, generation: str, name: str) -> str:
        lines = explanation(name, self._operations.explain(name, _number(generation))).lines
        return "\n".join([NOTE.replace("`result`", "these lines"), "", *map(shown, lines), ""])

    def _results(self, generation: str) -> str:
        return answer(list(self._genomes(_number(generation))))[1]

    def _results_csv(self, generation: str) -> str:
        genomes = list(self._genomes(_number(generation)))
        metrics = sorted({name for genome in genomes for name in genome.metrics})
        params = sorted({name for genome in genomes for name in genome.params})
        columns = [*_COLUMNS, *(f"metric.{name}" for name in metrics), *(f"param.{name}" for name in params)]
        return csv_text([shown(column) for column in columns], (_row(genome, metrics, params) for genome in genomes))

    def _genomes(self, number: int) -> Iterator[GenomeResult]:
        after: int | None = 0
        while after is not None:
            page = self._operations.genomes(number, after=after, limit=_GENOMES_PER_PAGE)
            yield from page.items
            after = page.next


def _row(genome: GenomeResult, metrics: list[str], params: list[str]) -> list[object]:
    own = [genome.name, genome.status.value, genome.fitness, genome.reason, genome.evaluator, genome.sha256]
    values = [*own, *map(genome.metrics.get, metrics), *map(genome.params.get, params)]
    return [shown(value) if isinstance(value, str) else value for value in values]


def _number(generation: str) -> int:
    if not generation.isascii() or not generation.isdecimal() or len(generation) > 9:
        raise InputError(f"{shown(generation, 50)}: no number of a generation; list_generations has them")
    return int(generation)
