"""The events of a project as server-sent events, for one client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from pipeline.control.operations import EventPage, FarmEvent
from pipeline.errors import PipelineError
from pipeline.http_api.event_feed import PAGE_EVENTS, STREAM_PAUSE_S, EventFeed

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0


class EventStream:
    """What one client is sent. It takes no more memory than a page of events, however slowly the client reads."""

    def __init__(
        self,
        feed: EventFeed,
        read: Callable[[int, int], Awaitable[EventPage]],
        is_over: Callable[[], bool],
    ) -> None:
        """Creates a stream.

        Args:
            read: the events after a fact, at most so many. It raises PipelineError.
            is_over: whether the stream is to end: the server ends, or the token is no longer valid.
        """
        self._feed, self._read, self._is_over = feed, read, is_over

    async def lines(self, first: EventPage) -> AsyncIterator[bytes]:
        """The stream, which begins with a page that was read. If the ledger cannot be read, it ends."""
        page, clock = first, asyncio.get_running_loop().time
        with self._feed.waiting(STREAM_PAUSE_S):
            mark, spoken_at = self._feed.mark(), clock()
            yield b": events of this project\n\n"
            while not self._is_over():
                if page.items:
                    yield b"".join(map(_encoded, page.items))
                    spoken_at = clock()
                else:
                    await self._feed.beyond(mark, spoken_at + HEARTBEAT_S - clock())
                    if clock() >= spoken_at + HEARTBEAT_S:
                        yield b":\n\n"
                        spoken_at = clock()
                mark, after = self._feed.mark(), page.next
                try:
                    page = self._feed.kept(after, PAGE_EVENTS) or await self._read(after, PAGE_EVENTS)
                except PipelineError:
                    return


def _encoded(event: FarmEvent) -> bytes:
    """An event; JSON has no line feeds outside of its strings, and none in them."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), msgspec.json.encode(event))
