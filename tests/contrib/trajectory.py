"""What an optimiser has asked for and what it got, in order, as text that is equal only if every bit is.

The objectives of the examples import this in each worker process, so it imports little.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_OWN = (bool, int, str, bytes, type(None))
#: Attributes and keys that differ between two serial runs: clocks, and LEAP's random ids.
_NOT_COMPARED = {"fit_time", "score_time", "uuid", "parents"}


def canonical(value: Any) -> Any:
    """A value with all that it consists of."""
    if isinstance(value, float):
        return float(value).hex()
    if type(value) in _OWN:
        return value
    if isinstance(value, dict):
        return {str(canonical(key)): canonical(each) for key, each in value.items() if key not in _NOT_COMPARED}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(canonical, value), *_attributes(value)]
    if hasattr(value, "tobytes"):  # arrays, and what derives from them
        kind = getattr(value, "dtype", getattr(value, "typecode", ""))
        return [
            f"{type(value).__name__} {kind} {getattr(value, 'shape', '')}",
            value.tobytes().hex(),
            *_attributes(value),
        ]
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return value.__qualname__
    return [type(value).__name__, *_attributes(value)]


def _attributes(value: Any) -> list[Any]:
    return [canonical(vars(value))] if hasattr(value, "__dict__") else []


class Trajectory:
    """A list of exchanges."""

    def __init__(self) -> None:
        self.exchanges: list[list[Any]] = []

    def add(self, *arguments: Any) -> Callable[[Any], None]:
        """Notes arguments as they are now; call what it returns with their value."""
        exchange = [canonical(arguments)]
        self.exchanges.append(exchange)
        return lambda value: exchange.append(canonical(value))

    @property
    def is_complete(self) -> bool:
        """Whether the value of each is noted. A future wakes those who wait for it before it calls its callbacks."""
        return all(len(exchange) == 2 for exchange in self.exchanges)

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.exchanges).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.exchanges)


_recording: list[Trajectory] = []


def recorded(function: Callable[P, T]) -> Callable[P, T]:
    """An objective function whose calls in this process are noted while `recording` runs."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        told = [trajectory.add(*args, *kwargs.values()) for trajectory in _recording]
        value = function(*args, **kwargs)
        for tell in told:
            tell(value)
        return value

    return call


@contextmanager
def recording() -> Iterator[Trajectory]:
    """The calls of `recorded` functions in this process."""
    _recording.append(Trajectory())
    try:
        yield _recording[-1]
    finally:
        _recording.pop()
