"""The connections of a server, by uvicorn: how many, how long each may take, and its end.

Owns: limits of a connection. A client that sends no request, or does not read its answer, is cut off; one more
connection than there may be replaces one that has no request.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import InputError
from pipeline.ui.server_certificate import ServerCertificate

CONNECTIONS_MAX = 512
HEAD_BYTES_MAX = 32 * 1024  #: of a request's line and headers
HEAD_LIMIT_S = 10.0  #: for these, from the connection on
KEEP_ALIVE_S = 15
UNREAD_LIMIT_S = 30.0  #: that a client may leave an answer unread
_SHUTDOWN_LIMIT_S = 5


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS_MAX)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{host or 'no host'}:{port}: {reason}; give another --port or --host") from error


class WebServer:
    """Serves an application until it is stopped."""

    def __init__(self, app: ASGIApp, certificate: ServerCertificate | None, is_ending: Callable[[], bool]) -> None:
        """Creates it; without a certificate it does not speak TLS.

        Args:
            is_ending: it ends gracefully when this is true: requests are answered, streams end.
        """
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # no proxy is expected, and a client could choose its address
                limit_concurrency=4 * CONNECTIONS_MAX,  # those that are being cut off count until then
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_LIMIT_S,
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
            ),
            certificate,
            is_ending,
        )

    def run(self, listener: socket.socket) -> None:
        """Serves until it is to end. Signals are the caller's."""
        self._server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Leaves signals alone: what else the process has open must be closed, too."""

    def __init__(
        self, config: uvicorn.Config, certificate: ServerCertificate | None, is_ending: Callable[[], bool]
    ) -> None:
        super().__init__(config)
        self._certificate, self._is_ending = certificate, is_ending

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; is called every 0.1 s."""
        self.should_exit = self.should_exit or self._is_ending()
        if self._certificate is not None:
            self._certificate.look()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield


class _Connection(H11Protocol):
    """A connection with deadlines."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # an answer is written in parts; without this each waits 40 ms for the acknowledgement of the one before
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._cut_without_request)
        self._made_at = self.loop.time()
        if len(self.connections) > CONNECTIONS_MAX:
            idle = [each for each in self.connections if _waits_for_request(each) and not each.transport.is_closing()]
            # those that never had a request go first: a client may be about to use another one again
            min(idle, key=lambda each: (each.cycle is not None, each._made_at), default=self).transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(UNREAD_LIMIT_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP. A request that was being read or answered ends as if its client were gone."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        super().send_400_response(msg)

    def handle_events(self) -> None:
        super().handle_events()
        if not _waits_for_request(self) and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if _waits_for_request(self) and self._head_timer is None and not self.transport.is_closing():
            # the next request of a connection that is kept has begun: its head has a deadline, too
            self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._cut_without_request)

    def _cut_without_request(self) -> None:
        self._head_timer = None
        if _waits_for_request(self):
            self.transport.abort()


def _waits_for_request(connection: Any) -> bool:
    """Whether it has no request that is not answered."""
    return connection.cycle is None or bool(connection.cycle.response_complete)
