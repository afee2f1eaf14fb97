"""A WS-Management server on loopback for tests: real HTTP, TLS, NTLM and message encryption for a real client.

It implements the remote shell of MS-WSMV: Create, Command, Send, Receive, Signal, Delete. It runs no PowerShell: the
test supplies the answer to a command. A command begins when its stdin has ended, never before. Its behaviour follows
MS-WSMV and reports about Windows.
"""

import base64
import contextlib
import datetime
import enum
import ipaddress
import os
import re
import socket
import ssl
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import escape

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spnego.exceptions import SpnegoError

MAX_SHELLS = 30  #: per account: the quota MaxShellsPerUser of Windows
PIECE = 100_000  #: bytes of output in one Receive: as base64 they fit into an envelope of 150 KiB
OPERATION_TIMED_OUT, TOO_MANY_SHELLS, NO_SUCH_SHELL = 2150858793, 2150859173, 2150858843
ACCESS_DENIED, INVALID_PARAMETER, BROKEN_PIPE, ABORTED = 5, 87, 109, 995  # plain errors of Windows

_NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
}
_XMLNS = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NS.items())
_CLIXML = (
    b'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><Obj S="progress" '
    b'RefId="0"><MS><PR N="Record"><AV>Preparing modules for first use.</AV><T>Completed</T></PR></MS></Obj></Objs>'
)
_OCTETS, _END = b"\tContent-Type: application/octet-stream\r\n", b"--Encrypted Boundary--\r\n"
_SEALED = "application/HTTP-SPNEGO-session-encrypted"
_SEALED_TYPE = f'multipart/encrypted;protocol="{_SEALED}";boundary="Encrypted Boundary"'


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a client ran."""

    line: str  #: command and arguments as sent, joined by a space
    stdin: bytes  #: everything sent until the end of the stream
    account: str  #: the authenticated account


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a command."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


class Trouble(enum.Enum):
    """A fault of one message."""

    DROP_BEFORE = enum.auto()  #: the connection is closed, the message has no effect
    DROP_AFTER = enum.auto()  #: the message takes effect, and the connection is closed without a response
    HTTP_503 = enum.auto()  #: the service is unavailable, the message has no effect
    QUOTA = enum.auto()  #: the fault of too many shells, the message has no effect
    UNACKNOWLEDGED = enum.auto()  #: the message takes effect, but the response is the time-out of a busy host
    ACCESS_DENIED = enum.auto()  #: the account may log on, but not run commands
    SLOW = enum.auto()  #: the message takes effect, and no response comes for 60 s, or until the server is closed
    CLIXML = enum.auto()  #: on Receive: PowerShell's progress comes first, on stderr


class _Message:
    """One request and its account."""

    def __init__(self, text: bytes, account: str) -> None:
        self.account = account
        self._root = ET.fromstring(text)
        self.uri = self.text("a:Action")
        self.action = self.uri.rpartition("/")[2]
        self.shell_id = self.text("w:Selector[@Name='ShellId']")
        self.command_id = next(iter(self._root.findall(".//*[@CommandId]")), self._root).get("CommandId", "")
        seconds = re.fullmatch(r"PT([\d.]+)S", self.text("w:OperationTimeout"))
        self.timeout_s = float(seconds[1]) if seconds else 60.0

    def text(self, path: str) -> str:
        """The text of the elements at a path, joined by spaces."""
        return " ".join(node.text or "" for node in self._root.iterfind(f".//{path}", _NS))

    def has(self, path: str) -> bool:
        return self._root.find(f".//{path}", _NS) is not None

    def reply(self, action: str, body: str) -> bytes:
        return (
            f'<s:Envelope xml:lang="en-US" {_XMLNS}><s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:'
            f"{_new_id()}</a:MessageID><a:RelatesTo>{escape(self.text('a:MessageID'))}</a:RelatesTo></s:Header>"
            f"<s:Body>{body}</s:Body></s:Envelope>"
        ).encode()


class _Fault(Exception):
    """A fault response."""

    def __init__(self, code: int, subcode: str, reason: str) -> None:
        super().__init__(reason)
        self.body = (
            f"<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:{subcode}</s:Value></s:Subcode>"
            f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(reason)}</s:Text></s:Reason><s:Detail><f:WSManFault '
            f'Code="{code}" Machine="127.0.0.1"><f:Message>{escape(reason)}</f:Message></f:WSManFault></s:Detail>'
            "</s:Fault>"
        )


def _too_many_shells() -> _Fault:
    return _Fault(
        TOO_MANY_SHELLS,
        "QuotaLimit",
        f"The WS-Management service cannot process the request. This user is allowed a maximum number of {MAX_SHELLS} "
        "concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user.",
    )


@dataclass(eq=False)
class _Process:
    line: str
    stdin: bytes = b""
    begun: bool = False
    terminated: bool = False
    exit_code: int | None = None
    output: deque[tuple[str, bytes]] = field(default_factory=deque)  #: pieces, each with the name of its stream


@dataclass(eq=False)
class _Shell:
    account: str
    processes: dict[str, _Process] = field(default_factory=dict)


class _Shells:
    """All shells, and the effect of each message on them. One lock guards them; waiting for output releases it."""

    def __init__(self, answer: Callable[[Command], Answer]) -> None:
        self.open: dict[str, _Shell] = {}
        self.commands: list[Command] = []
        self.closed = False
        self.changed = threading.Condition()
        self._answer = answer
        self._verbs = {
            "Create": self._create,
            "Command": self._command,
            "Send": self._send,
            "Receive": self._receive,
            "Signal": self._signal,
            "Delete": self._delete,
        }

    def act(self, message: _Message) -> str:
        """Executes a message; returns the body of the response."""
        if message.action not in self._verbs:
            raise _Fault(INVALID_PARAMETER, "ActionNotSupported", f"{message.uri} is not spoken here.")
        with self.changed:
            return self._verbs[message.action](message)

    def make_noise(self, message: _Message) -> None:
        """Puts progress of PowerShell before all output that was not fetched yet."""
        with self.changed:
            self._process(message).output.appendleft(("stderr", _CLIXML))

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _shell(self, message: _Message) -> _Shell:
        shell = self.open.get(message.shell_id)
        if shell is None or shell.account != message.account:
            raise _Fault(NO_SUCH_SHELL, "InvalidSelectors", f"The shell {message.shell_id} was not found.")
        return shell

    def _process(self, message: _Message) -> _Process:
        process = self._shell(message).processes.get(message.command_id)
        if process is None:
            raise _Fault(INVALID_PARAMETER, "InternalError", "The parameter is incorrect.")
        return process

    def _create(self, message: _Message) -> str:
        if sum(shell.account == message.account for shell in self.open.values()) >= MAX_SHELLS:
            raise _too_many_shells()
        shell_id = _new_id()
        self.open[shell_id] = _Shell(message.account)
        return (
            f"<x:ResourceCreated><a:ReferenceParameters><w:ResourceURI>{_NS['rsp']}/cmd</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
            "</x:ResourceCreated>"
        )

    def _command(self, message: _Message) -> str:
        line = f"{message.text('rsp:Command')} {message.text('rsp:Arguments')}".rstrip(" ")
        command_id = _new_id()
        self._shell(message).processes[command_id] = _Process(line)
        return f"<rsp:CommandResponse><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, message: _Message) -> str:
        process = self._process(message)
        if process.begun or process.terminated:
            raise _Fault(BROKEN_PIPE, "InternalError", "The pipe has been ended.")
        process.stdin += base64.b64decode(message.text("rsp:Stream"))
        if message.has("rsp:Stream[@End='true']"):
            process.begun = True
            command = Command(process.line, process.stdin, message.account)
            self.commands.append(command)
            threading.Thread(target=self._run, args=(process, command), daemon=True).start()
        return "<rsp:SendResponse/>"

    def _run(self, process: _Process, command: Command) -> None:
        answer = self._answer(command)
        with self.changed:
            for name, data in (("stdout", answer.stdout), ("stderr", answer.stderr)):
                process.output.extend((name, data[at : at + PIECE]) for at in range(0, len(data), PIECE))
            process.exit_code = answer.exit_code
            self.changed.notify_all()

    def _receive(self, message: _Message) -> str:
        process = self._process(message)

        def something() -> bool:
            return bool(process.output) or process.exit_code is not None or process.terminated or self.closed

        if not self.changed.wait_for(something, message.timeout_s):
            raise _Fault(OPERATION_TIMED_OUT, "TimedOut", "There was no output within OperationTimeout.")
        if self.closed:
            raise ConnectionAbortedError
        if process.terminated:
            raise _Fault(ABORTED, "InternalError", "The I/O operation has been aborted.")
        stream, state, exit_code = "", "Running", ""
        if process.output:
            name, piece = process.output.popleft()
            data = base64.b64encode(piece).decode()
            stream = f'<rsp:Stream Name="{name}" CommandId="{message.command_id}">{data}</rsp:Stream>'
        if process.exit_code is not None and not process.output:
            state, exit_code = "Done", f"<rsp:ExitCode>{process.exit_code}</rsp:ExitCode>"
        return (
            f'<rsp:ReceiveResponse>{stream}<rsp:CommandState CommandId="{message.command_id}" '
            f'State="{_NS["rsp"]}/CommandState/{state}">{exit_code}</rsp:CommandState></rsp:ReceiveResponse>'
        )

    def _signal(self, message: _Message) -> str:
        self._process(message).terminated |= message.text("rsp:Code").endswith("/terminate")
        self.changed.notify_all()
        return "<rsp:SignalResponse/>"

    def _delete(self, message: _Message) -> str:
        for process in self._shell(message).processes.values():
            process.terminated = True
        del self.open[message.shell_id]
        self.changed.notify_all()
        return ""


class _Accounts:
    """The accounts that may log on. NTLM reads them from a file that an environment variable names."""

    _environment = threading.Lock()  # the variable is global to the process

    def __init__(self, passwords: Mapping[str, str], file: Path) -> None:
        assert not set("".join(passwords.values())) & set(":\r\n"), "the file cannot hold such a password"
        self._passwords = passwords
        self._file = file
        lines = (":".join((*account.rpartition("\\")[::2], word)) for account, word in passwords.items())
        file.write_text("\n".join(lines), encoding="utf-8")

    def basic(self, token: str) -> str | None:
        """The account, if the password is right."""
        account, _, password = base64.b64decode(token).decode().partition(":")
        return account if self._passwords.get(account) == password else None

    def step(self, handshake: spnego.ContextProxy | None, token: str) -> tuple[spnego.ContextProxy, str]:
        """One step of a handshake; returns the bytes for the client."""
        with self._environment:
            before = os.environ.get("NTLM_USER_FILE")
            os.environ["NTLM_USER_FILE"] = str(self._file)
            try:
                if handshake is None:  # spnego's own NTLM implementation, also on Windows
                    handshake = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
                return handshake, base64.b64encode(handshake.step(base64.b64decode(token)) or b"").decode()
            finally:
                del os.environ["NTLM_USER_FILE"]
                if before is not None:
                    os.environ["NTLM_USER_FILE"] = before


def _unseal(context: spnego.ContextProxy, body: bytes) -> bytes:
    """The message in an encrypted body: MS-WSMV 2.2.9.1."""
    head, _, sealed = body.partition(_OCTETS)
    sealed = sealed.removesuffix(_END)
    end = 4 + int.from_bytes(sealed[:4], "little")
    text = context.unwrap_winrm(sealed[4:end], sealed[end:])
    if f"Length={len(text)}\r\n".encode() not in head:
        raise ValueError("it is not as long as it says")
    return text


def _seal(context: spnego.ContextProxy, text: bytes) -> bytes:
    sealed = context.wrap_winrm(text)
    head = (
        f"--Encrypted Boundary\r\n\tContent-Type: {_SEALED}\r\n\tOriginalContent: type=application/soap+xml;"
        f"charset=UTF-8;Length={len(text)}\r\n--Encrypted Boundary\r\n"
    )
    return head.encode() + _OCTETS + len(sealed.header).to_bytes(4, "little") + sealed.header + sealed.data + _END


class _Connection(BaseHTTPRequestHandler):
    """One connection of a client. NTLM authenticates the connection, Basic each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _handshake: spnego.ContextProxy | None = None

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client is gone, or the test drops the connection
            super().handle()

    def do_POST(self) -> None:
        wsman = cast(_Listener, self.server).wsman
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wsman.seen.append(body)
        account = self._account(wsman)
        context = self._handshake if self.headers.get("Content-Type", "").startswith("multipart/encrypted") else None
        if account is None:
            return  # and the client got a response
        if not body:
            self._reply(200)  # a client that will encrypt authenticates with an empty body
        elif not context and not wsman.tls:
            self._reply(500)
        else:
            try:
                message = _Message(_unseal(context, body) if context else body, account)
            except (SpnegoError, ValueError, ET.ParseError):
                self._reply(400)  # for example encrypted for a connection that broke
                return
            status, text = wsman.exchange(message)
            if status == 503:  # the response of a proxy in front of the service
                self._reply(status, text, ("Content-Type", "text/html; charset=us-ascii"))
            elif context:
                self._reply(status, _seal(context, text), ("Content-Type", _SEALED_TYPE))
            else:
                self._reply(status, text, ("Content-Type", "application/soap+xml;charset=UTF-8"))

    def _account(self, wsman: "WsmanServer") -> str | None:
        """The account of a request."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        offers = ["Negotiate", 'Basic realm="WSMAN"'] if wsman.tls else ["Negotiate"]  # what Windows offers
        try:
            if scheme == "Basic" and wsman.tls and (account := wsman.accounts.basic(token)):
                return account
            if scheme in ("Negotiate", "NTLM"):
                begun = None if self._handshake and self._handshake.complete else self._handshake
                self._handshake, challenge = wsman.accounts.step(begun, token)
                offers = [f"{scheme} {challenge}"]
            if scheme != "Basic" and self._handshake and self._handshake.complete:
                return self._handshake.client_principal
        except (SpnegoError, ValueError):  # a wrong password or an invalid header
            self._handshake = None
        self._reply(401, b"", *(("WWW-Authenticate", offer) for offer in offers))
        return None

    def _reply(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests check the outcome instead."""


