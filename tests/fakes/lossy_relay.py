"""Stands between a client and an HTTP server, and loses answers: the server has carried the request out."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException


class LossyRelay:
    """Loses the first answer to each request, by method and path."""

    def __init__(self, port: int) -> None:
        self._target, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen = Counter[str]()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, HTTPException), connection, connection.makefile("rb") as received:
            if not (first := received.readline().decode()):
                return  # a connection without a request
            method, path, _version = first.split()
            headers = dict[str, str]()
            while line := received.readline().decode("latin-1").strip():
                name, _, value = line.partition(": ")
                headers[name] = value
            body = received.read(int(headers.get("Content-Length", 0)))
            server = HTTPConnection("127.0.0.1", self._target, timeout=60)
            server.request(method, path, body, headers | {"Host": f"127.0.0.1:{self._target}"})
            answer = server.getresponse()
            content, kind = answer.read(), answer.headers["Content-Type"]
            server.close()
            with self._lock:
                self.seen[request := f"{method} {path.partition('?')[0]}"] += 1
            if self.seen[request] > 1:
                head = f"HTTP/1.1 {answer.status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
                connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + content)


@contextmanager
def lossy_relay(port: int) -> Iterator[LossyRelay]:
    """Relays until the block ends."""
    relay = LossyRelay(port)
    try:
        yield relay
    finally:
        relay.close()
