"""`pipeline serve`: the web server for the live page of a project and its metrics. Reads only: what the page's controls
change, they ask of the interface below `/v1`, with a token of that.

Owns: access control. On loopback: every user of this computer, unless a token was given; elsewhere: users with the
token. Only by this computer's own names, and elsewhere by addresses. The content security policy limits the page.
Not here: connections and TLS (`connections`), which names are own ones (`own_names`).
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import orjson
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
from pipeline.ui.own_names import bearer_in, is_loopback, is_own_name, name_in

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


class Page:
    """The routes and data of one project's page."""

    def __init__(self, root: Path, *, has_control: bool = False) -> None:
        """Creates it; `has_control`: the interface beside it can change the project, so the page has controls.

        Raises:
            InputError: this is no project, or it cannot be read.
            LedgerError: the ledger is damaged, or of another version.
        """
        self._root, self._has_control = root, has_control
        self._current = CurrentReader(root)
        self._current.get()
        self._plotly = plotly()
        self._lock = asyncio.Lock()  # one thread at a time reads the ledger
        self._made: dict[int, tuple[bytes, float]] = {}  #: page of a generation, and until when it is not made again
        self.ending: Callable[[], bool] = lambda: False  #: whether event streams are to end

    def routes(self) -> list[Route]:
        """The routes of the application."""
        own = ("page", *(["control"] if self._has_control else []))
        return [
            Route("/", lambda _request: HTMLResponse(live_page(has_control=self._has_control))),
            *(_part(f"{name}.css", "text/css") for name in own),
            *(_part(f"{name}.js", "text/javascript") for name in own),
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


def _part(name: str, media_type: str) -> Route:
    """The route of a part of the page."""
    return Route(f"/{name}", lambda _request: Response(page_part(name), media_type=media_type))


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


class _Guard:
    """Refuses requests by foreign names, and without the token, if there is one; adds the security headers to every
    response.
    """

    def __init__(self, app: ASGIApp, host: str, names: Collection[str], token: str | None) -> None:
        self._app, self._host, self._names, self._token = app, host, names, token

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
        if not is_own_name(name_in(request.headers.get("host")), self._host, self._names):
            return PlainTextResponse("not a name of this computer; open the page by its address, a number", 400)
        tokens = (request.cookies.get(COOKIE), bearer_in(request.headers.get("authorization")))
        if self._token is None or any(map(self._is, tokens)):
            return None
        if self._is(request.query_params.get("token")):  # once in the URL, then in a cookie that no script can read
            answer = RedirectResponse("/", status_code=303)  # not to a path of the request: `//host/` is elsewhere
            is_encrypted = request.url.scheme == "https"
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", secure=is_encrypted)
            return answer
        return PlainTextResponse(
            "the token is missing or wrong; open the address that `pipeline serve` printed at its start", 401
        )

    def _is(self, token: str | None) -> bool:
        return token is not None and secrets.compare_digest(token.encode(), (self._token or "").encode())


def make_app(
    root: Path,
    page: Page,
    host: str,
    token: str | None,
    *,
    names: Collection[str] = (),
    interface: tuple[str, ASGIApp] | None = None,
) -> ASGIApp:
    """The ASGI application with its access control.

    Args:
        token: None: every client that reaches the address may look on.
        names: further names of this computer.
        interface: another application with access control of its own, and the path below which it answers.
    """
    middleware = [Middleware(_Guard, host=host, names=names, token=token)]
    site = Starlette(routes=[*page.routes(), *Metrics(root).routes()], middleware=middleware)
    if interface is None:
        return site
    path, below = f"{interface[0]}/".encode(), interface[1]

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        is_below = scope["type"] == "http" and scope["raw_path"].startswith(path)  # as it was sent, not decoded
        await (below if is_below else site)(scope, receive, send)

    return either


def page_token(token: str, host: str) -> str:
    """The token that the page needs: the given one, or a new one where others can reach it. Raises InputError."""
    if token and not re.fullmatch(rf"[\w.~+/=-]{{{TOKEN_CHARS_MIN},}}", token, re.ASCII):
        raise InputError(f"the token: at least {TOKEN_CHARS_MIN} letters, digits and -._~+/= are needed, nothing else")
    return token if token or is_loopback(host) else secrets.token_urlsafe(24)
