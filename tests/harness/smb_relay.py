"""A relay between an SMB client and its server, for whatever a test does to their messages on the way.

It knows only the framing of SMB (MS-SMB2 2.1), four bytes of length before each message.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.samba import free_port


@dataclass(frozen=True)
class Link:
    """The two connections of one client."""

    client: socket.socket
    server: socket.socket

    def to_client(self, message: bytes) -> None:
        """Sends a message as if the server had sent it."""
        self.client.sendall(framed(message))

    def to_server(self, message: bytes) -> None:
        """Sends a message as if the client had sent it."""
        self.server.sendall(framed(message))

    def cut(self) -> None:
        """Breaks both connections."""
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


Handler = Callable[[bytes, Link], None]


class Relay:
    """A loopback port that forwards to another one. A test may replace both handlers at any time."""

    def __init__(self, target: int, on_question: Handler | None = None, on_answer: Handler | None = None) -> None:
        self.port = free_port()
        self.on_question = on_question or self.forward_question
        self.on_answer = on_answer or self.forward_answer
        self._target = target
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def forward_question(self, message: bytes, link: Link) -> None:
        """Sends a message of the client on."""
        link.to_server(message)

    def forward_answer(self, message: bytes, link: Link) -> None:
        """Sends a message of the server on."""
        link.to_client(message)

    def close(self) -> None:
        """Closes every connection."""
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # the server is down
                    client.close()
                    continue
                self._sockets.append(server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = Link(client, server)
                questions = (client, lambda message, link=link: self.on_question(message, link), link)
                answers = (server, lambda message, link=link: self.on_answer(message, link), link)
                for arguments in (questions, answers):
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, handle: Callable[[bytes], None], link: Link) -> None:
        with contextlib.suppress(OSError):
            while head := _exactly(source, 4):
                handle(_exactly(source, int.from_bytes(head, "big")))
        link.cut()


def framed(message: bytes) -> bytes:
    """A message with its length."""
    return len(message).to_bytes(4, "big") + message


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data
