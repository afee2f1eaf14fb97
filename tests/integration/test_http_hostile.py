"""Hostile requests over HTTP: two meanings, no end, too many, too slow; each costs only its sender."""

import re
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from pipeline.http_api import guard
from pipeline.http_api.gate import GateLimits
from pipeline.http_api.request_body import BodyMemory
from pipeline.paths import ProjectPaths
from pipeline.ui import connections
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm, opened, problem, received
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CHUNK = b"1000\r\n" + b"x" * 4096 + b"\r\n"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    project = FarmProject(tmp_path_factory.mktemp("hostile") / "farm")
    project.configure(workers=1)
    with http_farm(project.root, bodies=BodyMemory(bytes_max=4 * 2**20, limit_s=1.0)) as farm:
        yield farm


@pytest.fixture(scope="module")
def number(farm: HttpFarm) -> int:
    """An open generation of which the host has made all folders."""
    with farm.client() as client:
        number = opened(client)
    assert eventually(ProjectPaths(farm.root).all_results.is_dir)
    return number


@pytest.fixture(autouse=True)
def still_serves(farm: HttpFarm) -> Iterator[None]:
    """After each attack."""
    yield
    with farm.client("read") as client:
        assert client.get("/project").status_code == 200


def statuses(answers: bytes) -> list[int]:
    """The status of each answer on a connection."""
    return [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d{3})", answers, re.MULTILINE) if found != b"100"]


# ------------------------------------------------------------------------------------------- bodies with two meanings


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "chunked", "Content-Length": "5"},
        {"Content-Length": "5, 6"},
        {"Content-Length": "+5"},
        {"Content-Length": "-5"},
        {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "xchunked"},
        {"Transfer-Encoding": "\x0bchunked"},
    ],
    ids=str,
)
def test_request_with_two_lengths_is_one_request(farm: HttpFarm, number: int, headers: dict[str, str]) -> None:
    """The bytes behind it are not taken for another request: the connection is closed."""
    smuggled = farm.head(f"POST /v1/generations/{number}/stop", Content_Length="0") + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    request = farm.head(f"PUT /v1/generations/{number}/genomes/s.json") + lines + b"\r\n0\r\n\r\n" + smuggled

    answers = statuses(farm.raw(request, 3.0))

    assert len(answers) <= 1 and all(status >= 400 for status in answers)
    with farm.client("read") as client:
        assert client.get(f"/generations/{number}").json()["state"] == "open"


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type", "Origin"])
def test_header_that_is_given_twice_is_refused(farm: HttpFarm, name: str) -> None:
    """Proxies and servers would choose different ones."""
    head = farm.head("GET /v1/project", Origin=farm.url, Content_Type="application/json")
    (line,) = re.findall(rb"^%s: .*\r\n" % name.encode(), head, re.MULTILINE)
    answers = farm.raw(head + line + b"Connection: close\r\n\r\n")
    assert statuses(answers) == [400]


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/project HTTP/9.9",
        b"GET  /v1/project HTTP/1.1",
        b"GET /v1/\x00project HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0",
        b"GET http://evil.example/v1/project HTTP/1.1",
        b"GET //evil.example/v1/project HTTP/1.1",
        b"GET /v1/../v1/project HTTP/1.1",
        b"GET /V1/project HTTP/1.1",
        b"GET /v1/./project HTTP/1.1",
        b"GET /v1//project HTTP/1.1",
        b"GET /%76%31/project HTTP/1.1",
    ],
)
def test_line_that_is_no_plain_path_is_refused(farm: HttpFarm, request_line: bytes) -> None:
    rest = farm.head("").partition(b"\r\n")[2]
    answers = farm.raw(request_line + b"\r\n" + rest + b"Connection: close\r\n\r\n", 3.0)
    assert [status for status in statuses(answers) if status < 400] == []


# --------------------------------------------------------------------------------------------------------------- names

