"""The WS-Management server of the tests, used with the real pywinrm."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol

from tests.fakes.wsman_server import MAX_SHELLS, TOO_MANY_SHELLS, Answer, Command, Trouble, WsmanServer
from tests.harness.waiting import eventually

ACCOUNT, PASSWORD = "operator", "S3cret-canary!"
OTHER = {"username": r"FARM\other", "password": "An0ther-canary!"}
ACCOUNTS = {ACCOUNT: PASSWORD, OTHER["username"]: OTHER["password"]}
#: In bytes that are not text, so that no layer can take them for text.
STDIN = bytes(range(256))

Answers = Callable[[Command], Answer]
pytestmark = pytest.mark.timeout(30)


def echo(command: Command) -> Answer:
    return Answer(command.stdin[::-1], command.line.encode(), 7)


@contextmanager
def client(server: WsmanServer, **other: Any) -> Iterator[Protocol]:
    """A client that uses nothing of its environment."""
    fields: dict[str, Any] = {
        "transport": "ssl" if server.tls else "ntlm",
        "username": ACCOUNT,
        "password": PASSWORD,
        "message_encryption": "auto" if server.tls else "always",
        "ca_trust_path": str(server.certificate) if server.tls else None,
        "proxy": None,
        "operation_timeout_sec": 1,
        "read_timeout_sec": 10,
    }
    protocol = Protocol(server.endpoint, **{**fields, **other})
    try:
        yield protocol
    finally:
        protocol.transport.close_session()


def start(protocol: Protocol, line: str = "work", stdin: bytes = b"") -> tuple[str, str]:
    """A command in its own shell that got all its input."""
    shell = protocol.open_shell()
    command = protocol.run_command(shell, line)
    protocol.send_command_input(shell, command, stdin, end=True)
    return shell, command


def run(protocol: Protocol, line: str = "work", stdin: bytes = b"") -> tuple[bytes, bytes, int]:
    """The outcome of a command; nothing of it is left on the server."""
    shell, command = start(protocol, line, stdin)
    try:
        return protocol.get_command_output(shell, command)
    finally:
        protocol.cleanup_command(shell, command)
        protocol.close_shell(shell, close_session=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., WsmanServer]]:
    with ExitStack() as servers:

        def serve(answer: Answers = echo, *, tls: bool = False) -> WsmanServer:
            return servers.enter_context(WsmanServer(answer, accounts=ACCOUNTS, tls=tls))

        yield serve


@pytest.fixture
def server(serve: Callable[..., WsmanServer]) -> WsmanServer:
    return serve()


@pytest.fixture
def protocol(server: WsmanServer) -> Iterator[Protocol]:
    with client(server) as protocol:
        yield protocol


# --- Success ---


def test_command_over_encrypted_ntlm(server: WsmanServer, protocol: Protocol) -> None:
    """A command gets its input, and its output and exit code are returned; it leaves nothing open."""
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "work", ["-n", "3"])
    protocol.send_command_input(shell, command, STDIN[:100])
    protocol.send_command_input(shell, command, STDIN[100:], end=True)
    assert protocol.get_command_output(shell, command) == (STDIN[::-1], b"work -n 3", 7)
    assert server.shells == {shell}
    protocol.cleanup_command(shell, command)
    protocol.close_shell(shell)
    assert server.commands == [Command("work -n 3", STDIN, ACCOUNT)]
    assert server.shells == set()


def test_encrypted_messages_hide_command_and_input(server: WsmanServer, protocol: Protocol) -> None:
    """Over HTTP neither the command nor its input, encoded or not, is in the client's data."""
    run(protocol, "canary-command", b"canary-input")
    bodies = [body for body in server.seen if body]  # the first message has no body: it only authenticates
    assert len(bodies) >= 6
    for body in bodies:
        assert b"application/HTTP-SPNEGO-session-encrypted" in body
        for secret in (b"canary", b"Y2FuYXJ5", b"Envelope", PASSWORD.encode()):
            assert secret not in body


@pytest.mark.parametrize(
    ("transport", "encryption"), [("ssl", "auto"), ("ntlm", "auto"), ("ntlm", "always")], ids=["basic", "ntlm", "both"]
)
def test_command_over_https(serve: Callable[..., WsmanServer], transport: str, encryption: str) -> None:
    """A client that trusts the certificate logs on with Basic and NTLM, the latter also with message encryption."""
    server = serve(tls=True)
    with client(server, transport=transport, message_encryption=encryption) as protocol:
        assert run(protocol, stdin=STDIN) == (STDIN[::-1], b"work", 7)
    assert server.commands == [Command("work", STDIN, ACCOUNT)]


def test_certificate_is_valid_for_address(serve: Callable[..., WsmanServer]) -> None:
    """The server may be called localhost or 127.0.0.1."""
    server = serve(tls=True)
    server.endpoint = server.endpoint.replace("localhost", "127.0.0.1")
    with client(server) as protocol:
        assert run(protocol)[2] == 7


