"""The farm itself: a project whose every tick can be seen, and the rate of one generation with warm workers."""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.apart import ROOT
from bench.games import genomes
from bench.interval import Interval
from pipeline import Progress
from pipeline.config import load_config
from pipeline.core.facts import Fact
from pipeline.host.host import Host

LOCAL = "[evaluator]\npython = 'bench.games:play'\ntime_limit_s = 120\n[local]\nworkers = {workers}\n"
NAPS_PER_WORKER = 10


class Farm:
    """An open project; unlike `OpenFarm` it shows the facts of each tick, as `pipeline run` gets them."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def begin(self, given: Mapping[str, bytes]) -> None:
        """Begins the next generation with these genomes."""
        number = self._host.farm.generation + 1
        folder = self._host.paths.genomes(number)
        folder.mkdir(parents=True)
        for name, data in given.items():
            (folder / name).write_bytes(data)
        self._host.begin(number)

    def play(
        self,
        on_facts: Callable[[list[Fact]], None] = lambda _facts: None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Plays the generation that was begun to its end; `on_facts` is called at the end of every tick."""
        ending = self._host.play(on_progress, on_facts)
        assert ending.finished, ending.diagnosis

    def progress(self) -> Progress:
        """Where the generation stands."""
        return self._host.progress()

    def rows(self, name: str = "results.csv") -> list[dict[str, str]]:
        """The rows of one of the tables in the results folder of the generation."""
        path = self._host.paths.results(self._host.farm.generation) / name
        with open(path, newline="", encoding="utf-8-sig") as table:
            return list(csv.DictReader(table))


def measure(folder: str, count: int, order: str = "noop 0", workers: int = 2) -> dict[str, float]:
    """The figures of an interval: rates, and CPU time for each evaluation."""
    with warm_farm(folder, workers) as farm:
        return measured(farm, count, order)


def measured(farm: Farm, count: int, order: str = "noop 0") -> dict[str, float]:
    """The same, of a farm whose workers are warm."""
    given = genomes(order, count)
    interval = Interval(count)
    farm.begin(given)
    farm.play(interval.on_facts)
    return interval.figures()


@contextmanager
def warm_farm(folder: str, workers: int) -> Iterator[Farm]:
    """A farm of local workers, of which every one has completed an evaluation."""
    with open_farm(Path(folder) / "farm", LOCAL.format(workers=workers)) as farm:
        while True:
            farm.begin(genomes("nap 0.02", workers * NAPS_PER_WORKER))
            farm.play()
            if len({row["pid"] for row in farm.rows()}) == workers:
                break
        yield farm


@contextmanager
def open_farm(root: Path, config: str) -> Iterator[Farm]:
    """The farm of a project with this configuration, in a new folder, and one trial for each genome."""
    root.mkdir()
    (root / "pipeline.toml").write_text(f"[generation]\ntrials_per_genome = 1\n{config}")
    with Host(root, load_config(root), ROOT) as host:
        yield Farm(host)
