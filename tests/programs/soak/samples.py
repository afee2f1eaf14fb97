"""Samples of what the farm takes of its computer, and the CSV file that has them."""

import csv
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One moment. The host is `pipeline watch`; the agents are all agents with their games; the page `pipeline serve`.

    Sums are over processes. Memory is the proportional set size: what processes share counts once. A process that is
    not there has 0.
    """

    seconds: float  #: since the start
    host_pid: int = 0
    host_mib: float = 0.0
    host_descriptors: int = 0
    host_threads: int = 0
    agents: int = 0  #: how many
    agents_mib: float = 0.0
    agents_descriptors: int = 0
    agents_threads: int = 0
    page_mib: float = 0.0
    page_descriptors: int = 0
    page_threads: int = 0
    disk_limited_mib: float = 0.0  #: what retention limits
    disk_kept_mib: float = 0.0  #: ledger, tables and log
    cpu_percent: float = 0.0  #: of one processor, since the sample before, all processes of the soak
    settled: int = 0  #: trials so far


COLUMNS = [column.name for column in fields(Sample)]


def read_samples(path: Path) -> list[Sample]:
    """The samples of a file; a last line that a kill has cut off is left out."""
    samples = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with suppress(TypeError, ValueError):
                samples.append(Sample(**{name: _number(row[name]) for name in COLUMNS}))  # type: ignore[arg-type]
    return samples


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Replaces the file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(sample, name) for name in COLUMNS] for sample in samples)


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)