def test_account_may_have_domain(server: WsmanServer) -> None:
    """An account may have a domain; the command gets both."""
    with client(server, **OTHER) as protocol:
        run(protocol)
    assert server.commands == [Command("work", b"", OTHER["username"])]


def test_large_output_is_split_over_responses(serve: Callable[..., WsmanServer]) -> None:
    """More output than fits into one response comes in several."""
    big = bytes(range(256)) * 2000
    server = serve(lambda _: Answer(big, big[:150_000], 1))
    with client(server) as protocol:
        shell, command = start(protocol)
        stdout, _, exit_code, done = protocol.get_command_output_raw(shell, command)
        assert (exit_code, done) == (-1, False)
        rest, stderr, exit_code = protocol.get_command_output(shell, command)
        assert 0 < len(stdout) < len(big)
        assert (stdout + rest, stderr, exit_code) == (big, big[:150_000], 1)


def test_two_clients_run_concurrently(serve: Callable[..., WsmanServer]) -> None:
    """Clients are separated, even when their commands run at the same time."""
    both = threading.Barrier(2)

    def answer(command: Command) -> Answer:
        both.wait(5)
        return echo(command)

    server = serve(answer)

    def work(name: str) -> list[tuple[bytes, bytes, int]]:
        with client(server) as protocol:
            return [run(protocol, name, f"{name} {turn}".encode()) for turn in range(5)]

    with ThreadPoolExecutor(2) as pool:
        for name, results in zip(("one", "two"), pool.map(work, ("one", "two")), strict=True):
            assert results == [(f"{name} {turn}".encode()[::-1], name.encode(), 7) for turn in range(5)]
    assert server.shells == set()


# --- Refusals ---


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("who", [{"password": "wrong"}, {"username": "nobody"}], ids=["password", "account"])
def test_wrong_password_opens_no_shell(serve: Callable[..., WsmanServer], tls: bool, who: dict[str, str]) -> None:
    """Neither a wrong password nor an unknown account opens a shell."""
    server = serve(tls=tls)
    with client(server, **who) as protocol, pytest.raises(InvalidCredentialsError):
        protocol.open_shell()
    assert server.shells == set()


def test_basic_over_http_is_refused(server: WsmanServer) -> None:
    """Without TLS even the right password is refused."""
    in_the_open = {"transport": "plaintext", "message_encryption": "auto"}
    with client(server, **in_the_open) as protocol, pytest.raises(InvalidCredentialsError):
        protocol.open_shell()
    assert server.shells == set()


def test_unencrypted_message_is_refused(server: WsmanServer) -> None:
    """Over HTTP an authenticated client still has to encrypt."""
    with client(server, message_encryption="never") as protocol, pytest.raises(WinRMTransportError) as refused:
        protocol.open_shell()
    assert refused.value.code == 500
    assert server.shells == set()


def test_client_refuses_untrusted_certificate(serve: Callable[..., WsmanServer]) -> None:
    """A client that does not know the certificate sends nothing; the next one is served."""
    server = serve(tls=True)
    with client(server, ca_trust_path=None) as protocol, pytest.raises(requests.exceptions.SSLError):
        protocol.open_shell()
    assert server.seen == []
    with client(server) as protocol:
        run(protocol)


def test_shell_belongs_to_its_account(server: WsmanServer, protocol: Protocol) -> None:
    """Another account can neither use nor delete it."""
    shell = protocol.open_shell()
    with client(server, **OTHER) as other, pytest.raises(WSManFaultError, match="not found"):
        other.close_shell(shell)
    assert server.shells == {shell}


def test_shell_quota_is_enforced(server: WsmanServer, protocol: Protocol) -> None:
    """An account has a quota of shells; closing one allows another, and other accounts have their own."""
    shells = [protocol.open_shell() for _ in range(MAX_SHELLS)]
    with pytest.raises(WSManFaultError) as refused:
        protocol.open_shell()
    assert refused.value.wsman_fault_code == TOO_MANY_SHELLS
    with client(server, **OTHER) as other:
        other.open_shell()
    protocol.close_shell(shells[0], close_session=False)
    protocol.open_shell()


# --- Faults ---


def test_receive_times_out_and_continues(serve: Callable[..., WsmanServer]) -> None:
    """Waiting for output ends with the operation's time-out, and continues when the client asks again."""
    done = threading.Event()

    def answer(command: Command) -> Answer:
        done.wait(20)
        return echo(command)

    with client(serve(answer)) as protocol:
        shell, command = start(protocol)
        with pytest.raises(WinRMOperationTimeoutError):
            protocol.get_command_output_raw(shell, command)
        done.set()
        assert protocol.get_command_output(shell, command) == (b"", b"work", 7)


