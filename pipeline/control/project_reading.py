"""Reads a project for programs elsewhere, also one that another process plays: generations, genomes, events.

Owns: how the state of a farm becomes an answer. Everything is read from the ledger, so nothing disturbs a host.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pipeline.control.genome_artifacts import AttemptFiles, artifact_content, artifacts_of, deciding_attempts
from pipeline.control.operations import (
    ArtifactList,
    EventPage,
    FarmEvent,
    GenerationPage,
    GenerationState,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    GenomeStatus,
    WorkerStatus,
)
from pipeline.core.facts import Entry, TrialSettled, kind_of
from pipeline.core.farm import Farm
from pipeline.core.mean import mean
from pipeline.core.model import Genome
from pipeline.errors import InputError, NotFoundError
from pipeline.inspection.current_reader import CurrentReader
from pipeline.inspection.lookup import explain
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import ProjectPaths
from pipeline.storage.event_log import iso_time
from pipeline.views.fact_text import describe_any, is_routine
from pipeline.views.results import (
    failure_reason,
    fittest,
    genome_evaluator,
    genome_status,
    mean_metrics,
    summary,
)

LOOK_INTERVAL_S = 0.25  #: at a ledger that another process may write
LIMIT_MAX = 10_000  #: items of one answer
_FACTS_READ_MAX = 20_000  #: for one answer with events

Page = TypeVar("Page")


class ProjectReading:
    """What does not change a project. Any thread may call; one at a time reads.

    Raises:
        InputError: this is no project, or it cannot be read.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._current, self._lock = CurrentReader(root), threading.Lock()
        self._changed = threading.Condition()
        self._is_closed, self._changes = False, 0
        with self._reader():
            pass

    def close(self) -> None:
        """Ends all waits, and closes the ledger."""
        self._is_closed = True
        self.note_change()
        with self._lock:
            self._current.close()

    def note_change(self) -> None:
        """Ends the waits for something new; any thread may call."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def last_fact(self) -> int:
        """The number of the last fact; 0 while there is none."""
        with self._reader() as reader:
            return reader.facts if reader is not None else 0

    def wait_for_fact(self, known: int, wait_s: float) -> int:
        """The number of the last fact as soon as it is another one than `known`, or after `wait_s`."""

        def look() -> tuple[int, bool]:
            last = self.last_fact()
            return last, last != known

        return self._wait_for(look, wait_s)

    def latest(self) -> int | None:
        """The generation that was played last."""
        with self._reader() as reader:
            return reader.latest() or None if reader is not None else None

    def playing(self) -> int | None:
        """The generation that a host plays."""
        with self._reader() as reader:
            return reader.playing() if reader is not None else None

    def workers(self) -> list[WorkerStatus]:
        """The workers as the generation that was played last knows them."""
        with self._reader() as reader:
            if reader is None or not (latest := reader.latest()):
                return []
            return [
                WorkerStatus(
                    name=row.name,
                    state=row.state,
                    genome=row.genome,
                    trial=row.trial,
                    playing_s=row.playing_s,
                    waiting=row.waiting,
                    losses=row.losses,
                    progress=row.progress,
                    problem=row.problem,
                )
                for row in reader.progress(latest, with_history=False).workers
            ]

    def worker(self, name: str) -> WorkerStatus:
        """A worker that is configured; `awaited` if no generation has known it yet."""
        known = (worker for worker in self.workers() if worker.name == name)
        return next(known, WorkerStatus(name=name, state="awaited"))

    def generations(self, *, after: int = 0, limit: int = 100) -> GenerationPage:
        """The generations that were begun, by number."""
        with self._reader() as reader:
            numbers = [number for number in reader.generations() if number > after] if reader is not None else []
            some = numbers[: _limit(limit)]
            items = [_generation(reader, number) for number in some] if reader is not None else []
        return GenerationPage(items=items, next=some[-1] if len(some) < len(numbers) else None)

    def generation(self, number: int) -> GenerationStatus:
        """One generation."""
        with self._reading(number) as reader:
            return _generation(reader, number)

    def genomes(self, number: int, *, after: int = 0, limit: int = 100) -> GenomePage:
        """The genomes that have joined a generation, in this order."""
        with self._reading(number) as reader:
            farm = reader.farm(number)
            some = farm.genomes[after : after + _limit(limit)]
            end = after + len(some)
            items = [_genome(farm, genome) for genome in some]
            return GenomePage(generation=number, items=items, next=end if end < len(farm.genomes) else None)

    def genome(self, number: int, name: str) -> GenomeResult:
        """One genome that has joined."""
        with self._reading(number) as reader:
            farm = reader.farm(number)
            return _genome(farm, _genome_named(farm, name))

    def artifacts(self, number: int, name: str) -> ArtifactList:
        """The artifacts of a genome that are kept."""
        return ArtifactList(generation=number, genome=name, items=artifacts_of(self._attempts(number, name)))

    def artifact(self, number: int, name: str, attempt: str, file: str, *, bytes_max: int) -> bytes:
        """The bytes of an artifact of a genome. Raises NotFoundError: there is none, or it has more bytes."""
        return artifact_content(self._attempts(number, name), attempt, file, bytes_max)

    def settled(
        self,
        number: int,
        *,
        after: int = 0,
        limit: int = 1000,
        wait_s: float = 0.0,
        is_over: Callable[[], bool] = lambda: False,
    ) -> GenomePage:
        """The genomes that were settled after a fact, in the order in which that happened.

        It does not wait for more if the generation is finished, or if `is_over` says that it is not played any more.
        """

        def look() -> tuple[GenomePage, bool]:
            ends = is_over()  # first: what was settled before is in the page
            with self._reading(number) as reader:
                page, has_more = _settled(reader, number, after, _limit(limit))
                return page, has_more or ends or reader.farm(number).finished

        return self._wait_for(look, wait_s)

    def events(self, *, after: int = 0, limit: int = 100, wait_s: float = 0.0) -> EventPage:
        """What happened after a fact; the last ones if `after` is negative."""

        def look() -> tuple[EventPage, bool]:
            with self._reader() as reader:
                if reader is None:
                    return EventPage(items=(), next=0), False
                return _events(reader, after, _limit(limit))

        return self._wait_for(look, wait_s)

    def explain(self, what: str, number: int | None = None) -> str:
        """Why a genome, an attempt or a worker is where it is."""
        with self._reading(number) as reader:
            try:
                return explain(reader, what, number)
            except InputError as error:
                raise NotFoundError(str(error)) from error

    # ---------------------------------------------------------------------------------------------------------- inside

    def _attempts(self, number: int, name: str) -> Sequence[AttemptFiles]:
        with self._reading(number) as reader:
            return deciding_attempts(ProjectPaths(self.root), number, _genome_named(reader.farm(number), name))

    @contextmanager
    def _reader(self) -> Iterator[ProjectReader | None]:
        with self._lock:
            yield self._current.get() if not self._is_closed else None

    @contextmanager
    def _reading(self, number: int | None) -> Iterator[ProjectReader]:
        """The reader of a project in which that generation was begun, or any."""
        with self._reader() as reader:
            if reader is None or not (known := reader.generations()) or (number is not None and number not in known):
                which = "no generation was" if number is None else f"generation {number} was not"
                raise NotFoundError(f"{which} begun here")
            yield reader

    def _wait_for(self, look: Callable[[], tuple[Page, bool]], wait_s: float) -> Page:
        """Looks again after each change until there is something."""
        deadline = time.monotonic() + wait_s
        while True:
            seen, changes = self.last_fact(), self._changes
            page, has_something = look()
            if has_something:
                return page
            while (self.last_fact(), self._changes) == (seen, changes):
                if (left_s := deadline - time.monotonic()) <= 0 or self._is_closed:
                    return page
                with self._changed:
                    if self._changes == changes:
                        self._changed.wait(min(left_s, LOOK_INTERVAL_S))


def _limit(limit: int) -> int:
    return max(1, min(limit, LIMIT_MAX))


def _generation(reader: ProjectReader, number: int) -> GenerationStatus:
    farm = reader.farm(number)
    counts, values = summary(farm), [value for genome in farm.genomes if (value := genome.fitness) is not None]
    best = fittest(farm, reader.config.generation.direction)
    state = GenerationState.CLOSED if reader.is_playing(number) else GenerationState.STOPPED
    return GenerationStatus(
        number=number,
        state=GenerationState.FINISHED if farm.finished else state,
        genomes=len(farm.genomes),
        completed=counts["completed"],
        failed=counts["failed"],
        trials=counts["trials"]["submitted"],
        settled=counts["trials"]["submitted"] - counts["trials"]["open"],
        best_genome=best.name if best is not None else "",
        best=best.fitness if best is not None else None,
        mean=mean(values) if values else None,
        evaluator=counts["evaluator"],
    )


def _genome_named(farm: Farm, name: str) -> Genome:
    for genome in farm.genomes:
        if genome.name == name:
            return genome
    raise NotFoundError(f"generation {farm.generation}: no genome {name!r}")


def _genome(farm: Farm, genome: Genome) -> GenomeResult:
    return GenomeResult(
        name=genome.name,
        status=GenomeStatus(genome_status(genome)),
        fitness=genome.fitness,
        reason=failure_reason(genome),
        trials=[trial.fitness for trial in genome.trials],
        metrics=mean_metrics(farm, genome),
        params=dict(genome.params),
        attempts=[trial.decided_by for trial in genome.trials if trial.decided_by],
        evaluator=genome_evaluator(farm, genome),
        sha256=genome.sha256,
    )


def _settled(reader: ProjectReader, number: int, after: int, limit: int) -> tuple[GenomePage, bool]:
    """The page, and whether there may be more at once."""
    last = reader.facts  # before them: all that were settled until then are among them
    entries = list(islice(reader.settlements(number, after=after), limit))
    is_full = len(entries) == limit
    farm = reader.farm(number)  # after the facts: it is as new as they are, so the last trial of a genome is in it
    found = dict.fromkeys(entry.fact.genome for entry in entries if isinstance(entry.fact, TrialSettled))
    genomes = [farm.genomes[each - 1] for each in found if each <= len(farm.genomes)]
    items = [_genome(farm, genome) for genome in genomes if genome.settled == len(genome.trials)]
    seen = max(after, entries[-1].seq if entries else 0, 0 if is_full else last)
    return GenomePage(generation=number, items=items, next=seen), bool(items) or is_full


def _events(reader: ProjectReader, after: int, limit: int) -> tuple[EventPage, bool]:
    """The page, and whether there may be more at once."""
    last = reader.facts
    first = max(0, last + after) if after < 0 else after
    items, position = list[FarmEvent](), first
    for entry in reader.entries(after=first):
        position = entry.seq
        if entry.generation > 0 and not is_routine(entry.fact):
            items.append(_event(reader, entry))
        if len(items) == limit or position - first >= _FACTS_READ_MAX:
            break
    return EventPage(items=items, next=position), bool(items) or position - first >= _FACTS_READ_MAX


def _event(reader: ProjectReader, entry: Entry) -> FarmEvent:
    kind = kind_of(entry.fact)
    return FarmEvent(
        number=entry.seq,
        at=iso_time(entry.at),
        generation=entry.generation,
        kind=kind,
        text=describe_any(entry.fact, reader.farm(entry.generation)) or kind.replace("_", " "),
    )
