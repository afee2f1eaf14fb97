"""Limits how many machines boot at once and how much memory they take, because they share their host."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hyperv_ops import Power, wait_until_healthy

log = logging.getLogger(__name__)

MEMORY_INTERVAL_S = 5.0  #: between two looks at the memory of a host that has too little for the next machine


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemoryLimit:
    """How much memory of a host stays free."""

    free_mb: Callable[[], int | None]  #: queries the host; None: it does not say
    reserve_mb: int
    machine_mb: int  #: what a machine takes when it starts

    def needed_mb(self, starting: int) -> int:
        """What must be free for another machine while so many are being started."""
        return self.reserve_mb + (starting + 1) * self.machine_mb


class BootQueue:
    """Starts machines of one host, a few at once and not at the same moment. Any thread may call."""

    def __init__(
        self,
        machines: Power,
        *,
        booting_max: int = 6,
        stagger_s: float = 2.0,
        boot_limit_s: float = 240.0,
        memory: HostMemoryLimit | None = None,
    ) -> None:
        self._machines, self._stagger_s, self._boot_limit_s = machines, stagger_s, boot_limit_s
        self._slots = threading.Semaphore(booting_max)
        self._lock = threading.Lock()
        self._next_at = 0.0  #: the earliest time of the next start
        self._memory, self._memory_lock = memory, threading.Lock()
        self._starting = 0  #: machines whose memory the host may not have taken yet
        self._closed = threading.Event()

    def boot(self, machine: str, start: Callable[[str], None] | None = None) -> None:
        """Waits for a slot and for memory, starts the machine and waits until it is healthy, or for the boot limit.

        `start` is called in place of the machines' own verb.

        Raises:
            MachineError: it could not be started or queried, or its host's memory could not.
        """
        with self._slots:
            with self._lock:
                now = time.monotonic()
                at = max(self._next_at, now)
                self._next_at = at + self._stagger_s
            if self._closed.wait(at - now):
                return
            with self._memory_for(machine) as has_memory:
                if not has_memory:
                    return
                (start or self._machines.start)(machine)
            wait_until_healthy(self._machines, machine, self._boot_limit_s, ended=self._closed)

    def close(self) -> None:
        """Starts no further machine, and ends the waiting for those that boot."""
        self._closed.set()

    @contextlib.contextmanager
    def _memory_for(self, machine: str) -> Iterator[bool]:
        """Waits until the host has memory for the machine; False: the queue was closed first."""
        if (limit := self._memory) is None:
            yield True
            return
        is_reported = False
        while (free_mb := self._take_memory(limit)) is not None:
            if not is_reported:
                log.warning(
                    "%s waits for memory of its host: %s MB are free, it starts with %s MB, and %s MB stay free",
                    *(machine, free_mb, limit.machine_mb, limit.reserve_mb),
                )
                is_reported = True
            if self._closed.wait(MEMORY_INTERVAL_S):
                yield False
                return
        try:
            yield True
        finally:
            with self._memory_lock:
                self._starting -= 1

    def _take_memory(self, limit: HostMemoryLimit) -> int | None:
        """Counts a machine as starting if there is room; otherwise returns how much memory is free."""
        with self._memory_lock:
            free_mb = limit.free_mb()
            if free_mb is not None and free_mb < limit.needed_mb(self._starting):
                return free_mb
            self._starting += 1
            return None
