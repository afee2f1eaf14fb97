"""An SMB connection that believes only what is encrypted or signed, and reads only messages of bounded size.

Owns: which messages of a server end the connection. smbprotocol takes any answer in the clear that does not say it is
signed, on encrypted connections too, and allocates whatever length is announced: docs/upstream/smbprotocol.md.
Not here: when a connection is made and dropped, and how long an answer is waited for (`session`).
Threads: `recv` and `verify_signature` run on smbprotocol's receiver thread; an exception there ends the connection, and
is raised again where an answer is waited for.
Source: MS-SMB2 2.1 (length of a message), 3.2.5.1.1 (decryption), 3.2.5.1.3 (signatures).
"""

import select
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus, Smb2Flags
from smbprotocol.session import Session
from smbprotocol.transport import Tcp

from pipeline.shares.smb.messages import CREDIT_BYTES, CREDITS_MAX, SmbReply
from pipeline.shares.smb.statuses import OK

#: An answer has no more bytes than its request paid for, and `messages` pays no more than this; as smbprotocol receives
#: it, that is also all the memory that a server can take.
FRAME_BYTES_MAX = CREDITS_MAX * CREDIT_BYTES
FRAME_LIMIT_S = 10.0  #: from the first byte of a message to its last one

_ENCRYPTED = b"\xfdSMB"
_CHANGED = "; something on the way, or the server, may have made it up"
_NOT_ENCRYPTED = f"an answer is not encrypted{_CHANGED}"
_NOT_SIGNED = f"an answer is not signed{_CHANGED}"

#: The functions of smbprotocol that this module depends on, and the names that it expects in their code.
_EXPECTED: dict[tuple[type, str], frozenset[str]] = {
    (Tcp, "__init__"): frozenset({"server", "port", "timeout", "connected", "_sock", "_close_lock"}),
    (Connection, "connect"): frozenset({"Tcp", "transport"}),
    (Connection, "verify_signature"): frozenset({"header", "session_id", "force", "signing_key"}),
    (Connection, "_process_message_thread"): frozenset(
        {"transport", "recv", "verify_signature", "outstanding_requests", "response", "response_event"}
    ),
    (Connection, "_check_worker_running"): frozenset({"_t_exc", "transport", "connected"}),
    (Session, "connect"): frozenset({"session_table", "encrypt_data", "signing_key", "signing_required"}),
}


class UntrustedAnswer(SMBException):  # type: ignore[misc]  # smbprotocol has no types
    """A message that the server may not have sent, or that no honest server sends."""


def why_unsupported() -> str:
    """Why the installed smbprotocol cannot be used, in one line; empty if it can."""
    if not (lacking := sorted(_lacking())):
        return ""
    return f"smbprotocol {version('smbprotocol')} cannot be used, install smbprotocol 1.17: no {', '.join(lacking)}"


