"""What smbprotocol should refuse and 1.17.0 delivers: three tests without a server. All of them fail.

Run: python -m pytest smbprotocol_answers.py
"""

import uuid
from types import SimpleNamespace
from typing import Any

from smbprotocol import Dialects
from smbprotocol.connection import Ciphers, Connection, SigningAlgorithms
from smbprotocol.header import Smb2Flags, SMB2HeaderResponse
from smbprotocol.open import SMB2ReadRequest, SMB2ReadResponse


class Wire:
    """A transport that keeps what is sent, and delivers what it is given."""

    connected = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.incoming: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def recv(self, _timeout: float) -> bytes:
        return self.incoming.pop(0) if self.incoming else b""

    def close(self) -> None:
        self.connected = False


def connection_with_session(*, encrypts: bool) -> Connection:
    """A connection after its log-in, with a session that encrypts, or else signs."""
    connection = Connection(uuid.uuid4(), "server")
    connection.transport = Wire()
    connection.dialect = Dialects.SMB_3_1_1
    connection.cipher_id = Ciphers.AES_128_GCM
    connection.signing_algorithm_id = SigningAlgorithms.AES_CMAC
    connection.session_table[1] = SimpleNamespace(
        session_id=1,
        encrypt_data=encrypts,
        encryption_key=b"e" * 16,
        decryption_key=b"d" * 16,
        signing_required=not encrypts,
        signing_key=b"s" * 16,
    )
    return connection


def answer_without_key(request: Any) -> bytes:
    """What anyone on the way can send: a plain header, and the content of a file."""
    body = SMB2ReadResponse()
    body["buffer"] = b"forged"
    header = SMB2HeaderResponse()
    header["command"] = request.message["command"].get_value()
    header["message_id"] = request.message["message_id"].get_value()
    header["flags"] = Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR
    header["data"] = body
    return bytes(header.pack())


def asked(connection: Connection) -> Any:
    """A request that was sent."""
    message = SMB2ReadRequest()
    message["file_id"] = b"f" * 16
    message["length"] = 100
    message["read_channel_info_length"] = 0
    return connection.send(message, sid=1)


def test_encrypted_session_refuses_unencrypted_answer() -> None:
    """MS-SMB2 3.2.5.1.1."""
    connection = connection_with_session(encrypts=True)
    request = asked(connection)
    connection.transport.incoming = [answer_without_key(request)]
    connection._process_message_thread()
    assert request.response is None


def test_signing_session_refuses_unsigned_answer() -> None:
    """MS-SMB2 3.2.5.1.3."""
    connection = connection_with_session(encrypts=False)
    request = asked(connection)
    connection.transport.incoming = [answer_without_key(request)]
    connection._process_message_thread()
    assert request.response is None


def test_signing_session_refuses_its_own_request() -> None:
    """It has a valid signature of the same key, and no SMB2_FLAGS_SERVER_TO_REDIR (MS-SMB2 2.2.1.2)."""
    connection = connection_with_session(encrypts=False)
    request = asked(connection)
    connection.transport.incoming = connection.transport.sent
    connection._process_message_thread()
    assert request.response is None
