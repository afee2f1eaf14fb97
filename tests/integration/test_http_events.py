"""Events over HTTP: pages, and streams that begin where the client stopped; a slow client costs nothing."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import psutil
import pytest

from pipeline.core.facts import WorkerUnfit
from pipeline.http_api import event_stream, gate
from pipeline.http_api.gate import GateLimits
from pipeline.storage.ledger import Ledger
from pipeline.ui import connections
from tests.harness.farm_project import FarmProject, games
from tests.harness.http_farm import HttpFarm, http_farm, opened, problem, received
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FarmProject:
    """Generation 1 is finished."""
    project = FarmProject(tmp_path_factory.mktemp("events") / "farm")
    project.configure(workers=2)
    project.add_genomes(games(5))
    code, out = project.run()
    assert code == 0, out
    return project


@pytest.fixture(scope="module")
def farm(project: FarmProject) -> Iterator[HttpFarm]:
    with http_farm(project.root, limits=GateLimits(streams=5)) as farm:
        yield farm


@pytest.fixture
def client(farm: HttpFarm) -> Iterator[httpx.Client]:
    with farm.client("control") as client:
        yield client


@contextmanager
def stream(client: httpx.Client, **options: Any) -> Iterator[Iterator[dict[str, str]]]:
    """The events of a stream, as their fields; a comment is the field ``."""
    headers = {**STREAM, **options.pop("headers", {})}
    with client.stream("GET", "/events", headers=headers, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _parsed(answer.iter_lines())


def _parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


def pages(client: httpx.Client, limit: int) -> list[dict[str, Any]]:
    """All events so far."""
    found, after = list[dict[str, Any]](), 0
    while page := client.get("/events", params={"after": after, "limit": limit}).json():
        found += page["items"]
        if not page["items"]:
            break
        after = page["next"]
    return found


def test_pages_and_streams_have_the_same_events(client: httpx.Client) -> None:
    """Oldest first, with rising numbers; the id is the number, the event is the kind, the data is the event."""
    expected = pages(client, 100)
    assert pages(client, 3) == expected and len(expected) > 5
    numbers = [event["number"] for event in expected]
    assert numbers == sorted(set(numbers))
    with stream(client) as events:
        assert next(events).keys() == {""}
        for event in expected:
            fields = next(events)
            assert json.loads(fields["data"]) == event
            assert (fields["id"], fields["event"]) == (str(event["number"]), event["kind"])


def test_stream_resumes_after_last_event(client: httpx.Client) -> None:
    """Last-Event-ID counts more than the URL, which a browser does not change when it connects again."""
    expected = [event["number"] for event in pages(client, 100)]
    with stream(client, headers={"Last-Event-ID": str(expected[2])}, params={"after": 0}) as events:
        next(events)
        assert [int(next(events)["id"]) for _ in expected[3:]] == expected[3:]


def test_negative_number_begins_at_the_end(client: httpx.Client) -> None:
    last = pages(client, 100)[-1]
    page = client.get("/events", params={"after": -1, "limit": 1}).json()
    assert page["next"] >= last["number"] and len(page["items"]) <= 1


def test_stream_goes_on_with_what_happens(client: httpx.Client) -> None:
    last = client.get("/events", params={"after": -1}).json()["next"]
    with stream(client, params={"after": last}) as events:
        next(events)
        number = opened(client)
        assert json.loads(next(events)["data"])["generation"] == number
        client.post(f"/generations/{number}/stop")


def test_long_poll_of_events_waits(client: httpx.Client) -> None:
    last = client.get("/events", params={"after": -1}).json()["next"]
    begun = time.monotonic()
    assert client.get("/events", params={"after": last, "wait_s": 0.5}).json()["items"] == []
    assert time.monotonic() - begun > 0.4


def test_quiet_stream_has_heartbeats(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, by which a client notices a broken connection."""
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.2)
    last = client.get("/events", params={"after": -1}).json()["next"]
    with stream(client, params={"after": last}) as events:
        assert [next(events).keys() for _ in range(3)] == [{""}] * 3


def test_number_of_streams_is_limited(client: httpx.Client) -> None:
    """One more is refused, other requests are answered, and a stream that ends makes room."""
    with ExitStack() as streams:
        kept = [streams.enter_context(stream(client)) for _ in range(5)]
        assert all(next(events).keys() == {""} for events in kept)
        refused = client.get("/events", headers=STREAM)
        assert problem(refused) == (503, "busy") and refused.headers["retry-after"] == "1"
        assert client.get("/project").status_code == 200
    assert eventually(lambda: client.get("/events").status_code == 200)


def test_stream_of_revoked_token_ends(farm: HttpFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(gate, "_LOOK_S", 0.2)
    with farm.client("submit") as client, stream(client) as events:
        next(events)
        farm.tokens.revoke("submit")
        assert eventually(lambda: next(events, None) is None, every_s=0)


def test_streams_end_with_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """They do not hold it up."""
    other = FarmProject(tmp_path_factory.mktemp("ending") / "farm")
    other.configure(workers=1)
    with ExitStack() as clients:
        with http_farm(other.root, control=False) as farm:
            client = clients.enter_context(farm.client("read"))
            events = clients.enter_context(stream(client))
            next(events)
            begun = time.monotonic()
        assert time.monotonic() - begun < 4.0
        assert list(events) == []


def test_client_that_does_not_read_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves unread is not kept for it: it can read the events from the ledger later."""
    monkeypatch.setattr(connections, "UNREAD_LIMIT_S", 1.0)
    long = FarmProject(tmp_path_factory.mktemp("long") / "farm")
    long.configure(workers=1)
    ledger = Ledger(long.root / "state")
    for _ in range(80):
        ledger.append([WorkerUnfit(worker="local-0", reason="x" * 200)] * 1000, time.time(), 1, 1)
    ledger.close()
    with http_farm(long.root, control=False) as farm:
        with socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S) as slow:
            slow.sendall(farm.head("GET /v1/events", "read", Accept="text/event-stream") + b"\r\n")
            assert slow.recv(15) == b"HTTP/1.1 200 OK"
            before, peer, process = psutil.Process().memory_info().rss, slow.getsockname(), psutil.Process()

            def is_connected() -> bool:
                found = process.net_connections("tcp")
                return any(each.raddr == peer and each.status == "ESTABLISHED" for each in found)

            assert is_connected()
            assert eventually(lambda: not is_connected(), every_s=0.1)
            assert process.memory_info().rss - before < 100 * 2**20
            assert b"id: 80000\n" not in received(slow)
        with farm.client("read") as client, stream(client, params={"after": 79_998}) as events:
            next(events)
            assert next(events)["id"] == "79999"
