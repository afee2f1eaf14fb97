"""The requests that read. Each handler names one operation."""

from msgspec import Struct
from starlette.responses import Response, StreamingResponse

from inbox_agent.identity import agent_version
from inbox_agent.protocol.layout import ARTIFACT_BYTES_MAX
from pipeline.control.operations import EventPage, GenomePage
from pipeline.core.access import AccessScope
from pipeline.http_api import parameters
from pipeline.http_api.call import BYTES, ApiCall
from pipeline.http_api.event_stream import MEDIA_TYPE, EventStream
from pipeline.http_api.long_poll import long_poll
from pipeline.storage.event_log import iso_time


class Health(Struct, frozen=True, kw_only=True):
    """That the server runs."""

    status: str
    version: str  #: of this program


class Explanation(Struct, frozen=True, kw_only=True):
    """Why something is where it is."""

    what: str
    text: str  #: some lines


class TokenDescription(Struct, frozen=True, kw_only=True):
    """The token of the request."""

    name: str
    scope: AccessScope  #: what it may do
    expires_at: str | None  #: UTC, ISO 8601; None: it does not expire


async def health(call: ApiCall) -> Response:
    """Whether the server runs; for load balancers and clients with several servers."""
    return call.answer(Health(status="ok", version=agent_version()))


async def token(call: ApiCall) -> Response:
    """Which token the request has, and what it may do."""
    record = call.token
    assert record is not None  # it has a scope, so a valid token was needed
    expires_at = None if record.expires_at is None else iso_time(record.expires_at)
    return call.answer(TokenDescription(name=record.name, scope=record.scope, expires_at=expires_at))


async def project(call: ApiCall) -> Response:
    """The project, its workers and its latest generation."""
    return call.known_answer(await call.read(call.reading.project))


async def generations(call: ApiCall) -> Response:
    """The generations that were begun."""
    after, limit = call.arguments.whole(parameters.AFTER), call.arguments.whole(parameters.LIMIT)
    return call.known_answer(await call.read(lambda: call.reading.generations(after=after, limit=limit)))


async def generation(call: ApiCall) -> Response:
    """One generation in numbers."""
    number = call.number()
    return call.known_answer(await call.read(lambda: call.reading.generation(number)))


async def genomes(call: ApiCall) -> Response:
    """The genomes of a generation, in the order in which they joined."""
    number = call.number()
    after, limit = call.arguments.whole(parameters.AFTER), call.arguments.whole(parameters.LIMIT)
    return call.known_answer(await call.read(lambda: call.reading.genomes(number, after=after, limit=limit)))


async def genome(call: ApiCall) -> Response:
    """One genome, also one that waits."""
    number, name = call.number(), call.arguments.name()
    return call.known_answer(await call.read(lambda: call.reading.genome(number, name)))


async def artifacts(call: ApiCall) -> Response:
    """The files that the games of a genome have left, of the attempts that decided its trials."""
    number, name = call.number(), call.arguments.name()
    return call.answer(await call.read(lambda: call.reading.artifacts(number, name)))


async def artifact(call: ApiCall) -> Response:
    """The bytes of an artifact, which a game has chosen: to be saved, not to be shown."""
    number, name = call.number(), call.arguments.name()
    attempt, file = call.arguments.attempt(), call.arguments.file()
    found = await call.read(lambda: call.reading.artifacts(number, name))
    size_bytes = next((each.size_bytes for each in found.items if (each.attempt, each.name) == (attempt, file)), 0)
    call.body.take(size_bytes, ARTIFACT_BYTES_MAX)
    data = await call.read(lambda: call.reading.artifact(number, name, attempt, file, bytes_max=size_bytes))
    return Response(data, media_type=BYTES, headers={"Content-Disposition": f'attachment; filename="{file}"'})


async def settled(call: ApiCall) -> Response:
    """The genomes that were settled after a fact, in the order in which that happened; waits for the first one."""
    number = call.number()
    after, limit = call.arguments.whole(parameters.AFTER), call.arguments.whole(parameters.SETTLED_LIMIT)

    async def read(after: int) -> GenomePage:
        return await call.read(lambda: call.reading.settled(number, after=after, limit=limit))

    return await long_poll(call, after, ("settled", number, limit), read)


async def explain(call: ApiCall) -> Response:
    """Why a genome, an attempt or a worker is where it is."""
    what, number = call.arguments.text(parameters.WHAT), call.arguments.optional_whole(parameters.GENERATION)
    text = await call.read(lambda: call.reading.explain(what, number))
    return call.answer(Explanation(what=what, text=text))


async def events(call: ApiCall) -> Response:
    """What happened after a fact; waits for it. With `Accept: text/event-stream` as server-sent events, without an end.

    A stream begins after `Last-Event-ID`, or else after `after`.
    """
    after, limit = call.arguments.whole(parameters.EVENTS_AFTER), call.arguments.whole(parameters.LIMIT)
    last = call.arguments.optional_whole(parameters.LAST_EVENT)

    async def read(after: int, limit: int) -> EventPage:
        return await call.read(lambda: call.reading.events(after=after, limit=limit))

    if MEDIA_TYPE not in call.request.headers.get("accept", ""):
        return await long_poll(call, after, ("events", limit), lambda after: read(after, limit))
    first = await read(after if last is None else last, limit)
    return StreamingResponse(EventStream(call.feed, read, call.is_over).lines(first), media_type=MEDIA_TYPE)
