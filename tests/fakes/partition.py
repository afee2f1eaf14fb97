"""A network that can be cut: ports that forward to others, and while it is cut let nothing through."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Partition:
    """The way to a computer. While it is cut, connections stay open and silent, as behind a switch without power."""

    def __init__(self) -> None:
        self._listeners: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._is_cut = self._is_closed = False

    def forward(self, port: int, address: str = "127.0.0.1") -> int:
        """A port at an address of this computer that leads to another port of it."""
        listener = socket.create_server((address, 0))
        self._listeners.append(listener)
        self._start(self._accept, listener, port)
        return int(listener.getsockname()[1])

    def cut(self) -> None:
        """From now on nothing passes."""
        self._is_cut = True

    def reconnect(self) -> None:
        """From now on everything passes; connections from before are reset, as by a computer that has restarted."""
        self._is_cut = False
        self._end_connections()

    def close(self) -> None:
        """Ends all connections and listeners."""
        self._is_cut = False
        with self._lock:
            self._is_closed = True
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # which wakes its thread on Linux
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._end_connections()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                _shut_down(connection)

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:  # it was closed
                return
            try:
                far = None if self._is_cut else socket.create_connection(("127.0.0.1", port))
            except OSError:  # nothing listens there
                near.close()
                continue
            with self._lock:
                ends = {near} if far is None else {near, far}
                self._connections |= ends
                if self._is_closed:  # meanwhile
                    for end in ends:
                        _shut_down(end)
            self._start(self._pump, near, far)
            if far is not None:
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if sink is not None and not self._is_cut:
                    sink.sendall(data)
        if sink is not None and not self._is_cut:
            _shut_down(sink)
        with self._lock:
            self._connections.discard(source)
        source.close()


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed, or the other side has ended it
        connection.shutdown(socket.SHUT_RDWR)