NAMES = [
    *("..", ".", "..%2f..%2fpipeline.toml", "%2e%2e%2fpipeline.toml", "..%5cpipeline.toml", "%2Fetc%2Fpasswd"),
    *("a%00.json", "%0d%0aX-Injected:%201", "%1b%5b2J", "%e2%80%aegnp.exe", "%ff", "%ed%a0%80", "%c0%ae"),
    *("x" * 300, "%F0%9F%98%80" * 300, ".hidden", "~lock", "%20", "a%0a", "%7f"),
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:40])
def test_hostile_name_is_refused_and_makes_no_file(farm: HttpFarm, number: int, name: str) -> None:
    """In a path, and in a batch; looked for or withdrawn, it is not found."""
    before = files_of(farm.root)
    path = f"/v1/generations/{number}/genomes/{name}"
    answers = farm.raw(farm.head(f"PUT {path}", Content_Length="2", Connection="close") + b"\r\n{}")
    is_usable = name in ("~lock", "%20")
    assert statuses(answers)[0] in ((201, 400, 422) if is_usable else (400, 404, 422)), answers
    assert b"\r\nX-Injected" not in answers
    for method in ("GET", "DELETE"):
        if not is_usable:
            asked = farm.raw(farm.head(f"{method} {path}", Connection="close") + b"\r\n")
            assert statuses(asked)[0] in (400, 404), asked
    with farm.client() as client:
        text = unquote(name, errors="surrogateescape")
        if text.isprintable() and not is_usable:
            answer = client.post(
                f"/generations/{number}/genomes", json={"genomes": [{"name": text, "content": "e30="}]}
            )
            assert [each["state"] for each in answer.json()["answers"]] == ["refused"]
    if not is_usable:
        assert files_of(farm.root) == before


def files_of(root: Path) -> set[str]:
    """The files of the genomes, of the project, and beside it."""
    genomes = {path.as_posix() for path in (root / "genomes").rglob("*")}
    return genomes | {path.as_posix() for folder in (root, root.parent) for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------- without an end


@pytest.mark.parametrize("path", ["genomes", "close"])
def test_chunked_body_without_an_end_is_ended(farm: HttpFarm, number: int, path: str) -> None:
    """At its limit of bytes, and the connection is closed, however fast its sender is."""
    with socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S) as connection:
        head = farm.head(f"POST /v1/generations/{number + 100}/{path}", Transfer_Encoding="chunked")
        connection.sendall(head + b"Content-Type: application/json\r\n\r\n")
        sent = 0
        with pytest.raises(OSError):
            while sent < 200 * 2**20:
                connection.sendall(CHUNK * 16)
                sent += len(CHUNK) * 16
    assert sent < 150 * 2**20


def test_body_that_stalls_is_ended_in_time(farm: HttpFarm, number: int) -> None:
    """And its client gets an answer."""
    head = farm.head(f"POST /v1/generations/{number}/genomes", Content_Type="application/json", Content_Length="50")
    answers = farm.raw(head + b"\r\n{", 20.0)
    assert statuses(answers) == [408] and b"the body had no end after 1 bytes" in answers
    assert b"connection: close" in answers.lower()


