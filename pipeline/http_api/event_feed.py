"""What happens in the project, read once for all clients that wait for it.

Owns: how waiting clients learn of new facts. One reader follows the ledger while any client waits, so that the cost
does not grow with their number. A client that reads slowly gets what it missed from the ledger: nothing is kept for it.
Threads: all methods belong to the server's event loop; the operations run in threads of their own.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread

from pipeline.control.operations import EventPage, FarmEvent, ReadOperations
from pipeline.errors import PipelineError

KEPT_MAX = 2000  #: events for clients that keep up
PAGE_EVENTS = 200  #: events that are sent to a client at a time
_LOOK_S = 0.05  #: between two looks
_PAUSE_PER_CLIENT_S = 0.005  #: after news, so that many clients cost no more than few
_FAILED_PAUSE_S = 1.0  #: after the ledger could not be read
_SHARED_MAX = 256  #: answers that several clients get

Answer = TypeVar("Answer")


class EventFeed:
    """The events of one project."""

    def __init__(self, operations: ReadOperations, is_ending: Callable[[], bool]) -> None:
        self._operations, self._is_ending = operations, is_ending
        self._threads = anyio.CapacityLimiter(1)
        self._waiting = 0
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  #: set, and replaced by a new one, when there are new facts
        self._last = -1  #: the number of the latest fact that is known
        self._kept = deque[FarmEvent](maxlen=KEPT_MAX)
        self._kept_after = -1  #: every event after this fact is kept
        self._shared: dict[Hashable, asyncio.Future[Any]] = {}  #: answers since the latest fact

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a client that waits: meanwhile the ledger is followed."""
        self._waiting += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._waiting -= 1

    def mark(self) -> asyncio.Event:
        """What `beyond` waits for: whatever happens after this call."""
        return self._changed

    async def beyond(self, mark: asyncio.Event, within_s: float) -> None:
        """Waits for a fact that is newer than the mark, or for this time. In `waiting`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, within_s)):
                await mark.wait()

    def kept(self, after: int, limit: int) -> EventPage | None:
        """The events after a fact, if all of them are kept."""
        if self._kept_after < 0 or not self._kept_after <= after:
            return None
        items = [event for event in self._kept if event.number > after][:limit]
        return EventPage(items=items, next=items[-1].number if items else max(after, self._last))

    async def shared(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to a question that clients ask alike, read once until there is a new fact. In `waiting`."""
        task = self._shared.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            if len(self._shared) >= _SHARED_MAX:
                self._shared.clear()
            task = self._shared[key] = asyncio.ensure_future(read())
        answer: Answer = await asyncio.shield(task)
        return answer

    async def _follow(self) -> None:
        """Looks for new facts while any client waits, less often for many clients."""
        self._last, self._kept_after = -1, -1
        self._kept.clear()
        while self._waiting and not self._is_ending():
            try:
                if await self._has_news():
                    self._notify()
                    await asyncio.sleep(self._waiting * _PAUSE_PER_CLIENT_S)
                await asyncio.sleep(_LOOK_S)
            except PipelineError:  # the ledger cannot be read now
                await asyncio.sleep(_FAILED_PAUSE_S)
        self._notify()

    async def _has_news(self) -> bool:
        """Reads the events since the last look."""
        last = await self._ask(self._operations.last_fact)
        if last == self._last:
            return False
        if self._last < 0 or last < self._last:  # the first look, or another ledger
            self._kept.clear()
            self._last = self._kept_after = last
            return True
        page = await self._ask(partial(self._operations.events, after=self._last, limit=KEPT_MAX // 2))
        for event in page.items:
            if len(self._kept) == KEPT_MAX:
                self._kept_after = self._kept[0].number
            self._kept.append(event)
        self._last = page.next
        return True

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        return await anyio.to_thread.run_sync(question, limiter=self._threads)

    def _notify(self) -> None:
        self._shared.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
