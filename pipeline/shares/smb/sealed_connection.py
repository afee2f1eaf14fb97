"""The log-in of an SMB connection by smbprotocol, which believes only what is encrypted or signed, in bounded messages.

Owns: which messages of a server end the log-in. smbprotocol takes any answer in the clear that does not say it is
signed, on encrypted connections too, and allocates whatever length is announced: docs/upstream/smbprotocol.md.
Not here: what comes after the log-in (`channel`, `seal`).
Threads: `recv` and `verify_signature` run on smbprotocol's receiver thread, which ends with the log-in; an exception
there ends the connection, and is raised again where an answer is waited for.
Source: MS-SMB2 3.2.5.1.1 (decryption), 3.2.5.1.3 (signatures).
"""

import selectors
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus, Smb2Flags
from smbprotocol.session import Session
from smbprotocol.transport import Tcp
from smbprotocol.tree import TreeConnect

from pipeline.shares.smb.channel import Credits, SealedChannel
from pipeline.shares.smb.frames import Frames
from pipeline.shares.smb.seal import (
    ENCRYPTED,
    NOT_ENCRYPTED,
    NOT_SIGNED,
    UNASKED,
    Encryption,
    SessionKeys,
    Signing,
    UntrustedAnswer,
)

#: The functions of smbprotocol that this module depends on, and the names that it expects in their code.
_EXPECTED: dict[tuple[type, str], frozenset[str]] = {
    (Tcp, "__init__"): frozenset({"server", "port", "timeout", "connected", "_sock", "_close_lock"}),
    (Connection, "connect"): frozenset({"Tcp", "transport", "_t_worker", "cipher_id", "signing_algorithm_id"}),
    (Connection, "verify_signature"): frozenset({"header", "session_id", "force", "signing_key"}),
    (Connection, "_process_message_thread"): frozenset(
        {"transport", "recv", "verify_signature", "outstanding_requests", "response", "response_event"}
    ),
    (Connection, "_check_worker_running"): frozenset({"_t_exc", "transport", "connected"}),
    (Connection, "_send"): frozenset({"sequence_window", "signing_required", "encrypt_data", "is_dfs_share"}),
    (Session, "connect"): frozenset(
        {"session_table", "encrypt_data", "signing_key", "signing_required", "encryption_key", "decryption_key"}
    ),
    (TreeConnect, "connect"): frozenset({"tree_connect_id", "is_dfs_share", "encrypt_data"}),
}


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

    _transport: "_LogInTransport | None" = None

    def __init__(self, server: str, port: int, limit_s: float) -> None:
        """`limit_s`: for the whole log-in."""
        super().__init__(uuid.uuid4(), server, port, require_signing=True)
        self._deadline = time.monotonic() + limit_s

    @property
    def transport(self) -> Any:
        """smbprotocol assigns a plain transport in `connect`, and uses what it finds here."""
        return self._transport

    @transport.setter
    def transport(self, plain: Any) -> None:
        self._transport = None if plain is None else _LogInTransport(plain, self._encrypts, self._deadline)

    def verify_signature(self, header: Any, session_id: int, force: bool = False) -> None:
        """Called for every answer that came in the clear, before it is delivered.

        Raises:
            SMBException: it is not signed, its signature is wrong, or it should have been encrypted.
        """
        if self._encrypts():  # also here: the session may have come to be while `recv` returned
            raise UntrustedAnswer(NOT_ENCRYPTED)
        flags = header["flags"]
        if not self.session_table:
            super().verify_signature(header, session_id, force)  # before the log-in there is no key
        elif header["status"].get_value() != NtStatus.STATUS_PENDING:
            # A request is signed with the same key: sent back, it would be an answer that says "done".
            if not flags.has_flag(Smb2Flags.SMB2_FLAGS_SIGNED | Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR):
                raise UntrustedAnswer(NOT_SIGNED)
            super().verify_signature(header, next(iter(self.session_table)), force=True)

    def hand_over(self, tree: TreeConnect) -> SealedChannel:
        """The connection from now on, for requests to this tree; smbprotocol has no part in it.

        Raises:
            SMBException: the connection has ended, or the server has sent more than was asked for.
        """
        transport = self._transport
        assert transport is not None
        transport.interrupt()
        self._t_worker.join()
        self._check_worker_running()
        session = tree.session
        keys = SessionKeys(
            session_id=session.session_id,
            dialect=self.dialect,
            cipher=self.cipher_id,
            signing_algorithm=self.signing_algorithm_id,
            encryption_key=session.encryption_key,
            decryption_key=session.decryption_key,
            signing_key=session.signing_key,
        )
        window = self.sequence_window
        return SealedChannel(
            transport.hand_over(),
            Encryption(keys) if session.encrypt_data or tree.encrypt_data else Signing(keys),
            session.session_id,
            tree.tree_connect_id,
            Credits(window["low"], window["high"], self.supports_multi_credit),
            tree_flags=Smb2Flags.SMB2_FLAGS_DFS_OPERATIONS if tree.is_dfs_share else 0,
        )

    def _encrypts(self) -> bool:
        return any(session.encrypt_data for session in tuple(self.session_table.values()))


