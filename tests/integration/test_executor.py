"""The share executor with real threads: a hung share blocks only its own requests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.shares.executor import DEFECT, ShareExecutor
from pipeline.shares.share_client import ShareResponse
from tests.harness import records
from tests.harness.waiting import PATIENCE_S, eventually


class BlockingShare:
    """Executes the requests of one share; the test may block it."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.reached = threading.Event()
        self.requests: list[ShareRequest] = []
        self.threads: set[str] = set()

    def execute(self, request: ShareRequest) -> ShareResponse:
        self.requests.append(request)
        self.threads.add(threading.current_thread().name)
        self.reached.set()
        assert self.free.wait(PATIENCE_S)
        return ShareResponse(worker=request.worker)


def next_responses(executor: ShareExecutor) -> list[ShareResponse]:
    """Waits for the next responses."""
    found: list[ShareResponse] = []

    def arrived() -> bool:
        found.extend(executor.completed())
        return bool(found)

    assert eventually(arrived)
    return found


class ExecutorHarness:
    """An executor of one local and two remote shares."""

    def __init__(self, response_limit_s: float = 60.0) -> None:
        self.shares = {name: BlockingShare() for name in ("local-0", "vm-0", "vm-1")}
        self.woken = threading.Event()
        self.executor = ShareExecutor(
            {name: share.execute for name, share in self.shares.items()},
            remote=["vm-0", "vm-1"],
            wake=self.woken.set,
            response_limit_s=response_limit_s,
        )

    def submit(self, worker: str) -> ShareRequest:
        request = ScanRequest(worker=worker)
        self.executor.submit(request)
        return request

    def responding_workers(self) -> list[str]:
        """Waits for the next responses; returns their workers."""
        return [response.worker for response in next_responses(self.executor)]

    def close(self) -> None:
        for share in self.shares.values():
            share.free.set()
        self.executor.close()
        for thread in threading.enumerate():
            if thread.name.startswith("share-"):
                thread.join(PATIENCE_S)
                assert not thread.is_alive()


@pytest.fixture
def harness() -> Iterator[ExecutorHarness]:
    with ExitStack() as stack:
        harness = ExecutorHarness()
        stack.callback(harness.close)
        yield harness


def test_local_request_completes_inline(harness: ExecutorHarness) -> None:
    """Without a thread: the response is available when `submit` returns."""
    harness.submit("local-0")

    assert [response.worker for response in harness.executor.completed()] == ["local-0"]
    assert harness.shares["local-0"].threads == {threading.current_thread().name}
    assert not harness.executor.is_busy("local-0")
    assert harness.executor.completed() == []


def test_remote_request_completes_on_thread(harness: ExecutorHarness) -> None:
    """The request runs on its share's thread; the response wakes the loop, and the share is free again."""
    request = harness.submit("vm-0")
    assert harness.executor.is_busy("vm-0")

    assert harness.woken.wait(PATIENCE_S)
    assert harness.responding_workers() == ["vm-0"]
    assert harness.shares["vm-0"].requests == [request]
    assert harness.shares["vm-0"].threads == {"share-vm-0"}
    assert not harness.executor.is_busy("vm-0")


def test_hung_share_does_not_block_others(harness: ExecutorHarness) -> None:
    """While one share is blocked, requests to all others are executed repeatedly."""
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    assert harness.shares["vm-0"].reached.wait(PATIENCE_S)

    for _ in range(3):
        harness.submit("vm-1")
        assert harness.responding_workers() == ["vm-1"]
        harness.submit("local-0")
        assert harness.responding_workers() == ["local-0"]
    assert harness.executor.is_busy("vm-0")

    harness.shares["vm-0"].free.set()
    assert harness.responding_workers() == ["vm-0"]


def test_one_request_per_share(harness: ExecutorHarness) -> None:
    """Until the response was taken, the share accepts no second request."""
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    with pytest.raises(AssertionError, match="vm-0"):
        harness.submit("vm-0")

    harness.shares["vm-0"].free.set()
    assert harness.woken.wait(PATIENCE_S)
    assert harness.executor.is_busy("vm-0")  # the response has arrived, but was not taken yet
    assert harness.responding_workers() == ["vm-0"]
    harness.submit("vm-0")

    assert harness.responding_workers() == ["vm-0"]
    assert len(harness.shares["vm-0"].requests) == 2


