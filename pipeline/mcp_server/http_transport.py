"""The server of clients on this computer over streamable HTTP.

Owns: who is answered. Only on a loopback address, only with the token, and only by names of this computer, so that no
page of a browser reaches it (DNS rebinding).
"""

import contextlib
import hmac
import logging
import re
import socket
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.errors import InputError

PATH = "/mcp"
TOKEN_CHARS_MIN = 16
SESSIONS_MAX = 32
SESSION_IDLE_S = 1800.0
_CONNECTIONS_MAX = 128
_BODY_BYTES_MAX = 4 * 1024 * 1024
_STOP_LIMIT_S = 3
_NAMES = ("127.0.0.1", "localhost", "[::1]")


class HttpServing:
    """Serves on a loopback address until `stop` is called.

    Raises:
        InputError: the token is too weak, or the address cannot be used.
    """

    def __init__(self, server: Server[Any], host: str, port: int, token: str) -> None:
        if not re.fullmatch(rf"[\w.~+/=-]{{{TOKEN_CHARS_MIN},}}", token, re.ASCII):
            raise InputError(
                f"the token: at least {TOKEN_CHARS_MIN} letters, digits and -._~+/= are needed, nothing else"
            )
        # It logs each refused request, with the text of the header.
        logging.getLogger("mcp.server.transport_security").setLevel(logging.ERROR)
        self._listener = _listener(host, port)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._listener.getsockname()[1]}{PATH}"
        app = server.streamable_http_app(
            streamable_http_path=PATH,
            max_request_body_size=_BODY_BYTES_MAX,
            max_sessions=SESSIONS_MAX,
            session_idle_timeout=SESSION_IDLE_S,
            transport_security=_only_this_computer(name),
            host=host,
        )
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                _WithToken(app, token),
                log_level="warning",
                access_log=False,
                ws="none",
                server_header=False,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_graceful_shutdown=_STOP_LIMIT_S,
            )
        )

    def stop(self) -> None:
        """Ends `run` within a few seconds. Also from a signal's handler."""
        self._uvicorn.should_exit = True

    def run(self) -> None:
        """Blocks until the end."""
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(self._listener):
            self._uvicorn.run(sockets=[self._listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"{host}:{port}: {error.strerror or error}; give another --port") from error


def _only_this_computer(name: str) -> TransportSecuritySettings:
    """Names in the headers Host and Origin that mean this server; no other site's does."""
    names = sorted({name, *_NAMES})
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{own}:*" for own in names],
        allowed_origins=[f"http://{own}:*" for own in names],
    )


class _WithToken:
    """Answers requests with the token, and refuses all others before their bodies are read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_allowed(Request(scope)):
            refusal = PlainTextResponse(
                "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`",
                401,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        return hmac.compare_digest(f"{scheme.capitalize()} {token.strip()}".encode(), self._expected)
