"""The executor with real threads: a share that hangs delays only its own requests."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pipeline.core.requests import ScanRequest, ShareRequest
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ShareResponse
from tests.harness.waiting import PATIENCE_S, eventually


class BlockingShare:
    """A share that a test may block; it returns each request's response."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.reached = threading.Event()
        self.orders: list[ShareRequest] = []
        self.threads: set[str] = set()

    def execute(self, request: ShareRequest) -> ShareResponse:
        self.orders.append(request)
        self.threads.add(threading.current_thread().name)
        self.reached.set()
        assert self.free.wait(PATIENCE_S)
        return ShareResponse(worker=request.worker)


class ExecutorHarness:
    """An executor for a local share and two remote ones."""

    def __init__(self, answer_limit_s: float = 60.0) -> None:
        self.shares = {name: BlockingShare() for name in ("local-0", "vm-0", "vm-1")}
        self.woken = threading.Event()
        self.inner = ShareExecutor(
            {name: share.execute for name, share in self.shares.items()},
            remote=["vm-0", "vm-1"],
            wake=self.woken.set,
            response_limit_s=answer_limit_s,
        )

    def submit(self, worker: str) -> ShareRequest:
        request = ScanRequest(worker=worker)
        self.inner.submit(request)
        return request

    def next_workers(self) -> list[str]:
        """The workers of the next responses, waiting for the wake-up as the control loop does."""
        found: list[ShareResponse] = []

        def arrived() -> bool:
            found.extend(self.inner.completed())
            return bool(found)

        assert eventually(arrived)
        return [response.worker for response in found]

    def close(self) -> None:
        for share in self.shares.values():
            share.free.set()
        self.inner.close()
        for thread in threading.enumerate():
            if thread.name.startswith("share-"):
                thread.join(PATIENCE_S)
                assert not thread.is_alive()


@pytest.fixture
def executor() -> Iterator[ExecutorHarness]:
    with ExitStack() as stack:
        harness = ExecutorHarness()
        stack.callback(harness.close)
        yield harness


def test_local_request_completes_inline(executor: ExecutorHarness) -> None:
    """No thread is involved: the response is there when `submit` returns."""
    executor.submit("local-0")

    assert [response.worker for response in executor.inner.completed()] == ["local-0"]
    assert executor.shares["local-0"].threads == {threading.current_thread().name}
    assert not executor.inner.is_busy("local-0")
    assert executor.inner.completed() == []


def test_remote_request_completes_on_thread(executor: ExecutorHarness) -> None:
    """The request runs on a thread of its share, its response wakes the loop, and then the share is free again."""
    request = executor.submit("vm-0")
    assert executor.inner.is_busy("vm-0")

    assert executor.woken.wait(PATIENCE_S)
    assert executor.next_workers() == ["vm-0"]
    assert executor.shares["vm-0"].orders == [request]
    assert executor.shares["vm-0"].threads == {"share-vm-0"}
    assert not executor.inner.is_busy("vm-0")


def test_hung_share_does_not_block_others(executor: ExecutorHarness) -> None:
    """While one share is blocked, requests to all others complete, again and again."""
    executor.shares["vm-0"].free.clear()
    executor.submit("vm-0")
    assert executor.shares["vm-0"].reached.wait(PATIENCE_S)

    for _ in range(3):
        executor.submit("vm-1")
        assert executor.next_workers() == ["vm-1"]
        executor.submit("local-0")
        assert executor.next_workers() == ["local-0"]
    assert executor.inner.is_busy("vm-0")

    executor.shares["vm-0"].free.set()
    assert executor.next_workers() == ["vm-0"]


def test_one_request_per_share(executor: ExecutorHarness) -> None:
    """Until the response has come and been taken, no second request is accepted for that share."""
    executor.shares["vm-0"].free.clear()
    executor.submit("vm-0")
    with pytest.raises(AssertionError, match="vm-0"):
        executor.submit("vm-0")

    executor.shares["vm-0"].free.set()
    assert executor.woken.wait(PATIENCE_S)
    assert executor.inner.is_busy("vm-0")  # the response has come, but is not taken yet
    assert executor.next_workers() == ["vm-0"]
    executor.submit("vm-0")

    assert executor.next_workers() == ["vm-0"]
    assert len(executor.shares["vm-0"].orders) == 2


def test_slow_share_is_not_timed_out_below_limit(executor: ExecutorHarness) -> None:
    """Below the limit nothing is reported."""
    executor.shares["vm-0"].free.clear()
    executor.submit("vm-0")

    assert executor.inner.timed_out() == []


def test_hung_share_is_reported_unknown() -> None:
    """Beyond the limit the scan is unknown, until its response comes after all."""
    harness = ExecutorHarness(answer_limit_s=0.02)
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    harness.submit("vm-1")
    assert harness.next_workers() == ["vm-1"]

    assert eventually(harness.inner.timed_out)
    [scan] = harness.inner.timed_out()
    assert (scan.worker, scan.full) == ("vm-0", True)
    assert scan.unknown.startswith("no answer for ")
    assert harness.inner.is_busy("vm-0")

    harness.shares["vm-0"].free.set()
    assert harness.next_workers() == ["vm-0"]
    assert harness.inner.timed_out() == []
    harness.close()


def test_close_does_not_wait_for_hung_share() -> None:
    """The threads end when they can; the program does not wait for them."""
    harness = ExecutorHarness()
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    assert harness.shares["vm-0"].reached.wait(PATIENCE_S)

    harness.inner.close()

    hanging = [thread for thread in threading.enumerate() if thread.name == "share-vm-0"]
    assert [thread.daemon for thread in hanging] == [True]
    harness.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_on_executor_thread_is_fatal() -> None:
    """The loop gets the error like any other response, and cannot continue."""

    def defective(request: ShareRequest) -> ShareResponse:
        raise OSError(28, "no room for an artifact on this host")

    woken = threading.Event()
    executor = ShareExecutor({"vm-0": defective}, remote=["vm-0"], wake=woken.set)
    executor.submit(ScanRequest(worker="vm-0"))
    executor.close()
    for thread in threading.enumerate():
        if thread.name == "share-vm-0":
            thread.join(PATIENCE_S)

    try:
        errors = [response.fatal for response in executor.completed()]
    except OSError as error:
        errors = [str(error)]

    assert errors
    assert errors[0]
    assert woken.is_set()
