"""A proxy between an SMB client and its server: counts requests and responses, and drops a response on request.

It knows only the framing of SMB (MS-SMB2 2.1), four bytes of length before each message, and the position of the
command in a header (2.2.1), to tell unencrypted messages apart.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable

from tests.harness.samba import free_port


class Proxy:
    """A loopback port that forwards to another one."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.asked = 0  #: messages from the client; a compound counts once
        self.answered = 0  #: messages to the client, also unsolicited ones
        self.kinds: Counter[str] = Counter()  #: of the messages from the client
        self._target = target
        self._lose = False
        self._lost = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_next_answer(self) -> threading.Event:
        """The next request reaches the server, and the connection breaks before its response arrives."""
        self._lost.clear()
        self._lose = True
        return self._lost

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
                for source, sink, note in ((client, server, self._note_question), (server, client, self._note_answer)):
                    threading.Thread(target=self._pump, args=(source, sink, note), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, note: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError):
            while head := _exactly(source, 4):
                body = _exactly(source, int.from_bytes(head, "big"))
                if not note(body):
                    break
                sink.sendall(head + body)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _note_question(self, body: bytes) -> bool:
        self.asked += 1
        self.kinds[_kind(body)] += 1
        return True

    def _note_answer(self, _body: bytes) -> bool:
        self.answered += 1
        if self._lose:
            self._lose = False
            self._lost.set()
            return False
        return True


def _kind(body: bytes) -> str:
    """The kind of a message, from the commands of its members."""
    if not body.startswith(b"\xfeSMB"):
        return "encrypted"
    commands, at = set(), 0
    while True:
        commands.add(int.from_bytes(body[at + 12 : at + 14], "little"))
        step = int.from_bytes(body[at + 20 : at + 24], "little")
        if not step:
            break
        at += step
    kinds = {0x0F: "notify", 0x0E: "listing", 0x11: "publish", 0x09: "publish", 0x08: "read"}
    return next((name for command, name in kinds.items() if command in commands), "other")


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data
