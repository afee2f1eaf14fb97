"""Look-ups of names: the caller's deadline holds, however long the system takes."""

import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline import RemoteError
from pipeline.remote import connect, http_connections
from pipeline.remote.http_connections import HttpConnections, Unreachable
from pipeline.remote.name_lookup import NameLookups
from pipeline.remote.server_url import server_url
from tests.harness.waiting import PATIENCE_S, eventually


class HeldLookUp:
    """A look-up that hangs until the test lets it end."""

    def __init__(self) -> None:
        self.count = 0
        self.may_end = threading.Event()

    def __call__(self, _host: str, _port: int) -> list[str]:
        self.count += 1
        assert self.may_end.wait(PATIENCE_S)
        return ["192.0.2.7"]


@pytest.fixture
def held() -> Iterator[HeldLookUp]:
    held = HeldLookUp()
    yield held
    held.may_end.set()


def never() -> bool:
    return False


def test_address_needs_no_look_up(held: HeldLookUp) -> None:
    lookups = NameLookups(held)
    assert lookups.addresses("127.0.0.1", 80, 0.0, never) == ["127.0.0.1"]
    assert lookups.addresses("::1", 80, 0.0, never) == ["::1"]
    assert held.count == 0


def test_deadline_holds_while_the_system_looks(held: HeldLookUp) -> None:
    """Who asks again joins the look-up that runs, and gets its answer; the next one is a new look-up."""
    lookups = NameLookups(held)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"the name farm\.example was not found within 0\.01 s"):
            lookups.addresses("farm.example", 80, 0.01, never)
    held.may_end.set()
    assert lookups.addresses("farm.example", 80, PATIENCE_S, never) == ["192.0.2.7"]
    assert held.count == 1
    assert eventually(lambda: lookups.addresses("farm.example", 80, PATIENCE_S, never) and held.count == 2)


def test_caller_may_give_up(held: HeldLookUp) -> None:
    over = threading.Event()
    threading.Timer(0.05, over.set).start()
    with pytest.raises(TimeoutError):
        NameLookups(held).addresses("farm.example", 80, PATIENCE_S, over.is_set)


def test_name_that_does_not_exist_is_an_error_of_the_system() -> None:
    def missing(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    def defect(_host: str, _port: int) -> list[str]:
        raise UnicodeError("label too long")

    for look_up, words in ((missing, "not known"), (defect, "label too long")):
        with pytest.raises(OSError, match=words):
            NameLookups(look_up).addresses("farm.example", 80, PATIENCE_S, never)


def test_request_ends_while_the_name_is_looked_up(held: HeldLookUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_LOOKUPS", NameLookups(held))
    connections = HttpConnections(server_url("https://farm.example"), http_connections.tls_context(None), "a-token")
    with pytest.raises(Unreachable, match="no answer within"):
        connections.request("GET", "https://farm.example/v1/health", 0.05)
    connections.close()
    with (
        pytest.raises(RemoteError, match="no answer in"),
        connect("https://farm.example", token="a-token", timeout_s=0.05) as farm,
        monkeypatch.context() as short,
    ):
        short.setattr(http_connections, "CONNECT_LIMIT_S", 0.05)
        farm.evaluate({"a": b"1"})


def test_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first one refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        lookups = NameLookups(lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
        monkeypatch.setattr(http_connections, "_LOOKUPS", lookups)
        answering = threading.Thread(target=_answer_once, args=(listener,))
        answering.start()
        connections = HttpConnections(server_url(f"http://localhost:{port}"), None, "")
        assert connections.request("GET", f"http://localhost:{port}/", PATIENCE_S).status == 204
        answering.join()
        connections.close()


def _answer_once(listener: socket.socket) -> None:
    connection, _address = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
