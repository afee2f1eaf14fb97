"""One server: requests that are sent again while that may help, and their answers as checked values.

Owns: when a request is tried again, which answers are nonsense. Threads: any may ask.
Not here: the rule of the pauses (`retry`), connections (`http_connections`).
"""

import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

import msgspec

from pipeline.errors import FarmClosed, RemoteError
from pipeline.remote.http_connections import ANSWER_BYTES_MAX, HttpConnections, Reply, Unreachable
from pipeline.remote.problems import error_of, is_own_answer, problem_of, said
from pipeline.remote.retry import AWAY, Patience, is_transient, retry_after_s
from pipeline.remote.server_url import ServerUrl

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 60.0  #: for a request and its answer, without what is uploaded or waited for
HEALTH_LIMIT_S = 5.0
_BYTES_PER_S = 2**16  #: of an upload or download that is waited for

T = TypeVar("T")
_THREE_TRIES = Patience()


class _Health(msgspec.Struct, frozen=True):
    status: str


class Server:
    """A server at one URL."""

    def __init__(self, url: ServerUrl, connections: HttpConnections, closed: threading.Event) -> None:
        """`closed` ends all waiting."""
        self.url = url
        self._connections, self._closed = connections, closed
        self._random = random.SystemRandom()
        self.losses = 0  #: rises when it does not answer: it may have been started again since

    def __repr__(self) -> str:
        return f"Server({self.url})"

    def ask(
        self,
        kind: type[T],
        method: str,
        *path: object,
        query: Mapping[str, object] | None = None,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        patience: Patience = _THREE_TRIES,
        wait_s: float = 0.0,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """The answer to a request, decoded; of the kind `bytes` as it is.

        Args:
            wait_s: how long the server may wait before it answers.
            bytes_max: of the answer.

        Raises:
            RemoteError: it cannot be reached, refuses the token, or answers nonsense.
            InputError, GenomeError, NotFoundError, ConflictError: it refuses the request.
            FarmClosed: the connection was closed meanwhile.
        """
        download_bytes = bytes_max if kind is bytes else 0
        limit_s = ANSWER_LIMIT_S + wait_s + (len(body) + download_bytes) / _BYTES_PER_S
        url = self.url.at(*path, query=query)
        reply = self._tried(method, url, limit_s, body, [*headers], patience, bytes_max)
        if not 200 <= reply.status < 300:
            raise error_of(reply.status, problem_of(reply.status, reply.body), self.url)
        if kind is type(None):
            return None
        if kind is bytes:
            return cast(T, reply.body)
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self.nonsense(f"{method} {'/'.join(map(str, path))}: {said(str(error))}") from None

    def nonsense(self, what: str) -> RemoteError:
        """The error for an answer that no server of this package gives."""
        return RemoteError(f"{self.url}: its answer cannot be used: {what}; is it a server of this program?")

    def problem(self) -> str:
        """Why it cannot be used now; empty: it can."""
        try:
            reply = self._connections.request("GET", self.url.at("health"), HEALTH_LIMIT_S)
        except Unreachable as error:
            return str(error)
        except RemoteError as error:
            return str(error).removeprefix(f"{self.url}: ")
        if reply.status != 200:
            return problem_of(reply.status, reply.body)
        try:
            status = msgspec.json.decode(reply.body, type=_Health).status
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "its answer cannot be used; is it a server of this program?"
        return "" if status == "ok" else said(status)

    def abort(self) -> None:
        """Ends its requests, also in other threads, once its waiting was ended."""
        self._connections.abort()

    def close(self) -> None:
        """Closes its connections; there must be no request any more."""
        self._connections.close()

    def _tried(
        self,
        method: str,
        url: str,
        limit_s: float,
        body: bytes,
        headers: list[tuple[str, str]],
        patience: Patience,
        bytes_max: int,
    ) -> Reply:
        failures, since = 0, time.monotonic()
        while not self._closed.is_set():
            asked_s = None
            try:
                reply = self._connections.request(method, url, limit_s, body, headers, bytes_max)
                if not is_transient(reply.status):
                    return reply
                reason, asked_s = problem_of(reply.status, reply.body), retry_after_s(reply.retry_after)
                is_away, is_lost = reply.status in AWAY, not is_own_answer(reply.body)
            except Unreachable as error:
                reason, is_away, is_lost = str(error), True, True
            self.losses += is_away and is_lost
            failures += 1
            if not is_away and patience.tries_max is None:  # it answers: there is no room yet, which may last
                failures, since = 1, time.monotonic()
            pause_s = patience.pause_s(failures, time.monotonic() - since, self._random.random(), asked_s)
            if pause_s is None:
                tried = f"{failures} tries" if patience.tries_max is not None else f"{patience.away_s_max:g} s"
                raise RemoteError(f"{self.url}: no answer in {tried}: {reason}; look whether the server runs")
            log.debug("%s: %s; trying again in %.1f s", self.url, reason, pause_s)
            self._closed.wait(pause_s)
        raise FarmClosed("the connection to the farm was closed; connect again")
