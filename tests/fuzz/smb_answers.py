"""Bodies of an SMB server's answers, and statuses. The first byte chooses the message that is answered."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from smbprotocol.change_notify import SMB2ChangeNotifyResponse
from smbprotocol.open import SMB2CreateResponse, SMB2QueryDirectoryResponse, SMB2QueryInfoResponse, SMB2ReadResponse

from inbox_agent.protocol.files import Unavailable
from pipeline.shares.smb import messages, statuses
from tests.fuzz.target import FuzzTarget


def _changes(reply: messages.SmbReply) -> object:
    return list(messages.numbered_names(messages.information(reply)))


def _status(reply: messages.SmbReply) -> str:
    return statuses.status_text(int.from_bytes(reply.data[:4], "little"))


_READERS: tuple[Callable[[messages.SmbReply], object], ...] = (
    messages.opened,
    messages.content,
    messages.free_bytes,
    lambda reply: list(messages.names(reply)),
    _changes,
    _status,
)


def _decode(data: bytes) -> None:
    if data:
        _READERS[data[0] % len(_READERS)](messages.SmbReply(statuses.OK, data[1:]))


def _filled(response: Any, **fields: Any) -> bytes:
    for name, value in fields.items():
        response[name] = value
    return bytes(response.pack())


def _entries(*names: str) -> bytes:
    found = b""
    for number, name in enumerate(names):
        text = name.encode("utf-16-le")
        found += struct.pack("<III", 0 if number == len(names) - 1 else 12 + len(text), 1, len(text)) + text
    return found


def _seeds() -> Iterator[bytes]:
    listing = _entries(".", "..", "g0007-0042-t1-a1-abcdefghijkl.result.json", "größe")
    bodies = (
        _filled(SMB2CreateResponse(), file_id=b"x" * 16),
        _filled(SMB2ReadResponse(), data_offset=80, buffer=b"content"),
        _filled(SMB2QueryInfoResponse(), buffer=b"\1" * 24),
        _filled(SMB2QueryDirectoryResponse(), buffer=listing),
        _filled(SMB2ChangeNotifyResponse(), buffer=listing),
        struct.pack("<I", statuses.LOGON_FAILURE),
    )
    for number, body in enumerate(bodies):
        yield bytes([number]) + body
        yield bytes([number]) + body[: len(body) // 2]


TARGET = FuzzTarget(_decode, (Unavailable,), _seeds)
