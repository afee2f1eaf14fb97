"""Ctrl-C and its like, for commands that run until they are stopped."""

import signal
from collections.abc import Callable
from types import FrameType


class stopping_on_signals:  # noqa: N801  a context manager read like a verb
    """Stops gracefully at the first Ctrl-C, at once at the second."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
        self._before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        self._stop()
