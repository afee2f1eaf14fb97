"""The figures of many histories: summed in chunks and kept in a file, so that a long proof can be resumed."""

import gc
import json
import logging
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulator.history import play
from tests.simulator.world import World

CHUNK = 50
#: Counted with the faults, but not faults: preparations and effects of faults.
_NO_FAULTS = ("checkpoint", "revert", "second agent detected")


@dataclass
class Figures:
    """Sums over seeds."""

    seeds: int = 0
    workers: int = 0
    trials: int = 0
    attempts: int = 0
    lost: int = 0  #: of histories that finished, as are the next three
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    operations: int = 0
    virtual_s: float = 0.0
    machine_s: float = 0.0  #: virtual time, counted once for each machine
    busy_s: float = 0.0  #: of this machine's processors
    recovery_s_max: float = 0.0
    fired: Counter[str] = field(default_factory=Counter)
    executed: Counter[str] = field(default_factory=Counter)  #: recovery actions that machines executed, and starts
    broken: dict[str, str] = field(default_factory=dict)  #: seed -> the violations, with the world's options

    def add(self, other: "Figures") -> None:
        """Adds other sums to these."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            if name in ("fired", "executed", "broken"):
                own.update(value)
            else:
                setattr(self, name, max(own, value) if name.endswith("_max") else own + value)

    @property
    def faults(self) -> Counter[str]:
        """The numbers of faults that occurred, by kind."""
        return Counter({kind: count for kind, count in self.fired.items() if kind not in _NO_FAULTS})

    def __str__(self) -> str:
        n = max(1, self.seeds)
        speed = self.seeds / max(0.001, self.busy_s)
        counted = {name: getattr(self, name) for name in ("lost", "duplicated", "unexpected", "recovered")}
        summary = f"{self.trials:,} trials: " + ", ".join(f"{name} {count:,}" for name, count in counted.items())
        if self.broken:
            summary += f"\nbroken: {', '.join(sorted(self.broken)[:20])}"
        return f"""\
{self.seeds:,} seeds: {len(self.broken)} broken; {speed:.1f} a second and core
{summary}
{self.virtual_s / 3600:,.0f} simulated hours of hosts, {self.machine_s / 3600:,.0f} of machines
per seed: {self.workers / n:.1f} workers, {self.trials / n:.1f} trials, {self.attempts / n:.1f} attempts
per seed: {self.operations / n:,.0f} operations, {self.faults.total() / n:.1f} faults, {self.virtual_s / n:.0f} s
settled at most {self.recovery_s_max:.0f} s after the last fault
faults: {", ".join(f"{kind} {count:,}" for kind, count in self.faults.most_common())}
machines executed: {", ".join(f"{action} {count:,}" for action, count in self.executed.most_common())}"""


def prepare_process() -> None:
    """Sets up a process that plays many histories: no log output, few garbage collections."""
    logging.disable(logging.CRITICAL)
    gc.freeze()  # histories are short, and so are the lives of their objects
    gc.set_threshold(50_000)


def run_chunk(first: int, having: str = "") -> tuple[int, dict[str, Any]]:
    """Plays `CHUNK` seeds from `first`; returns it with their figures, as plain data.

    Args:
        having: an option; only worlds in which it is not zero are played.
    """
    figures, began = Figures(), time.process_time()
    for seed in range(first, first + CHUNK):
        if having and not getattr(World(seed).options, having):
            continue
        figures.seeds += 1
        try:
            history = play(seed)
        except Exception:
            figures.broken[str(seed)] = traceback.format_exc(limit=-5)
            continue
        world = history.world
        if history.violations:
            figures.broken[str(seed)] = f"{'; '.join(history.violations[:3])}\n  {world.options}"
        figures.workers += world.options.workers
        figures.trials += history.trials
        figures.attempts += len(history.host.checker.issued)
        if history.host.finished:
            settled = history.host.checker.settled
            figures.lost += history.trials - len(+settled)
            figures.duplicated += sum(times > 1 for times in settled.values())
            figures.unexpected += history.host.checker.unexpected
            figures.recovered += history.host.checker.recovered
        figures.operations += world.operations
        figures.virtual_s += history.seconds
        figures.machine_s += history.seconds * world.options.workers
        figures.recovery_s_max = max(figures.recovery_s_max, history.recovery_s)
        figures.fired += world.fired
        figures.executed += world.executed
    figures.busy_s = time.process_time() - began
    return first, {**vars(figures), "fired": dict(figures.fired), "executed": dict(figures.executed)}


class ProofLog:
    """The chunks that were played, one line each; chunks of other code do not count."""

    def __init__(self, path: Path | None, code: str) -> None:
        self._path, self._code = path, code
        self._done: dict[int, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry["code"] == code:
                    self._done[entry["first"]] = entry["figures"]

    def missing(self, firsts: Iterable[int]) -> list[int]:
        """The chunks that were not played yet."""
        return [first for first in firsts if first not in self._done]

    def note(self, first: int, figures: dict[str, Any]) -> None:
        """Records a chunk that was played."""
        self._done[first] = figures
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as out:
                out.write(json.dumps({"code": self._code, "first": first, "figures": figures}) + "\n")

    def figures_of(self, firsts: Iterable[int]) -> Iterator[Figures]:
        """The figures of these chunks."""
        for first in firsts:
            if first in self._done:
                done = self._done[first]
                counters = {name: Counter(done.get(name, {})) for name in ("fired", "executed")}
                yield Figures(**{**done, **counters})
