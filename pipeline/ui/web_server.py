"""`pipeline serve`: the web server for the live page of a project. Reads only.

Owns: access control. On loopback: every user of this computer; elsewhere: users with the token. Only by this computer's
own names, and elsewhere by addresses. The content security policy limits the page.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.core.runs import parse_generation
from pipeline.errors import InputError
from pipeline.inspection.page_data import page_data
from pipeline.inspection.project_reader import ProjectReader
from pipeline.ui.html import live_page, page_part, plotly

INTERVAL_S = 1.0
PAGE_TIME_FRACTION_MAX = 0.1  #: of one processor is spent on making pages, however many browsers ask for them
COOKIE = "pipeline-token"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def url_host(host: str) -> str:
    """The host part of the URL for a listening address."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return socket.gethostname()
        return f"[{host}]" if address.version == 6 else host
    return host


class Page:
    """The routes and data of one project's page."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reader = ProjectReader(root)
        self._plotly = plotly()
        self._lock = asyncio.Lock()  # one thread at a time reads the ledger
        self._made: dict[int, tuple[bytes, float]] = {}  #: page of a generation, and until when it is not made again
        self.ending: Callable[[], bool] = lambda: False  #: whether event streams are to end

    def routes(self) -> list[Route]:
        """The routes of the application."""
        return [
            Route("/", lambda _request: HTMLResponse(live_page())),
            Route("/page.css", lambda _request: Response(page_part("page.css"), media_type="text/css")),
            Route("/page.js", lambda _request: Response(page_part("page.js"), media_type="text/javascript")),
            Route("/plotly.js", lambda _request: Response(self._plotly, media_type="text/javascript")),
            Route("/data", self._data),
            Route("/events", self._events),
        ]

    async def _data(self, request: Request) -> Response:
        generation = request.query_params.get("gen")
        try:
            async with self._lock:
                return await run_in_threadpool(self._answer, generation)
        except InputError as error:
            return PlainTextResponse(str(error), 404)

    def _answer(self, generation: str | None) -> Response:
        reader = self._reader
        shown = reader.choose(parse_generation(generation) if generation else None)
        data, fresh_until = self._made.get(shown, (b"", 0.0))
        if time.monotonic() >= fresh_until:
            begun = time.thread_time()
            data = orjson.dumps({**page_data(reader, shown), "generations": reader.generations()})
            took_s = time.thread_time() - begun
            self._made = {shown: (data, time.monotonic() + took_s / PAGE_TIME_FRACTION_MAX)}
        return Response(data, media_type="application/json")

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(request), media_type="text/event-stream")

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        while not (self.ending() or await request.is_disconnected()):
            async with self._lock:
                status = await run_in_threadpool(self._now)
            yield b"event: progress\ndata: " + status + b"\n\n"
            await asyncio.sleep(INTERVAL_S)

    def _now(self) -> bytes:
        reader = self._reader
        latest = reader.latest()
        playing = latest and reader.is_playing(latest)
        return orjson.dumps({"facts": reader.facts, "progress": reader.progress(latest) if playing else None})


def is_own_name(name: str, host: str) -> bool:
    """Whether a name in a request means this server, which listens on the address `host`: no other site's does.

    Such a name may resolve to this computer (DNS rebinding). An address is not resolved at all.
    """
    if not name:
        return False
    if name in ("localhost", "127.0.0.1", "::1", host.lower()):
        return True
    if is_loopback(host):
        return False
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    own = socket.gethostname().lower().partition(".")[0]
    return name.partition(".")[0] == own  # also with a domain


def _name_in(header: str | None) -> str:
    """The name in a Host header, in lower case and without the port; empty if there is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{header or ''}").hostname or ""
    return ""


class _Guard:
    """Refuses requests by foreign names, and without the token, if there is one; adds the security headers to every
    response.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app, self._host, self._token = app, host, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_with_policy)

    def _refusal(self, request: Request) -> Response | None:
        if not is_own_name(_name_in(request.headers.get("host")), self._host):
            return PlainTextResponse("not a name of this computer; open the page by its address, a number", 400)
        if self._token is None or self._is(request.cookies.get(COOKIE)):
            return None
        if self._is(request.query_params.get("token")):  # once in the URL, then in a cookie that no script can read
            answer = RedirectResponse("/", status_code=303)  # not to a path of the request: `//host/` is elsewhere
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        return PlainTextResponse(
            "the token is missing or wrong; open the address that `pipeline serve` printed at its start", 401
        )

    def _is(self, token: str | None) -> bool:
        return token is not None and secrets.compare_digest(token.encode(), (self._token or "").encode())


def make_app(page: Page, host: str, token: str | None) -> Starlette:
    """The ASGI application with its access control."""
    middleware = [Middleware(_Guard, host=host, token=token)]
    return Starlette(routes=page.routes(), middleware=middleware)


def serve(root: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves until Ctrl-C. Raises InputError: nothing to show, or the address cannot be used; LedgerError."""
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    page = Page(root)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{host or 'no host'}:{port}: {reason}; give another --port or --host") from error
    say(f"http://{url_host(host)}:{port}/" + (f"?token={token}" if token else ""))
    if token is not None:
        say("not encrypted: only for a network that you trust; better: ssh -L to this computer's loopback")
    server = uvicorn.Server(uvicorn.Config(make_app(page, host, token), log_level="warning", access_log=False))
    page.ending = lambda: server.should_exit
    with contextlib.suppress(KeyboardInterrupt):  # the way to stop it
        server.run(sockets=[listener])
