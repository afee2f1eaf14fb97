"""What an optimiser has asked for and what it got, in order, as text that is equal only if every bit is."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.calls.executor import FarmExecutor, Shared, pickled
from pipeline.calls.player import Call

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
    if isinstance(value, Shared):
        return "shared"
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


def traced(executor: FarmExecutor) -> Trajectory:
    """What is submitted to an executor from now on, by whatever method, in the order of submission."""
    trajectory, submit = Trajectory(), executor.submit

    def note(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        tell = trajectory.add(*args, *kwargs.values(), getattr(function, "items", None))
        future = submit(function, *args, **kwargs)
        future.add_done_callback(lambda done: tell(done.exception() or done.result()))
        return future

    executor.submit = note  # type: ignore[method-assign]
    return trajectory


class SerialExecutor(FarmExecutor):
    """A farm's executor without a farm: each call is pickled and unpickled as for a worker, and played here."""

    def __init__(self, folder: Path) -> None:
        self.workers = self._max_workers = 2
        self._folder, self._is_shut_down = folder, False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        call: Call = pickle.loads(pickled(Call(fn, args, kwargs)))
        future = Future[T]()
        future.set_result(call.function(*call.args, **call.kwargs))
        return future