def test_body_of_a_request_that_is_refused_is_not_waited_for(farm: HttpFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token no client can make the server read."""
    monkeypatch.setattr(guard, "_DISCARD_S", 0.2)
    head = farm.head("PUT /v1/generations/1/genomes/a.json", scope="", Content_Length=str(2**40))
    assert statuses(farm.raw(head + b"\r\n" + b"x" * 100_000, 20.0)) == [401]
    head = farm.head("GET /v1/health", scope="", Transfer_Encoding="chunked")
    assert statuses(farm.raw(head + b"\r\n" + CHUNK, 20.0)) == [200]


def test_bodies_of_all_requests_together_are_limited(tmp_path: Path) -> None:
    """Here to four times the largest one; later ones are refused with a time to come again."""
    project, memory = FarmProject(tmp_path / "farm"), BodyMemory(bytes_max=4 * 2**20)
    project.configure(workers=1)
    size, gate = 2**20, threading.Event()

    def parts() -> Iterator[bytes]:
        yield b"{}" + b" " * (size - 66_000)
        gate.wait(PATIENCE_S)
        yield b" " * 60_000

    def put(farm: HttpFarm, name: str, content: Iterator[bytes] | bytes) -> int:
        with farm.client() as client:
            return client.put(f"/generations/1/genomes/{name}", content=content).status_code

    with http_farm(project.root, bodies=memory) as farm, ThreadPoolExecutor(4) as threads:
        farm.operations.open_generation(1)
        farm.secret("control")  # made once, before the threads ask for it
        held = [threads.submit(put, farm, f"m{each}.json", parts()) for each in range(4)]
        assert eventually(lambda: memory.used >= 4 * (size - 66_000), PATIENCE_S)
        assert put(farm, "other.json", b" " * size) == 503
        gate.set()
        assert [one.result() for one in held] == [201] * 4
        assert put(farm, "other.json", b" " * size) == 201


def test_connection_without_a_request_is_closed(farm: HttpFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that drips its headers, and the second request of a connection."""
    monkeypatch.setattr(connections, "HEAD_LIMIT_S", 0.3)
    assert farm.raw(b"", 20.0) == b""
    assert farm.raw(b"GET /v1/health HTTP/1.1\r\nHost: 127", 20.0) == b""
    with socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S) as connection:
        connection.sendall(farm.head("GET /v1/health", scope="") + b"\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.sendall(b"GET /v1/hea")
        assert received(connection).count(b"HTTP/1.1") == 0


def test_large_headers_are_refused(farm: HttpFarm) -> None:
    head = farm.head("GET /v1/project", X_Large="x" * 100_000)
    assert [status for status in statuses(farm.raw(head + b"\r\n", 5.0)) if status < 400] == []


# ------------------------------------------------------------------------------------------------------------ too many


def test_idle_connections_do_not_keep_others_out(farm: HttpFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there may be replaces one that has no request."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 20)
    with ExitStack() as kept, farm.client("read") as client:
        for _ in range(60):
            kept.enter_context(socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S))
            assert client.get("/health").status_code == 200
        process = psutil.Process()

        def served() -> int:
            found = process.net_connections("tcp")
            return sum(each.laddr.port == farm.port and each.status == "ESTABLISHED" for each in found)

        assert eventually(lambda: served() <= 21)


def test_number_of_requests_at_once_is_limited(tmp_path: Path) -> None:
    """Requests beyond it are refused with a time to come again, and those before it are answered."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    with http_farm(project.root, limits=GateLimits(requests=2)) as farm:
        heads = farm.head("POST /v1/generations/1/close", Content_Length="2") + b"\r\n"
        with farm.client() as client, ExitStack() as kept:
            slow = [
                kept.enter_context(socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S))
                for _ in range(2)
            ]
            for connection in slow:
                connection.sendall(heads)
            assert eventually(lambda: client.get("/project").status_code == 503)
            refused = client.get("/project")
            assert problem(refused) == (503, "busy") and refused.headers["retry-after"] == "1"
            for connection in slow:
                connection.sendall(b"{}")
                assert connection.recv(12) == b"HTTP/1.1 404"
            assert eventually(lambda: client.get("/project").status_code == 200)


def test_client_that_leaves_early_costs_nothing(farm: HttpFarm, number: int) -> None:
    """In the middle of a body, of a long poll, and of a stream: the room that they took is free again."""
    for _ in range(30):
        for request in (
            farm.head(f"POST /v1/generations/{number}/genomes", Content_Length="500")
            + b"Content-Type: application/json\r\n\r\n{",
            farm.head(f"GET /v1/generations/{number}/settled?after=9999999&wait_s=30") + b"\r\n",
            farm.head("GET /v1/events", Accept="text/event-stream") + b"\r\n",
        ):
            with socket.create_connection(("127.0.0.1", farm.port), timeout=PATIENCE_S) as connection:
                connection.sendall(request)
    process = psutil.Process()

    def served() -> int:
        return sum(each.laddr.port == farm.port and each.status != "LISTEN" for each in process.net_connections("tcp"))

    assert eventually(lambda: served() <= 2), served()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module `resource`")
def test_ten_thousand_connections(farm: HttpFarm) -> None:
    """As many as this computer allows, opened one after another and never used."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard // 2 - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as kept, farm.client("read") as client:
            for each in range(count):
                connection = socket.socket()
                kept.callback(connection.close)
                connection.connect(("127.0.0.1", farm.port))
                if each % 1000 == 0:
                    assert client.get("/project").status_code == 200
            assert client.get("/project").status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
