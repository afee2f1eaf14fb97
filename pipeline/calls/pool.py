"""The part of `multiprocessing.Pool` that optimisers use, over an executor: `executor.pool()`.

Owns: the methods and results of such a pool. It has no workers of its own: several may share an executor, and the
executor goes on when one of them is closed or terminated.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future, as_completed
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import Any, Generic, Self, TypeVar

from pipeline.host.no_farm import NoFarm

T = TypeVar("T")
Callback = Callable[[Any], object]


class AsyncResult(Generic[T]):
    """The result of calls that were submitted together: what `apply_async`, `map_async` and `starmap_async` return."""

    def __init__(
        self,
        futures: list[Future[Any]],
        value_of: Callable[[list[Any]], T],
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> None:
        """Creates it for these calls. One of the callbacks is called when all are done, in the farm's own thread."""
        self._futures, self._value_of = futures, value_of
        self._callback, self._error_callback = callback, error_callback
        self._lock, self._unfinished = threading.Lock(), len(futures) + 1
        self._done = threading.Event()
        for future in futures:
            future.add_done_callback(self._count)
        self._count()

    def get(self, timeout: float | None = None) -> T:
        """The value, or the values in order.

        Raises:
            multiprocessing.TimeoutError: it is not there within `timeout` seconds; the calls go on.
            EvaluationFailed: a call failed. CancelledError: the pool was terminated before it began.
        """
        if not self._done.wait(timeout):
            raise PoolTimeoutError(f"no result within {timeout} s")
        return self._value_of([future.result() for future in self._futures])

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it is ready, at most `timeout` seconds."""
        self._done.wait(timeout)

    def ready(self) -> bool:
        """Whether all calls are done, and the callback has returned."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Whether no call failed. Raises ValueError: it is not ready."""
        if not self.ready():
            raise ValueError("the result is not ready")
        return self._error() is None

    def cancel(self) -> None:
        """Cancels the calls that no worker has room for yet."""
        for future in self._futures:
            future.cancel()

    def _count(self, _future: Future[Any] | None = None) -> None:
        with self._lock:
            self._unfinished -= 1
            if self._unfinished:
                return
        try:
            if (error := self._error()) is None and self._callback is not None:
                self._callback(self._value_of([future.result() for future in self._futures]))
            elif error is not None and self._error_callback is not None:
                self._error_callback(error)
        finally:
            self._done.set()

    def _error(self) -> BaseException | None:
        """That of the first call that failed."""
        for future in self._futures:
            if future.cancelled():
                return CancelledError()
            if (error := future.exception()) is not None:
                return error
        return None


class FarmPool:
    """Created by `FarmExecutor.pool`. Iterables are read at once; `chunksize` is ignored: each call is a genome."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._results = list[AsyncResult[Any]]()
        self._is_closed = False

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> T:
        """The value of `func(*args, **kwds)`."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[T]:
        """Submits one call. Raises ValueError: the pool was closed."""
        futures = self._submitted(func, [args], kwds or {})
        return self._kept(AsyncResult(futures, _only, callback, error_callback))

    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]:
        """The values of `func(x)` for each x, in their order."""
        return self.map_async(func, iterable).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[T]]:
        """Submits a call for each x; the callback gets the list of all values."""
        return self.starmap_async(func, ((each,) for each in iterable), chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """The values of `func(*a)` for each a, in their order."""
        return self.starmap_async(func, iterable).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[T]]:
        """Submits a call for each a; the callback gets the list of all values."""
        return self._kept(AsyncResult(self._submitted(func, iterable, {}), list, callback, error_callback))

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> Iterator[T]:
        """The values in their order, each as soon as it is there; after an error of one call the next one follows."""
        return map(Future.result, self._mapped(func, iterable))

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[T]:
        """The values in the order of completion."""
        return map(Future.result, as_completed(self._mapped(func, iterable)))

    def close(self) -> None:
        """Refuses further calls."""
        self._is_closed = True

    def terminate(self) -> None:
        """Refuses further calls and cancels those that have not begun; the others are played to their end."""
        self.close()
        for result in self._results:
            result.cancel()

    def join(self) -> None:
        """Waits until all calls are done. Raises ValueError: the pool is not closed."""
        if not self._is_closed:
            raise ValueError("the pool is still open; close it before join")
        for result in self._results:
            result.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """As with multiprocessing, calls that have not begun are cancelled."""
        self.terminate()

    def __reduce__(self) -> tuple[type[NoFarm], tuple[()]]:
        """In a call it is a stand-in, as the executor is."""
        return NoFarm, ()

    def _mapped(self, func: Callable[[Any], T], iterable: Iterable[Any]) -> list[Future[T]]:
        futures = self._submitted(func, ((each,) for each in iterable), {})
        self._kept(AsyncResult(futures, list))
        return futures

    def _submitted(
        self, func: Callable[..., T], calls: Iterable[Iterable[Any]], kwds: Mapping[str, Any]
    ) -> list[Future[T]]:
        if self._is_closed:
            raise ValueError("the pool was closed; make another one with executor.pool()")
        return [self._executor.submit(func, *args, **kwds) for args in calls]

    def _kept(self, result: AsyncResult[T]) -> AsyncResult[T]:
        """For `join` and `terminate`."""
        self._results = [each for each in self._results if not each.ready()]
        if not result.ready():
            self._results.append(result)
        return result


def _only(values: list[T]) -> T:
    return values[0]
