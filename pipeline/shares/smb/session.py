"""SMB session: one connection, session and tree to one share, and exchanges of several messages in one round trip.

Owns: when a connection is made and dropped, back-off, the deadline of every wait. Any exception of the library's drops
the connection and is Unavailable: a changed answer raises whatever the code behind it meets.
Not here: files (`files`), which answers are believed (`sealed_connection`).
"""

import enum
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smbprotocol import Dialects
from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
from spnego.exceptions import SpnegoError

from inbox_agent.protocol.files import Unavailable
from inbox_agent.protocol.layout import clean
from pipeline.errors import MissingExtraError, SecretError
from pipeline.shares.smb.change_notify import ChangeNotify
from pipeline.shares.smb.channel import SealedChannel
from pipeline.shares.smb.messages import MALFORMED, SmbReply, SmbRequest
from pipeline.shares.smb.seal import UntrustedAnswer
from pipeline.shares.smb.sealed_connection import SealedConnection, why_unsupported
from pipeline.shares.smb.statuses import ACCESS_DENIED, ACCOUNT_REFUSED, BAD_NETWORK_NAME, SESSION_LOST, status_text

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 10.0
EXCHANGE_LIMIT_S = 10.0
BACK_OFF_S, BACK_OFF_S_MAX, REFUSED_BACK_OFF_S = 0.25, 15.0, 60.0
DIALECTS = {"3.1.1": Dialects.SMB_3_1_1, "3.0.2": Dialects.SMB_3_0_2, "3.0": Dialects.SMB_3_0_0}


class Refusal(enum.StrEnum):
    """What the server refused, or why it was refused."""

    ACCOUNT = "account"
    SHARE = "share"
    RIGHT = "right"
    DIALECT = "dialect"
    ENCRYPTION = "encryption"
    OTHER = "other"


class NoConnection(Unavailable):
    """No connection to a share could be made; `refusal` says why, and `reason` in words."""

    def __init__(self, access: "SmbAccess", reason: str, refusal: Refusal) -> None:
        super().__init__(f"{access}: {reason}", reason)
        self.refusal = refusal


class _DialectTooOld(Exception):
    """The server's dialect is older than allowed."""


class _NotEncrypted(Exception):
    """The server's session is not encrypted."""


#: Exceptions whose text is made for a user. Changed bytes raise others: KeyError, IndexError, InvalidTag, struct.error.
_FORESEEN = (SMBException, SpnegoError, OSError, ValueError, SecretError, Unavailable, _DialectTooOld, _NotEncrypted)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmbAccess:
    """How to reach a share. The password is fetched for each connection and not stored."""

    server: str
    share: str
    folder: str = ""  #: below the share, with forward slashes
    port: int = 445
    account: str = ""
    password: Callable[[], str] = field(default=lambda: "", repr=False)
    encryption: bool = True
    dialect_min: str = "3.1.1"
    address: Callable[[], str] | None = None  #: current address of a server without a DNS name

    def __str__(self) -> str:
        return "\\".join(["\\", self.server, self.share, *self.folder.split("/")]).rstrip("\\")


