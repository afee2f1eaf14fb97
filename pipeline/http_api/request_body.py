"""Reading the body of a request: its size, its time and the memory of all bodies together are limited.

Owns: these limits hold for every body, with a Content-Length, chunked, or without an end.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from pipeline.http_api.problems import Problem, busy

BODY_LIMIT_S = 30.0  #: for a body, and a second more for each `BODY_BYTES_PER_S_MIN`
BODY_BYTES_PER_S_MIN = 16 * 1024
BODIES_BYTES_MAX = 256 * 1024 * 1024  #: of all requests together; as large as the largest genome


@dataclass(slots=True)
class BodyMemory:
    """The memory that bodies take at present."""

    bytes_max: int = BODIES_BYTES_MAX
    limit_s: float = BODY_LIMIT_S
    used: int = field(default=0, init=False)

    @contextlib.contextmanager
    def share(self) -> Iterator["BodyShare"]:
        """The share of one request, which is given back after the block."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.used -= share.used


@dataclass(slots=True)
class BodyShare:
    """What one request takes."""

    memory: BodyMemory
    used: int = field(default=0, init=False)

    async def read(self, request: Request, bytes_max: int) -> bytes:
        """The whole body.

        Raises:
            Problem: it is too large, takes too long, or there is no memory for it now.
            ClientDisconnect: the client is gone.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > bytes_max:
            raise _too_large(bytes_max)
        chunks, begun = list[bytes](), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.memory.limit_s) as limit:
                async for chunk in request.stream():
                    self.take(len(chunk), bytes_max)
                    chunks.append(chunk)
                    limit.reschedule(begun + self.memory.limit_s + self.used / BODY_BYTES_PER_S_MIN)
        except TimeoutError:
            raise Problem(408, "timeout", f"the body had no end after {self.used} bytes; send it again") from None
        return b"".join(chunks)

    def take(self, size: int, bytes_max: int) -> None:
        """Takes memory, also for a large answer. Raises Problem: it is too large, or there is none now."""
        if self.used + size > bytes_max:
            raise _too_large(bytes_max)
        if self.memory.used + size > self.memory.bytes_max:
            raise busy("other requests take the memory for bodies; send it again")
        self.used += size
        self.memory.used += size


def _too_large(bytes_max: int) -> Problem:
    return Problem(413, "too-large", f"the body has more than {bytes_max} bytes, which is the limit; send less at once")
