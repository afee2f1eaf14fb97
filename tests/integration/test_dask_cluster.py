"""What a host says of a Dask scheduler that does not answer, and of Dask workers that take no plugin."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.core import Status
from distributed.security import Security

from pipeline.machines.sites import dask_cluster
from pipeline.machines.sites.dask_cluster import DaskCluster
from pipeline.machines.sites.dask_plugin import OPERATION, SitePlugin
from pipeline.machines.sites.site_link import SiteUnavailable

pytestmark = pytest.mark.processes

OTHER = "something else answers there, or a Dask scheduler of another version or with TLS"
BANNERS = [
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    bytes(4096),
]


class OtherServer:
    """A server that sends the same to each client."""

    def __init__(self, banner: bytes) -> None:
        self._banner, self._clients = banner, list[socket.socket]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            if self._banner:
                client.sendall(self._banner)
            else:
                client.close()

    def close(self) -> None:
        for each in (*self._clients, self._socket):
            each.close()


@pytest.fixture
def other_server(request: pytest.FixtureRequest) -> Iterator[OtherServer]:
    server = OtherServer(request.param)
    yield server
    server.close()


def problem(address: str) -> str:
    """What is said of a scheduler."""
    cluster = DaskCluster(address, Security())  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(SiteUnavailable) as error:
            cluster.workers()
    finally:
        cluster.close()
    return str(error.value)


@pytest.mark.parametrize("other_server", BANNERS, ids=["SSH", "HTTP", "zeros"], indirect=True)
def test_server_that_is_no_scheduler_is_told_apart(other_server: OtherServer) -> None:
    """Dask fails in many ways there, also for want of memory."""
    assert problem(other_server.address) == OTHER


@pytest.mark.parametrize("other_server", [b""], indirect=True)
def test_server_that_ends_each_connection_may_expect_tls(other_server: OtherServer) -> None:
    """A scheduler with TLS does that."""
    assert problem(other_server.address) == f"its connection has ended: {OTHER}"


def test_missing_certificates_are_named() -> None:
    """They are missing here: nothing was asked."""
    said = problem("tls://127.0.0.1:1")

    assert said.startswith("TypeError: TLS expects a `ssl_context` argument")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_without_a_server_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask only says that its time is over."""
    monkeypatch.setattr(dask_cluster, "CONNECT_LIMIT_S", 0.5)

    assert problem(f"tcp://{host}:1") == "no connection: nothing listens at port 1 there"


def test_name_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a computer that does not answer."""
    monkeypatch.setattr(dask_cluster, "CONNECT_LIMIT_S", 0.5)

    def unknown(*_arguments: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    assert problem("tcp://nowhere.invalid:8786") == "no connection: the name nowhere.invalid is not found"


@pytest.mark.parametrize("status", [Status.closing, Status.closing_gracefully, Status.closed])
def test_dask_worker_that_ends_takes_no_plugin(status: Status) -> None:
    """Otherwise its site would be opened again while it ends."""
    worker: Any = SimpleNamespace(name="bob", address="tcp://127.0.0.1:1", status=status, handlers={})

    SitePlugin().setup(worker)

    assert OPERATION not in worker.handlers