def test_terminate_ends_receive(serve: Callable[..., WsmanServer]) -> None:
    """A client that waits for a terminated command gets a response at once, and the shell can be closed."""
    done = threading.Event()
    running = threading.Event()

    def answer(command: Command) -> Answer:
        running.set()
        done.wait(20)
        return echo(command)

    server = serve(answer)
    with client(server, operation_timeout_sec=8) as protocol, client(server) as killer, ThreadPoolExecutor(1) as pool:
        shell, command = start(protocol)
        waiting = pool.submit(protocol.get_command_output_raw, shell, command)
        assert running.wait(5)
        killer.cleanup_command(shell, command)
        with pytest.raises(WSManFaultError, match="aborted"):
            waiting.result(5)
        killer.close_shell(shell)
    done.set()
    assert server.shells == set()


def test_drop_before_does_nothing(server: WsmanServer, protocol: Protocol) -> None:
    """DROP_BEFORE: the client loses its connection and the server did nothing."""
    server.plan("Create", Trouble.DROP_BEFORE)
    with pytest.raises(requests.ConnectionError):
        protocol.open_shell()
    assert server.shells == set()


def test_drop_after_executes_request(server: WsmanServer, protocol: Protocol) -> None:
    """DROP_AFTER: the client loses its connection and the shell exists."""
    server.plan("Create", Trouble.DROP_AFTER)
    with pytest.raises(requests.ConnectionError):
        protocol.open_shell()
    assert len(server.shells) == 1


def test_dropped_client_needs_new_session(server: WsmanServer, protocol: Protocol) -> None:
    """pywinrm encrypts for the lost connection until its session is closed."""
    server.plan("Create", Trouble.DROP_BEFORE)
    with pytest.raises(requests.ConnectionError):
        protocol.open_shell()
    for _ in range(3):
        with pytest.raises(WinRMTransportError) as refused:
            protocol.open_shell()
        assert refused.value.code == 400
    protocol.transport.close_session()
    assert protocol.open_shell() in server.shells


def test_refused_client_needs_new_protocol(server: WsmanServer) -> None:
    """pywinrm sends the next message unencrypted: after a refusal it needs a new `Protocol`."""
    with client(server, password="wrong") as protocol:
        with pytest.raises(InvalidCredentialsError):
            protocol.open_shell()
        assert not any(server.seen)
        with pytest.raises(InvalidCredentialsError):
            protocol.open_shell()
    assert any(b"Envelope" in body for body in server.seen)


def test_http_503_does_nothing(server: WsmanServer, protocol: Protocol) -> None:
    """HTTP_503: the message has no effect; faults come in order, and later messages succeed."""
    server.plan("Create", Trouble.HTTP_503, Trouble.HTTP_503)
    for _ in range(2):
        with pytest.raises(WinRMTransportError) as unavailable:
            protocol.open_shell()
        assert unavailable.value.code == 503
    assert server.shells == set()
    assert protocol.open_shell() in server.shells


def test_quota_fault_is_returned(server: WsmanServer, protocol: Protocol) -> None:
    """QUOTA: the fault of too many shells, although there is none."""
    server.plan("Create", Trouble.QUOTA)
    with pytest.raises(WSManFaultError) as refused:
        protocol.open_shell()
    assert refused.value.wsman_fault_code == TOO_MANY_SHELLS
    assert server.shells == set()


def test_slow_response_times_out_at_client(server: WsmanServer) -> None:
    """SLOW: the client times out by itself, and the request takes effect."""
    server.plan("Create", Trouble.SLOW)
    with client(server, read_timeout_sec=2) as protocol, pytest.raises(requests.exceptions.ReadTimeout):
        protocol.open_shell()
    assert len(server.shells) == 1


def test_progress_in_stderr(server: WsmanServer, protocol: Protocol) -> None:
    """CLIXML: PowerShell's progress comes before the command's output."""
    server.plan("Receive", Trouble.CLIXML)
    stdout, stderr, exit_code = run(protocol, stdin=b"abc")
    assert (stdout, exit_code) == (b"cba", 7)
    assert stderr.startswith(b"#< CLIXML\r\n<Objs ")
    assert stderr.endswith(b"</Objs>work")


@pytest.mark.parametrize("action", ["Command", "Send", "Receive", "Signal", "Delete"])
def test_faults_apply_to_their_action(server: WsmanServer, protocol: Protocol, action: str) -> None:
    """A fault applies to the messages of its action and no other."""
    server.plan(action, Trouble.HTTP_503)
    with pytest.raises(WinRMTransportError):
        run(protocol)
    assert server.commands == ([] if action in ("Command", "Send") else [Command("work", b"", ACCOUNT)])


def test_server_close_ends_waiting_clients(serve: Callable[..., WsmanServer]) -> None:
    """Clients that wait for output when the server closes lose the connection at once; no thread is left."""
    before = set(threading.enumerate())
    running, done = threading.Event(), threading.Event()

    def answer(command: Command) -> Answer:
        running.set()
        done.wait(20)
        return echo(command)

    server = serve(answer)
    with client(server, operation_timeout_sec=8) as protocol, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(protocol.get_command_output, *start(protocol))
        assert running.wait(5)
        server.close()
        with pytest.raises(requests.ConnectionError):
            waiting.result(5)
    done.set()
    assert eventually(lambda: set(threading.enumerate()) <= before)
