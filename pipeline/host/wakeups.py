"""What starts the next tick of the control loop: notifications, timers, responses and requests to stop.

Owns: what is due, until the loop takes it. Not here: what the loop does about it.
Threads: any may call; a wake-up that arrives during a tick starts another one.
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Due:
    """What was requested since the last tick."""

    scans: frozenset[str]  #: workers with something new in their `outbox/`
    poll: bool  #: whether the shares that the poll schedule names are to be scanned in full
    sweep: bool  #: whether deadlines and machines are to be checked


class Wakeups:
    """The requests to the control loop, and the event that it waits for. The first tick sweeps."""

    def __init__(self, urgent: threading.Event | None = None) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        #: set for what must not wait until more results are there: all but notifications
        self._urgent = urgent or threading.Event()
        self._scans: set[str] = set()
        self._poll = False
        self._sweep = True

    def notify(self, worker: str) -> None:
        """Requests a scan of a worker's `outbox/`."""
        with self._lock:
            self._scans.add(worker)
            self._event.set()

    def request_poll(self) -> None:
        """Requests full scans; they find what no notification reported."""
        with self._lock:
            self._poll = True
            self.wake()

    def request_sweep(self) -> None:
        """Requests a check of deadlines and machines."""
        with self._lock:
            self._sweep = True
            self.wake()

    def wake(self) -> None:
        """Starts the next tick now."""
        self._urgent.set()  # first: a loop that the other event wakes must see it
        self._event.set()

    def wait(self, timeout_s: float, gather_s: float = 0.0) -> bool:
        """Waits for any of these calls; False if the time ran out first.

        After a notification it waits `gather_s` longer, so that one tick takes the results that others report
        meanwhile, unless any other call is made.
        """
        woken = self._event.wait(timeout_s)
        if woken and gather_s:
            self._urgent.wait(gather_s)
        self._urgent.clear()
        self._event.clear()
        return woken

    def take(self) -> Due:
        """What is due; it is the caller's to do from now on."""
        with self._lock:
            due = Due(frozenset(self._scans), self._poll, self._sweep)
            self._scans.clear()
            self._poll = self._sweep = False
            return due
