"""A QMP server on a local socket that plays prepared lines, so that the fuzzed bytes pass through the real client."""

import contextlib
import re
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

_ID = re.compile(rb'"id": *"([^"]*)"')
_NUMBER = re.compile(rb'"id": *(\d+)')
_PATIENCE_S = 0.02  #: for a command after a line that was no answer: then the next line is sent without one


class LineServer:
    """Sends the next line at each command, and closes the connection after the last one.

    In a line, ID stands for the id of the command, and NUMBER for the number that guest-sync must return.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[bytes] = []
        self._greets = False
        self._number = 0
        self._server: socket.socket | None = None

    def answer(self, lines: Sequence[bytes], *, greets: bool = False) -> None:
        """Plays these lines to the connections from now on; with `greets`, the first one before any command."""
        self._lines, self._greets = list(lines), greets
        if self._server is None:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(str(self.path))
            self._server.listen()
            threading.Thread(target=self._serve, args=(self._server,), daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        while True:
            client, _ = server.accept()
            with contextlib.suppress(OSError), client:
                self._talk(client, self._lines)

    def _talk(self, client: socket.socket, lines: list[bytes]) -> None:
        client.settimeout(_PATIENCE_S)
        name = number = b"0"
        if self._greets and lines:
            client.sendall(lines.pop(0) + b"\n")
        while lines:
            with contextlib.suppress(TimeoutError):
                asked = client.recv(65536)
                if not asked:
                    return
                name, number = (
                    found[-1] if (found := pattern.findall(asked)) else old
                    for pattern, old in ((_ID, name), (_NUMBER, number))
                )
            client.sendall(lines.pop(0).replace(b"ID", name).replace(b"NUMBER", number) + b"\n")