class SealedConnection(Connection):  # type: ignore[misc]  # smbprotocol has no types
    """A connection that ends with the first answer that is not sealed as its session demands.

    From the moment its session encrypts, every message must be encrypted; before, and without encryption, every answer
    must be signed as soon as there is a session. Excepted are interim answers, which carry nothing.
    """

    _transport: "_BoundedTransport | None" = None

    @property
    def transport(self) -> Any:
        """smbprotocol assigns a plain transport in `connect`, and uses what it finds here."""
        return self._transport

    @transport.setter
    def transport(self, plain: Any) -> None:
        self._transport = None if plain is None else _BoundedTransport(plain, self._encrypts)

    def verify_signature(self, header: Any, session_id: int, force: bool = False) -> None:
        """Called for every answer that came in the clear, before it is delivered.

        Raises:
            SMBException: it is not signed, its signature is wrong, or it should have been encrypted.
        """
        if self._encrypts():  # also here: the session may have come to be while `recv` returned
            raise UntrustedAnswer(_NOT_ENCRYPTED)
        flags = header["flags"]
        if not self.session_table:
            super().verify_signature(header, session_id, force)  # before the log-in there is no key
        elif header["status"].get_value() != NtStatus.STATUS_PENDING:
            # A request is signed with the same key: sent back, it would be an answer that says "done".
            if not flags.has_flag(Smb2Flags.SMB2_FLAGS_SIGNED | Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR):
                raise UntrustedAnswer(_NOT_SIGNED)
            super().verify_signature(header, next(iter(self.session_table)), force=True)

    def reply(self, request: Any, deadline: float) -> SmbReply:
        """The final answer to a request, whatever its status; `deadline` is one of `time.monotonic`.

        smbprotocol's `receive` begins to wait again with each interim answer, without an end.

        Raises:
            SMBException: there is none in time.
            Exception: what ended the connection.
        """
        while request.response_event.wait(max(0.0, deadline - time.monotonic())):
            with request.response_event_lock:
                self._check_worker_running()
                response = request.response
                status = NtStatus.STATUS_PENDING if response is None else response["status"].get_value()
                if status != NtStatus.STATUS_PENDING:
                    break
                request.response_event.clear()
        else:
            raise SMBException("no answer in time")
        asked = request.message
        self.outstanding_requests.pop(asked["message_id"].get_value(), None)
        if response["command"].get_value() != asked["command"].get_value():
            raise UntrustedAnswer(f"an answer is to another kind of request{_CHANGED}")
        return SmbReply(status, response["data"].get_value() if status == OK else b"")

    def _encrypts(self) -> bool:
        return any(session.encrypt_data for session in tuple(self.session_table.values()))


class _BoundedTransport(Tcp):  # type: ignore[misc]  # smbprotocol has no types
    """A transport that refuses messages that are too large, too slow, or not encrypted although they must be."""

    def __init__(self, plain: Tcp, must_be_encrypted: Callable[[], bool]) -> None:
        super().__init__(plain.server, plain.port, plain.timeout)
        self._must_be_encrypted = must_be_encrypted

    def recv(self, timeout: float) -> bytes:
        """The next message; empty if the connection ended.

        Raises:
            TimeoutError: none began in `timeout` seconds; smbprotocol then asks the server for a sign of life.
            UntrustedAnswer: no honest server sends this message.
        """
        header = bytearray(4)
        begun = self._receive_some(memoryview(header), timeout)
        deadline = time.monotonic() + FRAME_LIMIT_S
        if not begun or not self._fill(memoryview(header)[begun:], deadline):
            return b""
        length = int.from_bytes(header, "big")
        if not 0 < length <= FRAME_BYTES_MAX:
            raise UntrustedAnswer(f"a message of {length} bytes is announced, {FRAME_BYTES_MAX} are allowed{_CHANGED}")
        message = bytearray(length)
        if not self._fill(memoryview(message), deadline):
            return b""
        if self._must_be_encrypted() and not message.startswith(_ENCRYPTED):
            raise UntrustedAnswer(_NOT_ENCRYPTED)
        return bytes(message)

    def _fill(self, room: memoryview, deadline: float) -> bool:
        """Whether all of it was received; not if the connection ended."""
        while room:
            try:
                received = self._receive_some(room, max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise UntrustedAnswer(f"a message was not complete after {FRAME_LIMIT_S:g} s") from error
            if not received:
                return False
            room = room[received:]
        return True

    def _receive_some(self, room: memoryview, timeout: float) -> int:
        """The number of bytes received; 0 if the connection ended. `close` waits for the lock before it closes."""
        with self._close_lock:
            if not self.connected:
                return 0
            if not select.select([self._sock], [], [], timeout)[0]:
                raise TimeoutError(f"nothing received for {timeout:g} s")
            try:
                received: int = self._sock.recv_into(room)
            except OSError:  # reset, or shut down by `close`: Windows raises where Linux returns nothing
                received = 0
        if not received:
            self.close()
        return received


def _lacking() -> Iterator[str]:
    for (owner, function), names in _EXPECTED.items():
        code = getattr(getattr(owner, function, None), "__code__", None)
        found = {*code.co_names, *code.co_varnames} if code is not None else set()
        yield from (f"{owner.__name__}.{function}: {name}" for name in names - found)
