"""The server of one client that started this process: messages are lines on standard input and output.

Owns: the end. It comes when the client closes standard input or no longer reads, and at a signal. The library reads
standard input in a thread that cannot be interrupted, so that a signal would wait for the client's next line; here the
thread is a daemon.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, BinaryIO, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

LINE_BYTES_MAX = 4 * 1024 * 1024  #: of a message; a longer one is dropped and logged

log = logging.getLogger(__name__)


class StdioServing:
    """Serves until the client leaves or `stop` is called."""

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        self._stopped = False
        self._cancel: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Ends `run`; calls that change something are finished first. Also from a signal's handler."""
        self._stopped = True
        self._cancel()

    def run(self) -> None:
        """Blocks until the end."""
        anyio.run(self._serve)

    async def _serve(self) -> None:
        with anyio.CancelScope() as scope, _taken_stdin() as lines:
            self._cancel = _later(scope.cancel)
            if self._stopped:
                return
            sending, receiving = anyio.create_memory_object_stream[str](0)
            token = anyio.lowlevel.current_token()
            threading.Thread(target=_read, args=(lines, sending, token), name="mcp-stdin", daemon=True).start()
            try:
                await self._answer(receiving)
            except* (OSError, anyio.BrokenResourceError):  # the client has left without closing standard input first
                pass

    async def _answer(self, receiving: MemoryObjectReceiveStream[str]) -> None:
        # The library only iterates over what it takes for a file. It keeps standard output for messages alone:
        # whatever else is printed goes to standard error.
        stdin = cast("anyio.AsyncFile[str]", _Lines(receiving))
        async with stdio_server(stdin=stdin) as (reading, writing):
            await self._server.run(reading, writing, self._server.create_initialization_options())


class _Lines:
    """The client's lines, for the library."""

    def __init__(self, receiving: MemoryObjectReceiveStream[str]) -> None:
        self._receiving = receiving

    async def __aiter__(self) -> AsyncIterator[str]:
        async with self._receiving:
            async for line in self._receiving:
                yield line


def _later(call: Callable[[], None]) -> Callable[[], None]:
    """A function for a signal's handler, which wakes the event loop."""
    loop = asyncio.get_running_loop()

    def soon() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(call)

    return soon


@contextlib.contextmanager
def _taken_stdin() -> Iterator[BinaryIO]:
    """Standard input for the messages; programs that this one starts get an empty one."""
    taken = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0, inheritable=sys.platform != "win32")
        yield os.fdopen(taken, "rb", closefd=False)  # the thread may still read it when this program ends
    finally:
        os.close(nothing)


def _read(lines: BinaryIO, sending: MemoryObjectSendStream[str], token: Any) -> None:
    """Hands over each line when the one before was taken."""
    with contextlib.suppress(OSError, RuntimeError, anyio.BrokenResourceError):  # the event loop has ended
        for line in _bounded(lines):
            anyio.from_thread.run(sending.send, line, token=token)
        anyio.from_thread.run(sending.aclose, token=token)


def _bounded(lines: BinaryIO) -> Iterator[str]:
    """Lines, without those that are too long."""
    while line := lines.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX:
            yield line.decode(errors="replace")
            continue
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = lines.readline(LINE_BYTES_MAX)
        log.warning("a message of more than %d bytes was dropped; submit fewer genomes in one call", LINE_BYTES_MAX)
