"""The servers of one connection: each is a farm of its own, with its own generations.

Owns: which server a generation is opened on. A generation stays there: its results are in that server's ledger. A new
one is opened on the next healthy server in turn; one with a number on the server that has it.
"""

import ssl
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.control.operations import GenerationState, GenerationStatus
from pipeline.errors import ConflictError, FarmClosed, InputError, NotFoundError, RemoteError
from pipeline.remote.http_connections import HttpConnections, tls_context
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server
from pipeline.remote.server_url import ServerUrl

_CLOSED_PAUSE_S = 0.05
_HEALTH_PAUSE_S = 1.0  #: between two looks at servers of which none is healthy


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and the token for it."""

    url: ServerUrl
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoteOpening:
    """A generation that was opened."""

    server: Server
    status: GenerationStatus


class Servers:
    """The servers, from `connect` to the end of its block."""

    def __init__(self, places: Sequence[Place], ca_file: Path | None, timeout_s: float) -> None:
        """Does not connect yet. Raises InputError: the file cannot be used."""
        needs_tls = ca_file is not None or any(place.url.is_encrypted for place in places)
        self._tls: ssl.SSLContext | None = tls_context(ca_file) if needs_tls else None
        self._tokens = {place.url: place.token for place in places}
        self.patience = Patience(tries_max=None, away_s_max=timeout_s)
        self._closed = threading.Event()
        self._all = [self.connected(url, self._closed) for url in self._tokens]
        self._turn = 0

    def connected(self, url: ServerUrl, closed: threading.Event) -> Server:
        """Connections of their own to a server; its waiting ends with the event."""
        return Server(url, HttpConnections(url, self._tls, self._tokens[url]), closed)

    @property
    def first(self) -> Server:
        """The server of which the project is shown before a generation is opened."""
        return self._all[0]

    def opened(self, number: int | None) -> RemoteOpening:
        """Opens a generation or resumes it; None: the next one of a server.

        Raises:
            ConflictError: another generation is played. InputError: several servers have this number.
            RemoteError: no server can be reached.
        """
        key = uuid.uuid4().hex
        if len(self._all) == 1:
            return self._opened_on(self._all[0], number, key)
        if number is not None and (holder := self._holder(number)) is not None:
            return self._opened_on(holder, number, key)
        return self._opened_in_turn(number, key)

    def has(self, number: int) -> bool:
        """Whether a server has a generation."""
        return self._holder(number) is not None

    def close(self) -> None:
        """Ends all requests. Any thread may call."""
        self._closed.set()
        for server in self._all:
            server.abort()
            server.close()

    def _opened_in_turn(self, number: int | None, key: str) -> RemoteOpening:
        ends = time.monotonic() + self.patience.away_s_max
        while True:
            problems, busy = list[str](), list[ConflictError]()
            for turn in range(self._turn, self._turn + len(self._all)):
                server = self._all[turn % len(self._all)]
                if problem := server.problem():
                    problems.append(f"{server.url}: {problem}")
                    continue
                try:
                    opened = self._opened_on(server, number, key)
                except ConflictError as error:  # it plays another one; this is its answer, so nothing was opened
                    busy.append(error)
                    continue
                self._turn = turn + 1
                return opened
            if busy:
                raise busy[0]
            if time.monotonic() >= ends:
                raise RemoteError("\n".join(("no server can be used; look whether they run", *problems)))
            if self._closed.wait(_HEALTH_PAUSE_S):
                raise FarmClosed("the connection to the farm was closed; connect again")

    def _opened_on(self, server: Server, number: int | None, key: str) -> RemoteOpening:
        status = open_on(server, number, key, self.patience)
        pause_s = _CLOSED_PAUSE_S
        while (
            status.state is GenerationState.CLOSED
        ):  # its program was killed at its end: it is played to the end first
            if self._closed.wait(pause_s):
                raise FarmClosed("the connection to the farm was closed; connect again")
            pause_s = min(2 * pause_s, _HEALTH_PAUSE_S)
            status = open_on(server, status.number, uuid.uuid4().hex, self.patience)
        return RemoteOpening(server, status)

    def _holder(self, number: int) -> Server | None:
        """The server that has a generation. All must answer: it may be on one that is away."""
        found = list[Server]()
        for server in self._all:
            try:
                server.ask(GenerationStatus, "GET", "generations", number, patience=self.patience)
            except NotFoundError:
                continue
            found.append(server)
        if len(found) > 1:
            where = " and ".join(str(server.url) for server in found)
            raise InputError(f"generation {number} is on {where}; connect to the server that is meant, alone")
        return found[0] if found else None


def open_on(server: Server, number: int | None, key: str, patience: Patience) -> GenerationStatus:
    """Opens a generation; the request may be repeated with the same key.

    With the key of an earlier request a generation that is finished is not opened again.
    """
    body = msgspec.json.encode({} if number is None else {"number": number})
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)]
    status = server.ask(GenerationStatus, "POST", "generations", body=body, headers=headers, patience=patience)
    if status.number < 1 or number not in (None, status.number):
        raise server.nonsense("it has opened another generation")
    return status
