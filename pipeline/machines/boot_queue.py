"""Limits how many machines boot at once, because their host and its disks are shared."""

import threading
import time
from collections.abc import Callable

from hyperv_ops import Power, wait_until_healthy


class BootQueue:
    """Starts machines, a few at once and not at the same moment. Any thread may call."""

    def __init__(
        self, machines: Power, *, booting_max: int = 6, stagger_s: float = 2.0, boot_limit_s: float = 240.0
    ) -> None:
        self._machines, self._stagger_s, self._boot_limit_s = machines, stagger_s, boot_limit_s
        self._slots = threading.Semaphore(booting_max)
        self._lock = threading.Lock()
        self._next_at = 0.0  #: the earliest time of the next start
        self._closed = threading.Event()

    def boot(self, machine: str, start: Callable[[str], None] | None = None) -> None:
        """Waits for a slot, starts the machine and waits until it is healthy, or for the boot limit.

        `start` is called in place of the machines' own verb.

        Raises:
            MachineError: it could not be started or queried.
        """
        with self._slots:
            with self._lock:
                now = time.monotonic()
                at = max(self._next_at, now)
                self._next_at = at + self._stagger_s
            if self._closed.wait(at - now):
                return
            (start or self._machines.start)(machine)
            wait_until_healthy(self._machines, machine, self._boot_limit_s, ended=self._closed)

    def close(self) -> None:
        """Starts no further machine, and ends the waiting for those that boot."""
        self._closed.set()
