"""A host in a thread of its own: any thread may call it.

Owns: which thread touches the host, that calls are carried out one at a time, and how a call is abandoned.
Not here: what the calls do (`pipeline.api`).
A call is carried out between two ticks while a generation is played, and at once otherwise.
"""

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from pipeline.core.facts import Fact
from pipeline.errors import FarmClosed, InputError, PipelineError
from pipeline.host.host import Ending, Host
from pipeline.views.progress import Progress

log = logging.getLogger(__name__)

T = TypeVar("T")
_Call = tuple[Callable[[Host], Any], Future[Any]]
#: Windows delivers Ctrl-C to Python code only: a wait without an end would keep it.
_WAIT_S = 0.1 if sys.platform == "win32" else None


class HostThread:
    """The thread of one host, from its start to `close`.

    Raises:
        PipelineError: what `make` raises; the thread has ended then.
    """

    def __init__(self, make: Callable[[], Host]) -> None:
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_failed = False  #: whether resting failed
        self._abandoned = threading.Event()  #: the play in progress is to end
        self._playing = threading.Lock()  #: held by the thread whose turn it is to play
        self._player: int | None = None  #: that thread
        self._wake: Callable[[], None] = lambda: None  #: ends the control loop's wait
        self._started, self._ended = Future[None](), Future[None]()
        self._thread = threading.Thread(target=self._run, args=(make,), name="pipeline-host", daemon=True)
        self._thread.start()
        try:
            result_of(self._started)
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[[Host], T]) -> T:
        """Calls a function with the host in its thread; returns what it returns, and raises what it raises.

        Raises:
            FarmClosed: the host is closed.
        """
        if threading.current_thread() is self._thread:  # a callback of a future or of a call
            return function(self._host)
        return result_of(self._submit(function))

    @contextlib.contextmanager
    def turn(self, what: str) -> Iterator[None]:
        """Waits until no other thread plays a generation, and keeps others from it during the block.

        Raises:
            InputError: this thread would wait for itself; `what` names its call.
        """
        me = threading.get_ident()
        if me == self._thread.ident:
            raise InputError(f"{what}: a callback of a future cannot play a generation; let another thread do it")
        if me == self._player:
            raise InputError(f"{what}: this thread plays a generation already; leave its block or callback first")
        while not self._playing.acquire(timeout=-1 if _WAIT_S is None else _WAIT_S):
            pass
        self._player = me
        try:
            yield
        finally:
            self._player = None
            self._playing.release()

    def play(self, on_progress: Callable[[Progress], object] | None) -> Ending:
        """Plays the generation that was begun; `on_progress` is called in the calling thread.

        If that raises, or the wait is interrupted, playing is stopped first. Raises what `Host.play` does; FarmClosed.
        """
        reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        playing = self.start_playing(on_progress=reports.put)
        playing.add_done_callback(lambda _playing: reports.put(None))
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    if (report := reports.get(timeout=_WAIT_S)) is None:
                        return playing.result()
                    if on_progress is not None:
                        on_progress(report)
        except BaseException:
            self.abandon(playing)
            raise

    def start_playing(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_facts: Callable[[list[Fact]], None] = lambda _facts: None,
    ) -> Future[Ending]:
        """Begins to play, and returns at once; the functions are called in the host's thread. Raises FarmClosed."""
        self._abandoned.clear()
        return self._submit(lambda host: host.play(on_progress, on_facts, self._proceed))

    def abandon(self, playing: Future[Any]) -> None:
        """Stops a play soon, and waits until it has ended, however it ends."""
        self._abandoned.set()
        self._wake()
        wait([playing])

    def close(self) -> None:
        """Ends playing, closes the host and ends the thread. Any thread may call, also more than once.

        Raises:
            PipelineError: what closing the host raised.
        """
        with self._lock:
            is_first, self._is_closed = not self._is_closed, True
            if is_first:
                self._calls.put((_do_nothing, Future()))
        self._wake()
        if threading.current_thread() is not self._thread:
            result_of(self._ended)

    # ------------------------------------------------------------------------------------------------------- inside

    def _submit(self, function: Callable[[Host], T]) -> Future[T]:
        answer = Future[T]()
        with self._lock:
            if self._is_closed:
                raise FarmClosed("the farm is closed; open it again")
            self._calls.put((function, answer))
        self._wake()
        return answer

    def _run(self, make: Callable[[], Host]) -> None:
        try:
            self._host = make()
        except BaseException as error:
            self._started.set_exception(error)
            self._ended.set_result(None)
            return
        self._wake = self._host.wake
        self._started.set_result(None)
        try:
            while not self._is_closed:
                self._carry_out(*self._next_call())
        finally:
            self._close_host()

    def _next_call(self) -> _Call:
        """Waits for a call; meanwhile machines that have no work are put to rest."""
        while True:
            try:
                return self._calls.get(timeout=None if self._has_failed else self._host.rest_interval_s)
            except queue.Empty:
                self._rest()

    def _rest(self) -> None:
        try:
            self._host.rest()
        except PipelineError as error:  # the next call raises it, if it still holds
            log.warning("machines are not put to rest any more: %s", error)
            self._has_failed = True

    def _carry_out(self, function: Callable[[Host], Any], answer: Future[Any]) -> None:
        try:
            answer.set_result(function(self._host))
        except BaseException as error:  # the caller's thread raises it
            answer.set_exception(error)

    def _proceed(self) -> bool:
        """Carries out what was called meanwhile; whether playing goes on."""
        with contextlib.suppress(queue.Empty):
            while not self._is_closed:
                self._carry_out(*self._calls.get_nowait())
        return not (self._is_closed or self._abandoned.is_set())

    def _close_host(self) -> None:
        try:
            self._host.close()
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()[1].set_exception(FarmClosed("the farm was closed meanwhile; open it again"))


def result_of(future: Future[T]) -> T:
    """The result of a future; Ctrl-C is raised while it is waited for. Raises what the future holds."""
    while not future.done():
        wait([future], timeout=_WAIT_S)
    return future.result()


def _do_nothing(_host: Host) -> None:
    """Ends the wait for the next call."""
