"""Requests over HTTP that cannot be understood: each has an answer that says what is wrong, and changes nothing."""

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import GENOME_BYTES_MAX, HttpFarm, http_farm, opened, problem

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

JSON = {"Content-Type": "application/json"}
GENOME = {"name": "a.json", "content": base64.b64encode(b"{}").decode()}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    project = FarmProject(tmp_path_factory.mktemp("bad") / "farm")
    project.configure(workers=1)
    with http_farm(project.root) as farm:
        yield farm


@pytest.fixture(scope="module")
def number(farm: HttpFarm) -> int:
    """An open generation."""
    with farm.client() as client:
        return opened(client)


@pytest.fixture
def client(farm: HttpFarm) -> Iterator[httpx.Client]:
    with farm.client() as client:
        yield client
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"genomes": 1}',
        b"{}",
        b'{"genomes": [{}]}',
        b'{"genomes": [], "more": 1}',
        b'{"genomes": [{"name": "a", "content": "not base64!"}]}',
        b'{"genomes": [{"name": "a", "content": 7}]}',
        b'{"genomes": [{"name": 7, "content": ""}]}',
        b'{"genomes": [{"name": "a", "content": "", "params": {"a": []}}]}',
        b"\xff\xfe{}",
        b'{"genomes": [{"name": "\xff", "content": ""}]}',
        b'{"genomes": [{"name": "\\ud800", "content": ""}]}',
        b"[" * 100_000,
        b'{"genomes":' + b'[{"params":' * 50_000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_body_that_is_no_batch_is_refused(client: httpx.Client, number: int, body: bytes) -> None:
    answer = client.post(f"/generations/{number}/genomes", content=body, headers=JSON)
    assert problem(answer) == (400, "bad-input")
    assert answer.json()["detail"].startswith("the body: ")


def test_batch_of_too_many_genomes_is_refused(client: httpx.Client, number: int) -> None:
    """None of them is stored; as many as are allowed are answered."""
    many = [{**GENOME, "name": f"g{each}.json"} for each in range(1001)]
    path = f"/generations/{number}/genomes"
    assert problem(client.post(path, json={"genomes": many})) == (400, "bad-input")
    assert client.get(f"{path}/g0.json").status_code == 404
    assert len(client.post(path, json={"genomes": many[:1000]}).json()["answers"]) == 1000


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"number": 0}', b'{"number": 1000000000}', b'{"number": "7"}', b'{"number": 1.5}', b'{"no": 1}', b"7"],
)
def test_generation_that_cannot_be_is_not_opened(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/generations", content=body, headers={**JSON, "Idempotency-Key": "k"})
    assert problem(answer) == (400, "bad-input")


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "\xff"])
def test_key_that_cannot_be_used_is_refused(client: httpx.Client, key: str) -> None:
    answer = client.post("/generations", json={}, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert problem(answer) == (400, "bad-input")


@pytest.mark.parametrize(
    "query",
    [
        *("after=-1", "after=x", "after=1.0", "after=", "after=99999999999999999999", "after=%D9%A3", "after=+1"),
        *("limit=0", "limit=1001", "limit=1&limit=2", "unknown=5", "wait_s=1", "token=x"),
    ],
)
def test_parameter_that_does_not_fit_is_refused(client: httpx.Client, number: int, query: str) -> None:
    """It is named."""
    answer = client.get(f"/generations/{number}/genomes?{query}")
    assert problem(answer) == (400, "bad-input")
    assert query.partition("=")[0] in answer.json()["detail"] or "twice" in answer.json()["detail"]


@pytest.mark.parametrize("wait_s", ["-1", "31", "nan", "inf", "1e9", "x", "1_0", ""])
def test_wait_that_does_not_fit_is_refused(client: httpx.Client, number: int, wait_s: str) -> None:
    answer = client.get(f"/generations/{number}/settled", params={"wait_s": wait_s})
    assert problem(answer) == (400, "bad-input")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "1e3", "1000000000", "%31", "07x", "%00", "9" * 500])
