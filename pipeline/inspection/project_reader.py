"""Read-only access to a project, also while a host runs it: generations as farms, facts with times.

Every answer is current. Only the requested generations are read, and only new facts are applied.
"""

import contextlib
import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pipeline.config import Config, load_config
from pipeline.core.facts import DatedFact, Entry, TrialSettled
from pipeline.core.farm import Farm
from pipeline.core.runs import replay
from pipeline.errors import InputError
from pipeline.paths import ProjectPaths
from pipeline.storage.collector import without_collector
from pipeline.storage.ledger import Ledger, has_ledger
from pipeline.storage.live_status import read_live_status
from pipeline.views.fact_text import is_routine
from pipeline.views.fitness_history import FITNESS_KINDS, HISTORY_MAX, FitnessHistory
from pipeline.views.progress import Progress, measure_progress

_NAMED_MAX = 10  #: generations in a message
GENERATIONS_KEPT_MAX = 4  #: in memory; another one is read again
_SETTLED = (str(TrialSettled.__struct_config__.tag),)
HISTORY_TIME_S = 0.3  #: the time that one answer may spend on reading earlier generations; the next one goes on


@dataclass(slots=True)
class _LoadedGeneration:
    """A generation as read so far."""

    farm: Farm
    history: list[DatedFact] = field(default_factory=list)
    seq: int = 0


