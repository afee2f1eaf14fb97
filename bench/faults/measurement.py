"""What was measured: one cell for each system and fault, and on what. Kept as JSON, without any path."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.machine import cores

NOT_INSTALLED = "ModuleNotFoundError"


class System(NamedTuple):
    """How a system is named, and the distribution that has its version."""

    title: str
    interface: str
    distribution: str = ""  #: empty: it is part of Python


SYSTEMS = {
    "genome-pipeline": System("genome-pipeline", "open_farm", "genome-pipeline"),
    "pebble": System("pebble", "ProcessPool", "pebble"),
    "ray": System("Ray", "tasks", "ray"),
    "dask": System("Dask", "LocalCluster", "distributed"),
    "joblib": System("joblib", "Parallel, Memory", "joblib"),
    "concurrent-futures": System("concurrent.futures", "ProcessPoolExecutor"),
    "nevergrad": System("Nevergrad", "ProcessPoolExecutor", "nevergrad"),
    "optuna": System("Optuna", "n_jobs=2, SQLite", "optuna"),
    "neat-python": System("neat-python", "ParallelEvaluator", "neat-python"),
    "deap": System("DEAP", "multiprocessing.Pool", "deap"),
}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One system under one fault."""

    system: str
    fault: str
    end: str  #: `returned`, `raised`, `died`, or `never` if it was still waiting at the deadline
    fitnesses: int = 0  #: that the caller has in hand
    failed: tuple[int, ...] = ()  #: the genomes of which the system says that they failed
    error: str = ""  #: the class of what the call raised, or the exit code of a program that died
    seconds: float = 0.0  #: from the first submission until the caller has all that it gets
    games: int = 0  #: that have begun, in both runs if the program was run twice
    left_running: int = 0  #: processes, after the end of the program or after it was killed

    @property
    def is_measured(self) -> bool:
        """Whether the system is installed."""
        return self.error != NOT_INSTALLED


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """All cells of a run."""

    python: str
    platform: str
    processors: int
    deadline_s: float
    versions: dict[str, str]  #: by name of the system
    cells: tuple[Cell, ...]

    def cell(self, system: str, fault: str) -> Cell | None:
        """The cell of a system under a fault, if it was measured."""
        return next((one for one in self.cells if (one.system, one.fault) == (system, fault)), None)

    @property
    def systems(self) -> list[str]:
        """In the order of the table."""
        return [name for name in SYSTEMS if any(cell.system == name for cell in self.cells)]

    @property
    def faults(self) -> list[str]:
        """In the order in which they were measured."""
        return [*dict.fromkeys(cell.fault for cell in self.cells)]


def described(cells: Sequence[Cell], deadline_s: float) -> Measurement:
    """The cells, with the machine and the versions of this process."""
    names = {cell.system for cell in cells if cell.is_measured}
    return Measurement(
        python=platform.python_version(),
        platform=platform.system(),
        processors=cores(),
        deadline_s=deadline_s,
        versions={name: _version(system) for name, system in SYSTEMS.items() if name in names},
        cells=tuple(cells),
    )


def write(path: Path, measurement: Measurement) -> None:
    """Replaces the file."""
    written = path.with_name(f"{path.name}.tmp")
    written.write_bytes(msgspec.json.format(msgspec.json.encode(measurement), indent=1) + b"\n")
    os.replace(written, path)


def read(path: Path) -> Measurement:
    """A measurement that `write` has written."""
    return msgspec.json.decode(path.read_bytes(), type=Measurement)


def _version(system: System) -> str:
    return metadata.version(system.distribution) if system.distribution else platform.python_version()
