"""Programs elsewhere: the rate of genomes that they submit one by one over HTTP, and what it costs to watch.

The server is a process of its own, its clients are sockets of this one, on loopback and with connections that are kept.
A submitted genome is answered when it is on the disk, so that a client that waits for each answer has the disk's rate.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from bench.apart import ROOT, apart
from bench.farm import LOCAL
from bench.games import genome
from bench.rounds import ROUNDS, figure, in_turn, note
from bench.samples import NotMeasured, Samples, per_second
from bench.table import Row
from bench.targets import SUBMITS_PER_S, WATCHERS_PERCENT
from pipeline.core.access import AccessScope
from pipeline.paths import ProjectPaths
from pipeline.storage.token_store import TokenStore

CLIENTS = (1, 16, 64)
GENOME_BYTES = 200
WATCHERS, WATCHED_GAME_S, SETTLE_S, WAIT_S = 200, 5.0, 6.0, 20
READY_LIMIT_S = 30.0
TOKENS = 8  #: of all clients: one token may make 1,000 requests a second
GAMES = 20


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that runs, and the tokens of its clients."""

    process: psutil.Process
    port: int
    tokens: Sequence[str]

    def head(self, client: int, line: str, *fields: str) -> bytes:
        """The head of a request of one client."""
        token = self.tokens[client % len(self.tokens)]
        lines = [f"{line} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Authorization: Bearer {token}", *fields]
        return "".join(f"{each}\r\n" for each in (*lines, "")).encode()

    def cpu_s(self) -> float:
        """The processor time of the server, without its workers."""
        times = self.process.cpu_times()
        return times.user + times.system


def rows(place: Path, *, quick: bool) -> list[Row]:
    """Genomes per second of some clients, and the additional CPU time of a host that many clients watch."""
    seconds = 2.0 if quick else 5.0
    submits = {f"{n} submitting": partial(apart, submitted, place, clients=n, seconds=seconds) for n in CLIENTS}
    window_s = 10.0 if quick else 30.0
    watching = {
        kind: partial(apart, watched, place, kind=kind, clients=WATCHERS if kind else 0, seconds=window_s)
        for kind in ("", "stream", "events", "settled")
    }
    rates = in_turn(submits, 1 if quick else ROUNDS)
    costs = in_turn(watching, 1 if quick else ROUNDS)
    names = {"stream": "streams of events", "events": "long polls of events", "settled": "long polls of results"}
    one = rates[f"{CLIENTS[0]} submitting"]
    return [
        *(
            Row(
                what=f"genomes submitted one by one, {n} client{'s' if n > 1 else ''}",
                figure=figure(measured, "rate"),
                unit="/s",
                target=SUBMITS_PER_S.get(n),
                note=note(measured),
            )
            for n, measured in zip(CLIENTS, rates.values(), strict=True)
        ),
        *(
            Row(
                what=f"genomes submitted one by one, {n} clients",
                figure=figure(measured, "rate"),
                unit="/s",
                reference=figure(one, "rate"),
                against="one client",
                note=note(measured, one),
            )
            for n, measured in zip(CLIENTS[1:], [*rates.values()][1:], strict=True)
        ),
        *(
            Row(
                what=f"CPU that {WATCHERS} clients cost the host, {name}, a game each {WATCHED_GAME_S:g} s",
                figure=_difference(figure(costs[kind], "percent"), figure(costs[""], "percent")),
                unit="% of a core",
                target=WATCHERS_PERCENT,
                note=note(costs[kind], costs[""]),
            )
            for kind, name in names.items()
        ),
    ]


def _difference(more: Samples | None, less: Samples | None) -> Samples | None:
    if more is None or less is None:
        return None
    return Samples(tuple(max(0.0, one - other) for one, other in zip(more.values, less.values, strict=False)))


def submitted(folder: str, clients: int, seconds: float) -> dict[str, float]:
    """The rate of genomes that so many clients submit, each the next one when the one before is answered.

    Its one worker is busy, so the genomes wait in the store of the server.
    """
    with _server(Path(folder), nap_s=1000) as server:
        count = asyncio.run(_submit(server, clients, seconds))
    return {"rate": per_second(count, seconds)}


