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
#: After news, for each client: so many clients cost a few hundredths of a processor, however much happens.
POLL_PAUSE_S, STREAM_PAUSE_S = 0.02, 0.002
_LOOK_S = 0.5  #: for which a thread waits for a new fact
_PAUSE_STEP_S = 0.25  #: between two looks whether the server is ending
_FAILED_PAUSE_S = 1.0  #: after the ledger could not be read
_SHARED_MAX = 256  #: answers that several clients get

Answer = TypeVar("Answer")


class EventFeed:
    """The events of one project."""

    def __init__(self, operations: ReadOperations, is_ending: Callable[[], bool]) -> None:
        self._operations, self._is_ending = operations, is_ending
        self._threads = anyio.CapacityLimiter(1)
        self._waiting = 0
        self._pause_s = 0.0  #: after news
        self._reader: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None  #: has its result when there are new facts
        self._last = -1  #: the number of the latest fact that is known
        self._kept = deque[FarmEvent](maxlen=KEPT_MAX)
        self._kept_after = -1  #: every event after this fact is kept
        self._shared: dict[Hashable, asyncio.Future[Any]] = {}  #: answers since the latest fact

    @contextlib.contextmanager
    def waiting(self, pause_s: float) -> Iterator[None]:
        """Around a client that waits: meanwhile the ledger is followed. `pause_s`: how much it adds to the pause."""
        if self._reader is None or self._reader.done():
            self._last = -1
            self._reader = asyncio.create_task(self._follow())
        self._waiting += 1
        self._pause_s += pause_s
        try:
            yield
        finally:
            self._waiting -= 1
            self._pause_s -= pause_s

    def has_seen_all(self, fact: int) -> bool:
        """Whether a client that has seen this fact has seen all that waiting clients were notified of."""
        return 0 <= self._last <= fact

    def mark(self) -> "asyncio.Future[None]":
        """What `beyond` waits for: whatever happens after this call."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    async def beyond(self, mark: "asyncio.Future[None]", within_s: float, *others: "asyncio.Future[None]") -> None:
        """Waits for a fact that is newer than the mark, for this time, or for another end. In `waiting`."""
        await asyncio.wait((mark, *others), timeout=max(0.0, within_s), return_when=asyncio.FIRST_COMPLETED)

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
        """Tells waiting clients of new facts, less often if there are many."""
        self._kept_after = -1
        self._kept.clear()
        while self._waiting and not self._is_ending():
            try:
                if await self._has_news():
                    self._notify()
                    await self._pause(self._pause_s)
            except PipelineError:  # the ledger cannot be read now
                await self._pause(_FAILED_PAUSE_S)
        self._notify()

    async def _pause(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left_s := until - clock()) > 0 and self._waiting and not self._is_ending():
            await asyncio.sleep(min(left_s, _PAUSE_STEP_S))

    async def _has_news(self) -> bool:
        """Waits for new facts for a while, and reads their events."""
        last = await self._ask(partial(self._operations.wait_for_fact, self._last, _LOOK_S))
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
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)
