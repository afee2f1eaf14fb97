"""A QEMU guest agent that sends what its host does not expect."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

#: The bytes for a request; None: it has no answer.
Answer = Callable[[dict[str, Any]], Iterator[bytes]]


@dataclass
class HostileGuest:
    """What it has sent."""

    sent_bytes: int = 0


def honest(request: dict[str, Any]) -> Iterator[bytes]:
    """The answer of a guest agent that has nothing to say."""
    value = request["arguments"]["id"] if request["execute"] == "guest-sync" else {}
    yield line({"return": value, "id": request["id"]})


def line(message: object) -> bytes:
    return orjson.dumps(message) + b"\n"


@contextmanager
def hostile_guest(path: Path, answer: Answer) -> Iterator[HostileGuest]:
    """A guest agent at a socket that answers requests with `answer`, but guest-sync rightly."""
    assert sys.platform != "win32"
    guest, ended = HostileGuest(), threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while asked := connection.recv(65536):  # one request at a time, without an end of line
                request = orjson.loads(asked)
                for piece in (honest if request["execute"] == "guest-sync" else answer)(request):
                    connection.sendall(piece)
                    guest.sent_bytes += len(piece)
                    if ended.is_set():
                        return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield guest
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