async def _submit(server: _Server, clients: int, seconds: float) -> int:
    ends = time.monotonic() + seconds

    async def submit(client: int) -> int:
        count = 0
        async with _connection(server) as (reader, writer):
            while time.monotonic() < ends:
                content = genome(f"nap {client}.{count}", 1, GENOME_BYTES)
                name = f"client-{client}-{count}.bin"
                line = f"PUT /v1/generations/1/genomes/{name}"
                writer.write(server.head(client, line, f"Content-Length: {len(content)}") + content)
                if await _status(reader) != 201:
                    raise NotMeasured("a genome was refused")
                count += 1
        return count

    return sum(await asyncio.gather(*map(submit, range(clients))))


def watched(folder: str, kind: str, clients: int, seconds: float) -> dict[str, float]:
    """The server's share of one core while so many clients watch one worker that plays games of some seconds."""
    with _server(Path(folder), nap_s=WATCHED_GAME_S) as server:
        return {"percent": asyncio.run(_watch(server, kind, clients, seconds))}


async def _watch(server: _Server, kind: str, clients: int, seconds: float) -> float:
    watch = {"": None, "stream": _stream, "events": partial(_poll, "/v1/events"), "settled": partial(_poll, _SETTLED)}
    watching = [asyncio.create_task(watch[kind](server, client)) for client in range(clients)]  # type: ignore[misc]
    await asyncio.sleep(SETTLE_S)
    begun, cpu_s = time.monotonic(), server.cpu_s()
    await asyncio.sleep(seconds)
    percent = 100 * (server.cpu_s() - cpu_s) / (time.monotonic() - begun)
    if any(task.done() for task in watching):
        raise NotMeasured("a client was refused")
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return percent


_SETTLED = "/v1/generations/1/settled"


async def _poll(path: str, server: _Server, client: int) -> None:
    after = 0
    async with _connection(server) as (reader, writer):
        while True:
            writer.write(server.head(client, f"GET {path}?after={after}&wait_s={WAIT_S}"))
            head, body = await _answer(reader)
            after = json.loads(body)["next"]
            if not head.startswith(b"HTTP/1.1 200"):
                return


async def _stream(server: _Server, client: int) -> None:
    async with _connection(server) as (reader, writer):
        writer.write(server.head(client, "GET /v1/events?after=0", "Accept: text/event-stream"))
        while await reader.read(65536):
            pass


@contextlib.asynccontextmanager
async def _connection(server: _Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    head, _body = await _answer(reader)
    return int(head.split(b" ", 2)[1])


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(int(length.partition(b":")[2]))


@contextlib.contextmanager
def _server(root: Path, nap_s: float) -> Iterator[_Server]:
    """A server whose generation 1 is open, with one worker and genomes for the time of the measurement."""
    (root / "pipeline.toml").write_text(f"[generation]\ntrials_per_genome = 1\n{LOCAL.format(workers=1)}")
    store = TokenStore(ProjectPaths(root))
    tokens = [store.make(f"client-{each}", AccessScope.SUBMIT, time.time(), None) for each in range(TOKENS)]
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    line = [sys.executable, "-m", "pipeline", "serve", "--control", "--root", str(root), "--port", str(port)]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        server = _Server(psutil.Process(process.pid), port, tokens)
        asyncio.run(_open(server, nap_s))
        yield server
    finally:
        process.terminate()
        process.wait()


async def _open(server: _Server, nap_s: float) -> None:
    until = time.monotonic() + READY_LIMIT_S
    while True:
        try:
            async with _connection(server) as (reader, writer):
                body = b'{"number": 1}'
                fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
                writer.write(server.head(0, "POST /v1/generations", *fields) + body)
                if await _status(reader) != 201:
                    raise NotMeasured("the generation could not be opened")
                for number in range(GAMES):
                    content = genome(f"nap {nap_s:g}", number)
                    path = f"/v1/generations/1/genomes/game-{number}.bin"
                    writer.write(server.head(0, f"PUT {path}", f"Content-Length: {len(content)}") + content)
                    await _status(reader)
                return
        except OSError:
            if time.monotonic() > until:
                raise NotMeasured("the server does not answer") from None
            await asyncio.sleep(0.1)
