"""Executes share requests: inline for local disks, on one thread per remote share.

Owns: at most one request in progress per remote share; when a share that does not answer is *unknown*; that an
exception which is not foreseen, in a request for one share, makes that share *unknown* and stops nothing else.
Threads: a share that hangs blocks only its own thread. All methods belong to the thread of the control loop.
"""

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.shares.share_client import ExecuteRequest, ShareResponse

log = logging.getLogger(__name__)

RESPONSE_LIMIT_S = 20.0
DEFECT = "a defect of this program, see the log"


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
        self._wake = wake
        self._response_limit_s = response_limit_s
        self._responses: queue.SimpleQueue[ShareResponse] = queue.SimpleQueue()
        self._started_at: dict[str, float] = {}
        self._defects: dict[tuple[str, type], object] = {}  #: by worker and kind of request, what was logged last
        self._queues: dict[str, queue.SimpleQueue[ShareRequest | None]] = {}
        for worker in remote:
            requests: queue.SimpleQueue[ShareRequest | None] = queue.SimpleQueue()
            self._queues[worker] = requests
            threading.Thread(target=self._run, args=(requests,), name=f"share-{worker}", daemon=True).start()

    def is_busy(self, worker: str) -> bool:
        """Whether a request for this share is in progress; the next one must wait for its response."""
        return worker in self._started_at

    def submit(self, request: ShareRequest) -> None:
        """Starts a request; `completed` returns its response."""
        requests = self._queues.get(request.worker)
        if requests is None:
            self._responses.put(self._execute(request))
        else:
            assert not self.is_busy(request.worker), request.worker
            self._started_at[request.worker] = time.monotonic()
            requests.put(request)

    def completed(self) -> list[ShareResponse]:
        """The responses received since the last call."""
        responses = []
        while not self._responses.empty():
            response = self._responses.get()
            self._started_at.pop(response.worker, None)
            responses.append(response)
        return responses

    def timed_out(self) -> list[ShareScan]:
        """Shares that have not answered for too long, as *unknown* scans; their requests stay in progress."""
        now = time.monotonic()
        return [
            ShareScan(worker=worker, full=True, unknown=f"no answer for {now - since:.0f} s")
            for worker, since in self._started_at.items()
            if now - since > self._response_limit_s
        ]

    def close(self) -> None:
        """Stops the threads without waiting; one that hangs is a daemon and ends with the process."""
        for requests in self._queues.values():
            requests.put(None)

    def _run(self, requests: "queue.SimpleQueue[ShareRequest | None]") -> None:
        while (request := requests.get()) is not None:
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
