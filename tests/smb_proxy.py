"""Stands between an SMB client and its server: counts what is asked and answered, and loses what the test says.

It knows nothing of SMB but its framing (MS-SMB2 2.1): four bytes of length before each message, encrypted or not.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.samba import free_port


class Proxy:
    """A port of loopback that leads to another one."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.asked = 0  #: messages from the client; a compound is one
        self.answered = 0  #: messages to the client, also those that nobody waits for
        self._target = target
        self._lose = False
        self._lost = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_next_answer(self) -> threading.Event:
        """The next question reaches the server, and the connection breaks before its answer is through."""
        self._lost.clear()
        self._lose = True
        return self._lost

    def close(self) -> None:
        """Ends every connection."""
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
                except OSError:  # the server is down, and so is the way to it
                    client.close()
                    continue
                self._sockets.append(server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink, note in ((client, server, self._note_question), (server, client, self._note_answer)):
                    threading.Thread(target=self._pump, args=(source, sink, note), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, note: Callable[[], bool]) -> None:
        with contextlib.suppress(OSError):
            while head := _exactly(source, 4):
                body = _exactly(source, int.from_bytes(head, "big"))
                if not note():
                    break
                sink.sendall(head + body)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _note_question(self) -> bool:
        self.asked += 1
        return True

    def _note_answer(self) -> bool:
        self.answered += 1
        if self._lose:
            self._lose = False
            self._lost.set()
            return False
        return True


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data
