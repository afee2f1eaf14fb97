"""What a program has submitted to a generation on a server and is not settled: what is to be sent, who gets a result.

Owns: that a future gets its result once, also if a genome is sent again; which work is next; how much waits to be sent.
Not here: sending (`generation`). Threads: any may call; futures are completed in a thread of their own, in which their
callbacks may submit.
"""

import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from pipeline.control.operations import GenomeResult, SubmissionAnswer, SubmissionState, SubmittedGenome
from pipeline.errors import FarmClosed, GenomeError, InputError
from pipeline.host.genome_fitness import Fitness
from pipeline.remote.pages import fitness_of
from pipeline.remote.problems import said

BATCH_GENOMES_MAX = 1000
BATCH_BYTES_MAX = 4 * 2**20  #: as JSON; a larger genome is sent alone
QUEUE_GENOMES_MAX = 10_000  #: that wait to be sent, until `submit` blocks
QUEUE_BYTES_MAX = 64 * 2**20
TICK_S = 1.0
#: Windows delivers Ctrl-C to Python code only: a longer wait would keep it.
_WAIT_S = 0.1 if sys.platform == "win32" else TICK_S


@dataclass(slots=True, eq=False)
class Submission:
    """A genome until it is settled."""

    genome: SubmittedGenome
    encoded: bytes  #: as JSON; empty if it is sent alone
    future: "Future[Fitness]"
    is_sent: bool = False  #: it was sent, or is being sent
    is_stored: bool = False  #: the server has answered that it has it
    has_joined: bool = False  #: it could not be withdrawn

    @property
    def size_bytes(self) -> int:
        """What it adds to a queue."""
        return len(self.encoded) or len(self.genome.content)


@dataclass(slots=True)
class Batch:
    """Genomes to be sent at once; one that is large is sent alone."""

    submissions: Sequence[Submission]


@dataclass(slots=True, eq=False)
class Withdrawal:
    """A genome to be withdrawn, and whether it could be."""

    submission: Submission
    answer: "Future[bool]" = field(default_factory=Future)


@dataclass(slots=True)
class Closing:
    """The generation is to be closed: everything is sent."""


Work = Batch | Withdrawal | Closing


class RemoteFuture(Future[Fitness]):
    """The future of a genome on a server. It counts as running when it could not be withdrawn any more."""

    def __init__(self, name: str, withdraw: "Callable[[RemoteFuture], bool]") -> None:
        super().__init__()
        self.name = name  #: of the genome
        self._withdraw = withdraw

    def cancel(self) -> bool:
        """Withdraws the genome, which asks the server if it has it already; False: it has joined the generation."""
        if self.done() or not self._withdraw(self):
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()
        return True


