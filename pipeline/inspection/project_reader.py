"""What the ledger tells of a project, read beside a host that may be at work: generations as farms, facts with times.

Each question is answered with what is there now; only what is asked for is read, and only what is new is folded.
"""

import heapq
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pipeline.config import Config, load_config
from pipeline.core.facts import DatedFact, Entry
from pipeline.core.farm import Farm
from pipeline.core.runs import replay
from pipeline.errors import InputError
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger, has_ledger
from pipeline.storage.live_status import read_live_status
from pipeline.views.progress import Progress, measure_progress


@dataclass(slots=True)
class _LoadedGeneration:
    """A generation as far as it was read."""

    farm: Farm
    history: list[DatedFact] = field(default_factory=list)
    seq: int = 0


class ProjectReader:
    """A project's past, and its present as far as it shows itself.

    Raises:
        InputError: nothing was run here yet, or its configuration cannot be read.
        LedgerError: the ledger is damaged, or of another version.
    """

    def __init__(self, root: Path) -> None:
        self._state = ProjectPaths(root).state
        if not has_ledger(self._state):
            load_config(root)  # which knows better if this is no project at all
            raise no_run_error(root)
        self.root = root
        self.config: Config = load_config(root, check=False)
        self._ledger = Ledger(self._state, read_only=True)
        self._known: dict[int, _LoadedGeneration] = {}
        self._shares: list[Entry] = []
        self._shares_seq = 0

    @property
    def facts(self) -> int:
        """How many there are: it rises when something happened."""
        return self._ledger.last()[0]

    def generations(self) -> list[int]:
        """Those that were run, in order of their numbers."""
        return self._ledger.generations()

    def generation_of(self, attempt: str) -> int | None:
        """The generation in which an attempt was issued; None if it never was."""
        return self._ledger.generation_of(attempt)

    def latest(self) -> int:
        """The generation that was played last."""
        return self._ledger.last()[2]

    def last_at(self) -> float:
        """When the last fact was stated."""
        return self._ledger.last()[1]

    def choose(self, generation: int | None) -> int:
        """That generation, or the one played last. Raises InputError: it was never run here."""
        chosen = generation if generation is not None else self.latest()
        if not (known := self.generations()):
            raise no_run_error(self.root)  # a first run was refused, and left an empty ledger
        if chosen not in known:
            raise InputError(f"{self.root}: generation {chosen} was never run here")
        return chosen

    def farm(self, generation: int) -> Farm:
        """That generation as the ledger has it now."""
        return self._read(generation).farm

    def history(self, generation: int) -> list[DatedFact]:
        """Its facts, and what happened to shares meanwhile, with their times."""
        return self._read(generation).history

    def is_playing(self, generation: int) -> bool:
        """Whether a host is at work on that generation."""
        return self._live(generation) is not None

    def progress(self, generation: int) -> Progress:
        """Where that generation stands: as its host shows it, or as the ledger tells."""
        return self._live(generation) or measure_progress(self.farm(generation), None, time.time())

    def _read(self, generation: int) -> "_LoadedGeneration":
        """What is known of a generation, with what is new since it was asked for last."""
        known = self._known.get(generation)
        if known is None:
            known = _LoadedGeneration(Farm(self._ledger.farm_id, self.config.worker_names()))
            self._known[generation] = known
        if known.seq < (facts := self._read_share_facts()):
            own = self._ledger.entries_of(generation, after=known.seq)
            others = (e for e in self._shares if known.seq < e.seq and e.generation != generation)
            new = [entry for entry in heapq.merge(own, others, key=lambda entry: entry.seq) if entry.seq <= facts]
            replay(new, known.farm, generation)
            known.history += [DatedFact(entry.at, entry.fact) for entry in new]
            known.seq = facts
        return known

    def _read_share_facts(self) -> int:
        """Reads what is new of shares, which concerns all generations; up to which fact it is known now."""
        facts = self.facts
        if self._shares_seq < facts:
            self._shares += self._ledger.entries_of_shares(after=self._shares_seq)
            self._shares_seq = facts
        return facts

    def close(self) -> None:
        """Lets go of the ledger."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live(self, generation: int) -> Progress | None:
        live = read_live_status(self._state)
        try:
            shown = msgspec.json.decode(live.progress, type=Progress) if live is not None else None
        except msgspec.MsgspecError:
            return None  # of another version of this program
        return shown if shown is not None and shown.generation == generation else None


def no_run_error(root: Path) -> InputError:
    """What is said of a project in which no run was ever opened."""
    return InputError(f"{root}: nothing was run here yet; `pipeline run --gen 1` begins")
