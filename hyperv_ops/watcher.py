"""Looking at machines of any kind until something has come of it: until one is healthy, or again and again."""

import threading
import time
from collections.abc import Callable

from hyperv_ops.machines import MachineError, MachineInfo, Machines


def wait_until_healthy(
    machines: Machines, name: str, timeout_s: float, *, interval_s: float = 1.0, ended: threading.Event | None = None
) -> bool:
    """Whether a machine was healthy before the time was up, or somebody set `ended`.

    Raises:
        MachineError: at the end it could not be asked.
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
    """Looks at machines again and again, in a thread of its own, and calls `on_change` for every one that changed."""

    def __init__(
        self, machines: Machines, on_change: Callable[[str, MachineInfo], None], *, interval_s: float = 5.0
    ) -> None:
        self._machines, self._on_change, self._interval_s = machines, on_change, interval_s
        self._ended = threading.Event()
        self._refreshing = threading.Lock()
        self._latest: dict[str, MachineInfo] = {}
        self.error: MachineError | None = None  #: why the last look failed
        self.refreshed_at: float | None = None  #: when the last good one began, by the monotonic clock
        self._thread = threading.Thread(target=self._run, name="machine-watcher", daemon=True)

    def start(self) -> None:
        """Begins to look. Once only."""
        if self._thread.ident is None:
            self._thread.start()

    def latest(self) -> dict[str, MachineInfo]:
        """What was seen last."""
        return dict(self._latest)

    def refresh(self) -> None:
        """Looks now: when it returns, `latest` is no older than this call, or `trouble` says why it is."""
        with self._refreshing:
            began = time.monotonic()
            try:
                found = self._machines.infos()
            except MachineError as error:
                self.error = error
                return
            before, self._latest = self._latest, found
            self.error, self.refreshed_at = None, began
        for name, info in found.items():
            known = before.get(name)
            if known is None or (known.state, known.heartbeat) != (info.state, info.heartbeat):
                self._on_change(name, info)

    def close(self, timeout_s: float = 5.0) -> None:
        """Looks no more; lets a look that is under way end, for so long."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.refresh()
            self._ended.wait(self._interval_s)
