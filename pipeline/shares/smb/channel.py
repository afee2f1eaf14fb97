"""A logged-in SMB connection to one tree: exchanges of several requests, each one packet there and one or more back.

Owns: message ids and credits, and which answer belongs to which request. An answer that is not sealed, or that was not
asked for, ends the channel; so do a packet that is too large or too slow, and the end of the connection.
Not here: how the log-in is done (`sealed_connection`), when a channel is given up (`session`).
Threads: `ask` and `end` may be called by any thread; what is received is handled by the thread of the receiver.
Source: MS-SMB2 3.2.4.1 (ids and credits), 3.2.5.1 (answers).
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus

from pipeline.shares.smb import packets
from pipeline.shares.smb.frames import Frames, framed
from pipeline.shares.smb.messages import SmbReply, SmbRequest, credits_for
from pipeline.shares.smb.packets import Addressee, Answer
from pipeline.shares.smb.receiver import RECEIVER, Receiver
from pipeline.shares.smb.seal import UNASKED, WRONG_KIND, Seal, UntrustedAnswer
from pipeline.shares.smb.statuses import OK

_RECEIVED_AT_ONCE_BYTES = 256 * 1024


OnDone = Callable[["Exchange"], None]


@dataclass(slots=True)
class Credits:
    """The message ids that the server allows: from the next one up to the end."""

    next_id: int
    end: int
    are_charged: bool  #: not by a server without large messages


class Exchange:
    """Requests that were sent together, and their answers. `on_done` is called once, also if the channel ends."""

    def __init__(self, requests: Sequence[SmbRequest], on_done: OnDone | None) -> None:
        self.commands = [request.command for request in requests]
        self._replies: dict[int, SmbReply] = {}
        self._error: Exception | None = None
        self._done = threading.Event()
        self._on_done = on_done

    def replies(self, deadline: float) -> list[SmbReply]:
        """The final answers, whatever their statuses; `deadline` is one of `time.monotonic`.

        Raises:
            SMBException: not all of them arrived in time.
            Exception: what ended the channel.
        """
        if not self._done.wait(max(0.0, deadline - time.monotonic())):
            raise SMBException("no answer in time")
        return self.outcome()

    def outcome(self) -> list[SmbReply]:
        """As `replies`, once it is done."""
        if self._error is not None:
            raise self._error
        return [self._replies[number] for number in range(len(self.commands))]

    def take(self, number: int, reply: SmbReply) -> None:
        """The final answer to one of the requests."""
        self._replies[number] = reply
        if len(self._replies) == len(self.commands):
            self._end()

    def fail(self, error: Exception) -> None:
        """No more answers will come."""
        if self._error is None:
            self._error = error
            self._end()

    def _end(self) -> None:
        self._done.set()
        if self._on_done is not None:
            self._on_done(self)


class SealedChannel:
    """A connection whose log-in is complete."""

    def __init__(
        self,
        sock: socket.socket,
        seal: Seal,
        session_id: int,
        tree_id: int,
        window: Credits,
        *,
        tree_flags: int = 0,
        receiver: Receiver = RECEIVER,
    ) -> None:
        sock.setblocking(False)
        self.sock, self.seal = sock, seal
        self._to = Addressee(session_id, tree_id, seal.header_flags | tree_flags)
        self._credits = window
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[Exchange, int]] = {}
        self._unsent = bytearray()
        self._frames = Frames()
        self._error: Exception | None = None
        self._receiver = receiver
        receiver.watch(self)

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._error is None

    def ask(self, requests: Sequence[SmbRequest], on_done: OnDone | None = None) -> Exchange:
        """Sends requests as one packet, related to each other if they are several.

        `on_done`: called by the receiver's thread when all answers are there, or the channel has ended.

        Raises:
            SMBException: the server allows no more requests at the moment.
            Exception: what ended the channel.
        """
        exchange = Exchange(requests, on_done)
        with self._lock:
            if self._error is not None:
                raise self._error
            charges = [credits_for(request.payload_bytes) if self._credits.are_charged else 0 for request in requests]
            ids = [*itertools.accumulate((max(1, cost) for cost in charges), initial=self._credits.next_id)]
            if ids[-1] > self._credits.end:
                raise SMBException("the server allows too few requests at a time")
            self._credits.next_id = ids.pop()
            self._pending |= {message_id: (exchange, number) for number, message_id in enumerate(ids)}
            plain = packets.packed(requests, ids, charges, self._to)
            is_sending = bool(self._unsent)
            self._unsent += framed(self.seal.close(plain, ids))
            if not is_sending:
                self._send()
                if self._unsent:
                    self._receiver.send_rest(self)
        return exchange

    def end(self, error: Exception) -> None:
        """Ends the connection without messages to the server. What waits for an answer gets this error."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._receiver.forget(self)

    # ------------------------------------------------------------------------------- called by the receiver's thread

    def receive(self) -> float | None:
        """Handles what has arrived; returns when the packet that has begun must be complete."""
        try:
            for packet in self._frames.feed(self._received()):
                self._handle(packet)
            self._frames.require_progress()
        except Exception as error:
            self.end(error)
        return self._frames.due if self.is_open else None

    def send_rest(self) -> bool:
        """Sends more of what waits."""
        with self._lock:
            self._send()
            return bool(self._unsent)

    def closed(self) -> None:
        """Closes the socket, and wakes all that wait for answers."""
        self.sock.close()
        with self._lock:
            waiting = {exchange: None for exchange, _ in self._pending.values()}
            self._pending.clear()
        for exchange in waiting:
            exchange.fail(self._error or SMBException("closed"))

    # ---------------------------------------------------------------------------------------------------------- inside

    def _received(self) -> bytes:
        """What has arrived, which may be nothing. Raises SMBException: the connection has ended."""
        try:
            data = self.sock.recv(_RECEIVED_AT_ONCE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise SMBException(f"the server closed the connection: {error}") from error
        if not data:
            raise SMBException("the server closed the connection")
        return data

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # the receiver finds out why

    def _handle(self, packet: bytes) -> None:
        for answer in packets.answers(self.seal.open(packet)):
            self.seal.check(answer)
            found = self._settle(answer)
            if found is not None:
                exchange, number = found
                exchange.take(number, SmbReply(answer.status, answer.body if answer.status == OK else b""))

    def _settle(self, answer: Answer) -> tuple[Exchange, int] | None:
        """Whose answer this is; None if it is an interim one."""
        with self._lock:
            # In a compound the last answer may have the credits of all.
            self._credits.end += answer.credits or (not self._credits.are_charged)
            found = self._pending.get(answer.message_id)
            if found is None:
                raise UntrustedAnswer(UNASKED)
            exchange, number = found
            if answer.command != exchange.commands[number]:
                raise UntrustedAnswer(WRONG_KIND)
            if answer.status == NtStatus.STATUS_PENDING:
                return None
            del self._pending[answer.message_id]
            return found
