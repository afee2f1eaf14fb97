"""Polls machines of any kind: until one is healthy, or periodically in a thread."""

import contextlib
import threading
import time
from collections.abc import Callable

from hyperv_ops.error_boundary import ErrorBoundary
from hyperv_ops.machines import MachineError, MachineInfo, Power


def wait_until_healthy(
    machines: Power, name: str, timeout_s: float, *, interval_s: float = 1.0, ended: threading.Event | None = None
) -> bool:
    """Waits until a machine is healthy; False if the timeout passed or `ended` was set first.

    Raises:
        MachineError: the query failed permanently, or still failed at the timeout.
    """
    deadline = time.monotonic() + timeout_s
    pause = ended or threading.Event()
    while True:
        left_s = deadline - time.monotonic()
        try:
            if machines.info(name).healthy:
                return True
        except MachineError as error:
            if not error.transient or left_s <= 0:
                raise
        if left_s <= 0 or pause.wait(min(interval_s, left_s)):
            return False


class MachineWatcher:
    """Polls machines in its own thread and calls `on_change` for each with a new power state or heartbeat."""

    def __init__(
        self, machines: Power, on_change: Callable[[str, MachineInfo], None], *, interval_s: float = 5.0
    ) -> None:
        self._machines, self._on_change, self._interval_s = machines, on_change, interval_s
        self._ended = threading.Event()
        self._refreshing = threading.Lock()
        self._boundary = ErrorBoundary()
        self._latest: dict[str, MachineInfo] = {}
        self.error: MachineError | None = None  #: why the last query failed
        self.refreshed_at: float | None = None  #: when the last successful query began, by the monotonic clock
        self._thread = threading.Thread(target=self._run, name="machine-watcher", daemon=True)

    def start(self) -> None:
        """Starts the thread; later calls do nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def latest(self) -> dict[str, MachineInfo]:
        """The states of the last successful query."""
        return dict(self._latest)

    def refresh(self) -> None:
        """Queries now: when it returns, `latest` is no older than this call, or `error` says why it is."""
        with self._refreshing:
            began = time.monotonic()
            try:
                found = self._boundary.infos(self._machines)
            except MachineError as error:
                self.error = error
                return
            before, self._latest = self._latest, found
            self.error, self.refreshed_at = None, began
        for name, info in found.items():
            known = before.get(name)
            if known is None or (known.state, known.heartbeat) != (info.state, info.heartbeat):
                with contextlib.suppress(MachineError), self._boundary.around(name):
                    self._on_change(name, info)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stops polling; waits at most `timeout_s` for a query that is under way."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.refresh()
            self._ended.wait(self._interval_s)
