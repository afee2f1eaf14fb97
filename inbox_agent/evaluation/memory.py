"""Memory of process trees: how much a running game uses, and whether a kept process has grown."""

import time

import psutil

MEASURE_INTERVAL_S = 0.5  #: of a running game: a look at all its processes costs milliseconds
GROWTH_INTERVAL_S = 2.0  #: between two measurements of a kept process
GROWTH_MAX_MB = 512  #: of a kept process since its first game, before it is replaced
_MB = 1024 * 1024


class MemoryLimit:
    """Watches the memory of a game: the sum of the resident memory of a process and its descendants."""

    def __init__(self, pid: int, limit_mb: int | None) -> None:
        self._pid, self._limit_mb = pid, limit_mb
        self._due = time.monotonic() + MEASURE_INTERVAL_S if limit_mb is not None else float("inf")

    def until_due_s(self) -> float:
        """How long it may be waited for the game before `exceeded_mb` must be called."""
        return self._due - time.monotonic()

    def exceeded_mb(self) -> float | None:
        """What the game uses, in MB, if that is more than the limit; None otherwise, also if it is not due yet."""
        if self._limit_mb is None or time.monotonic() < self._due:
            return None
        self._due = time.monotonic() + MEASURE_INTERVAL_S
        used_mb = _used_mb(self._pid)
        return used_mb if used_mb > self._limit_mb else None


class GrowthLimit:
    """Tells when a process that is kept between games has grown."""

    def __init__(self, pid: int, limit_mb: int | None) -> None:
        self._pid = pid
        self._limit_mb = float("inf") if limit_mb is None else limit_mb
        self._first_mb: float | None = None
        self._due = 0.0

    def has_grown(self) -> bool:
        """Whether it uses much more memory than after its first game. Called between two games."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + GROWTH_INTERVAL_S
        used_mb = _used_mb(self._pid)
        if self._first_mb is None:
            self._first_mb = used_mb
        # What earlier games have left must not bring a later one above the limit.
        return used_mb > min(self._first_mb + GROWTH_MAX_MB, (self._first_mb + self._limit_mb) / 2)


def _used_mb(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        return sum(_resident_mb(process) for process in (root, *root.children(recursive=True)))
    except psutil.Error:
        return 0.0  # it has ended


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / _MB)
    except psutil.Error:
        return 0.0
