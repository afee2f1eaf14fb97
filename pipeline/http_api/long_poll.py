"""Long polls: requests that are answered when there is something, or when their time to wait is over.

Owns: a client that waits holds no thread and does nothing until there are new facts; clients that ask the same get one
answer, which is read and encoded once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pipeline.control.operations import EventPage, GenomePage
from pipeline.http_api import parameters
from pipeline.http_api.call import JSON, ApiCall
from pipeline.http_api.event_feed import POLL_PAUSE_S

Page = EventPage | GenomePage


@dataclass(frozen=True, slots=True)
class _Answer:
    """What clients that ask the same get."""

    has_items: bool
    next: int
    data: bytes  #: the page as JSON


async def long_poll(call: ApiCall, after: int, key: Hashable, read: Callable[[int], Awaitable[Page]]) -> Response:
    """The page after a fact when it has items, or what it is when the time to wait is over.

    Args:
        key: equal for clients that ask the same.
    """
    wait_s = call.arguments.seconds(parameters.WAIT_S)
    if not wait_s:
        return call.answer(await read(after))
    feed, clock = call.feed, asyncio.get_running_loop().time
    until, gone = clock() + wait_s, asyncio.create_task(_disconnected(call.request))
    try:
        with feed.waiting(POLL_PAUSE_S):
            if feed.has_seen_all(after):
                await feed.beyond(feed.mark(), wait_s, gone)
            while True:
                mark = feed.mark()
                answer = await feed.shared((key, after), partial(_answer, read, after))
                if answer.has_items or gone.done() or clock() >= until or call.is_over():
                    return Response(answer.data, media_type=JSON)
                after = answer.next
                await feed.beyond(mark, until - clock(), gone)
    finally:
        gone.cancel()


async def _answer(read: Callable[[int], Awaitable[Page]], after: int) -> _Answer:
    page = await read(after)
    return _Answer(bool(page.items), after if page.next is None else page.next, msgspec.json.encode(page))


async def _disconnected(request: Request) -> None:
    """Ends when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