def test_slow_share_is_not_timed_out_below_limit(harness: ExecutorHarness) -> None:
    """Below the response limit there is no scan of it."""
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")

    assert harness.executor.timed_out() == []


def test_hung_share_is_reported_unknown() -> None:
    """After the response limit its scan is unknown, until the response arrives."""
    harness = ExecutorHarness(response_limit_s=0.02)
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    harness.submit("vm-1")
    assert harness.responding_workers() == ["vm-1"]

    assert eventually(harness.executor.timed_out)
    [scan] = harness.executor.timed_out()
    assert (scan.worker, scan.full) == ("vm-0", True)
    assert scan.unknown.startswith("no answer for ")
    assert harness.executor.is_busy("vm-0")

    harness.shares["vm-0"].free.set()
    assert harness.responding_workers() == ["vm-0"]
    assert harness.executor.timed_out() == []
    harness.close()


def test_close_does_not_wait_for_hung_share() -> None:
    """Its thread is a daemon, so the program can end."""
    harness = ExecutorHarness()
    harness.shares["vm-0"].free.clear()
    harness.submit("vm-0")
    assert harness.shares["vm-0"].reached.wait(PATIENCE_S)

    harness.executor.close()

    hanging = [thread for thread in threading.enumerate() if thread.name == "share-vm-0"]
    assert [thread.daemon for thread in hanging] == [True]
    harness.close()


START = records.start(1)


class DefectiveShare:
    """Executes the requests of one share, and raises the exceptions that the test sets."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def execute(self, request: ShareRequest) -> ShareResponse:
        if self.error is not None:
            raise self.error
        return ShareResponse(worker=request.worker)


Ask = Callable[[ShareRequest], ShareResponse]


@pytest.fixture(params=["local", "remote"])
def defective(request: pytest.FixtureRequest) -> Iterator[tuple[DefectiveShare, Ask]]:
    """A share, and what sends it a request and waits for the response."""
    share = DefectiveShare()
    executor = ShareExecutor({"vm-0": share.execute}, ["vm-0"] if request.param == "remote" else [], wake=lambda: None)

    def ask(asked: ShareRequest) -> ShareResponse:
        executor.submit(asked)
        (response,) = next_responses(executor)
        return response

    yield share, ask
    executor.close()


def test_defect_makes_share_unknown(defective: tuple[DefectiveShare, Ask], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is raised, the share is unknown for this look, and what was to be published is not confirmed."""
    share, ask = defective
    share.error = IndexError("nothing foresaw this")

    look, action = ask(ScanRequest(worker="vm-0")), ask(ShareAction("vm-0", publish=(START,)))

    assert look == ShareResponse(worker="vm-0", scan=ShareScan(worker="vm-0", unknown=DEFECT))
    assert action.scan == ShareScan(worker="vm-0", full=True, unknown=DEFECT)
    assert (action.error, action.sent, action.fatal) == (DEFECT, {START.attempt: False}, "")
    share.error = None
    assert ask(ScanRequest(worker="vm-0")) == ShareResponse(worker="vm-0")
    assert "nothing foresaw this" in caplog.text


def test_defect_is_logged_once(defective: tuple[DefectiveShare, Ask], caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, until a look succeeds or another exception is raised."""
    share, ask = defective

    def records_of(error: Exception | None, looks: int) -> int:
        caplog.clear()
        for number in range(looks):
            share.error = error and type(error)(f"attempt {number}")
            ask(ScanRequest(worker="vm-0"))
        assert all(record.exc_info for record in caplog.records)
        return len(caplog.records)

    assert records_of(IndexError(), 5) == 1
    assert records_of(KeyError(), 5) == 1
    assert records_of(None, 1) == 0
    assert records_of(KeyError(), 5) == 1
