"""Executes share requests: inline for local workers, on a pool of threads for all others.

Owns: at most one request in progress per share; when a share that does not answer is *unknown*; that an exception
which is not foreseen, in a request for one share, makes that share *unknown* and stops nothing else.
Threads: a share that hangs blocks only the thread that asks it. Those of shares that did not answer the last time are
limited, so that many of them leave threads to the others. All methods belong to the thread of the control loop.
"""

import logging
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Mapping

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.shares.share_client import ExecuteRequest, ShareResponse

log = logging.getLogger(__name__)

RESPONSE_LIMIT_S = 20.0
DEFECT = "a defect of this program, see the log"
THREADS_MAX = 32  #: requests in progress at a time
#: Of these, to doubtful shares: whose last request failed, or that were not asked yet. Each of them may be logging in,
#: which takes another thread.
DOUBTFUL_MAX = 16
_DOUBTFUL_FIRST = 4  #: so many of these come before all others, which may be enough to keep every thread busy


class ShareExecutor:
    """Executes requests for many shares."""

    def __init__(
        self,
        shares: Mapping[str, ExecuteRequest],
        remote: Collection[str],
        wake: Callable[[], None],
        *,
        response_limit_s: float = RESPONSE_LIMIT_S,
    ) -> None:
        self._shares = dict(shares)
        self._remote = set(remote)
        self._removed: dict[str, Callable[[], None]] = {}  #: worker -> what is called after its last request
        self._wake = wake
        self._response_limit_s = response_limit_s
        self._responses: queue.SimpleQueue[ShareResponse] = queue.SimpleQueue()
        self._submitted_at: dict[str, float] = {}
        self._defects: dict[tuple[str, type], object] = {}  #: by worker and kind of request, what was logged last
        self._pool = _Pool(self._run)
        self._doubtful = set(remote)  #: shares whose last request failed, or that were not asked yet

    def add(self, worker: str, execute: ExecuteRequest) -> None:
        """Adds a share whose requests are executed on the pool of threads."""
        assert not self.is_busy(worker), worker
        self._shares[worker] = execute
        self._remote.add(worker)
        self._doubtful.add(worker)

    def remove(self, worker: str, when_idle: Callable[[], None]) -> None:
        """Removes a share; `when_idle` is called once no request for it is in progress."""
        if self.is_busy(worker):
            self._removed[worker] = when_idle
        else:
            self._forget(worker, when_idle)

    def _forget(self, worker: str, when_idle: Callable[[], None]) -> None:
        del self._shares[worker]
        self._remote.discard(worker)
        self._doubtful.discard(worker)
        when_idle()

    def is_busy(self, worker: str) -> bool:
        """Whether a request for this share is in progress; the next one must wait for its response."""
        return worker in self._submitted_at

    def submit(self, request: ShareRequest) -> None:
        """Starts a request; `completed` returns its response."""
        if request.worker not in self._remote:
            self._responses.put(self._execute(request))
            return
        assert not self.is_busy(request.worker), request.worker
        self._submitted_at[request.worker] = time.monotonic()
        self._pool.submit(request, doubtful=request.worker in self._doubtful)

    def completed(self) -> list[ShareResponse]:
        """The responses received since the last call."""
        responses = []
        while not self._responses.empty():
            response = self._responses.get()
            if self._submitted_at.pop(response.worker, None) is not None:
                has_failed = response.error or (response.scan is not None and response.scan.unknown)
                (self._doubtful.add if has_failed else self._doubtful.discard)(response.worker)
            if (when_idle := self._removed.pop(response.worker, None)) is not None:
                self._forget(response.worker, when_idle)
            else:
                responses.append(response)
        return responses

    def timed_out(self) -> list[ShareScan]:
        """Shares that have not answered for too long, as *unknown* scans; their requests stay in progress."""
        now = time.monotonic()
        late = [(worker, now - since) for worker, since in self._submitted_at.items()]
        late = [(worker, age_s) for worker, age_s in late if age_s > self._response_limit_s]
        waiting = self._pool.waiting() if late else frozenset()
        return [
            ShareScan(
                worker=worker,
                full=True,
                unknown=f"not asked for {age_s:.0f} s, too many other shares do not answer"
                if worker in waiting
                else f"no answer for {age_s:.0f} s",
            )
            for worker, age_s in late
        ]

    def close(self) -> None:
        """Stops the threads without waiting; one that hangs is a daemon and ends with the process."""
        self._pool.close()

    def _run(self, request: ShareRequest) -> None:
        self._responses.put(self._execute(request))
        self._wake()

    def _execute(self, request: ShareRequest) -> ShareResponse:
        known = (request.worker, type(request))
        try:
            response = self._shares[request.worker](request)
        except Exception as error:
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            found = (type(error), frame.f_code, line)
            if self._defects.get(known) != found:
                log.error("%s: a defect of this program; its share is read again", request.worker, exc_info=True)
            self._defects[known] = found
            return _unknown(request)
        self._defects.pop(known, None)
        return response


def _unknown(request: ShareRequest) -> ShareResponse:
    """The response to a request that ended by a defect; what it published before is for the next full scan to find."""
    is_full = not isinstance(request, ScanRequest) or request.full
    published = request.publish if isinstance(request, ShareAction) else ()
    return ShareResponse(
        worker=request.worker,
        error=DEFECT if isinstance(request, ShareAction) else "",
        sent={start.attempt: False for start in published},
        scan=ShareScan(worker=request.worker, full=is_full, unknown=DEFECT),
    )


class _Pool:
    """Threads that are started as they are needed, up to a limit; requests to doubtful shares get a part of them."""

    def __init__(self, run: Callable[[ShareRequest], None]) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._sound: deque[ShareRequest] = deque()
        self._doubtful: deque[ShareRequest] = deque()
        self._threads = self._idle = self._asking_doubtful = 0
        self._is_closed = False

    def submit(self, request: ShareRequest, *, doubtful: bool) -> None:
        """Has a request executed."""
        with self._changed:
            (self._doubtful if doubtful else self._sound).append(request)
            if self._idle:
                self._idle -= 1
                self._changed.notify()
            elif self._threads < THREADS_MAX:
                self._threads += 1
                threading.Thread(target=self._work, name=f"share-{self._threads}", daemon=True).start()

    def waiting(self) -> frozenset[str]:
        """The workers whose requests have no thread yet."""
        with self._changed:
            return frozenset(request.worker for request in (*self._sound, *self._doubtful))

    def close(self) -> None:
        """Ends the threads that are idle, and the others after their request."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            request, is_doubtful = taken
            self._run(request)
            if is_doubtful:
                with self._changed:
                    self._asking_doubtful -= 1

    def _take(self) -> tuple[ShareRequest, bool] | None:
        """The next request, and whether its share is doubtful; None if there will be none."""
        with self._changed:
            while not self._is_closed:
                if self._doubtful and self._asking_doubtful < (DOUBTFUL_MAX if not self._sound else _DOUBTFUL_FIRST):
                    self._asking_doubtful += 1
                    return self._doubtful.popleft(), True
                if self._sound:
                    return self._sound.popleft(), False
                self._idle += 1
                self._changed.wait()  # who ends this has counted it
            return None
