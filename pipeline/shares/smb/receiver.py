"""The thread that receives for all SMB connections of this process, and sends what a socket did not take at once.

Owns: the readiness of sockets. It is started by the first connection and ends with the last one. Not here: what is
received (`channel`). Nothing that it calls may block: a server that does not read must not stop the others.
Threads: all methods may be called by any thread.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from typing import Protocol


class Endpoint(Protocol):
    """One connection. All methods are called on the receiver's thread, raise nothing and do not block."""

    sock: socket.socket

    def receive(self) -> float | None:
        """Takes what has arrived; returns when the next call is due at the latest, by `time.monotonic`."""

    def send_rest(self) -> bool:
        """Sends more of what is to be sent; whether there is still a rest."""

    def closed(self) -> None:
        """The socket is not used any more."""


class Receiver:
    """Waits for all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._orders: deque[tuple[int, Endpoint]] = deque()  #: events to wait for, none of them: forget it

    def watch(self, endpoint: Endpoint) -> None:
        """Begins to receive."""
        self._order(selectors.EVENT_READ, endpoint)

    def send_rest(self, endpoint: Endpoint) -> None:
        """Begins to send as well, until there is no rest."""
        self._order(selectors.EVENT_READ | selectors.EVENT_WRITE, endpoint)

    def forget(self, endpoint: Endpoint) -> None:
        """Ends both, and closes the socket."""
        self._order(0, endpoint)

    def _order(self, events: int, endpoint: Endpoint) -> None:
        with self._lock:
            self._orders.append((events, endpoint))
            if self._thread is None:
                self._waker, woken = socket.socketpair()
                self._waker.setblocking(False)
                self._thread = threading.Thread(target=self._run, args=(woken,), name="smb-receiver", daemon=True)
                self._thread.start()
            else:
                with contextlib.suppress(BlockingIOError):  # it has enough to wake up for
                    self._waker.send(b"!")

    def _run(self, woken: socket.socket) -> None:
        with woken, selectors.DefaultSelector() as selector:
            woken.setblocking(False)
            selector.register(woken, selectors.EVENT_READ)
            due: dict[Endpoint, float] = {}
            while self._take_orders(selector, due):
                pause_s = max(0.0, min(due.values()) - time.monotonic()) if due else None
                ready = selector.select(pause_s)
                for key, events in ready:
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            woken.recv(4096)
                        continue
                    if events & selectors.EVENT_WRITE and not key.data.send_rest():
                        selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                    if events & selectors.EVENT_READ:
                        _receive(key.data, due)
                now = time.monotonic()
                for endpoint in [endpoint for endpoint, at in due.items() if at <= now]:
                    _receive(endpoint, due)

    def _take_orders(self, selector: selectors.BaseSelector, due: dict[Endpoint, float]) -> bool:
        """Whether there is any connection left."""
        with self._lock:
            orders = [*self._orders]
            self._orders.clear()
        for events, endpoint in orders:
            is_known = endpoint.sock.fileno() in selector.get_map()
            if not events:
                due.pop(endpoint, None)
                if is_known:
                    selector.unregister(endpoint.sock)
                endpoint.closed()
            elif not is_known:
                selector.register(endpoint.sock, events, endpoint)
            else:
                selector.modify(endpoint.sock, events, endpoint)
        with self._lock:
            if len(selector.get_map()) > 1 or self._orders:
                return True
            self._thread = None
            self._waker.close()
            return False


def _receive(endpoint: Endpoint, due: dict[Endpoint, float]) -> None:
    if (at := endpoint.receive()) is None:
        due.pop(endpoint, None)
    else:
        due[endpoint] = at


#: Of this process.
RECEIVER = Receiver()
