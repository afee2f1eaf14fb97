"""The addresses of a server's name, within a deadline: the system's look-up has none, and may take minutes.

Owns: a look-up runs in a thread that nothing waits for at the end of the program. There is one for each name at a time,
however often it is asked for.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from time import monotonic

ADDRESSES_MAX = 8  #: of a name that are tried
_LOOK_S = 0.1  #: between two looks whether the caller gives up


class NameLookups:
    """Look-ups that are running. Any thread may call."""

    def __init__(self, look_up: Callable[[str, int], list[str]] | None = None) -> None:
        """`look_up` asks the system for the addresses; it raises OSError."""
        self._look_up = look_up or _addresses
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[list[str]]] = {}

    def addresses(self, host: str, port: int, limit_s: float, is_over: Callable[[], bool]) -> list[str]:
        """The addresses of a name, or of an address itself.

        Raises:
            TimeoutError: there was no answer within `limit_s`, or `is_over` has become true. OSError: there is no such
                name.
        """
        if _is_address(host):
            return [host]
        ends, running = monotonic() + limit_s, self._begun(host, port)
        while not running.done():
            if (left_s := ends - monotonic()) <= 0 or is_over():
                raise TimeoutError(f"the name {host} was not found within {limit_s:.3g} s")
            wait_for([running], min(left_s, _LOOK_S))
        return running.result()

    def _begun(self, host: str, port: int) -> "Future[list[str]]":
        with self._lock:
            if (running := self._running.get((host, port))) is None:
                running = self._running[host, port] = Future()
                arguments = (host, port, running)
                threading.Thread(target=self._carry_out, args=arguments, name="name-lookup", daemon=True).start()
            return running

    def _carry_out(self, host: str, port: int, answer: "Future[list[str]]") -> None:
        try:
            answer.set_result(self._look_up(host, port))
        except Exception as error:  # e.g. a name that cannot be encoded
            answer.set_exception(error if isinstance(error, OSError) else OSError(0, f"{host}: {error}"))
        finally:
            with self._lock:
                del self._running[host, port]


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))[:ADDRESSES_MAX]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
