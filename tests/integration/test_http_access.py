"""Who may use the HTTP interface: tokens and scopes, names and sites, rates."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.core.access import AccessScope
from pipeline.core.request_rate import RequestRate
from pipeline.http_api.endpoint import ApiEndpoint
from pipeline.http_api.endpoints import ENDPOINTS
from pipeline.http_api.gate import GateLimits
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm, problem
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

WITH_TOKEN = [endpoint for endpoint in ENDPOINTS if endpoint.scope is not None]
SCOPES = ("read", "submit", "control")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    project = FarmProject(tmp_path_factory.mktemp("access") / "farm")
    project.configure(workers=1)
    with http_farm(project.root) as farm:
        yield farm


def ask(client: httpx.Client, endpoint: ApiEndpoint, **options: object) -> httpx.Response:
    """A request for a generation that there is not."""
    path = endpoint.path.format(number=999, name="g.json", worker="vm-3", attempt="g0999", file="a.txt")
    if endpoint.body_type:
        options["content"] = b'{"number": 0}'
        options["headers"] = {"Content-Type": endpoint.body_type}
    return client.request(endpoint.method, path, **options)  # type: ignore[arg-type]


def test_health_needs_no_token_and_says_nothing_of_project(farm: HttpFarm) -> None:
    with farm.client("") as client:
        answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json().keys() == {"status", "version"} and answer.json()["status"] == "ok"
    assert farm.root.name not in answer.text


@pytest.mark.parametrize("endpoint", WITH_TOKEN, ids=lambda endpoint: endpoint.operation)
def test_every_other_request_needs_a_token(farm: HttpFarm, endpoint: ApiEndpoint) -> None:
    with farm.client("") as client:
        answer = ask(client, endpoint)
        assert problem(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="genome-pipeline"'


@pytest.mark.parametrize("endpoint", WITH_TOKEN, ids=lambda endpoint: endpoint.operation)
def test_token_of_smaller_scope_is_refused(farm: HttpFarm, endpoint: ApiEndpoint) -> None:
    """One of the scope and of larger ones is let in: then the request itself is looked at."""
    assert endpoint.scope is not None
    for scope in SCOPES:
        with farm.client(scope) as client:
            answer = ask(client, endpoint)
        is_enough = SCOPES.index(scope) >= SCOPES.index(endpoint.scope)
        assert (answer.status_code == 403) != is_enough
        if not is_enough:
            assert problem(answer) == (403, "forbidden")
            assert f"has the scope {scope}, and this needs {endpoint.scope}" in answer.json()["detail"]


@pytest.mark.parametrize("change", ["", "x", "Basic", "twice", "in the URL", "cookie"])
def test_wrong_token_is_refused(farm: HttpFarm, change: str) -> None:
    """A token counts only as it was made, in its header."""
    secret = farm.secret("read")
    headers = {
        "": {"Authorization": "Bearer"},
        "x": {"Authorization": f"Bearer {secret}x"},
        "Basic": {"Authorization": f"Basic {secret}"},
        "twice": {"Authorization": f"Bearer {secret}, Bearer {secret}"},
        "in the URL": {},
        "cookie": {"Cookie": f"pipeline-token={secret}"},
    }[change]
    with farm.client("", headers=headers) as client:
        answer = client.get("/project", params={"token": secret} if change == "in the URL" else {})
        assert problem(answer) == (401, "unauthorized")
        assert secret not in answer.text


def test_token_in_url_is_refused_even_with_a_header(farm: HttpFarm) -> None:
    """It would be in logs and histories."""
    with farm.client("read") as client:
        assert problem(client.get("/project", params={"token": "x"})) == (400, "bad-input")


@pytest.mark.parametrize("lasts_s", [None, 3600.0])
def test_token_is_described(farm: HttpFarm, lasts_s: float | None) -> None:
    """So that a client knows what it may do; the secret is not repeated."""
    name = f"mine-{lasts_s}"
    secret = farm.tokens.make(name, AccessScope.SUBMIT, 4_000_000_000.0, lasts_s)
    with farm.client("", headers={"Authorization": f"Bearer {secret}"}) as client:
        answer = client.get("/token")
    ends = None if lasts_s is None else "2096-10-02T08:06:40.000Z"
    assert answer.json() == {"name": name, "scope": "submit", "expires_at": ends}


def test_expired_token_is_refused(farm: HttpFarm) -> None:
    secret = farm.tokens.make("old", AccessScope.CONTROL, time.time() - 100.0, 99.0)
    with farm.client("", headers={"Authorization": f"Bearer {secret}"}) as client:
        answer = client.get("/project")
    assert problem(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].endswith('error="invalid_token"')
    assert "is expired" in answer.json()["detail"]


def test_revoked_token_is_refused_at_once(farm: HttpFarm) -> None:
    """On a connection that is open, too."""
    secret = farm.tokens.make("leaked", AccessScope.CONTROL, time.time(), None)
    with farm.client("", headers={"Authorization": f"Bearer {secret}"}) as client:
        assert client.get("/project").status_code == 200
        farm.tokens.revoke("leaked")
        assert problem(client.get("/project")) == (401, "unauthorized")


def test_damaged_tokens_let_no_one_in(farm: HttpFarm) -> None:
    """Until they are restored."""
    secret, path = farm.secret("read"), farm.root / "state/tokens.json"
    before = path.read_bytes()
    with farm.client("", headers={"Authorization": f"Bearer {secret}"}) as client:
        path.write_bytes(b"{")
        try:
            answer = client.get("/project")
        finally:
            path.write_bytes(before)
        assert problem(answer) == (503, "unavailable") and int(answer.headers["retry-after"]) >= 1
        assert client.get("/project").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:80", "[::1"])
def test_foreign_host_is_refused(farm: HttpFarm, host: str) -> None:
    """Against DNS rebinding; before the token is looked at."""
    with farm.client("control", headers={"Host": host}) as client:
        for path in ("/health", "/project", "/openapi.json", "/nothing"):
            assert problem(client.get(path)) == (421, "foreign-host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_request_from_page_of_another_site_is_refused(farm: HttpFarm, headers: dict[str, str]) -> None:
    """Also one that only reads, and one that a browser sends ahead; no answer has headers that let others read it."""
    with farm.client("control", headers=headers) as client:
        for method in ("GET", "POST", "OPTIONS"):
            answer = client.request(method, "/generations")
            assert problem(answer) == (403, "foreign-origin")
            assert not any(name.startswith("access-control-") for name in answer.headers)


def test_request_of_own_page_is_answered(farm: HttpFarm) -> None:
    with farm.client("read", headers={"Origin": farm.url, "Sec-Fetch-Site": "same-origin"}) as client:
        assert client.get("/project").status_code == 200


def test_every_answer_has_security_headers(farm: HttpFarm) -> None:
    """Errors, too."""
    with farm.client("read") as client:
        for path in ("/project", "/health", "/nothing", "/explain"):
            headers = client.get(path).headers
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] in ("no-store", "private, no-cache")
            assert "server" not in headers and "set-cookie" not in headers


def test_changes_that_were_asked_for_are_in_audit_log(farm: HttpFarm) -> None:
    """Allowed or not, with the name of the token; nothing of requests without a valid token, and no secret."""
    before = len(farm.audit())
    with farm.client("read") as reader, farm.client("submit") as writer, farm.client("") as stranger:
        reader.get("/project")
        stranger.post("/generations/998/stop")
        reader.post("/generations/998/stop")
        writer.post("/generations/998/close")
        writer.post("/generations", content=b"{", headers={"Content-Type": "application/json"})
    found = farm.audit()[before:]
    assert [
        (line["token"], line["operation"], line["generation"], line["status"], line["outcome"]) for line in found
    ] == [
        ("read", "stop", None, 403, "forbidden"),
        ("submit", "close", 998, 404, "not-found"),
        ("submit", "open_generation", None, 400, "bad-input"),
    ]
    assert {line["client"] for line in found} == {"127.0.0.1"}
    assert farm.secret("submit") not in json.dumps(found)


def test_rate_of_one_token_is_limited(tmp_path: Path) -> None:
    """Another token is not affected; after the time that the answer names it is let in again."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    with (
        http_farm(project.root, control=False, limits=GateLimits(RequestRate(2.0, 3))) as farm,
        farm.client("read") as eager,
        farm.client("submit") as other,
    ):
        statuses = [eager.get("/project").status_code for _ in range(3)]
        refused = eager.get("/project")
        assert statuses == [200] * 3 and problem(refused) == (429, "rate")
        assert refused.headers["retry-after"] == "1"
        assert other.get("/project").status_code == 200
        assert eventually(lambda: eager.get("/project").status_code == 200, every_s=0.05)


def test_nothing_can_be_changed_without_control(tmp_path: Path) -> None:
    """Reading goes on."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    with http_farm(project.root, control=False) as farm, farm.client("control") as client:
        assert client.get("/project").json()["is_controlled"] is False
        for endpoint in WITH_TOKEN:
            if endpoint.is_change:
                assert problem(ask(client, endpoint)) == (501, "not-controlled")
