"""One connection, session and tree to one SMB share, and exchanges over it: several messages, one round trip.

It decides when a connection is made, when it is doubted and dropped, and that every wait has a deadline. It knows no
file.
"""

import enum
import logging
import secrets
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from smbprotocol.connection import Connection, Dialects
from smbprotocol.exceptions import (
    AccessDenied,
    BadNetworkName,
    LogonFailure,
    SMBAuthenticationError,
    SMBException,
    SMBResponseException,
)
from smbprotocol.header import NtStatus
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
from spnego.exceptions import SpnegoError

from inbox_agent.protocol.files import Unavailable
from pipeline.errors import SecretError
from pipeline.shares.smb.change_notify import ChangeNotify
from pipeline.shares.smb.messages import SmbReply

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 10.0
EXCHANGE_LIMIT_S = 10.0
BACK_OFF_S, BACK_OFF_S_MAX, REFUSED_BACK_OFF_S = 0.25, 15.0, 60.0
DIALECTS = {"3.1.1": Dialects.SMB_3_1_1, "3.0.2": Dialects.SMB_3_0_2, "3.0": Dialects.SMB_3_0_0}
#: What smbprotocol, its authentication and the socket raise. `KeyError`: an answer to a question that was given up;
#: `struct.error`: one that is cut off; `TypeError`: none, because the connection ended just then.
_TROUBLE = (SMBException, SpnegoError, OSError, ValueError, KeyError, struct.error, TypeError)
#: The server has forgotten us: another connection is needed before anything else can be asked (MS-SMB2 3.2.5.1).
SESSION_LOST = frozenset(
    {
        0xC0000203,  # STATUS_USER_SESSION_DELETED
        0xC000035C,  # STATUS_NETWORK_SESSION_EXPIRED
        0xC00000C9,  # STATUS_NETWORK_NAME_DELETED
        0xC000020C,  # STATUS_CONNECTION_DISCONNECTED
        0xC0000128,  # STATUS_FILE_CLOSED
    }
)


class Refusal(enum.StrEnum):
    """What a server refused, or was refused for."""

    ACCOUNT = "account"
    SHARE = "share"
    RIGHT = "right"
    DIALECT = "dialect"
    ENCRYPTION = "encryption"
    OTHER = "other"


class NoConnection(Unavailable):
    """There is no connection, and this is why."""

    def __init__(self, text: str, refusal: Refusal) -> None:
        super().__init__(text)
        self.refusal = refusal


class _DialectTooOld(Exception):
    """The server's dialect."""


