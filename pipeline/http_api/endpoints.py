"""The table of requests: the one source of routing, scopes, the audit log and OpenAPI."""

from pipeline.control.operations import (
    ArtifactList,
    EventPage,
    GenerationPage,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    ProjectStatus,
    SubmissionAnswer,
    SubmissionAnswers,
    WorkerStatus,
)
from pipeline.core.access import AccessScope
from pipeline.http_api import changing, reading
from pipeline.http_api import parameters as given
from pipeline.http_api.call import BYTES, JSON
from pipeline.http_api.endpoint import ApiEndpoint
from pipeline.http_api.event_stream import MEDIA_TYPE as EVENT_STREAM

READ, SUBMIT, CONTROL = AccessScope.READ, AccessScope.SUBMIT, AccessScope.CONTROL

_GENERATION = "/generations/{number}"
_GENOMES, _GENOME = f"{_GENERATION}/genomes", f"{_GENERATION}/genomes/{{name}}"
_PAGE = (given.AFTER, given.LIMIT)
_ETAG = (given.IF_NONE_MATCH,)

ENDPOINTS = (
    ApiEndpoint("GET", "/health", reading.health, None, reading.Health),
    ApiEndpoint("GET", "/token", reading.token, READ, reading.TokenDescription),
    ApiEndpoint("GET", "/project", reading.project, READ, ProjectStatus, _ETAG, has_etag=True),
    ApiEndpoint("GET", "/generations", reading.generations, READ, GenerationPage, (*_PAGE, *_ETAG), has_etag=True),
    ApiEndpoint(
        "POST",
        "/generations",
        changing.open_generation,
        SUBMIT,
        GenerationStatus,
        (given.KEY,),
        changing.GenerationToOpen,
        JSON,
        (201,),
        (404, 409),
    ),
    ApiEndpoint(
        *("GET", _GENERATION, reading.generation, READ, GenerationStatus),
        (given.NUMBER, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    ApiEndpoint(
        *("GET", _GENOMES, reading.genomes, READ, GenomePage),
        (given.NUMBER, *_PAGE, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    ApiEndpoint(
        "POST",
        _GENOMES,
        changing.submit,
        SUBMIT,
        SubmissionAnswers,
        (given.NUMBER,),
        changing.GenomeBatch,
        JSON,
        problems=(404, 409),
    ),
    ApiEndpoint(
        *("GET", _GENOME, reading.genome, READ, GenomeResult),
        (given.NUMBER, given.NAME, *_ETAG),
        problems=(404,),
        has_etag=True,
    ),
    ApiEndpoint(
        *("GET", f"{_GENOME}/artifacts", reading.artifacts, READ, ArtifactList),
        (given.NUMBER, given.NAME),
        problems=(404,),
    ),
    ApiEndpoint(
        *("GET", f"{_GENOME}/artifacts/{{attempt}}/{{file}}", reading.artifact, READ, bytes),
        (given.NUMBER, given.NAME, given.ATTEMPT, given.FILE),
        problems=(404,),
    ),
    ApiEndpoint(
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
    ApiEndpoint(
        *("DELETE", _GENOME, changing.cancel, SUBMIT, None),
        (given.NUMBER, given.NAME),
        statuses=(204,),
        problems=(404, 409),
    ),
    ApiEndpoint(
        *("GET", f"{_GENERATION}/settled", reading.settled, READ, GenomePage),
        (given.NUMBER, given.AFTER, given.SETTLED_LIMIT, given.WAIT_S),
        problems=(404,),
    ),
    *(
        ApiEndpoint(
            "POST", f"{_GENERATION}/{word}", handler, scope, GenerationStatus, (given.NUMBER,), problems=(404, 409)
        )
        for word, handler, scope in (
            ("close", changing.close, SUBMIT),
            ("stop", changing.stop, CONTROL),
            ("reopen-failed", changing.reopen_failed, CONTROL),
        )
    ),
    *(
        ApiEndpoint(
            *("POST", f"/workers/{{worker}}/{word}", handler, CONTROL, WorkerStatus),
            (given.WORKER,),
            statuses=(202,),
            problems=(404, 409),
        )
        for word, handler in (
            ("drain", changing.drain_worker),
            ("return", changing.return_worker),
            ("restart", changing.restart_worker),
        )
    ),
    ApiEndpoint(
        *("GET", "/explain", reading.explain, READ, reading.Explanation),
        (given.WHAT, given.GENERATION),
        problems=(404,),
    ),
    ApiEndpoint(
        *("GET", "/events", reading.events, READ, EventPage),
        (given.EVENTS_AFTER, given.LIMIT, given.WAIT_S, given.LAST_EVENT),
        streams=EVENT_STREAM,
    ),
)
