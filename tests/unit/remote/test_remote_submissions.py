"""What is submitted to a server, and who gets a result: once, whatever is sent again and whenever answers come."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from hashlib import sha256

import pytest

from pipeline.control.operations import (
    GenomeResult,
    GenomeStatus,
    SubmissionAnswer,
    SubmissionState,
    SubmittedGenome,
)
from pipeline.errors import FarmClosed, GenomeError, InputError, RemoteError
from pipeline.host.genome_fitness import Fitness
from pipeline.remote import submissions as module
from pipeline.remote.submissions import Batch, Closing, RemoteSubmissions, Submission, Withdrawal

WITHIN_S = 10.0


@pytest.fixture
def table() -> Iterator[RemoteSubmissions]:
    table = RemoteSubmissions()
    yield table
    table.end()


def genome(name: str, content: bytes = b"1") -> SubmittedGenome:
    return SubmittedGenome(name=name, content=content, sha256=sha256(content).hexdigest())


def result(name: str, fitness: float = 1.0, content: bytes = b"1") -> GenomeResult:
    digest = sha256(content).hexdigest()
    return GenomeResult(name=name, status=GenomeStatus.COMPLETED, fitness=fitness, trials=[fitness], sha256=digest)


def sent(table: RemoteSubmissions) -> list[Submission]:
    """What is to be sent next."""
    work = table.next_work()
    assert isinstance(work, Batch)
    return list(work.submissions)


def store(table: RemoteSubmissions, submission: Submission, state: str = "accepted", reason: str = "") -> None:
    name = submission.genome.name
    table.answer(submission, SubmissionAnswer(name=name, state=SubmissionState(state), reason=reason))


def names(batch: list[Submission]) -> list[str]:
    return [submission.genome.name for submission in batch]


def test_future_gets_its_result_once(table: RemoteSubmissions) -> None:
    """A page of results may come again."""
    told = list[Fitness]()
    future = table.submit(genome("a"))
    future.add_done_callback(lambda done: told.append(done.result()))
    (submission,) = sent(table)
    store(table, submission)
    for fitness in (1.0, 2.0):
        table.settled(result("a", fitness))
    table.end()
    assert [one.value for one in told] == [1.0]


def test_everything_without_a_result_is_sent_again(table: RemoteSubmissions) -> None:
    """In the order of the calls, before what was not sent yet."""
    for name in "abc":
        table.submit(genome(name))
    first = sent(table)
    table.submit(genome("d"))
    store(table, first[0])
    table.settled(result("a"))
    store(table, first[1])

    table.send_again()

    again = sent(table)
    assert names(again) == ["b", "c", "d"]
    for submission in again:
        store(table, submission, "known")
    table.close()
    assert isinstance(table.next_work(), Closing)


def test_answers_may_come_twice(table: RemoteSubmissions) -> None:
    """Of a request that was repeated."""
    future = table.submit(genome("a"))
    (submission,) = sent(table)
    for state in ("accepted", "known"):
        store(table, submission, state)
    table.settled(result("a"))
    store(table, submission, "known")
    assert future.result(WITHIN_S).value == 1.0


def test_result_may_come_before_the_answer(table: RemoteSubmissions) -> None:
    """The server may be faster than its own answer, which may be lost."""
    future = table.submit(genome("a"))
    sent(table)
    table.settled(result("a"))
    assert future.result(WITHIN_S).value == 1.0


def test_result_of_an_earlier_run_waits_for_its_genome(table: RemoteSubmissions) -> None:
    """A program that was killed submits it again."""
    table.settled(result("a"))
    future = table.submit(genome("a"))
    (submission,) = sent(table)
    assert not future.done()
    store(table, submission, "known")
    assert future.result(WITHIN_S).value == 1.0


def test_result_of_other_bytes_is_not_taken(table: RemoteSubmissions) -> None:
    """Until the server says that it has these bytes, which it refuses."""
    table.settled(result("a", content=b"other"))
    future = table.submit(genome("a"))
    table.settled(result("a", content=b"other"))
    (submission,) = sent(table)
    store(table, submission, "refused", "the generation has it with other bytes")
    assert isinstance(future.exception(WITHIN_S), GenomeError)
    with pytest.raises(GenomeError, match="other bytes"):
        table.raise_refused()
    assert not table.submit(genome("a", b"other")).done(), "a refused name is free"


def test_batches_are_bounded(table: RemoteSubmissions, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and bytes; a genome that is larger is sent alone."""
    monkeypatch.setattr(module, "BATCH_GENOMES_MAX", 3)
    monkeypatch.setattr(module, "BATCH_BYTES_MAX", 1000)
    for name, size in [("a", 1), ("b", 1), ("c", 1), ("d", 400), ("e", 400), ("f", 5000), ("g", 1)]:
        table.submit(genome(name, bytes(size)))
    batches = list[str]()
    for _ in range(5):
        batch = sent(table)
        batches.append("".join(names(batch)))
    assert batches == ["abc", "d", "e", "f", "g"]


