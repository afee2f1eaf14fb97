"""The table of requests: the one source of routing, scopes, the audit log and OpenAPI."""

from dataclasses import dataclass

from pipeline.control.operations import (
    EventPage,
    GenerationPage,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    ProjectStatus,
    SubmissionAnswer,
)
from pipeline.core.access import AccessScope
from pipeline.http_api import changing, reading
from pipeline.http_api import parameters as given
from pipeline.http_api.call import BYTES, JSON, Handler
from pipeline.http_api.event_stream import MEDIA_TYPE as EVENT_STREAM

READ, SUBMIT, CONTROL = AccessScope.READ, AccessScope.SUBMIT, AccessScope.CONTROL


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One request."""

    method: str
    path: str  #: below `/v1`
    handler: Handler
    scope: AccessScope | None  #: None: no token is needed
    answer: type | None  #: None: no body
    parameters: tuple[given.Parameter, ...] = ()
    body: type | None = None
    body_type: str = ""  #: media type; empty: no body is expected
    statuses: tuple[int, ...] = (200,)  #: of success
    problems: tuple[int, ...] = ()  #: besides those that every request may have
    has_etag: bool = False
    streams: str = ""  #: another media type of the answer

    @property
    def operation(self) -> str:
        """Its name."""
        return self.handler.__name__

    @property
    def about(self) -> str:
        """What it does, in Markdown."""
        return " ".join((self.handler.__doc__ or "").split())

    @property
    def is_change(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    @property
    def waits(self) -> bool:
        """Whether a client may keep it waiting."""
        return given.WAIT_S in self.parameters


_GENERATION = "/generations/{number}"
_GENOMES, _GENOME = f"{_GENERATION}/genomes", f"{_GENERATION}/genomes/{{name}}"
_PAGE = (given.AFTER, given.LIMIT)
_ETAG = (given.IF_NONE_MATCH,)

ENDPOINTS = (
    Endpoint("GET", "/health", reading.health, None, reading.Health),
    Endpoint("GET", "/project", reading.project, READ, ProjectStatus, _ETAG, has_etag=True),
    Endpoint("GET", "/generations", reading.generations, READ, GenerationPage, (*_PAGE, *_ETAG), has_etag=True),
    Endpoint(
        "POST",
        "/generations",
        changing.open_generation,
        SUBMIT,
        GenerationStatus,
        (given.KEY,),
        changing.OpenedGeneration,
        JSON,
        (201,),
        (404, 409),
    ),
    Endpoint(
        *("GET", _GENERATION, reading.generation, READ, GenerationStatus),
        (given.NUMBER, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    Endpoint(
        *("GET", _GENOMES, reading.genomes, READ, GenomePage),
        (given.NUMBER, *_PAGE, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    Endpoint(
        "POST",
        _GENOMES,
        changing.submit,
        SUBMIT,
        changing.SubmissionAnswers,
        (given.NUMBER,),
        changing.GenomeBatch,
        JSON,
        problems=(404, 409),
    ),
    Endpoint(
        *("GET", _GENOME, reading.genome, READ, GenomeResult),
        (given.NUMBER, given.NAME, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    Endpoint(
        "PUT",
        _GENOME,
        changing.put_genome,
        SUBMIT,
        SubmissionAnswer,
        (given.NUMBER, given.NAME, given.DIGEST, given.PARAMS),
        bytes,
        BYTES,
        (200, 201),
        (404, 409, 422),
    ),
    Endpoint(
        *("DELETE", _GENOME, changing.cancel, SUBMIT, None),
        (given.NUMBER, given.NAME),
        statuses=(204,),
        problems=(404, 409),
    ),
    Endpoint(
        *("GET", f"{_GENERATION}/settled", reading.settled, READ, GenomePage),
        (given.NUMBER, given.AFTER, given.SETTLED_LIMIT, given.WAIT_S),
        problems=(404,),
    ),
    *(
        Endpoint(
            "POST", f"{_GENERATION}/{word}", handler, scope, GenerationStatus, (given.NUMBER,), problems=(404, 409)
        )
        for word, handler, scope in (
            ("close", changing.close, SUBMIT),
            ("stop", changing.stop, CONTROL),
            ("reopen-failed", changing.reopen_failed, CONTROL),
        )
    ),
    Endpoint(
        *("GET", "/explain", reading.explain, READ, reading.Explanation),
        (given.WHAT, given.GENERATION),
        problems=(404,),
    ),
    Endpoint(
        *("GET", "/events", reading.events, READ, EventPage),
        (given.EVENTS_AFTER, given.LIMIT, given.WAIT_S, given.LAST_EVENT),
        streams=EVENT_STREAM,
    ),
)
