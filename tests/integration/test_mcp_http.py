"""`pipeline mcp --http`: whom it answers, asked by the SDK's own client and by requests that no client sends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from mcp import Client

from pipeline.errors import ExitCode
from tests.harness.command_line import pipeline
from tests.harness.farm_project import FarmProject, games
from tests.harness.mcp_clients import INITIALIZE, TOKEN, ask_over_http, command, refusal_of, result_of, served_over_http
from tests.harness.waiting import PATIENCE_S

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a program handles")
OURS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server whose project has played a generation."""
    project = FarmProject(tmp_path_factory.mktemp("served") / "project")
    project.configure(workers=1)
    project.add_genomes(games(2))
    code, out = project.run()
    assert code == ExitCode.OK, out
    with served_over_http(project.root) as (url, _server):
        yield url
    project.close()


def answered(url: str, headers: Mapping[str, str], content: bytes | None = None) -> httpx2.Response:
    """The answer to a client's first message with these headers."""
    sent = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **headers}
    body = json.dumps(INITIALIZE).encode() if content is None else content
    with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client:
        return client.post(url, content=body, headers=[(name.encode(), value.encode()) for name, value in sent.items()])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_client_with_the_token_is_answered(served: str, mode: str) -> None:
    """It may read, and change nothing."""

    async def story(client: Client) -> None:
        assert (await result_of(client, "generation_status"))["completed"] == 2
        assert (await client.read_resource("pipeline://generations/1/results.csv")).contents
        assert "--allow-control" in await refusal_of(client, "stop_generation", generation=1)

    ask_over_http(served, story, mode=mode)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer größe-größe-größe"},
        {"Cookie": f"pipeline-token={TOKEN}"},
    ],
    ids=str,
)
def test_request_without_the_token_is_refused(served: str, headers: Mapping[str, str]) -> None:
    """Before its body is read."""
    answer = answered(served, headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert len(answer.text.splitlines()) == 1
    assert answered(f"{served}?token={TOKEN}", headers).status_code == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:8767"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example:80"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 400),
    ],
    ids=str,
)
def test_request_of_another_site_is_refused(served: str, headers: Mapping[str, str], code: int) -> None:
    """Also with the token: its name may resolve to this computer (DNS rebinding), its page may send forms."""
    assert answered(served, OURS).status_code == 200
    assert answered(served, {**OURS, **headers}).status_code == code


def test_body_that_is_too_large_is_refused(served: str) -> None:
    assert answered(served, OURS, b"x" * (5 * 1024 * 1024)).status_code == 413


def test_nothing_else_is_served(served: str) -> None:
    """Neither pages nor an authorization server."""
    base = served.removesuffix("/mcp")
    for path in ("/", "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"):
        with httpx2.Client(trust_env=False) as client:
            assert client.get(f"{base}{path}", headers=OURS).status_code == 404
            assert client.get(f"{base}{path}").status_code == 401


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        (("--host", "0.0.0.0"), TOKEN, "--host 0.0.0.0: only a loopback address"),
        (("--host", "::"), TOKEN, "--host ::: only a loopback address"),
        (("--host", "192.0.2.7"), TOKEN, "--host 192.0.2.7: only a loopback address"),
        (("--host", "farm.example"), TOKEN, "--host farm.example: only a loopback address"),
        ((), "short", "the token: at least 16 letters"),
        ((), "", "env:PIPELINE_TOKEN: the environment variable PIPELINE_TOKEN is not set"),
        (("--token", "a-password-itself"), TOKEN, "a password itself never belongs into the configuration"),
    ],
    ids=str,
)
def test_unsafe_server_does_not_start(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    token: str,
    said: str,
) -> None:
    """It says why in one line, without the token."""
    monkeypatch.setenv("PIPELINE_TOKEN", token)
    project = FarmProject(tmp_path / "project")
    project.configure()
    code, out, errors = pipeline(capsys, "mcp", "--root", project.root, "--http", *options)
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    (line,) = errors.splitlines()
    assert said in line
    assert TOKEN not in line


def test_port_that_is_taken_is_named(served: str, tmp_path: Path) -> None:
    project = FarmProject(tmp_path / "project")
    project.configure()
    port = served.rpartition(":")[2].removesuffix("/mcp")
    environment = {**os.environ, "PIPELINE_TOKEN": TOKEN}
    words = command(project.root, "--http", "--port", port)
    ran = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=PATIENCE_S)
    assert ran.returncode == ExitCode.BAD_INPUT
    (line,) = ran.stderr.decode().splitlines()
    assert f"127.0.0.1:{port}: Address already in use" in line
    assert "give another --port" in line


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signal_ends_http_server_with_its_host(tmp_path: Path, number: signal.Signals) -> None:
    """While a client is connected, within seconds; no worker is left."""
    project = FarmProject(tmp_path / "project")
    project.configure(workers=1)
    with served_over_http(project.root, "--allow-control") as (url, server):
        sent = {"Accept": "text/event-stream", **OURS}
        session = answered(url, OURS).headers["Mcp-Session-Id"]
        with (
            httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client,
            client.stream("GET", url, headers={**sent, "Mcp-Session-Id": session}) as events,
        ):
            assert events.status_code == 200
            server.send_signal(number)
            assert server.wait(PATIENCE_S) == ExitCode.OK
    project.wait_until(lambda: not project.processes())
    project.close()
