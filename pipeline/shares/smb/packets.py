"""SMB packets: the headers of requests and answers, packed and parsed as bytes. No I/O.

Source: MS-SMB2 2.2.1 (header), 2.2.41 (header of an encrypted packet), 3.2.4.1.4 (compounds).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from smbprotocol.header import Smb2Flags

from pipeline.shares.smb.messages import HEADER_BYTES, SmbRequest

#: Protocol, size, charge, status, command, granted, flags, next, message id, process, tree id, session id, signature.
_HEADER = struct.Struct("<4sHHIHHIIQIIQ16s")
_PLAIN = b"\xfeSMB"
SIGNATURE_AT, SIGNATURE_BYTES = 48, 16


class MalformedPacket(Exception):
    """A packet does not keep the bounds of its format."""


class Addressee(NamedTuple):
    """Where requests go: the session and the tree, as ids, and the flags that all headers have."""

    session_id: int
    tree_id: int
    flags: int


class Answer(NamedTuple):
    """One answer of a packet."""

    command: int
    status: int
    flags: int
    credits: int
    message_id: int
    packet: bytes  #: its header and body, with the bytes that fill it up to the next answer

    @property
    def body(self) -> bytes:
        """What follows the header."""
        return self.packet[HEADER_BYTES:]


def packed(
    requests: Sequence[SmbRequest], message_ids: Sequence[int], charges: Sequence[int], to: Addressee
) -> list[bytes]:
    """Requests with their headers, not signed; more than one are related to each other, and fill up to eight bytes."""
    found: list[bytes] = []
    flags = to.flags
    for request, message_id, cost in zip(requests, message_ids, charges, strict=True):
        is_last = len(found) == len(requests) - 1
        filling = 0 if is_last else -len(request.body) % 8
        step = 0 if is_last else HEADER_BYTES + len(request.body) + filling
        header = _HEADER.pack(
            *(_PLAIN, HEADER_BYTES, cost, 0, request.command, cost, flags, step, message_id),
            *(0, to.tree_id, to.session_id, bytes(SIGNATURE_BYTES)),
        )
        found.append(header + request.body + bytes(filling))
        flags = to.flags | Smb2Flags.SMB2_FLAGS_RELATED_OPERATIONS
    return found


def answers(packet: bytes) -> Iterator[Answer]:
    """Parses the answers of a packet. Raises MalformedPacket, if necessary after some of them."""
    at, step = 0, -1
    while step:
        if len(packet) - at < HEADER_BYTES:
            raise MalformedPacket("an answer ends within its header")
        protocol, size, _, status, command, granted, flags, step, message_id, *_ = _HEADER.unpack_from(packet, at)
        end = at + step if step else len(packet)
        if protocol != _PLAIN or size != HEADER_BYTES or not at + HEADER_BYTES <= end <= len(packet):
            raise MalformedPacket("an answer has no valid header")
        yield Answer(command, status, flags, granted, message_id, packet[at:end])
        at = end