class _Listener(ThreadingHTTPServer):
    """Tracks its connections, so that it can close them."""

    def __init__(self, wsman: "WsmanServer", context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.wsman = wsman
        self._context = context
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._context:  # the connection's own thread runs the handshake: a silent client blocks no other one
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._connections.append((request, thread))
        self.wsman.connections += 1
        thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection, thread in self._connections:
            with contextlib.suppress(OSError):  # below TLS, which the connection's thread may be reading
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(5)


class WsmanServer:
    """A server; it calls `answer` for each command, in a thread of the command."""

    def __init__(self, answer: Callable[[Command], Answer], *, accounts: Mapping[str, str], tls: bool = False) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="wsman-")
        self._shells = _Shells(answer)
        self._troubles: defaultdict[str, deque[Trouble]] = defaultdict(deque)
        self.tls = tls
        self.accounts = _Accounts(accounts, Path(self._place.name, "accounts"))
        self.commands = self._shells.commands  #: all commands passed to `answer`, in order
        self.seen: list[bytes] = []  #: the bodies of all requests as received
        self.connections = 0  #: made by all clients
        self.certificate = Path(self._place.name, "certificate.pem") if tls else None  #: clients have to trust it
        self._listener = _Listener(self, self_signed(self.certificate) if self.certificate else None)
        port = self._listener.server_port
        self.endpoint = f"https://localhost:{port}/wsman" if tls else f"http://127.0.0.1:{port}/wsman"

    def __enter__(self) -> "WsmanServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shells(self) -> set[str]:
        """The shells that are open now; used to find leaks."""
        with self._shells.changed:
            return set(self._shells.open)

    def plan(self, action: str, *troubles: Trouble) -> None:
        """The next messages of an action meet these faults, one each; later messages succeed."""
        self._troubles[action].extend(troubles)

    def close(self) -> None:
        """Closes the server. A running command is left alone."""
        self._shells.close()
        self._listener.close()
        self._place.cleanup()

    def exchange(self, message: _Message) -> tuple[int, bytes]:
        """Executes a message; returns the HTTP status and the response."""
        trouble = None
        with contextlib.suppress(IndexError):
            trouble = self._troubles[message.action].popleft()
        if trouble is Trouble.DROP_BEFORE:
            raise ConnectionAbortedError
        if trouble is Trouble.HTTP_503:
            return 503, b"<HTML><BODY><h2>Service Unavailable</h2></BODY></HTML>"
        try:
            if trouble is Trouble.QUOTA:
                raise _too_many_shells()
            if trouble is Trouble.ACCESS_DENIED:
                raise _Fault(ACCESS_DENIED, "AccessDenied", "Access is denied.")
            if trouble is Trouble.CLIXML:
                self._shells.make_noise(message)
            status, reply = 200, message.reply(f"{message.uri}Response", self._shells.act(message))
            if trouble is Trouble.UNACKNOWLEDGED:
                raise _Fault(OPERATION_TIMED_OUT, "TimedOut", "The operation did not end within OperationTimeout.")
        except _Fault as fault:
            status, reply = 500, message.reply("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", fault.body)
        if trouble is Trouble.DROP_AFTER:
            raise ConnectionAbortedError
        if trouble is Trouble.SLOW:
            with self._shells.changed:
                self._shells.changed.wait_for(lambda: self._shells.closed, 60)
        return status, reply


def _new_id() -> str:
    return str(uuid.uuid4()).upper()


def self_signed(certificate: Path) -> ssl.SSLContext:
    """Makes a self-signed certificate for the loopback address."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, now - day, now + day)
    signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(private, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    key = certificate.with_name("key.pem")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