class _NotEncrypted(Exception):
    """The server's session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmbAccess:
    """How a share is reached. The password is fetched when it is needed, and kept nowhere."""

    server: str
    share: str
    folder: str = ""  #: below the share, with forward slashes
    port: int = 445
    account: str = ""
    password: Callable[[], str] = field(default=lambda: "", repr=False)
    encryption: bool = True
    dialect_min: str = "3.1.1"
    address: Callable[[], str] | None = None  #: where the server is now, for one whose name no DNS knows

    def __str__(self) -> str:
        return "\\".join(["\\", self.server, self.share, *self.folder.split("/")]).rstrip("\\")


class SmbSession:
    """An authenticated tree, made when it is first needed. One thread at a time."""

    def __init__(self, access: SmbAccess, *, limit_s: float = EXCHANGE_LIMIT_S) -> None:
        self.access, self.limit_s = access, limit_s
        self.connections = 0  #: how often a connection was made; handles of an earlier one are void
        self._connection: Connection | None = None
        self._ids: tuple[int, int] | None = None  #: of the session and the tree on it, once it can be used
        self._retry_at = 0.0
        self._back_off_s = BACK_OFF_S
        self._failure = ""

    def connect(self) -> Connection:
        """The connection, made if there is none. Raises Unavailable."""
        return self._require()[0]

    def exchange(self, messages: Sequence[Any]) -> list[SmbReply]:
        """Sends related messages as one, and waits for all their answers.

        Raises:
            Unavailable: no connection, no answer in time, or the server has forgotten us; the outcome is unknown.
        """
        connection, session_id, tree_id = self._require()
        deadline = time.monotonic() + self.limit_s
        try:
            requests = connection.send_compound(messages, session_id, tree_id, related=len(messages) > 1)
            replies = [_receive(connection, request, deadline) for request in requests]
        except _TROUBLE as error:
            self.drop(str(error))
            raise Unavailable(f"{self.access}: {_line(error)}") from error
        for reply in replies:
            if reply.status in SESSION_LOST:
                self.drop(f"the server has ended the session (0x{reply.status:08x})")
                raise Unavailable(f"{self.access}: {self._failure}")
        return replies

    def listen(self, handle: bytes, notify: Callable[[], None], suffixes: tuple[str, ...]) -> ChangeNotify:
        """Listens to an open folder until a name with one of `endings` arrives there, or the connection breaks.

        Raises:
            Unavailable: it could not be asked for.
        """
        connection, session_id, tree_id = self._require()
        try:
            return ChangeNotify(connection, session_id, tree_id, handle, notify, suffixes)
        except _TROUBLE as error:
            self.drop(str(error))
            raise Unavailable(f"{self.access}: {_line(error)}") from error

    def drop(self, reason: str = "") -> None:
        """Ends the connection without a word to the server: it may be the one that does not answer."""
        self._failure = reason or self._failure
        connection, self._connection, self._ids = self._connection, None, None
        if connection is not None:
            # Its socket's send may hang with a lock held, so not even this may be waited for.
            threading.Thread(target=_end, args=(connection,), name="smb-drop", daemon=True).start()

    # ------------------------------------------------------------------------------------------------- inside

    def _require(self) -> tuple[Connection, int, int]:
        """The connection, and the ids of the session and tree on it: another thread may drop it at any moment."""
        connection, ids = self._connection, self._ids
        if connection is not None and ids is not None:
            return connection, *ids
        wait_s = self._retry_at - time.monotonic()
        if wait_s > 0:
            raise Unavailable(f"{self.access}: {_line(self._failure)}; tried again in {wait_s:.1f} s")
        # With every failure it is waited longer, and never in step with others.
        self._retry_at = time.monotonic() + self._back_off_s * (0.75 + secrets.randbelow(512) / 1024)
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S_MAX)
        try:
            found = self._connect()
        except (_DialectTooOld, _NotEncrypted, SecretError, Unavailable, *_TROUBLE) as error:
            refusal = _refusal(error)
            if refusal is Refusal.ACCOUNT:
                self._retry_at = time.monotonic() + REFUSED_BACK_OFF_S  # an account that is tried often gets locked
            self.drop(_line(error))
            raise NoConnection(f"{self.access}: {_line(error)}", refusal) from error
        self._back_off_s = BACK_OFF_S
        self.connections += 1
        return found

    def _connect(self) -> tuple[Connection, int, int]:
        access = self.access
        server = access.server if access.address is None else access.address()
        connection = Connection(uuid.uuid4(), server, access.port, require_signing=True)
        self._connection = connection
        # Of all of this only the negotiation has a deadline of its own; ending the connection frees whoever waits.
        alarm = threading.Timer(CONNECT_LIMIT_S, _end, args=(connection,))
        alarm.daemon = True
        alarm.start()
        try:
            connection.connect(timeout=CONNECT_LIMIT_S)
            _prepare(connection)
            if connection.dialect < DIALECTS[access.dialect_min]:
                raise _DialectTooOld(f"the server speaks a dialect older than {access.dialect_min}")
            session = Session(
                connection,
                access.account or None,
                access.password() or None,
                require_encryption=access.encryption,
                auth_protocol="negotiate",
            )
            session.connect()
            tree = TreeConnect(session, rf"\\{server}\{access.share}")
            tree.connect()
        finally:
            alarm.cancel()
        if access.encryption and not session.encrypt_data:
            raise _NotEncrypted("the server does not encrypt")
        self._ids = (session.session_id, tree.tree_connect_id)
        return connection, *self._ids


def _receive(connection: Connection, request: Any, deadline: float) -> SmbReply:
    left_s = max(1.0, deadline - time.monotonic())  # smbprotocol counts in whole seconds
    try:
        response = connection.receive(request, timeout=left_s, resolve_symlinks=False)
    except SMBResponseException as error:
        return SmbReply(error.status)
    return SmbReply(NtStatus.STATUS_SUCCESS, response["data"].get_value())


def _prepare(connection: Connection) -> None:
    """What smbprotocol leaves at its default: small messages at once, a dead peer noticed, no send that hangs."""
    sock = connection.transport._sock
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    limit = (
        struct.pack("L", int(EXCHANGE_LIMIT_S * 1000))
        if sys.platform == "win32"
        else struct.pack("ll", int(EXCHANGE_LIMIT_S), 0)
    )
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _end(connection: Connection) -> None:
    if connection.transport is None:
        return  # its own deadline is still running
    try:
        connection.disconnect(close=False)
    except _TROUBLE as error:
        log.debug("while a connection was dropped: %s", error)


def _refusal(error: Exception) -> Refusal:
    match error:
        case LogonFailure() | SMBAuthenticationError():
            return Refusal.ACCOUNT
        case BadNetworkName():
            return Refusal.SHARE
        case AccessDenied():
            return Refusal.RIGHT
        case _DialectTooOld():
            return Refusal.DIALECT
        case _NotEncrypted():
            return Refusal.ENCRYPTION
        case SMBException() if "encrypt" in str(error).lower():  # smbprotocol has no class of its own for it
            return Refusal.ENCRYPTION
    return Refusal.OTHER


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
