"""What every request must be before anything reads it: asked by an own name, from no other site, with one length.

Owns: the headers of every answer, and what becomes of a body that nothing has read.
"""

import asyncio
import contextlib
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.http_api.problems import Problem, bad_input, response_of
from pipeline.ui.connections import HEAD_BYTES_MAX
from pipeline.ui.own_names import is_own_name, is_same_origin, name_in

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DISCARDED_BYTES_MAX = 64 * 1024 * 1024  #: of a body that is refused, so that its client reads the answer
_DISCARD_S = 2.0
_ONCE = (b"host", b"authorization", b"content-length", b"transfer-encoding", b"content-type", b"origin")


class Guard:
    """Lets requests through to an application whose routes are matched with the path as it was sent, encoded."""

    def __init__(self, app: ASGIApp, host: str, names: Collection[str] = ()) -> None:
        """Creates it for a server that listens on the address `host` and has these other names."""
        self._app, self._host, self._names = app, host, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = _Body(scope, receive, send)
        try:
            self._check(scope)
        except Problem as problem:
            await response_of(problem)(scope, body.receive, body.send)
            return
        encoded = scope["raw_path"].decode("latin-1")
        await self._app({**scope, "path": encoded, "root_path": ""}, body.receive, body.send)

    def _check(self, scope: Scope) -> None:
        headers, names = Headers(scope=scope), [name for name, _value in scope["headers"]]
        if not is_own_name(name_in(headers.get("host")), self._host, self._names):
            reason = "not a name of this server; ask it by its address, or start it with --name"
            raise Problem(421, "foreign-host", reason)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES_MAX:
            raise Problem(431, "large-headers", f"the headers have more than {HEAD_BYTES_MAX} bytes; send less")
        if scope["http_version"] not in ("1.0", "1.1"):
            raise bad_input("this server speaks HTTP/1.1")
        for name in _ONCE:
            if names.count(name) > 1:
                raise bad_input(f"{name.decode()}: given twice; give it once")
        if "transfer-encoding" in headers and ("content-length" in headers or scope["http_version"] == "1.0"):
            raise bad_input("the body has two lengths: Content-Length and Transfer-Encoding; send one of them")
        if not is_same_origin(
            headers.get("origin"), scope["scheme"], headers.get("host"), headers.get("sec-fetch-site")
        ):
            raise Problem(403, "foreign-origin", "the request comes from a page of another site")


class _Body:
    """The body of a request on its way, and the answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._receive, self._send = receive, send
        self._is_left = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Message:
        """The next part."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._is_left = False  # also if the client is gone
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the answer. If the body has not been read, the connection is closed after it."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("Cache-Control", "no-store")
            if self._is_left:
                headers["Connection"] = "close"
        elif self._is_left and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _discard(self) -> None:
        """Reads on for a while: a client that is still sending would lose the answer if the connection were closed."""
        left = _DISCARDED_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_S):
                while self._is_left and left > 0:
                    left -= len((await self.receive()).get("body", b""))
