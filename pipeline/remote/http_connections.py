"""One HTTP request and its answer, within a deadline and a size: httpcore, whose connections have a deadline here.

Owns: what a request sends, TLS, that nothing that a server does takes longer or needs more memory than allowed.
Not here: retries (`server`). Redirects, cookies, proxies, compression: httpcore has none, unlike httpx above it.
"""

import contextlib
import math
import ssl
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore2

from pipeline.errors import InputError, RemoteError
from pipeline.remote.name_lookup import NameLookups
from pipeline.remote.server_url import ServerUrl

ANSWER_BYTES_MAX = 32 * 2**20
CONNECT_LIMIT_S = 10.0
#: Below the 5 s after which uvicorn closes a connection that is idle.
_IDLE_S = 4.0
_CONNECTIONS_MAX = 8
_LOOKUPS = NameLookups()
_PIECE_BYTES = 2**16  #: of a body; each is sent within the deadline


class Unreachable(Exception):
    """There was no complete answer; says why. The server may have carried out the request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    retry_after: str | None


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies names and certificates: with the system's authorities, or those of a file only. Raises InputError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"ca_file {ca_file}: {reason}; give a file of certificates in PEM form") from None


class HttpConnections:
    """The connections to one server. Any thread may request."""

    def __init__(self, url: ServerUrl, tls: ssl.SSLContext | None, token: str) -> None:
        """`tls` is None for a server on this computer. `token` may be empty."""
        self._url, self._token = url, token
        self._backend = _DeadlineBackend()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls,
            max_connections=_CONNECTIONS_MAX,
            keepalive_expiry=_IDLE_S,
            network_backend=self._backend,
        )

    def __repr__(self) -> str:
        """Without the token."""
        return f"HttpConnections({self._url})"

    def request(
        self,
        method: str,
        url: str,
        limit_s: float,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Reply:
        """The answer to a request, if it is complete within `limit_s`.

        Raises:
            Unreachable: it is not; the same request may succeed later.
            RemoteError: the answer is too large, or the server's certificate is refused.
        """
        sent = [("Accept", "application/json"), ("Accept-Encoding", "identity"), *headers]
        if self._token:
            sent.append(("Authorization", f"Bearer {self._token}"))
        if body or method in ("POST", "PUT"):
            sent.append(("Content-Length", str(len(body))))
        pieces = (body[start : start + _PIECE_BYTES] for start in range(0, len(body), _PIECE_BYTES))
        with self._backend.deadline(limit_s), self._errors(limit_s):
            limits = {"connect": CONNECT_LIMIT_S, "read": limit_s, "write": limit_s, "pool": limit_s}
            with self._pool.stream(
                method, url, headers=sent, content=pieces if body else None, extensions={"timeout": limits}
            ) as answer:
                return Reply(answer.status, self._body(answer, bytes_max), _header(answer, b"retry-after"))

    def abort(self) -> None:
        """Ends what other threads request: they raise Unreachable."""
        self._backend.shut_down()

    def close(self) -> None:
        """Closes the connections; no thread may be requesting."""
        self._pool.close()

    def _body(self, answer: httpcore2.Response, bytes_max: int) -> bytes:
        found = bytearray()
        for piece in answer.iter_stream():
            found += piece
            if len(found) > bytes_max:
                raise RemoteError(f"{self._url}: an answer has more than {bytes_max} bytes; is it the right URL?")
        return bytes(found)

    @contextlib.contextmanager
    def _errors(self, limit_s: float) -> Iterator[None]:
        try:
            yield
        except httpcore2.TimeoutException:
            raise Unreachable(f"no answer within {limit_s:g} s") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            if refused := _certificate_problem(error):
                reason = f"its certificate is refused: {refused}"
                raise RemoteError(f"{self._url}: {reason}; give its authority as ca_file, or correct it") from None
            raise Unreachable(str(error) or type(error).__name__) from None
        except OSError as error:  # closed in another thread
            raise Unreachable(error.strerror or type(error).__name__) from None


def _header(answer: httpcore2.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), None)


def _certificate_problem(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return ""


class _DeadlineBackend(httpcore2.SyncBackend):
    """Makes connections whose every read and write ends at the deadline of the request in its thread.

    The limits of httpcore hold for each read: a server that sends one byte now and then would be read for hours.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._streams = weakref.WeakSet[_DeadlineStream]()
        self._lock = threading.Lock()
        self._is_shut_down = False

    @contextlib.contextmanager
    def deadline(self, limit_s: float) -> Iterator[None]:
        """Requests of this thread end so many seconds from now."""
        self._own.ends = time.monotonic() + limit_s
        try:
            yield
        finally:
            self._own.ends = math.inf

    def left_s(self, timeout: float | None) -> float:
        """What is left of a limit. Raises ReadTimeout: nothing is."""
        left_s: float = getattr(self._own, "ends", math.inf) - time.monotonic()
        if left_s <= 0:
            raise httpcore2.ReadTimeout("the deadline is over")
        return left_s if timeout is None else min(left_s, timeout)

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        ends = time.monotonic() + self.left_s(timeout)
        try:
            addresses = _LOOKUPS.addresses(host, port, self.left_s(timeout), lambda: self._is_shut_down)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ConnectError(f"{host}: {error.strerror or error}") from error
        failure: Exception = httpcore2.ConnectTimeout(f"no connection to {host}")
        for tried, address in enumerate(addresses):
            share_s = (ends - time.monotonic()) / (len(addresses) - tried)  # one that is silent leaves time for others
            if share_s <= 0:
                break
            try:
                stream = _DeadlineStream(super().connect_tcp(address, port, share_s, *args, **kwargs), self)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
                continue
            self.keep(stream)
            return stream
        raise failure

    def keep(self, stream: "_DeadlineStream") -> None:
        """Remembers a connection for `shut_down`."""
        with self._lock:
            self._streams.add(stream)
            if self._is_shut_down:
                stream.shut_down()

    def shut_down(self) -> None:
        """Ends all reads and writes, which other threads wait for."""
        with self._lock:
            self._is_shut_down = True
            for stream in self._streams:
                stream.shut_down()


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, backend: _DeadlineBackend) -> None:
        self._stream, self._backend = stream, backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left_s(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._backend.left_s(timeout))
        stream = _DeadlineStream(inner, self._backend)
        self._backend.keep(stream)
        return stream

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def shut_down(self) -> None:
        """Wakes the thread that reads or writes; it alone closes the connection."""
        with contextlib.suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(2)  # socket.SHUT_RDWR
