"""A server at the other end of a client: it answers what a test says, byte by byte."""

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Gets the first line of a request, and the connection.
Attack = Callable[[str, socket.socket], object]


BODY_LIMIT_S = 1.0


class HostileHttp:
    """Listens on this computer; each connection has one request."""

    def __init__(self, attack: Attack, tls: ssl.SSLContext | None = None) -> None:
        self.requests = list[str]()  #: their heads
        self._attack, self._listener = attack, socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._is_over.set()
        self._listener.close()

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """Sends a byte now and then."""
        for number in data:
            if self._is_over.wait(0.02):
                return
            connection.sendall(bytes([number]))

    def keep(self) -> None:
        """Lets the client wait until the end of the test."""
        self._is_over.wait()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            head = b""
            while b"\r\n\r\n" not in head:
                if not (part := connection.recv(4096)):
                    return
                head += part
            fields, _, body = head.partition(b"\r\n\r\n")
            self.requests.append(fields.decode("latin-1"))
            self._attack(self.requests[-1].partition("\r\n")[0], connection)
            self._read_on(connection, fields, len(body))

    def _read_on(self, connection: socket.socket, fields: bytes, read: int) -> None:
        """Reads what is left of a body: a connection that is closed before drops the answer that is on its way."""
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", fields)
        left = int(length[1]) - read if length is not None else 0
        connection.settimeout(BODY_LIMIT_S)
        while left > 0 and (part := connection.recv(4096)):
            left -= len(part)


@contextmanager
def hostile_http(attack: Attack, tls: ssl.SSLContext | None = None) -> Iterator[HostileHttp]:
    """Serves until the block ends."""
    server = HostileHttp(attack, tls)
    try:
        yield server
    finally:
        server.close()


def answer(body: object, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer; a body that is not bytes is JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content
