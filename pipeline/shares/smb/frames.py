"""Frames: the packets in the stream of bytes that an SMB server sends, of bounded size and time. No I/O.

Source: MS-SMB2 2.1: four bytes of length, of which the first is zero, before each packet.
"""

import time

from pipeline.shares.smb.messages import CREDIT_BYTES, CREDITS_MAX
from pipeline.shares.smb.seal import UntrustedAnswer

#: An answer has no more bytes than its request paid for, and `messages` pays no more than this; as frames are received,
#: that is also all the memory that a server can take.
FRAME_BYTES_MAX = CREDITS_MAX * CREDIT_BYTES
FRAME_LIMIT_S = 10.0  #: from the first byte of a message to its last one
_LENGTH_BYTES = 4


class Frames:
    """What was received of one connection and is not complete yet."""

    def __init__(self) -> None:
        self._received = bytearray()
        self.due: float | None = None  #: when the packet that has begun must be complete, by `time.monotonic`

    def feed(self, data: bytes) -> list[bytes]:
        """Adds bytes; returns the packets that they complete.

        Raises:
            UntrustedAnswer: no honest server announces such a length.
        """
        self._received += data
        found = []
        while len(self._received) >= _LENGTH_BYTES:
            length = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
            if not 0 < length <= FRAME_BYTES_MAX:
                raise UntrustedAnswer(f"a message of {length} bytes is announced, {FRAME_BYTES_MAX} are allowed")
            end = _LENGTH_BYTES + length
            if len(self._received) < end:
                break
            found.append(bytes(self._received[_LENGTH_BYTES:end]))
            del self._received[:end]
        if not self._received:
            self.due = None
        elif found or self.due is None:
            self.due = time.monotonic() + FRAME_LIMIT_S
        return found

    def require_progress(self) -> None:
        """Raises UntrustedAnswer: the packet that has begun is late."""
        if self.due is not None and time.monotonic() >= self.due:
            raise UntrustedAnswer(f"a message was not complete after {FRAME_LIMIT_S:g} s")


def framed(packet: bytes) -> bytes:
    """A packet to send, with its length."""
    return len(packet).to_bytes(_LENGTH_BYTES, "big") + packet
