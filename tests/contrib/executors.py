"""An executor whose calls are noted, and one without a farm."""

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.calls.executor import FarmExecutor, pickled
from pipeline.calls.player import Call
from tests.contrib.trajectory import Trajectory

P = ParamSpec("P")
T = TypeVar("T")


def traced(executor: FarmExecutor) -> Trajectory:
    """What is submitted to an executor from now on, by whatever method, in the order of submission."""
    trajectory, submit = Trajectory(), executor.submit

    def note(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        tell = trajectory.add(*args, *kwargs.values(), getattr(function, "items", None))
        future = submit(function, *args, **kwargs)
        future.add_done_callback(lambda done: tell(_told(done)))
        return future

    executor.submit = note  # type: ignore[method-assign]
    return trajectory


def _told(done: Future[Any]) -> Any:
    return "cancelled" if done.cancelled() else done.exception() or done.result()


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
