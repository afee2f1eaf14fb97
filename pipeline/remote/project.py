"""A project elsewhere that a program looks at: nothing is changed there.

Owns: what is asked for each view. Not here: the texts (`texts`), playing (`farm`).
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from inbox_agent.protocol.printable import escaped
from pipeline.control.operations import GenerationPage, GenerationStatus, GenomePage, GenomeResult, ProjectStatus
from pipeline.errors import InputError
from pipeline.remote.access import checked_token
from pipeline.remote.http_connections import HttpConnections, tls_context
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server
from pipeline.remote.server_url import server_url

PAGE_GENOMES = 500
_PAGE_GENERATIONS = 100
_THREE_TRIES = Patience()


class _Explanation(Struct, frozen=True):
    text: str


class RemoteProject:
    """A project on one server. Any thread may call. Everything raises RemoteError, and NotFoundError."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def status(self) -> ProjectStatus:
        """The project and its workers."""
        return self._server.ask(ProjectStatus, "GET", "project")

    def generation(self, number: int | None) -> GenerationStatus:
        """A generation; None: the one that was played last. Raises InputError: none was begun."""
        if number is None and (number := self.status().latest_generation) is None:
            raise InputError(f"{self._server.url}: no generation was begun there")
        return self._server.ask(GenerationStatus, "GET", "generations", number)

    def generations(self) -> Iterator[GenerationStatus]:
        """All generations that were begun."""
        after: int | None = 0
        while after is not None:
            query = {"after": after, "limit": _PAGE_GENERATIONS}
            page = self._server.ask(GenerationPage, "GET", "generations", query=query)
            if page.next is not None and page.next <= after:
                raise self._server.nonsense("the page of generations is another one")
            yield from page.items
            after = page.next

    def results(self, number: int) -> Iterator[GenomeResult]:
        """The genomes of a generation."""
        return genomes_of(self._server, number, _THREE_TRIES)

    def explain(self, what: str, number: int | None) -> str:
        """Why a genome, an attempt or a worker is where it is."""
        query: dict[str, object] = {"what": what} | ({} if number is None else {"generation": number})
        return escaped(self._server.ask(_Explanation, "GET", "explain", query=query).text)


@contextmanager
def look_on(url: str, token: str, ca_file: Path | None) -> Iterator[RemoteProject]:
    """A project to look at, until the block ends; as `connect`. Raises InputError, SecretError."""
    place = server_url(url)
    tls = tls_context(ca_file) if place.is_encrypted else None
    with closing(HttpConnections(place, tls, checked_token(token, Path.cwd()))) as connections:
        yield RemoteProject(Server(place, connections, threading.Event()))


def genomes_of(server: Server, number: int, patience: Patience) -> Iterator[GenomeResult]:
    """The genomes of a generation, as the server knows them."""
    after: int | None = 0
    while after is not None:
        query = {"after": after, "limit": PAGE_GENOMES}
        page = server.ask(GenomePage, "GET", "generations", number, "genomes", query=query, patience=patience)
        if page.generation != number or (page.next is not None and page.next <= after):
            raise server.nonsense("the page of genomes is another one")
        yield from page.items
        after = page.next