class RemoteSubmissions:
    """The genomes of one program in one open generation."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._unsettled: dict[str, Submission] = {}  #: in the order of the calls
        self._unsent: dict[str, Submission] = {}
        self._unsent_bytes = 0
        self._unstored = set[str]()  #: of those that are not settled
        self._withdrawals = deque[Withdrawal]()
        self._names = set[str]()  #: of all that were submitted and not withdrawn
        self._early: dict[str, Fitness] = {}  #: of genomes that nothing was submitted for, or is not stored yet
        self._refused = list[GenomeError]()
        self._is_closing = self._is_closed = self._is_over = False
        self._error: Exception | None = None
        self._outcomes: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._completer = threading.Thread(target=self._complete, name="remote-results", daemon=True)
        self._completer.start()

    # ------------------------------------------------------------------------------------------------ the program

    def submit(self, genome: SubmittedGenome, tick: Callable[[], object] | None = None) -> RemoteFuture:
        """Adds a genome; waits while too much waits to be sent, and calls `tick` meanwhile.

        Raises:
            GenomeError: the name was submitted before. InputError: the generation is closed.
            PipelineError: why it has ended.
        """
        future = RemoteFuture(genome.name, lambda mine: self._withdrawn(genome.name, mine))
        encoded = msgspec.json.encode(genome)
        if len(encoded) > BATCH_BYTES_MAX:
            encoded = b""
        submission = Submission(genome, encoded, future)
        with self._changed:
            if genome.name in self._names and self._error is None:
                raise GenomeError(f"genome {genome.name!r}: was submitted before; choose another name")
            self._wait(self._has_room, tick)
            if self._error is not None:
                raise self._error
            if self._is_closing:
                raise InputError("the generation is closed; open another one")
            self._names.add(genome.name)
            self._unsettled[genome.name] = submission
            self._unstored.add(genome.name)
            self._add_unsent(submission)
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Ends the submissions; when all are sent the generation is to be closed."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def wait(self, *, stored: bool = False, tick: Callable[[], object] | None = None) -> None:
        """Waits until every genome is settled and the generation is closed, or, with `stored`, until the server has
        answered each; calls `tick` meanwhile. Raises why the generation has ended.
        """
        with self._changed:
            self._wait(self._is_stored if stored else self._is_settled, tick)
            if self._error is not None:
                raise self._error

    def raise_refused(self) -> None:
        """Raises what the server has refused so far, one line for each genome."""
        if self._refused:
            raise GenomeError("\n".join(map(str, self._refused)))

    @property
    def is_in_callback(self) -> bool:
        """Whether this thread is the one in which futures call back."""
        return threading.current_thread() is self._completer

    def raise_error(self) -> None:
        """Raises why the generation has ended, if it has."""
        if self._error is not None:
            raise self._error

    def end(self, error: Exception | None = None) -> None:
        """Ends the work; futures without a result get the error, and callbacks are waited for."""
        self.fail(error or FarmClosed("the generation is over; open another one"))
        self._outcomes.put(None)
        if not self.is_in_callback:
            while self._completer.is_alive():
                self._completer.join(_WAIT_S)

    # ----------------------------------------------------------------------------------------- the threads that send

    def fail(self, error: Exception) -> None:
        """Gives every future without a result this error, which `submit` raises from now on."""
        with self._changed:
            if self._is_over:
                return
            self._is_over, self._error = True, error
            for submission in self._unsettled.values():
                self._fail_one(submission, error)
            for withdrawal in self._withdrawals:
                withdrawal.answer.set_result(False)
            for left in (self._unsettled, self._unsent, self._unstored, self._withdrawals, self._early):
                left.clear()
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the generation was closed, or is being closed."""
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to be done any more."""
        return self._is_over

    @property
    def has_unsettled(self) -> bool:
        """Whether a future has no result yet."""
        return bool(self._unsettled)

    def next_work(self) -> Work | None:
        """Waits for something to be sent. None: there will be nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_work())
            if self._is_over:
                return None
            if self._withdrawals:
                return self._withdrawals.popleft()
            if not self._unsent:
                self._is_closed = True
                self._changed.notify_all()
                return Closing()
            chosen, size_bytes = list[Submission](), 0
            for submission in islice(self._unsent.values(), BATCH_GENOMES_MAX):
                size_bytes += len(submission.encoded)
                if chosen and (size_bytes > BATCH_BYTES_MAX or not submission.encoded):
                    break
                chosen.append(submission)
                if not submission.encoded:
                    break
            for submission in chosen:
                submission.is_sent = True
                self._remove_unsent(submission)
            self._changed.notify_all()
            return Batch(chosen)

    def answer(self, submission: Submission, answer: SubmissionAnswer) -> None:
        """What the server says of a genome that was sent."""
        name = submission.genome.name
        with self._changed:
            if self._unsettled.get(name) is not submission:
                return
            if answer.state is SubmissionState.REFUSED:
                self._forget(submission)
                self._refused.append(GenomeError(said(answer.reason) or f"genome {name!r}: was refused"))
                self._fail_one(submission, self._refused[-1])
            else:
                submission.is_stored = True
                self._unstored.discard(name)
                if (fitness := self._early.pop(name, None)) is not None:
                    self._settle(submission, fitness)
            self._changed.notify_all()

    def settled(self, result: GenomeResult) -> None:
        """Gives a future its result. One that nothing was submitted for yet is kept: it may be submitted again."""
        with self._changed:
            submission = self._unsettled.get(result.name)
            if submission is not None and (submission.is_stored or submission.genome.sha256 == result.sha256):
                self._settle(submission, fitness_of(result))
                self._changed.notify_all()
            elif submission is not None or result.name not in self._names:
                self._early[result.name] = fitness_of(result)

    def oldest(self, count: int | None) -> list[Submission]:
        """The first genomes that the server has and that are not settled; None: all."""
        with self._changed:
            return list(islice((one for one in self._unsettled.values() if one.is_stored), count))

    def withdrawn(self, withdrawal: Withdrawal, *, done: bool) -> None:
        """Whether the server has withdrawn a genome."""
        submission = withdrawal.submission
        name = submission.genome.name
        with self._changed:
            done = done and self._unsettled.get(name) is submission
            if done:
                self._forget(submission)
            else:
                submission.has_joined = True
                self._outcomes.put(lambda: _start(submission.future))
        withdrawal.answer.set_result(done)

    def send_again(self, submissions: Sequence[Submission] | None = None) -> None:
        """Sends these again, or everything that is not settled: the server may not have it. It knows what it has."""
        with self._changed:
            chosen = self._unsettled.values() if submissions is None else submissions
            again = [one for one in chosen if one.is_sent and self._unsettled.get(one.genome.name) is one]
            unsent, self._unsent, self._unsent_bytes = self._unsent, {}, 0
            for submission in dict.fromkeys((*again, *unsent.values())):
                self._add_unsent(submission)
            self._is_closed = False
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------------------------- inside

    def _withdrawn(self, name: str, future: "Future[Fitness]") -> bool:
        with self._changed:
            submission = self._unsettled.get(name)
            if submission is None or submission.future is not future or submission.has_joined:
                return False
            if not submission.is_sent:
                self._forget(submission)
                self._changed.notify_all()
                return True
            withdrawal = Withdrawal(submission)
            self._withdrawals.append(withdrawal)
            self._changed.notify_all()
        return withdrawal.answer.result()

    def _forget(self, submission: Submission) -> None:
        self._remove(submission)
        self._names.discard(submission.genome.name)

    def _remove(self, submission: Submission) -> None:
        del self._unsettled[submission.genome.name]
        self._unstored.discard(submission.genome.name)
        self._remove_unsent(submission)

    def _add_unsent(self, submission: Submission) -> None:
        self._unsent[submission.genome.name] = submission
        self._unsent_bytes += submission.size_bytes

    def _remove_unsent(self, submission: Submission) -> None:
        if self._unsent.pop(submission.genome.name, None) is not None:
            self._unsent_bytes -= submission.size_bytes

    def _settle(self, submission: Submission, fitness: Fitness) -> None:
        self._remove(submission)
        self._outcomes.put(lambda: _give(submission.future, fitness))

    def _fail_one(self, submission: Submission, error: Exception) -> None:
        self._outcomes.put(lambda: _give_error(submission.future, error))

    def _has_room(self) -> bool:
        return len(self._unsent) < QUEUE_GENOMES_MAX and self._unsent_bytes < QUEUE_BYTES_MAX

    def _has_work(self) -> bool:
        is_to_be_closed = self._is_closing and not self._is_closed and not self._unstored
        return bool(self._withdrawals or self._unsent) or is_to_be_closed

    def _is_stored(self) -> bool:
        return not self._unstored

    def _is_settled(self) -> bool:
        return self._is_closed and not self._unsettled

    def _wait(self, condition: Callable[[], bool], tick: Callable[[], object] | None) -> None:
        """Waits with the lock held, which is released while `tick` is called."""
        next_tick = time.monotonic() + TICK_S
        while self._error is None and not condition():
            self._changed.wait(_WAIT_S)
            if tick is None or time.monotonic() < next_tick:
                continue
            self._changed.release()
            try:
                tick()
            finally:
                self._changed.acquire()
            next_tick = time.monotonic() + TICK_S

    def _complete(self) -> None:
        while (complete := self._outcomes.get()) is not None:
            complete()


def _start(future: "Future[Fitness]") -> bool:
    """Makes a future one that cannot be cancelled; False: it has an outcome."""
    return not future.done() and (future.running() or future.set_running_or_notify_cancel())


def _give(future: "Future[Fitness]", fitness: Fitness) -> None:
    if _start(future):
        future.set_result(fitness)


def _give_error(future: "Future[Fitness]", error: Exception) -> None:
    if _start(future):
        future.set_exception(error)