def test_submit_waits_for_room(table: RemoteSubmissions, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a program does not fill the memory faster than the server takes genomes."""
    monkeypatch.setattr(module, "QUEUE_GENOMES_MAX", 2)
    monkeypatch.setattr(module, "TICK_S", 0.0)
    waits, done = threading.Event(), threading.Event()

    def submit() -> None:
        for name in "abc":
            table.submit(genome(name), waits.set)
        done.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert waits.wait(WITHIN_S)
    assert not done.is_set()
    assert names(sent(table)) == ["a", "b"]
    thread.join(WITHIN_S)
    assert done.is_set()


def test_genome_that_was_not_sent_is_cancelled_at_once(table: RemoteSubmissions) -> None:
    """Its name can be used again."""
    future = table.submit(genome("a"))
    assert future.cancel()
    assert table.submit(genome("a", b"2")) is not future
    assert names(sent(table)) == ["a"]


@pytest.mark.parametrize("done", [True, False])
def test_server_is_asked_to_withdraw_what_was_sent(table: RemoteSubmissions, done: bool) -> None:
    """Before anything else is sent; what has joined stays, and cannot be cancelled later."""
    future = table.submit(genome("a"))
    store(table, sent(table)[0])
    table.submit(genome("b"))
    cancelled = Future[bool]()
    thread = threading.Thread(target=lambda: cancelled.set_result(future.cancel()))
    thread.start()
    work = withdrawal(table)
    table.withdrawn(work, done=done)
    assert cancelled.result(WITHIN_S) is done
    assert future.cancelled() is done
    thread.join()
    if not done:
        assert not future.cancel()
        table.settled(result("a"))
        assert future.result(WITHIN_S).value == 1.0


def withdrawal(table: RemoteSubmissions) -> Withdrawal:
    """The next one; until it is asked for, what is to be sent is sent again."""
    while True:
        work = table.next_work()
        if isinstance(work, Withdrawal):
            return work
        assert isinstance(work, Batch)
        table.send_again(work.submissions)


def test_generation_is_closed_when_everything_is_stored(table: RemoteSubmissions) -> None:
    """Not before: a closed generation takes no genomes, also not once more."""
    table.submit(genome("a"))
    table.close()
    (submission,) = sent(table)
    table.send_again([submission])
    assert names(sent(table)) == ["a"]
    store(table, submission)
    assert isinstance(table.next_work(), Closing)
    with pytest.raises(InputError, match="is closed"):
        table.submit(genome("b"))


def test_error_is_given_to_every_future_and_to_later_calls(table: RemoteSubmissions) -> None:
    """The first one; results that come later change nothing."""
    sent_one, waiting = table.submit(genome("a")), table.submit(genome("b"))
    sent(table)
    table.fail(RemoteError("away"))
    table.fail(FarmClosed("left"))
    table.settled(result("a"))
    for future in (sent_one, waiting):
        assert isinstance(future.exception(WITHIN_S), RemoteError)
    with pytest.raises(RemoteError, match="away"):
        table.submit(genome("c"))
    with pytest.raises(RemoteError, match="away"):
        table.wait()
    assert table.next_work() is None
    assert not waiting.cancel()


def test_callback_may_submit(table: RemoteSubmissions) -> None:
    """It is called in a thread that sends nothing."""
    added = Future[str]()

    def go_on(_done: Future[Fitness]) -> None:
        assert table.is_in_callback
        table.submit(genome("b"))
        added.set_result("b")

    table.submit(genome("a")).add_done_callback(go_on)
    store(table, sent(table)[0])
    table.settled(result("a"))
    assert added.result(WITHIN_S) == "b"
    assert names(sent(table)) == ["b"]
