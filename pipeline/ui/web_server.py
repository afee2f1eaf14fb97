"""`pipeline serve`: the web server for the live page of a project and its metrics. Reads only.

Owns: access control. On loopback: every user of this computer, unless a token was given; elsewhere: users with the
token. Only by this computer's own names, and elsewhere by addresses. The content security policy limits the page.
"""

import asyncio
import contextlib
import ipaddress
import re
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
from pipeline.errors import InputError, PipelineError
from pipeline.inspection.current_reader import CurrentReader
from pipeline.inspection.metrics_reader import MetricsReader
from pipeline.inspection.page_data import page_data
from pipeline.inspection.project_reader import no_run_error
from pipeline.ui.html import live_page, page_part, plotly
from pipeline.ui.metrics_text import CONTENT_TYPE, metrics_text

INTERVAL_S = 1.0
PAGE_TIME_FRACTION_MAX = 0.1  #: of one processor is spent on making pages, however many browsers ask for them
TOKEN_CHARS_MIN = 16
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
        self._current = CurrentReader(root)
        self._current.get()  # raises if this is no project, or its ledger cannot be read
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
        except PipelineError as error:
            return PlainTextResponse(str(error), 503)

    def _answer(self, generation: str | None) -> Response:
        reader = self._current.get()
        if reader is None:
            raise no_run_error(self._root)
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
        with contextlib.suppress(PipelineError):  # it may be readable again at the next event
            if (reader := self._current.get()) is not None:
                latest = reader.latest()
                playing = latest and reader.is_playing(latest)
                return orjson.dumps({"facts": reader.facts, "progress": reader.progress(latest) if playing else None})
        return orjson.dumps({"facts": 0, "progress": None})


class Metrics:
    """The route of a project's metrics, for a scraper."""

    def __init__(self, root: Path) -> None:
        self._reader = MetricsReader(root)
        self._lock = asyncio.Lock()  # another one than the page's: a page may take longer than a scraper waits
        self._made: tuple[bytes, float] = (b"", 0.0)  #: the answer, and until when it is given again

    def routes(self) -> list[Route]:
        """The routes of the application."""
        return [Route("/metrics", self._metrics)]

    async def _metrics(self, _request: Request) -> Response:
        async with self._lock:
            return await run_in_threadpool(self._answer)

    def _answer(self) -> Response:
        text, fresh_until = self._made
        if time.monotonic() >= fresh_until:
            begun = time.thread_time()
            found = self._reader.read()
            if isinstance(found, str):
                return PlainTextResponse(f"{found}\n", 503)
            text = metrics_text(found)
            took_s = time.thread_time() - begun
            self._made = (text, time.monotonic() + took_s / PAGE_TIME_FRACTION_MAX)
        return Response(text, media_type=CONTENT_TYPE)


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


def _bearer_in(header: str | None) -> str | None:
    """The token in an Authorization header; None if there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


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
        tokens = (request.cookies.get(COOKIE), _bearer_in(request.headers.get("authorization")))
        if self._token is None or any(map(self._is, tokens)):
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


def make_app(root: Path, page: Page, host: str, token: str | None) -> Starlette:
    """The ASGI application with its access control."""
    middleware = [Middleware(_Guard, host=host, token=token)]
    return Starlette(routes=[*page.routes(), *Metrics(root).routes()], middleware=middleware)


def serve(root: Path, host: str, port: int, token: str, say: Callable[[str], None]) -> None:
    """Serves until Ctrl-C. If `token` is empty, one is made where it is needed, and said once.

    Raises:
        InputError: this is no project, the token is too weak, or the address cannot be used.
        LedgerError: the ledger is damaged, or of another version.
    """
    if token and not re.fullmatch(rf"[\w.~+/=-]{{{TOKEN_CHARS_MIN},}}", token, re.ASCII):
        raise InputError(f"the token: at least {TOKEN_CHARS_MIN} letters, digits and -._~+/= are needed, nothing else")
    made = "" if token or is_loopback(host) else secrets.token_urlsafe(24)
    page = Page(root)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{host or 'no host'}:{port}: {reason}; give another --port or --host") from error
    say(f"http://{url_host(host)}:{port}/" + (f"?token={made}" if made else ""))
    if not is_loopback(host):
        say("not encrypted: only for a network that you trust; better: ssh -L to this computer's loopback")
    app = make_app(root, page, host, token or made or None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    page.ending = lambda: server.should_exit
    with contextlib.suppress(KeyboardInterrupt):  # the way to stop it
        server.run(sockets=[listener])