def test_number_of_generation_that_cannot_be_is_refused(client: httpx.Client, number: str) -> None:
    """Also one that is encoded: it is matched as it was sent."""
    for method, path in (("GET", ""), ("GET", "/genomes"), ("POST", "/stop"), ("DELETE", "/genomes/a.json")):
        assert problem(client.request(method, f"/generations/{number}{path}")) == (400, "bad-input")


@pytest.mark.parametrize("what", ["", "x" * 1001])
def test_question_that_is_empty_or_long_is_refused(client: httpx.Client, what: str) -> None:
    assert problem(client.get("/explain", params={"what": what})) == (400, "bad-input")
    assert problem(client.get("/explain")) == (400, "bad-input")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_body_of_another_type_is_refused(client: httpx.Client, number: int, kind: str) -> None:
    """Forms of web pages are, too: a browser sends them to other sites unasked."""
    headers = {"Content-Type": kind} if kind else {}
    content = json.dumps({"genomes": [GENOME]}).encode()
    answer = client.post(f"/generations/{number}/genomes", content=content, headers=headers)
    assert problem(answer) == (415, "media-type")
    if kind:
        answer = client.put(f"/generations/{number}/genomes/b.json", content=b"{}", headers=headers)
        assert problem(answer) == (415, "media-type")


def test_type_may_have_parameters(client: httpx.Client, number: int) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post(f"/generations/{number}/genomes", content=b'{"genomes": []}', headers=headers).status_code == 200


@pytest.mark.parametrize("size", [8 * 2**20 + 1, 20 * 2**20])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_batch_that_is_too_large_is_refused(client: httpx.Client, number: int, size: int, is_chunked: bool) -> None:
    """The client gets the answer although it is still sending, and can go on."""
    parts = (b" " * 65536 for _ in range(size // 65536 + 1))
    content = parts if is_chunked else b" " * size
    answer = client.post(f"/generations/{number}/genomes", content=content, headers=JSON)
    assert problem(answer) == (413, "too-large")
    assert "more than 8388608 bytes" in answer.json()["detail"]


def test_genome_that_is_too_large_is_refused(client: httpx.Client, number: int) -> None:
    """As large as is allowed, it is taken."""
    path = f"/generations/{number}/genomes/large.json"
    assert problem(client.put(path, content=b" " * (GENOME_BYTES_MAX + 1))) == (413, "too-large")
    assert client.put(path, content=b"{}".ljust(GENOME_BYTES_MAX)).status_code == 201


def test_empty_genome_is_refused(client: httpx.Client, number: int) -> None:
    assert problem(client.put(f"/generations/{number}/genomes/empty.json", content=b"")) == (422, "genome-refused")


@pytest.mark.parametrize("path", ["close", "stop", "reopen-failed"])
def test_body_where_none_is_expected_is_ignored_up_to_a_limit(client: httpx.Client, path: str) -> None:
    assert problem(client.post(f"/generations/999/{path}", json={})) == (404, "not-found")
    assert problem(client.post(f"/generations/999/{path}", content=b" " * 5000)) == (413, "too-large")


@pytest.mark.parametrize(
    "digest", ["", "x", "sha-256=x", "sha-256=::", "sha-256=:AAAA:", "md5=:AAAA:", "sha-256=:" + "!" * 44 + ":"]
)
def test_digest_that_is_none_is_refused(client: httpx.Client, number: int, digest: str) -> None:
    answer = client.put(f"/generations/{number}/genomes/d.json", content=b"{}", headers={"Content-Digest": digest})
    assert problem(answer) == (400, "bad-input")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/project", {"GET", "HEAD"}),
        ("PUT", "/generations", {"GET", "HEAD", "POST"}),
        ("GET", "/generations/1/close", {"POST"}),
        ("OPTIONS", "/generations/1/genomes/a.json", {"GET", "HEAD", "PUT", "DELETE"}),
        ("TRACE", "/health", {"GET", "HEAD"}),
    ],
)
def test_other_methods_are_refused(client: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    answer = client.request(method, path)
    assert problem(answer) == (405, "method")
    assert set(answer.headers["allow"].split(", ")) == allowed
