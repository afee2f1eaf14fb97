"""The HTTP interface of a real project with real workers, in this process, and clients of it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipeline.control.operations import FarmOperations
from pipeline.control.project_operations import ProjectOperations
from pipeline.core.access import AccessScope
from pipeline.http_api.gate import GateLimits
from pipeline.http_api.interface import Interface, InterfaceSettings
from pipeline.http_api.request_body import BodyMemory
from pipeline.paths import ProjectPaths
from pipeline.storage.audit_log import AuditLog
from pipeline.storage.token_store import TokenStore
from pipeline.ui.connections import WebServer, listen
from pipeline.ui.server_certificate import ServerCertificate, TlsFiles
from tests.harness.waiting import PATIENCE_S, eventually

GENOME_BYTES_MAX = 1024 * 1024


@dataclass
class HttpFarm:
    """A server that runs."""

    root: Path
    port: int
    operations: ProjectOperations
    scheme: str
    tokens: TokenStore = field(init=False)
    _secrets: dict[AccessScope, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = TokenStore(ProjectPaths(self.root))

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def secret(self, scope: str) -> str:
        """The secret of the token of that scope, which has its name, too."""
        wanted = AccessScope(scope)
        if wanted not in self._secrets:
            self._secrets[wanted] = self.tokens.make(scope, wanted, time.time(), None)
        return self._secrets[wanted]

    def client(self, scope: str = "control", **options: Any) -> httpx.Client:
        """A client with a token of that scope; an empty one: without a token."""
        headers = {"Authorization": f"Bearer {self.secret(scope)}"} if scope else {}
        headers |= options.pop("headers", {})
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=PATIENCE_S, trust_env=False, **options)

    def raw(self, request: bytes, within_s: float = PATIENCE_S) -> bytes:
        """What the server sends back for these bytes until it closes the connection, or for that time."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within_s) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(request)
            return received(connection)

    def head(self, line: str, scope: str = "control", **headers: str) -> bytes:
        """The head of a request, without the empty line after it."""
        token = {"Authorization": f"Bearer {self.secret(scope)}"} if scope else {}
        fields = {"Host": f"127.0.0.1:{self.port}", **token, **headers}
        lines = [f"{line} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
        return "".join(f"{each}\r\n" for each in lines).encode("latin-1")

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        path = self.root / "state/log/audit.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes, or says nothing for the connection's time-out."""
    parts = []
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and word of an error, which has the form of all errors."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "exit_code"}
    assert body["status"] == answer.status_code and body["detail"] and body["title"]
    return answer.status_code, body["type"].removeprefix("urn:genome-pipeline:")


@contextmanager
def http_farm(
    root: Path,
    *,
    control: bool = True,
    farm: FarmOperations | None = None,
    limits: GateLimits | None = None,
    bodies: BodyMemory | None = None,
    tls: TlsFiles | None = None,
) -> Iterator[HttpFarm]:
    """Serves a project.

    Args:
        farm: what changes are asked of, in place of the project's operations.
    """
    operations, stopped = ProjectOperations(root), threading.Event()
    try:
        if control:
            operations.open_project()
        settings = InterfaceSettings(
            host="127.0.0.1",
            genome_bytes_max=GENOME_BYTES_MAX,
            limits=limits or GateLimits(),
            bodies=bodies or BodyMemory(),
        )
        audit = AuditLog(ProjectPaths(root).state)
        interface = Interface(
            settings,
            farm or operations,
            farm or (operations if control else None),
            TokenStore(ProjectPaths(root)),
            audit,
            stopped.is_set,
        )
        server = WebServer(interface.app, ServerCertificate(tls) if tls is not None else None, stopped.is_set)
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=(listener,))
        thread.start()
        try:
            yield HttpFarm(root, port, operations, "http" if tls is None else "https")
        finally:
            stopped.set()
            thread.join(PATIENCE_S)
            listener.close()
            audit.close()
        assert not thread.is_alive(), "the server did not end"
    finally:
        operations.close()


def settled(client: httpx.Client, number: int, count: int) -> dict[str, dict[str, Any]]:
    """The results of so many genomes, as a client reads them."""
    found, after = dict[str, dict[str, Any]](), 0

    def has_all() -> bool:
        nonlocal after
        page = client.get(f"/generations/{number}/settled", params={"after": after, "wait_s": 5}).json()
        found.update({item["name"]: item for item in page["items"]})
        after = page["next"]
        return len(found) >= count

    assert eventually(has_all, PATIENCE_S), found
    return found


def opened(client: httpx.Client) -> int:
    """Opens the next generation; returns its number."""
    answer = client.post("/generations", json={}, headers={"Idempotency-Key": f"key-{time.monotonic_ns()}"})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["number"])
