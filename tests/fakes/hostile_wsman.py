"""A server in the place of a WinRM service that knows no password; it serves the real pywinrm."""

import base64
import contextlib
import enum
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import orjson

#: 128 bit, key exchange, 56 bit, target info, extended session security, always sign, NTLM, seal, sign, Unicode.
#: Source: MS-NLMP 2.2.2.5.
STRONG = 0xE0888231
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_SOAP = "application/soap+xml;charset=UTF-8"
_SEALED = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'


class Attack(enum.Enum):
    """How the server answers a client that has logged on."""

    CLEAR = "in the clear, as a host would"
    FAULT = "a fault in the clear"
    OPEN = "as a host that asks for no logon"
    ENDLESS = "with a body that has no end"
    ENDLESS_LOGON = "with a body that has no end, before the logon"
    EMPTY = "with nothing that it calls encrypted"
    GARBAGE = "with bytes that it calls encrypted"
    LABELLED = "in the clear, as a host would, and calls it encrypted"
    PLAIN_PART = "with a message that has no encrypted part"
    REDIRECT = "with the address of another server"


@dataclass
class HostileServer:
    """The server, and what a test asks of it."""

    attack: Attack
    flags: int
    port: int = 0
    sent_bytes: int = 0
    messages: list[bytes] = field(default_factory=list)  #: bodies of requests after the logon
    logons: int = 0  #: responses to its challenge, which can be guessed offline


@contextmanager
def hostile_wsman(attack: Attack = Attack.CLEAR, *, flags: int = STRONG) -> Iterator[HostileServer]:
    """A server on the loopback; `flags`: what its challenge asks of the logon."""
    state = HostileServer(attack, flags)
    listener = _HostileListener(("127.0.0.1", 0), _HostileConnection)
    listener.daemon_threads, listener.state, state.port = True, state, listener.server_port
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(5)


class _HostileListener(ThreadingHTTPServer):
    state: HostileServer


class _HostileConnection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _answers: Iterator[str]

    def handle(self) -> None:
        self._answers = _answers()
        with contextlib.suppress(OSError):  # the client is gone
            super().handle()

    def do_POST(self) -> None:
        state = cast(_HostileListener, self.server).state
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = base64.b64decode(self.headers.get("Authorization", "").partition(" ")[2])
        if state.attack is Attack.ENDLESS_LOGON:
            self._send_endlessly(state)
        elif body:
            state.messages.append(body)
            self._attack(state)
        elif state.attack is Attack.OPEN:
            self._reply(200)
        elif not token:
            self._reply(401, b"", {"WWW-Authenticate": "Negotiate"})
        elif token[8] == 1:
            self._reply(401, b"", {"WWW-Authenticate": f"Negotiate {_challenge(state.flags)}"})
        else:
            state.logons += 1
            self._reply(200)

    def _attack(self, state: HostileServer) -> None:
        match state.attack:
            case Attack.FAULT:
                self._reply(500, _FAULT.encode(), {"Content-Type": _SOAP})
            case Attack.ENDLESS:
                self._send_endlessly(state)
            case Attack.EMPTY:
                self._reply(200, b"", {"Content-Type": _SEALED})
            case Attack.GARBAGE:
                self._reply(200, os.urandom(500), {"Content-Type": _SEALED})
            case Attack.LABELLED:
                self._reply(200, next(self._answers).encode(), {"Content-Type": _SEALED})
            case Attack.PLAIN_PART:
                self._reply(200, b"--Encrypted Boundary\r\n" * 3, {"Content-Type": _SEALED})
            case Attack.REDIRECT:
                self._reply(307, b"", {"Location": "http://127.0.0.1:1/wsman"})
            case _:
                self._reply(200, next(self._answers).encode(), {"Content-Type": _SOAP})

    def _send_endlessly(self, state: HostileServer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", _SEALED)
        self.send_header("Content-Length", str(2**40))
        self.end_headers()
        while True:
            state.sent_bytes += self.connection.send(b"x" * 65536)

    def _reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests check the outcome instead."""


def _challenge(flags: int) -> str:
    """A CHALLENGE_MESSAGE with made-up numbers. Source: MS-NLMP 2.2.1.2."""
    end_of_list = bytes(4)
    fields = len(end_of_list).to_bytes(2, "little") * 2 + (56).to_bytes(4, "little")
    head = b"NTLMSSP\0" + (2).to_bytes(4, "little") + bytes(4) + (56).to_bytes(4, "little")
    message = head + flags.to_bytes(4, "little") + os.urandom(8) + bytes(8) + fields + bytes(8) + end_of_list
    return base64.b64encode(message).decode()


def _answers() -> Iterator[str]:
    """What a host says to a script call, by the order of its messages: a machine at an address of its choice."""
    rows = [{"name": "vm-1", "state": "Running", "heartbeat": "Error", "addresses": ["192.0.2.66"]}]
    line = b"reply:" + base64.b64encode(orjson.dumps({"ok": True, "value": orjson.dumps(rows).decode()}))
    shell, command = str(uuid.uuid4()).upper(), str(uuid.uuid4()).upper()
    yield _envelope(f'<w:SelectorSet xmlns:w="w"><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>')
    yield _envelope(f"<rsp:CommandResponse><rsp:CommandId>{command}</rsp:CommandId></rsp:CommandResponse>")
    yield _envelope("<rsp:SendResponse/>")
    stream = f'<rsp:Stream Name="stdout" CommandId="{command}">{base64.b64encode(line).decode()}</rsp:Stream>'
    state = f'<rsp:CommandState CommandId="{command}" State="{_SHELL}/CommandState/Done"><rsp:ExitCode>0</rsp:ExitCode>'
    yield _envelope(f"<rsp:ReceiveResponse>{stream}{state}</rsp:CommandState></rsp:ReceiveResponse>")
    while True:
        yield _envelope("")


def _envelope(body: str) -> str:
    soap = "http://www.w3.org/2003/05/soap-envelope"
    return f'<s:Envelope xmlns:s="{soap}" xmlns:rsp="{_SHELL}"><s:Body>{body}</s:Body></s:Envelope>'


_FAULT = _envelope(
    "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text>Access is denied.</s:Text></s:Reason>"
    "</s:Fault>"
)