class SmbSession:
    """An authenticated tree, connected on first use. One thread at a time."""

    def __init__(self, access: SmbAccess, *, limit_s: float = EXCHANGE_LIMIT_S) -> None:
        """Raises MissingExtraError: the installed smbprotocol cannot be used."""
        if reason := why_unsupported():
            raise MissingExtraError(reason)
        self.access, self.limit_s = access, limit_s
        self.connections = 0  #: connections made so far; handles of an earlier one are invalid
        self._log_in: SealedConnection | None = None  #: while it is not complete
        self._channel: SealedChannel | None = None  #: once it is
        self._retry_at = 0.0
        self._back_off_s = BACK_OFF_S
        self._failure = ""

    @property
    def connected(self) -> int:
        """The number of the present connection; 0 if there is none."""
        return self.connections if self._channel is not None else 0

    def connect(self) -> SealedChannel:
        """The connection, made if there is none: another thread may drop it at any moment.

        Raises:
            Unavailable: no connection could be made, or none will be tried so soon after the last one.
        """
        if (channel := self._channel) is not None:
            return channel
        wait_s = self._retry_at - time.monotonic()
        if wait_s > 0:
            raise Unavailable(f"{self.access}: {_line(self._failure)}; tried again in {wait_s:.1f} s")
        # Exponential back-off with jitter.
        self._retry_at = time.monotonic() + self._back_off_s * (0.75 + secrets.randbelow(512) / 1024)
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S_MAX)
        try:
            channel = self._logged_in()
        except Exception as error:
            refusal = _refusal(error)
            if refusal is Refusal.ACCOUNT:
                self._retry_at = time.monotonic() + REFUSED_BACK_OFF_S  # repeated attempts may lock the account
            reason = self._in_words(error)
            self.drop(reason)
            raise NoConnection(self.access, reason, refusal) from error
        self._back_off_s = BACK_OFF_S
        self.connections += 1
        self._channel, self._log_in = channel, None
        return channel

    def exchange(self, requests: Sequence[SmbRequest]) -> list[SmbReply]:
        """Sends related messages as one compound, and waits for all responses.

        Raises:
            Unavailable: no connection, no response in time, or the server ended the session; the outcome is unknown.
        """
        channel = self.connect()
        deadline = time.monotonic() + self.limit_s
        try:
            replies = channel.ask(requests).replies(deadline)
        except Exception as error:
            raise self._lost(error) from error
        for reply in replies:
            if reply.status in SESSION_LOST:
                self.drop(f"the server has ended the session (status 0x{reply.status:08x})")
                raise Unavailable(f"{self.access}: {self._failure}")
        return replies

    def listen(self, handle: bytes, notify: Callable[[], None], suffixes: tuple[str, ...]) -> ChangeNotify:
        """Listens to an open folder until a name with one of `suffixes` arrives there, or the connection breaks.

        Raises:
            Unavailable: the request could not be sent.
        """
        channel = self.connect()
        try:
            return ChangeNotify(channel, handle, notify, suffixes)
        except Exception as error:
            raise self._lost(error) from error

    def drop(self, reason: str = "") -> None:
        """Ends the connection without messages to the server, which may not answer."""
        self._failure = reason or self._failure
        channel, self._channel = self._channel, None
        log_in, self._log_in = self._log_in, None
        if channel is not None:
            channel.end(SMBException(self._failure))
        if log_in is not None:
            # smbprotocol's send may hang with a lock held, so do not wait for this.
            threading.Thread(target=_end, args=(log_in,), name="smb-drop", daemon=True).start()

    # ------------------------------------------------------------------------------------------------- inside

    def _lost(self, error: Exception) -> Unavailable:
        reason = self._in_words(error)
        self.drop(reason)
        return Unavailable(f"{self.access}: {reason}")

    def _in_words(self, error: Exception) -> str:
        # What nothing foresees may also be a defect of this program, so its traceback is kept for `pipeline run -v`.
        log.debug("%s: a request failed", self.access, exc_info=error)
        return _line(error)

    def _logged_in(self) -> SealedChannel:
        access = self.access
        server = access.server if access.address is None else access.address()
        connection = self._log_in = SealedConnection(server, access.port, CONNECT_LIMIT_S)
        connection.connect(timeout=CONNECT_LIMIT_S)
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
        if access.encryption and not session.encrypt_data:
            raise _NotEncrypted("the server does not encrypt")
        return connection.hand_over(tree)


def _end(connection: SealedConnection) -> None:
    if connection.transport is None:
        return  # still connecting, which has a deadline of its own
    try:
        connection.disconnect(close=False)
    except Exception as error:
        log.debug("while a connection was dropped: %s", error)


def _refusal(error: Exception) -> Refusal:
    match error:
        case SMBAuthenticationError():
            return Refusal.ACCOUNT
        case SMBResponseException(status=status) if status in ACCOUNT_REFUSED:
            return Refusal.ACCOUNT
        case SMBResponseException(status=status) if status == BAD_NETWORK_NAME:
            return Refusal.SHARE
        case SMBResponseException(status=status) if status == ACCESS_DENIED:
            return Refusal.RIGHT
        case _DialectTooOld():
            return Refusal.DIALECT
        case _NotEncrypted():
            return Refusal.ENCRYPTION
        case UntrustedAnswer():
            return Refusal.OTHER
        case SMBException() if "encrypt" in _line(error).lower():  # smbprotocol has no class of its own for it
            return Refusal.ENCRYPTION
    return Refusal.OTHER


def _line(error: object) -> str:
    if isinstance(error, SMBResponseException):
        return clean(status_text(error.status), 300)
    return clean(str(error) if isinstance(error, (str, *_FORESEEN)) else f"{MALFORMED} ({type(error).__name__})", 300)
