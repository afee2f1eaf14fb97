"""`pipeline serve` with the interface: what it refuses to serve, and how it ends."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.errors import ExitCode
from tests.harness.certificates import make_authority
from tests.harness.command_line import pipeline
from tests.harness.farm_project import PROCESS_GROUP_FLAGS, FarmProject, games
from tests.harness.samba import free_port
from tests.harness.served_project import answer_of, served, status
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CaptureFixture = pytest.CaptureFixture[str]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def token(project: FarmProject, capsys: CaptureFixture) -> str:
    """A token of the largest scope, of a project with two workers."""
    project.configure(workers=2)
    code, out, err = pipeline(capsys, "token", "make", "me", "--scope", "control", "--root", project.root)
    assert code == ExitCode.OK, err
    return out.strip()


def asked(method: str, url: str, token: str, body: bytes | None = None, **headers: str) -> dict[str, object]:
    """The answer to a request that is expected to succeed."""
    fields = {"Authorization": f"Bearer {token}", **{key.replace("_", "-"): value for key, value in headers.items()}}
    answer = httpx.request(method, url, content=body, headers=fields, timeout=PATIENCE_S, trust_env=False)
    assert answer.is_success, answer.text
    return dict(answer.json())


def opened(address: str, token: str, key: str = "k") -> int:
    answer = asked(
        "POST", f"{address}v1/generations", token, b"{}", Content_Type="application/json", Idempotency_Key=key
    )
    assert isinstance(answer["number"], int)
    return answer["number"]


@contextmanager
def serving(root: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command, which the test ends, and its address."""
    command = [sys.executable, "-m", "pipeline", "serve", "--root", str(root), "--port", str(free_port()), *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        creationflags=PROCESS_GROUP_FLAGS,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert eventually(lambda: status(f"{address}v1/health") == 200, PATIENCE_S)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_control_without_a_token_is_refused(project: FarmProject, capsys: CaptureFixture) -> None:
    """Also if there is one that may only read, or none that is valid."""
    project.configure(workers=1)
    make_old, revoke_old = ("make", "old", "--scope", "control"), ("revoke", "old")
    for commands in ([], [("make", "reader", "--scope", "read")], [make_old, revoke_old]):
        for words in commands:
            assert pipeline(capsys, "token", *words, "--root", project.root)[0] == ExitCode.OK
        code, out, err = pipeline(capsys, "serve", "--control", "--root", project.root)
        assert (code, out) == (ExitCode.BAD_INPUT, "")
        assert err == (
            "pipeline: --control: no token may change anything; run: pipeline token make NAME --scope control\n"
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
@pytest.mark.parametrize("options", [(), ("--control",)], ids=str)
def test_tokens_do_not_travel_unencrypted(
    project: FarmProject, token: str, capsys: CaptureFixture, host: str, options: tuple[str, ...]
) -> None:
    """Beyond loopback TLS is needed."""
    code, out, err = pipeline(capsys, "serve", "--host", host, *options, "--root", project.root)
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert f"--host {host}: tokens would travel unencrypted; give --tls-cert and --tls-key" in err


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_certificate_and_key_are_needed_together(
    project: FarmProject, token: str, capsys: CaptureFixture, option: str
) -> None:
    code, _out, err = pipeline(capsys, "serve", option, "x.pem", "--root", project.root)
    assert code == ExitCode.BAD_INPUT and "are needed together" in err


def test_project_without_tokens_has_no_interface(project: FarmProject) -> None:
    """The page is served as before."""
    project.configure(workers=1)
    project.add_genomes(games(1))
    with served(project.root) as address:
        assert status(f"{address}v1/health") == status(f"{address}v1/openapi.json") == 404
        assert status(address) == 200


def test_without_control_the_interface_only_reads(project: FarmProject, token: str) -> None:
    """Beside the page, on the same port; a host of its own may play meanwhile."""
    project.add_genomes(games(2))
    with served(project.root) as address:
        assert project.run()[0] == ExitCode.OK
        assert asked("GET", f"{address}v1/generations/1", token)["completed"] == 2
        assert asked("GET", f"{address}v1/project", token)["is_controlled"] is False
        for path in ("", "metrics", "data"):
            assert status(f"{address}{path}") == 200
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.post(f"{address}v1/generations/1/stop", headers=bearer, trust_env=False).status_code == 501


def test_controlled_project_is_taken_by_one_process(project: FarmProject, token: str, capsys: CaptureFixture) -> None:
    with serving(project.root, "--control"):
        code, _out, err = pipeline(capsys, "serve", "--control", "--port", str(free_port()), "--root", project.root)
        assert code == ExitCode.BAD_INPUT and "host.lock is in use by process" in err


def test_page_is_not_reached_by_token_of_interface(project: FarmProject, token: str) -> None:
    """Each has its own; in the URL only that of the page counts, once."""
    project.add_genomes(games(1))
    page = "page-token-0123456789"
    (project.root / "page.txt").write_text(page)
    (project.root / "page.txt").chmod(0o600)
    with served(project.root, "--token", "file:page.txt") as address:
        assert status(address) == 401
        assert status(address, Authorization=f"Bearer {token}") == 401
        assert status(address, Authorization=f"Bearer {page}") == 200
        assert status(f"{address}v1/project", Authorization=f"Bearer {page}") == 401
        assert status(f"{address}v1/project", Authorization=f"Bearer {token}") == 200
        assert status(f"{address}v1/project?token={page}") == 401


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_and_open_generation_goes_on_later(project: FarmProject, token: str, number: int) -> None:
    """Streams end, nothing that was answered is lost, and the next process goes on with it by itself."""
    gate = project.root / "go"
    body = json.dumps({"until": str(gate)}).encode()
    with serving(project.root, "--control") as (server, address):
        generation = opened(address, token)
        for each in range(20):
            asked("PUT", f"{address}v1/generations/{generation}/genomes/g{each}.json", token, body + b" " * each)
        fields = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        with httpx.stream("GET", f"{address}v1/events", headers=fields, timeout=PATIENCE_S, trust_env=False) as events:
            assert next(events.iter_lines()).startswith(":")
            server.send_signal(number)
            output, _ = server.communicate(timeout=PATIENCE_S)
            assert server.returncode == ExitCode.OK, output
            assert "Traceback" not in output
    gate.touch()
    with serving(project.root, "--control") as (_server, address):
        url = f"{address}v1/generations/{generation}"
        assert opened(address, token) == generation
        asked("POST", f"{url}/close", token)
        assert eventually(lambda: asked("GET", url, token)["state"] == "finished")
        found = asked("GET", url, token)
        assert (found["genomes"], found["completed"]) == (20, 20)
    project.assert_counted_once(generation=generation)


def test_page_and_interface_over_tls(project: FarmProject, token: str, tmp_path: Path) -> None:
    """By a further name, which requests may have too."""
    project.add_genomes(games(1))
    files = make_authority(tmp_path / "authority").files("farm.example", "127.0.0.1")
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "serve",
        "--root",
        str(project.root),
        "--port",
        str(port := free_port()),
    ]
    options = ["--tls-cert", str(files.certificate), "--tls-key", str(files.key), "--name", "farm.example"]
    server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == f"https://farm.example:{port}/\n"
        assert server.stdout.readline() == f"https://farm.example:{port}/v1/ for programs with a token, to look on\n"
        with httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=ssl.create_default_context(cafile=tmp_path / "authority/authority.pem"),
        ) as client:
            assert eventually(lambda: _status(client, "/") == 200)
            for name, expected in (("farm.example", 200), ("evil.example", 421)):
                assert client.get("/v1/health", headers={"Host": name}).status_code == expected
            assert client.get("/", headers={"Host": "farm.example"}).status_code == 200
    finally:
        server.kill()
        server.communicate()


def _status(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


def test_answers_are_json_for_programs_and_text_for_people(project: FarmProject, token: str) -> None:
    """The page keeps its own form of errors."""
    project.add_genomes(games(1))
    with served(project.root) as address:
        assert answer_of(f"{address}v1/nothing")[1] == "application/problem+json"
        assert answer_of(f"{address}data?gen=99")[1].startswith("text/plain")
