"""The genomes that a program submits one at a time to the open generation, and the futures of their results.

Owns: when a submitted genome joins, and when its future gets the result.
Not here: what may be a genome (`storage.submitted_genomes`), when the run ends (`host`).
Threads: any may submit and close; all other methods belong to the control loop's thread.
A genome joins only when a worker will have room for it: one that has not joined can be cancelled without a trace.
"""

import hashlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.core.facts import Fact, TrialSettled
from pipeline.core.farm import Farm
from pipeline.core.model import Genome, GenomeFile
from pipeline.core.params import Params
from pipeline.core.runs import joining_facts
from pipeline.errors import GenomeError, InputError
from pipeline.host.genome_folder import FileNotes

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Submission(Generic[Result]):
    name: str
    content: bytes
    params: Params
    future: Future[Result]


class Submissions(Generic[Result]):
    """What a program submits to one generation, in the order of its calls."""

    def __init__(
        self,
        farm: Farm,
        take: Callable[[str, bytes, Params], GenomeFile],
        record: Callable[[list[Fact]], None],
        room: Callable[[], int],
        result: Callable[[Genome], Result],
        wake: Callable[[], None],
    ) -> None:
        """Creates it without submissions, for the generation that the farm has open.

        Args:
            take: stores a genome's bytes under its name, with its params. It raises GenomeError or HostError.
            room: how many trials may be open before genomes wait to join.
            result: of a genome with all its trials settled.
            wake: makes the control loop call `update` soon.
        """
        self._farm = farm
        self._take, self._record, self._room, self._result, self._wake = take, record, room, result, wake
        self._lock = threading.Lock()
        self._waiting = deque[_Submission[Result]]()
        self._names = set[str]()  #: of all that were submitted and not cancelled
        self._is_closed = False
        self._error: Exception | None = None  #: why nothing can be submitted any more
        #: the genomes that the generation has from an earlier run: they are answered from the ledger
        self._known = {genome.name: genome for genome in farm.genomes}
        self._futures: dict[int, Future[Result]] = {}  #: of genomes that joined and are not settled, by number

    # ------------------------------------------------------------------------------------------------- any thread

    def submit(self, name: str, content: bytes, params: Params) -> Future[Result]:
        """Adds a genome. Its future can be cancelled until it joins, and runs from then on.

        Raises:
            GenomeError: a genome of that name was submitted before, or the generation has it with other bytes.
            PipelineError: the generation is closed or has ended; says why.
        """
        future = Future[Result]()
        with self._lock:
            if self._error is not None:
                raise self._error
            if name in self._names:
                raise GenomeError(f"genome {name!r}: was submitted before; choose another name")
            if (known := self._known.get(name)) is not None and known.sha256 != hashlib.sha256(content).hexdigest():
                raise GenomeError(f"genome {name!r}: the generation has it with other bytes; open another generation")
            self._names.add(name)
            self._waiting.append(_Submission(name, content, params, future))
        self._wake()
        return future

    def close(self) -> None:
        """Ends the submissions: the run finishes when everything is settled."""
        with self._lock:
            self._is_closed = True
            self._error = self._error or InputError("the generation is closed; open another one")
        self._wake()

    def fail(self, error: Exception) -> None:
        """Gives every future without a result this error, which `submit` raises from now on: the run has ended."""
        with self._lock:
            self._is_closed, self._error = True, error
            waiting = [submission.future for submission in self._waiting]
            self._waiting.clear()
        joined, self._futures = list(self._futures.values()), {}
        for future in [*joined, *(future for future in waiting if future.set_running_or_notify_cancel())]:
            future.set_exception(error)

    # --------------------------------------------------------------------------------------- control loop's thread

    @property
    def notes(self) -> FileNotes:
        """Nothing is to be said of files: the program knows what it has submitted."""
        return FileNotes()

    def wait_s(self, farm: Farm) -> float:
        """How long until `update` is to be called again: each submission and each result wakes the loop."""
        return math.inf

    def is_open(self, farm: Farm) -> bool:
        """Whether genomes may still join."""
        with self._lock:
            return not self._is_closed or bool(self._waiting)

    def update(self, farm: Farm) -> list[Fact]:
        """Lets submissions join while there is room, and records their genomes. Returns the facts.

        Raises:
            HostError: a genome cannot be stored, or the ledger cannot be written.
        """
        if not self._waiting:
            return []
        files, room = list[GenomeFile](), self._room()
        while farm.open_trials + len(files) * len(farm.seeds) < room and (submission := self._next()) is not None:
            known = self._known.get(submission.name)
            number = known.number if known is not None else len(farm.genomes) + len(files) + 1
            self._futures[number] = submission.future  # first: if the disk fails, `fail` must find it
            try:
                if known is None:
                    files.append(self._take(submission.name, submission.content, submission.params))
                else:
                    self._answer(known)
            except GenomeError as error:
                self._futures.pop(number).set_exception(error)
        if facts := joining_facts(farm, files):
            self._record(facts)
        return facts

    def note(self, facts: Iterable[Fact]) -> None:
        """Gives the futures of genomes that were settled by these facts their results."""
        for fact in facts:
            if isinstance(fact, TrialSettled):
                self._answer(self._farm.genomes[fact.genome - 1])

    def _next(self) -> _Submission[Result] | None:
        """The next submission, which runs from now on; those that were cancelled are dropped."""
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                submission = self._waiting.popleft()
            if submission.future.set_running_or_notify_cancel():
                return submission
            with self._lock:
                self._names.discard(submission.name)

    def _answer(self, genome: Genome) -> None:
        if genome.settled == len(genome.trials) and (future := self._futures.pop(genome.number, None)) is not None:
            future.set_result(self._result(genome))
