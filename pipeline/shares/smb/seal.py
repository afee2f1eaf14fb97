"""Encrypts or signs what is sent over an SMB session, and refuses what is received without the same.

Owns: which packets and answers of a server are believed after the log-in. No I/O.
Source: MS-SMB2 2.2.41, 3.1.4.1 (signatures), 3.1.4.3 (encryption), 3.2.5.1.1 and 3.2.5.1.3 (what a client must refuse).
"""

import hmac
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from smbprotocol import Dialects
from smbprotocol.connection import Ciphers, SigningAlgorithms
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus, Smb2Flags

from pipeline.shares.smb.packets import SIGNATURE_AT, SIGNATURE_BYTES, Answer

_CHANGED = "; something on the way, or the server, may have made it up"
NOT_ENCRYPTED = f"an answer is not encrypted{_CHANGED}"
NOT_SIGNED = f"an answer is not signed{_CHANGED}"
WRONG_KIND = f"an answer is to another kind of request{_CHANGED}"
UNASKED = f"an answer is to no request{_CHANGED}"
_WRONG_KEY = f"an answer is encrypted or signed with another key{_CHANGED}"

ENCRYPTED = b"\xfdSMB"
#: Protocol, signature, nonce, size before encryption, reserved, flags, session id.
_TRANSFORM = struct.Struct("<4s16s16sIHHQ")
_NONCE_AT, _IS_ENCRYPTED = 20, 1
_SIGNED_ANSWER = Smb2Flags.SMB2_FLAGS_SIGNED | Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR


class UntrustedAnswer(SMBException):  # type: ignore[misc]  # smbprotocol has no types
    """A message that the server may not have sent, or that no honest server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeys:
    """What a log-in has agreed on."""

    session_id: int
    dialect: int
    cipher: int
    signing_algorithm: int | None
    encryption_key: bytes
    decryption_key: bytes
    signing_key: bytes


class Seal(Protocol):
    """How the packets of one session are protected."""

    encrypts: bool
    header_flags: int  #: that every request has
    dialect: int

    def close(self, requests: Sequence[bytes], message_ids: Sequence[int]) -> bytes:
        """The packet to send, of requests with headers."""

    def open(self, packet: bytes) -> bytes:
        """The answers of a received packet, with their headers. Raises UntrustedAnswer."""

    def check(self, answer: Answer) -> None:
        """Raises UntrustedAnswer: an answer is not sealed as it must be."""


class Encryption:
    """Every packet is encrypted, in both directions."""

    encrypts, header_flags = True, 0

    def __init__(self, keys: SessionKeys) -> None:
        self.dialect = keys.dialect
        cipher = keys.cipher if keys.dialect >= Dialects.SMB_3_1_1 else Ciphers.AES_128_CCM
        is_gcm = cipher in (Ciphers.AES_128_GCM, Ciphers.AES_256_GCM)
        self._nonce_bytes = 12 if is_gcm else 11
        kind = AESGCM if is_gcm else AESCCM
        self._encrypt = kind(keys.encryption_key).encrypt
        self._decrypt = kind(keys.decryption_key).decrypt
        self._session_id = keys.session_id
        self._nonce_begin = os.urandom(self._nonce_bytes - 8)  # the log-in has used random ones with this key
        self._sent = 0

    def close(self, requests: Sequence[bytes], message_ids: Sequence[int]) -> bytes:
        """Encrypts them; each packet has its own nonce."""
        plain = b"".join(requests)
        nonce = self._nonce_begin + self._sent.to_bytes(8, "little")
        self._sent += 1
        header = _TRANSFORM.pack(ENCRYPTED, bytes(16), nonce, len(plain), 0, _IS_ENCRYPTED, self._session_id)
        sealed = self._encrypt(nonce, plain, header[_NONCE_AT:])
        return b"".join((ENCRYPTED, sealed[-SIGNATURE_BYTES:], header[_NONCE_AT:], sealed[:-SIGNATURE_BYTES]))

    def open(self, packet: bytes) -> bytes:
        """Decrypts it."""
        if len(packet) < _TRANSFORM.size or not packet.startswith(ENCRYPTED):
            raise UntrustedAnswer(NOT_ENCRYPTED)
        _, signature, nonce, _, _, flags, session_id = _TRANSFORM.unpack_from(packet)
        if flags != _IS_ENCRYPTED or session_id != self._session_id:
            raise UntrustedAnswer(_WRONG_KEY)
        sealed = packet[_TRANSFORM.size :] + signature
        try:
            return self._decrypt(nonce[: self._nonce_bytes], sealed, packet[_NONCE_AT : _TRANSFORM.size])
        except InvalidTag as error:
            raise UntrustedAnswer(_WRONG_KEY) from error

    def check(self, answer: Answer) -> None:
        """The packet was encrypted with the server's key, so all in it is the server's."""


class Signing:
    """Every message is signed, in both directions, except interim answers, which carry nothing."""

    encrypts, header_flags = False, Smb2Flags.SMB2_FLAGS_SIGNED

    def __init__(self, keys: SessionKeys) -> None:
        self.dialect = keys.dialect
        self._key = keys.signing_key
        if keys.dialect >= Dialects.SMB_3_1_1 and keys.signing_algorithm is not None:
            self._algorithm = keys.signing_algorithm
        else:
            self._algorithm = SigningAlgorithms.AES_CMAC

    def close(self, requests: Sequence[bytes], message_ids: Sequence[int]) -> bytes:
        """Signs each of them."""
        return b"".join(
            _with_signature(request, self._signature(request, message_id, is_answer=False))
            for request, message_id in zip(requests, message_ids, strict=True)
        )

    def open(self, packet: bytes) -> bytes:
        """As it is: `check` comes for each answer."""
        return packet

    def check(self, answer: Answer) -> None:
        """An answer must be one and not a request that is sent back, and have the right signature."""
        if answer.status == NtStatus.STATUS_PENDING:
            return
        if answer.flags & _SIGNED_ANSWER != _SIGNED_ANSWER:
            raise UntrustedAnswer(NOT_SIGNED)
        signature = answer.packet[SIGNATURE_AT : SIGNATURE_AT + SIGNATURE_BYTES]
        plain = _with_signature(answer.packet, bytes(SIGNATURE_BYTES))
        if not hmac.compare_digest(signature, self._signature(plain, answer.message_id, is_answer=True)):
            raise UntrustedAnswer(_WRONG_KEY)

    def _signature(self, message: bytes, message_id: int, *, is_answer: bool) -> bytes:
        """Of a message with zeros where it has its signature."""
        if self._algorithm == SigningAlgorithms.AES_GMAC:
            nonce = message_id.to_bytes(8, "little") + int(is_answer).to_bytes(4, "little")
            return AESGCM(self._key).encrypt(nonce, b"", message)
        if self._algorithm == SigningAlgorithms.AES_CMAC:
            code = CMAC(algorithms.AES(self._key))
            code.update(message)
            return code.finalize()
        return hmac.digest(self._key, message, "sha256")[:SIGNATURE_BYTES]


def _with_signature(message: bytes, signature: bytes) -> bytes:
    return message[:SIGNATURE_AT] + signature + message[SIGNATURE_AT + SIGNATURE_BYTES :]
