"""The share executor with real threads: a hung share blocks only its own requests."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import pytest

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ScanRequest, ShareAction, ShareRequest
from pipeline.shares.executor import DEFECT, DOUBTFUL_MAX, THREADS_MAX, ShareExecutor
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
    assert all(name.startswith("share-") for name in harness.shares["vm-0"].threads)
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

    hanging = [thread for thread in threading.enumerate() if thread.name.startswith("share-")]
    assert all(thread.daemon for thread in hanging)
    assert hanging
    harness.close()


class ManyShares:
    """An executor of many remote shares; those that hang do so from the start, or after their first answer."""

    def __init__(self, count: int, hanging: int, *, from_the_start: bool) -> None:
        self.names = [f"vm-{number}" for number in range(count)]
        self.hanging = set(self.names[:hanging])
        self._hang = from_the_start
        self._free = threading.Event()
        self.executor = ShareExecutor(
            dict.fromkeys(self.names, self._execute), self.names, lambda: None, response_limit_s=0.02
        )
        if not from_the_start:
            assert self.ask(self.names) == set(self.names)
            self._hang = True

    def ask(self, names: Iterable[str]) -> set[str]:
        """Submits a request to each of them; returns those that have answered, once all have that do not hang."""
        names = set(names)
        for name in sorted(names):
            self.executor.submit(ScanRequest(worker=name))
        answered: set[str] = set()

        def complete() -> bool:
            answered.update(response.worker for response in self.executor.completed())
            return answered >= names - (self.hanging if self._hang else set())

        eventually(complete)
        return answered

    def threads(self) -> int:
        return sum(thread.name.startswith("share-") for thread in threading.enumerate())

    def close(self) -> None:
        self._free.set()
        self.executor.close()
        assert eventually(lambda: self.threads() == 0)

    def _execute(self, request: ShareRequest) -> ShareResponse:
        if self._hang and request.worker in self.hanging:
            assert self._free.wait(PATIENCE_S)
        return ShareResponse(worker=request.worker)


def test_threads_of_many_shares_are_limited() -> None:
    """A thousand shares are asked by a few threads in turn."""
    many = ManyShares(1000, 0, from_the_start=True)

    assert many.ask(many.names) == set(many.names)
    assert many.threads() <= THREADS_MAX
    many.close()


@pytest.mark.parametrize("from_the_start", [True, False])
def test_shares_that_hang_leave_threads_to_others(from_the_start: bool) -> None:
    """Any number of them if they have never answered; of those that did, fewer than there are threads."""
    hanging = 100 if from_the_start else THREADS_MAX - 2
    many = ManyShares(200, hanging, from_the_start=from_the_start)
    healthy = set(many.names) - many.hanging
    if from_the_start:  # no share is known yet: those that hang are asked last, or the others would wait for their turn
        assert many.ask(sorted(healthy)) == healthy

    many.ask(many.hanging)
    for _ in range(3):
        assert many.ask(healthy) == healthy
    many.close()


def test_share_that_has_no_turn_is_reported_unknown() -> None:
    """With the reason: the share itself may be well."""
    many = ManyShares(DOUBTFUL_MAX + 1, DOUBTFUL_MAX, from_the_start=True)
    many.ask(many.hanging)
    last = many.names[-1]
    many.executor.submit(ScanRequest(worker=last))

    assert eventually(lambda: len(many.executor.timed_out()) == DOUBTFUL_MAX + 1)
    unknown = {scan.worker: scan.unknown for scan in many.executor.timed_out()}
    assert "too many other shares do not answer" in unknown.pop(last)
    assert all("no answer for" in each for each in unknown.values())
    many.close()


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