class _LogInTransport(Tcp):  # type: ignore[misc]  # smbprotocol has no types
    """A transport that refuses messages that are too large, too slow, or not encrypted although they must be."""

    def __init__(self, plain: Tcp, must_be_encrypted: Callable[[], bool], deadline: float) -> None:
        super().__init__(plain.server, plain.port, plain.timeout)
        self._must_be_encrypted, self._deadline = must_be_encrypted, deadline
        self._frames, self._packets = Frames(), list[bytes]()
        self._interrupt: Any = None  # a pair of sockets, once it is connected
        self._interrupted: Any = None
        self._is_over = False

    def connect(self) -> None:
        """Connects, and has small messages sent at once and a dead peer detected."""
        super().connect()
        self._interrupt, self._interrupted = socket.socketpair()
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def recv(self, timeout: float) -> bytes:
        """The next message; empty if the connection ended, or is handed over.

        Raises:
            UntrustedAnswer: no honest server sends this message.
            SMBException: the log-in takes too long.
        """
        while not self._packets:
            self._frames.require_progress()
            if self._is_over or not (data := self._receive_some()):
                return b""
            self._packets += self._frames.feed(data)
        packet = self._packets.pop(0)
        if self._must_be_encrypted() and not packet.startswith(ENCRYPTED):
            raise UntrustedAnswer(NOT_ENCRYPTED)
        return packet

    def interrupt(self) -> None:
        """Lets `recv` return."""
        self._is_over = True
        if self._interrupt is not None:
            self._interrupt.send(b"!")

    def hand_over(self) -> socket.socket:
        """The socket, which is the caller's from now on. Raises UntrustedAnswer: there is more in it than asked for."""
        if self._packets or self._frames.due is not None:
            raise UntrustedAnswer(UNASKED)
        self.connected = False
        self._close_ends()
        found: socket.socket = self._sock
        return found

    def close(self) -> None:
        """Closes the connection."""
        super().close()
        self._close_ends()

    def _close_ends(self) -> None:
        for end in (self._interrupt, self._interrupted):
            if end is not None:
                end.close()

    def _receive_some(self) -> bytes:
        """What arrives next; nothing if the connection ended. `close` waits for the lock before it closes."""
        data = b""
        with self._close_lock:
            if not self.connected:
                return b""
            until = min(self._deadline, self._frames.due or self._deadline)
            with selectors.DefaultSelector() as selector:
                selector.register(self._sock, selectors.EVENT_READ)
                selector.register(self._interrupted, selectors.EVENT_READ)
                found = selector.select(max(0.0, until - time.monotonic()))
            if self._is_over:
                return b""
            if found:
                try:
                    data = self._sock.recv(64 * 1024)
                except OSError:  # reset, or shut down by `close`: Windows raises where Linux returns nothing
                    data = b""

        if not found:
            self._frames.require_progress()
            raise SMBException("no answer in time")
        if not data:
            self.close()
        return data


def _lacking() -> Iterator[str]:
    for (owner, function), names in _EXPECTED.items():
        code = getattr(getattr(owner, function, None), "__code__", None)
        found = {*code.co_names, *code.co_varnames} if code is not None else set()
        yield from (f"{owner.__name__}.{function}: {name}" for name in names - found)
