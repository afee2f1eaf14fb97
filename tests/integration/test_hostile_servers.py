"""What a client makes of servers that answer what they should not, or not at all, and of certificates."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from pipeline import InputError, RemoteError
from pipeline.remote import connect
from pipeline.remote.artifacts import download
from pipeline.remote.http_connections import ANSWER_BYTES_MAX, HttpConnections, Unreachable, tls_context
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server
from pipeline.remote.server_url import server_url
from pipeline.ui.server_certificate import TlsFiles
from tests.fakes.hostile_http import HostileHttp, answer, hostile_http
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

STATUS: dict[str, Any] = {
    "number": 7, "state": "open", "genomes": 1, "completed": 0, "failed": 0, "trials": 1, "settled": 0
}  # fmt: skip
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMIT_S = 0.5


def evaluate(url: str) -> None:
    with connect(url, token="a-token", timeout_s=LIMIT_S) as farm:
        farm.evaluate({"a": b"1"})


def endless(_line: str, connection: socket.socket) -> None:
    connection.sendall(CHUNKED)
    while True:
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def test_endless_answer_is_cut_off() -> None:
    with hostile_http(endless) as server, pytest.raises(RemoteError, match=f"more than {ANSWER_BYTES_MAX} bytes"):
        evaluate(server.url)


@pytest.mark.parametrize(
    "sent",
    [
        answer({}, "200 OK", "X: " + "x" * 10_000_000),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000,
        b"\x00" * 100_000,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort",
        CHUNKED + b"zz\r\n",
        b"",
    ],
    ids=["large header", "many headers", "zeros", "ssh", "negative", "two lengths", "short", "bad chunk", "nothing"],
)
def test_answer_that_is_no_http_is_like_no_answer(sent: bytes) -> None:
    """It is asked for again until the patience is over."""
    with (
        hostile_http(lambda _line, connection: connection.sendall(sent)) as server,
        pytest.raises(RemoteError, match=r"no answer in 0\.5 s"),
    ):
        evaluate(server.url)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in</html>",
        b"",
        b"\xff\xfe",
        b"[" * 500_000,
        b'{"number": ' + b"9" * 5000 + b"}",
        [],
        {},
        {**STATUS, "number": "7"},
        {**STATUS, "number": 0},
        {**STATUS, "number": -7},
        {**STATUS, "state": "flying"},
        {**STATUS, "genomes": None},
        {**STATUS, "best": "high"},
    ],
    ids=str,
)
def test_answer_of_wrong_types_is_refused(body: object) -> None:
    """At once: asking again does not help."""
    with (
        hostile_http(lambda _line, connection: connection.sendall(answer(body, "201 Created"))) as server,
        pytest.raises(RemoteError, match="its answer cannot be used"),
    ):
        evaluate(server.url)
    assert len(server.requests) == 1


ATTEMPT = "g0007-0001-t1-a1-000000000000"


@pytest.mark.parametrize(
    "items",
    [
        [{"attempt": ATTEMPT, "name": "../../evil.txt", "size_bytes": 1}],
        [{"attempt": ATTEMPT, "name": "/tmp/evil.txt", "size_bytes": 1}],
        [{"attempt": ATTEMPT, "name": "nul", "size_bytes": 1}],
        [{"attempt": "../../../other", "name": "evil.txt", "size_bytes": 1}],
        [{"attempt": ATTEMPT, "name": "evil.txt", "size_bytes": 2**40}],
        [{"attempt": ATTEMPT, "name": "evil.txt", "size_bytes": -1}],
        [{"attempt": ATTEMPT, "name": f"evil-{number}.txt", "size_bytes": 1} for number in range(1000)],
    ],
    ids=["parents", "absolute", "reserved", "attempt", "large", "negative", "many"],
)
def test_server_chooses_no_path_for_artifacts(tmp_path: Path, items: list[dict[str, object]]) -> None:
    """Nothing is fetched of a list that no server of this program sends."""
    body = {"generation": 7, "genome": "a", "items": items}
    with (
        hostile_http(lambda _line, connection: connection.sendall(answer(body))) as server,
        closing(HttpConnections(server_url(server.url), None, "")) as connections,
    ):
        asked = Server(server_url(server.url), connections, threading.Event())
        with pytest.raises(RemoteError, match="artifacts than a game may leave"):
            download(asked, 7, "a", tmp_path, Patience())
        assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_compressed_answer_is_not_unpacked() -> None:
    """A small one could be gigabytes."""
    sent = answer(b"\x1f\x8b" + bytes(100), "200 OK", "Content-Encoding: gzip")
    with (
        hostile_http(lambda _line, connection: connection.sendall(sent)) as server,
        pytest.raises(RemoteError, match="its answer cannot be used"),
    ):
        evaluate(server.url)
    assert "Accept-Encoding: identity" in server.requests[0]


def test_redirect_is_not_followed() -> None:
    """The other server gets no token."""
    with hostile_http(lambda _line, connection: connection.sendall(answer({}))) as other:
        sent = answer({}, "307 Temporary Redirect", f"Location: {other.url}/v1/generations")
        with (
            hostile_http(lambda _line, connection: connection.sendall(sent)) as server,
            pytest.raises(RemoteError, match="sends elsewhere"),
        ):
            evaluate(server.url)
    assert other.requests == []


@pytest.mark.parametrize(
    ("status", "words"),
    [("500 Oops", "see the log"), ("501 No", "--control"), ("418 Teapot", "short and [31mstout (status 418)")],
)
def test_refusal_is_not_asked_for_again(status: str, words: str) -> None:
    sent = answer({"detail": "short and \x1b[31mstout"}, status)
    with (
        hostile_http(lambda _line, connection: connection.sendall(sent)) as server,
        pytest.raises(RemoteError) as error,
    ):
        evaluate(server.url)
    assert words in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(server.requests) == 1


def scripted(**bodies: object) -> Callable[[str, socket.socket], None]:
    """A server that opens generation 7, and answers requests by the last step of their path."""

    def reply(line: str, connection: socket.socket) -> None:
        method, url, _version = line.split()
        step = url.partition("?")[0].rpartition("/")[2]
        body = bodies.get(f"{method}_{step}", STATUS)
        connection.sendall(answer(body))

    return reply


PAGE = {"generation": 7, "items": [], "next": 0}
RESULT = {"name": "a", "status": "completed"}


@pytest.mark.parametrize(
    "bodies",
    [
        {"POST_genomes": {"answers": []}},
        {"POST_genomes": {"answers": [{"name": "b", "state": "accepted"}]}},
        {"POST_genomes": {"answers": [{"name": "a", "state": "accepted"}] * 2}},
        {"POST_genomes": {"answers": [{"name": "a", "state": "eaten"}]}},
        {"GET_settled": {**PAGE, "generation": 8}},
        {"GET_settled": {**PAGE, "next": -1}},
        {"GET_settled": {**PAGE, "next": None}},
        {"GET_settled": {**PAGE, "items": [RESULT]}},
        {"GET_settled": {**PAGE, "items": [{**RESULT, "fitness": "high"}], "next": 1}},
    ],
    ids=str,
)
def test_answers_that_do_not_fit_the_requests_are_refused(bodies: dict[str, object]) -> None:
    """They could give a genome the fitness of another one, or go on for ever."""
    fitting = {"POST_genomes": {"answers": [{"name": "a", "state": "accepted"}]}, "GET_settled": PAGE}
    with (
        hostile_http(scripted(**{**fitting, **bodies})) as server,
        pytest.raises(RemoteError, match="its answer cannot be used"),
    ):
        evaluate(server.url)


def test_pages_without_end_are_refused() -> None:
    """Each must lead on."""
    page = {"generation": 7, "items": [RESULT], "next": 1}
    finished = {**STATUS, "state": "finished"}
    bodies = {"POST_genomes": {"answers": [{"name": "a", "state": "accepted"}]}, "GET_settled": page, "GET_7": finished}
    with (
        hostile_http(scripted(**bodies, POST_close=finished, GET_genomes=page)) as server,
        pytest.raises(RemoteError, match="its answer cannot be used"),
    ):
        evaluate(server.url)


SLOW: dict[str, Callable[[HostileHttp, socket.socket], object]] = {
    "silent": lambda server, _connection: server.keep(),
    "head in drips": lambda server, connection: server.drip(connection, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000),
    "body in drips": lambda server, connection: server.drip(connection, answer(b"x" * 10_000)),
    "early hints": lambda server, connection: server.drip(connection, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
}


@pytest.mark.parametrize("kind", SLOW)
def test_answer_ends_at_its_deadline(kind: str) -> None:
    """Also if every single read succeeds."""
    with hostile_http(lambda _line, connection: SLOW[kind](server, connection)) as server:
        url, begun = server_url(server.url), time.monotonic()
        with (
            closing(HttpConnections(url, None, "")) as connections,
            pytest.raises(Unreachable, match="no answer within"),
        ):
            connections.request("GET", url.at("health"), LIMIT_S)
        assert LIMIT_S <= time.monotonic() - begun < 10 * LIMIT_S


def test_upload_ends_at_its_deadline() -> None:
    """A server that does not read it is not waited for."""
    with hostile_http(lambda _line, _connection: server.keep()) as server:
        url = server_url(server.url)
        with (
            closing(HttpConnections(url, None, "")) as connections,
            pytest.raises(Unreachable, match="no answer within"),
        ):
            connections.request("PUT", url.at("x"), LIMIT_S, bytes(50_000_000))


# ------------------------------------------------------------------------------------------------------------------ TLS

AUTHORITY, OTHER_AUTHORITY = trustme.CA(), trustme.CA()


def tls_files(folder: Path, certificate: trustme.LeafCert) -> TlsFiles:
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    return TlsFiles(folder / "cert.pem", folder / "key.pem")


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[trustme.LeafCert], Any]:
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    return lambda certificate: http_farm(project.root, tls=tls_files(tmp_path, certificate))


Serve = Callable[[trustme.LeafCert], Any]


def test_certificate_of_given_authority_is_accepted(serve: Serve, ca_file: Path) -> None:
    with (
        serve(AUTHORITY.issue_cert("127.0.0.1")) as served,
        connect(served.url, token=served.secret("submit"), ca_file=ca_file) as farm,
    ):
        assert farm.evaluate({"a": b'{"n": 1}'})["a"].status == "completed"


def test_authority_of_the_system_is_needed_otherwise(serve: Serve) -> None:
    """There is no way to leave out the check."""
    with (
        serve(AUTHORITY.issue_cert("127.0.0.1")) as served,
        pytest.raises(RemoteError, match=r"its certificate is refused: .*give its authority as ca_file"),
    ):
        refused(served, None)


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (lambda: OTHER_AUTHORITY.issue_cert("127.0.0.1"), "unable to get local issuer certificate"),
        (lambda: AUTHORITY.issue_cert("farm.example"), "IP address mismatch"),
        (
            lambda: AUTHORITY.issue_cert(
                "127.0.0.1",
                not_before=datetime.now(UTC) - timedelta(days=2),
                not_after=datetime.now(UTC) - timedelta(days=1),
            ),
            "certificate has expired",
        ),
        (lambda: AUTHORITY.issue_cert("127.0.0.1", not_before=datetime.now(UTC) + timedelta(days=1)), "not yet valid"),
    ],
    ids=["another authority", "another name", "expired", "not yet valid"],
)
def test_wrong_certificate_is_refused_at_once(
    serve: Serve, ca_file: Path, certificate: Callable[[], trustme.LeafCert], words: str
) -> None:
    """The server gets no request, so no token."""
    with serve(certificate()) as served:
        with pytest.raises(RemoteError, match=f"its certificate is refused: .*{words}"):
            refused(served, ca_file)
        assert served.audit() == []


def test_self_signed_certificate_is_refused(tmp_path: Path, ca_file: Path) -> None:
    """Whatever name it has."""
    own = trustme.CA()  # the certificate of an authority is signed by itself
    own.private_key_pem.write_to_path(tmp_path / "own.pem")
    own.cert_pem.write_to_path(tmp_path / "own.pem", append=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    with (
        hostile_http(lambda _line, connection: connection.sendall(answer({})), context) as server,
        pytest.raises(RemoteError, match=r"its certificate is refused: self.signed certificate"),
    ):
        evaluate_with(server.url, ca_file)
    assert server.requests == []


def evaluate_with(url: str, ca_file: Path | None) -> None:
    with connect(url, token="a-token", ca_file=ca_file, timeout_s=5.0) as farm:
        farm.evaluate({"a": b"1"})


def refused(served: HttpFarm, ca_file: Path | None) -> None:
    with connect(served.url, token=served.secret("control"), ca_file=ca_file) as farm:
        farm.evaluate({"a": b"1"})


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_unusable_file_of_authorities_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Before anything is sent."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(InputError, match=r"ca_file .*ca\.pem: .*; give a file of certificates"):
        tls_context(tmp_path / "ca.pem")
