"""What the ledger tells of a project, read beside a host that may be at work: generations as farms, facts with times.

It can be refreshed: only what is new is read and folded.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from inbox_agent.settings_file import SettingsError
from pipeline.config import Config, load_config
from pipeline.core.facts import EpochOpened, EpochRaised
from pipeline.core.farm import Farm
from pipeline.edges.ledger import FILE_NAME, Entry, Ledger
from pipeline.edges.live import read_live
from pipeline.generation import replay
from pipeline.screens.progress import Progress, progress
from pipeline.screens.story import Told


class Chronicle:
    """A project's past, and its present as far as it shows itself.

    Raises:
        SettingsError: nothing was run here yet, or its configuration cannot be read.
        LedgerError: the ledger is damaged.
    """

    def __init__(self, root: Path) -> None:
        if not (root / "state" / FILE_NAME).exists():
            raise SettingsError(f"{root}: nothing was run here yet; `pipeline run --gen 1` begins")
        self.root = root
        self.config: Config = load_config(root, check=False)
        self._ledger = Ledger(root / "state", read_only=True)
        self._entries: list[Entry] = []
        self._farms: dict[int, tuple[Farm, int]] = {}  #: generation -> its farm, and how many entries are in it
        self.refresh()

    def refresh(self) -> bool:
        """Reads what is new; whether there was anything."""
        known = len(self._entries)
        self._entries += self._ledger.entries(after=known)
        return len(self._entries) > known

    @property
    def facts(self) -> int:
        """How many there are: it rises when something happened."""
        return len(self._entries)

    def generations(self) -> list[int]:
        """Those that were run, in order of their numbers."""
        return sorted({entry.generation for entry in self._entries if entry.generation})

    def latest(self) -> int:
        """The generation that was played last."""
        return next((entry.generation for entry in reversed(self._entries) if entry.generation), 0)

    def choose(self, generation: int | None) -> int:
        """That generation, or the one played last. Raises SettingsError: it was never run here."""
        chosen = generation if generation is not None else self.latest()
        if chosen not in self.generations():
            raise SettingsError(f"{self.root}: generation {chosen} was never run here")
        return chosen

    def farm(self, generation: int) -> Farm:
        """That generation as the ledger has it now."""
        farm, known = self._farms.get(generation) or (Farm(self._ledger.farm_id, self.config.worker_names()), 0)
        replay(self._entries[known:], farm, generation)
        self._farms[generation] = (farm, len(self._entries))
        return farm

    def told(self, generation: int) -> list[Told]:
        """Its facts, and what happened to shares meanwhile, with their times."""
        return [Told(entry.at, entry.fact) for entry in self._of(generation)]

    def last_at(self) -> float:
        """When the last fact was stated."""
        return self._entries[-1].at if self._entries else 0.0

    def is_playing(self, generation: int) -> bool:
        """Whether a host is at work on that generation."""
        return self._live(generation) is not None

    def progress(self, generation: int) -> Progress:
        """Where that generation stands: as its host shows it, or as the ledger tells."""
        return self._live(generation) or progress(self.farm(generation), None, time.time())

    def close(self) -> None:
        """Lets go of the ledger."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _of(self, generation: int) -> Iterable[Entry]:
        opened = (EpochRaised, EpochOpened)
        return (e for e in self._entries if e.generation == generation or isinstance(e.fact, opened))

    def _live(self, generation: int) -> Progress | None:
        live = read_live(self.root / "state")
        try:
            shown = msgspec.json.decode(live.progress, type=Progress) if live is not None else None
        except msgspec.MsgspecError:
            return None  # of another version of this program
        return shown if shown is not None and shown.generation == generation else None
