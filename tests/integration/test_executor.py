"""The executor with real threads: a share that hangs delays only its own requests."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ShareRequest, ShareResponse
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
        self.roads = {name: BlockingShare() for name in ("local-0", "vm-0", "vm-1")}
        self.woken = threading.Event()
        self.couriers = ShareExecutor(
            {name: road.execute for name, road in self.roads.items()},
            remote=["vm-0", "vm-1"],
            wake=self.woken.set,
            response_limit_s=answer_limit_s,
        )

    def send(self, worker: str) -> ShareRequest:
        request = ShareRequest(worker=worker, scan=True)
        self.couriers.submit(request)
        return request

    def arrives(self) -> list[str]:
        """The workers of the next responses, waiting for the wake-up as the control loop does."""
        found: list[ShareResponse] = []

        def arrived() -> bool:
            found.extend(self.couriers.completed())
            return bool(found)

        assert eventually(arrived)
        return [response.worker for response in found]

    def close(self) -> None:
        for road in self.roads.values():
            road.free.set()
        self.couriers.close()
        for thread in threading.enumerate():
            if thread.name.startswith("share-"):
                thread.join(PATIENCE_S)
                assert not thread.is_alive()


@pytest.fixture
def executor() -> Iterator[ExecutorHarness]:
    with ExitStack() as stack:
        post = ExecutorHarness()
        stack.callback(post.close)
        yield post


def test_local_request_completes_inline(executor: ExecutorHarness) -> None:
    """No thread is involved: the response is there when `submit` returns."""
    executor.send("local-0")

    assert [response.worker for response in executor.couriers.completed()] == ["local-0"]
    assert executor.roads["local-0"].threads == {threading.current_thread().name}
    assert not executor.couriers.is_busy("local-0")
    assert executor.couriers.completed() == []


def test_remote_request_completes_on_thread(executor: ExecutorHarness) -> None:
    """The request runs on a thread of its share, its response wakes the loop, and then the share is free again."""
    request = executor.send("vm-0")
    assert executor.couriers.is_busy("vm-0")

    assert executor.woken.wait(PATIENCE_S)
    assert executor.arrives() == ["vm-0"]
    assert executor.roads["vm-0"].orders == [request]
    assert executor.roads["vm-0"].threads == {"share-vm-0"}
    assert not executor.couriers.is_busy("vm-0")


def test_hung_share_does_not_block_others(executor: ExecutorHarness) -> None:
    """While one share is blocked, requests to all others complete, again and again."""
    executor.roads["vm-0"].free.clear()
    executor.send("vm-0")
    assert executor.roads["vm-0"].reached.wait(PATIENCE_S)

    for _ in range(3):
        executor.send("vm-1")
        assert executor.arrives() == ["vm-1"]
        executor.send("local-0")
        assert executor.arrives() == ["local-0"]
    assert executor.couriers.is_busy("vm-0")

    executor.roads["vm-0"].free.set()
    assert executor.arrives() == ["vm-0"]


def test_one_request_per_share(executor: ExecutorHarness) -> None:
    """Until the response has come and been taken, no second request is accepted for that share."""
    executor.roads["vm-0"].free.clear()
    executor.send("vm-0")
    with pytest.raises(AssertionError, match="vm-0"):
        executor.send("vm-0")

    executor.roads["vm-0"].free.set()
    assert executor.woken.wait(PATIENCE_S)
    assert executor.couriers.is_busy("vm-0")  # the response has come, but is not taken yet
    assert executor.arrives() == ["vm-0"]
    executor.send("vm-0")

    assert executor.arrives() == ["vm-0"]
    assert len(executor.roads["vm-0"].orders) == 2


def test_slow_share_is_not_timed_out_below_limit(executor: ExecutorHarness) -> None:
    """Below the limit nothing is reported."""
    executor.roads["vm-0"].free.clear()
    executor.send("vm-0")

    assert executor.couriers.timed_out() == []


def test_hung_share_is_reported_unknown() -> None:
    """Beyond the limit the scan is unknown, until its response comes after all."""
    post = ExecutorHarness(answer_limit_s=0.02)
    post.roads["vm-0"].free.clear()
    post.send("vm-0")
    post.send("vm-1")
    assert post.arrives() == ["vm-1"]

    assert eventually(post.couriers.timed_out)
    [scan] = post.couriers.timed_out()
    assert (scan.worker, scan.full) == ("vm-0", True)
    assert scan.unknown.startswith("no answer for ")
    assert post.couriers.is_busy("vm-0")

    post.roads["vm-0"].free.set()
    assert post.arrives() == ["vm-0"]
    assert post.couriers.timed_out() == []
    post.close()


def test_close_does_not_wait_for_hung_share() -> None:
    """The threads end when they can; the program does not wait for them."""
    post = ExecutorHarness()
    post.roads["vm-0"].free.clear()
    post.send("vm-0")
    assert post.roads["vm-0"].reached.wait(PATIENCE_S)

    post.couriers.close()

    hanging = [thread for thread in threading.enumerate() if thread.name == "share-vm-0"]
    assert [thread.daemon for thread in hanging] == [True]
    post.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_on_executor_thread_is_fatal() -> None:
    """The loop gets the error like any other response, and cannot continue."""

    def defective(request: ShareRequest) -> ShareResponse:
        raise OSError(28, "no room for an artifact on this host")

    woken = threading.Event()
    couriers = ShareExecutor({"vm-0": defective}, remote=["vm-0"], wake=woken.set)
    couriers.submit(ShareRequest(worker="vm-0"))
    couriers.close()
    for thread in threading.enumerate():
        if thread.name == "share-vm-0":
            thread.join(PATIENCE_S)

    try:
        told = [response.fatal for response in couriers.completed()]
    except OSError as error:
        told = [str(error)]

    assert told
    assert told[0]
    assert woken.is_set()