class ProjectReader:
    """Reads the history and the current state of a project.

    Raises:
        InputError: nothing was run here yet, or its configuration cannot be read.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path) -> None:
        self._state = ProjectPaths(root).state
        if not has_ledger(self._state):
            load_config(root)  # raises the better error if this is no project
            raise no_run_error(root)
        self.root = root
        self.config: Config = load_config(root, check=False)
        self._ledger = Ledger(self._state, read_only=True)
        self._known: dict[int, _LoadedGeneration] = {}
        self._fitness = FitnessHistory(self.config.generation.direction)
        self._fitness_seq: dict[int, int] = {}  #: generations of which only the fitness was read, and up to which fact
        self._shares: list[Entry] = []
        self._shares_seq = 0

    @property
    def facts(self) -> int:
        """The number of facts; it rises with every new one."""
        return self._ledger.last()[0]

    def generations(self) -> list[int]:
        """The generations that were run, sorted by number."""
        return self._ledger.generations()

    def generation_of(self, attempt: str) -> int | None:
        """The generation that issued an attempt; None if none did."""
        return self._ledger.generation_of(attempt)

    def latest(self) -> int:
        """The generation that was run last."""
        return self._ledger.last()[2]

    def last_at(self) -> float:
        """The wall time of the last fact."""
        return self._ledger.last()[1]

    def choose(self, generation: int | None) -> int:
        """That generation, or by default the one run last. Raises InputError: it was never run here."""
        chosen = generation if generation is not None else self.latest()
        if not (known := self.generations()):
            raise no_run_error(self.root)  # a refused first run left an empty ledger
        if chosen not in known:
            newest = ", ".join(map(str, known[-_NAMED_MAX:]))
            more = "the newest that were" if len(known) > _NAMED_MAX else "those that were"
            raise InputError(f"{self.root}: generation {chosen} was never run here; {more}: {newest}")
        return chosen

    def farm(self, generation: int) -> Farm:
        """The farm of that generation, from the ledger's current facts."""
        return self._read(generation).farm

    def history(self, generation: int) -> list[DatedFact]:
        """Its facts that are no routine, and those of shares from other generations, with their times."""
        return self._read(generation).history

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """All facts of the ledger by number. Raises LedgerError at the first one that is damaged or missing."""
        return self._ledger.entries(after=after)

    def settlements(self, generation: int, *, after: int = 0) -> Iterator[Entry]:
        """The facts that settled trials of that generation, by number."""
        return self._ledger.entries_of(generation, after=after, kinds=_SETTLED)

    def forget_others(self, generation: int) -> None:
        """Frees the memory of all other generations; they are read again when they are asked for."""
        for other in [number for number in (*self._known, *self._fitness_seq) if number != generation]:
            self._known.pop(other, None)
            self._fitness_seq.pop(other, None)
            self._fitness.forget(other)

    def is_playing(self, generation: int) -> bool:
        """Whether a host is running that generation."""
        live = self._live_progress()
        return live is not None and live.generation == generation

    def playing(self) -> int | None:
        """The generation that a host is running; None if none is."""
        live = self._live_progress()
        return live.generation if live is not None else None

    def progress(self, generation: int, *, with_history: bool = True) -> Progress:
        """The progress of that generation: from the running host's status file, else from the ledger.

        Without history, earlier generations are not read.
        """
        if (live := self.live(generation)) is not None:
            return live
        if with_history:
            self._read_fitness_before(generation)
        return measure_progress(self.farm(generation), None, time.time(), self._fitness)

    def live(self, generation: int) -> Progress | None:
        """What the host says that is running that generation; None if none is, or it is finished."""
        if self.farm(generation).finished:
            return None  # the file is older than the last fact
        live = self._live_progress()
        return live if live is not None and live.generation == generation else None

    def _read(self, generation: int) -> "_LoadedGeneration":
        """Loads a generation, or applies the facts that are new since the last call."""
        known = self._known.pop(generation, None)
        if known is None:
            # Those on sites, and those that join while a host runs, come with the facts.
            known = _LoadedGeneration(Farm(self._ledger.farm_id, self.config.worker_names()))
            self._fitness.forget(generation)
        self._known[generation] = known  # the last one is the one that was used last
        while len(self._known) > GENERATIONS_KEPT_MAX:
            self._known.pop(next(iter(self._known)))
        if known.seq < (facts := self._read_share_facts()):
            own = self._ledger.entries_of(generation, after=known.seq, until=facts)
            others = (e for e in self._shares if known.seq < e.seq and e.generation != generation)
            new = heapq.merge(own, others, key=lambda entry: entry.seq)
            with contextlib.ExitStack() as failing, without_collector():
                failing.callback(self._known.pop, generation)
                replay(self._noted(new, known.history, generation), known.farm, generation)
                failing.pop_all()
            known.seq = facts
        return known

    def _noted(self, entries: Iterable[Entry], history: list[DatedFact], generation: int) -> Iterator[Entry]:
        """The same entries; what is told of them, and their fitness, is noted as they pass."""
        for entry in entries:
            if not is_routine(entry.fact):
                history.append(DatedFact(entry.at, entry.fact))
            if entry.generation == generation:
                self._fitness.note(generation, entry.fact)
            yield entry

    def _read_fitness_before(self, generation: int) -> None:
        """Reads the fitness of earlier generations, the newest first, for a limited time."""
        until = time.monotonic() + HISTORY_TIME_S
        facts, earlier = self.facts, [number for number in self.generations() if number < generation]
        for number in reversed(earlier[-HISTORY_MAX:]):
            if number in self._known:
                self._read(number)
            elif (seq := self._fitness_seq.get(number, 0)) < facts:
                for entry in self._ledger.entries_of(number, after=seq, until=facts, kinds=FITNESS_KINDS):
                    self._fitness.note(number, entry.fact)
                self._fitness_seq[number] = facts
            if time.monotonic() > until:
                break

    def _read_share_facts(self) -> int:
        """Reads new facts of shares, which concern all generations. Returns the number of the last fact covered."""
        facts = self.facts
        if self._shares_seq < facts:
            self._shares += self._ledger.entries_of_shares(after=self._shares_seq, until=facts)
            self._shares_seq = facts
        return facts

    def close(self) -> None:
        """Closes the ledger."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live_progress(self) -> Progress | None:
        live = read_live_status(self._state)
        try:
            return msgspec.json.decode(live.progress, type=Progress) if live is not None else None
        except msgspec.MsgspecError:
            return None  # written by another version of this program


def no_run_error(root: Path) -> InputError:
    """The error for a project in which no run was ever opened."""
    return InputError(f"{root}: nothing was run here yet; `pipeline run --gen 1` begins")
