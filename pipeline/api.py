"""The Python API: `with open_farm(root) as farm: farm.evaluate(genomes)`.

Owns: what a caller sees of a run: fitness by name, progress, and files in `results/`. A failed genome does not raise.
"""

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from inbox_agent.evaluation.environment import IN_A_GAME
from inbox_agent.protocol.layout import Setting
from pipeline.config import Config, changed, checked, load_config
from pipeline.core.facts import GenomeAdded
from pipeline.core.params import Params, checked_params
from pipeline.core.runs import GENERATION_MAX
from pipeline.errors import ConfigError, InputError, StalledError, disk_errors
from pipeline.host.genome_fitness import Fitness, genome_fitness
from pipeline.host.host import Ending, Host
from pipeline.paths import GENERATION_FOLDER, GENERATION_GLOB
from pipeline.storage.submitted_genomes import GenomeSource, put_genomes
from pipeline.views.progress import Progress
from pipeline.views.table import Table, results_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """How local workers evaluate: a command, or a callable `module:function` of a module in `folder`."""

    command: Sequence[str] | None = None
    python: str | None = None
    folder: Path | None = None  #: where the evaluator's files are; None: the farm's root
    time_limit_s: float = 1800.0
    memory_limit_mb: int | None = None  #: of a game with all its processes
    games_per_process: int | None = None  #: of a callable; None: as many as complete and clean up
    result_is_final: bool = False  #: a command's game ends as soon as its result file is complete
    environment: Mapping[str, str] = field(default_factory=dict)  #: variables of the games, with their values
    inherited: Sequence[str] = ()  #: further variables that games inherit; `*` stands for any characters
    files: Sequence[str] | None = None  #: patterns of the files whose content is compared; None: the usual ones
    version: str | None = None  #: a name that is compared instead of files


@dataclass(frozen=True, slots=True)
class WorkerHandle:
    """A worker of the farm."""

    name: str
    pid: int | None  #: process id of a local worker's agent, while it runs


class OpenFarm:
    """An open farm; created by `open_farm`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def generation(self) -> int:
        """The number of the generation evaluated last; 0 before the first."""
        return self._host.farm.generation

    @property
    def results(self) -> Path:
        """The results folder of the generation evaluated last."""
        return self._host.paths.results(self.generation)

    @property
    def workers(self) -> list[WorkerHandle]:
        """The workers, with the process ids of the local ones."""
        local = set(self._host.local_workers.names())
        return [
            WorkerHandle(name, self._host.local_workers.pid(name) if name in local else None)
            for name in self._host.farm.workers
        ]

    def evaluate(
        self,
        genomes: Mapping[str, GenomeSource],
        *,
        params: Mapping[str, Mapping[str, Setting]] | None = None,
        generation: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, Fitness]:
        """Evaluates genomes, given by file name, as one generation: the next one unless a number is given.

        A genome is any object with bytes (`bytes`, `bytearray`, `memoryview`, a numpy array), or the path of a file.
        `params` are plain values by genome and name, which are recorded with the genome and shown in the results; they
        stay as they were first recorded. Without genomes no generation is begun, and there are no results.
        If the call fails before the generation is begun, for whatever reason, files and numbers are as before it.

        Raises:
            InputError: genomes (GenomeError), number or settings cannot be used; nothing was begun.
            StalledError: no worker can go on, or everything fails from the start.
            HostError: this host's disk or ledger failed; leave the block and open the farm again.
            LedgerError: the ledger is damaged.
        """
        number = self._next_generation() if generation is None else _number(generation)
        if on_progress is not None and not callable(on_progress):
            raise InputError(f"on_progress: expected a function, found {type(on_progress).__name__}")
        recorded, before = dict[str, Params](), self.generation
        if isinstance(genomes, Mapping):  # anything else is refused below
            recorded = checked_params(params, genomes)
            if not genomes and not self._has_genomes(number):
                return {}
        try:
            with put_genomes(self._host.paths.genomes(number), genomes, lambda: self._recorded(number)):
                self._host.begin(number, params=recorded)
        except InputError:
            self._host.load(before)
            raise
        ending = self.play(on_progress)
        if ending.diagnosis:
            raise StalledError(f"{ending.diagnosis}\nevaluate with generation={number} to resume")
        return self.scores()

    def play(self, on_progress: Callable[[Progress], None] | None = None) -> Ending:
        """Runs the generation that was begun; for callers that begin it themselves."""
        return self._host.play(on_progress)

    def progress(self) -> Progress:
        """The progress of the run."""
        return self._host.progress()

    def scores(self) -> dict[str, Fitness]:
        """The result of every genome of the generation, by name."""
        farm, results = self._host.farm, self.results
        return {genome.name: genome_fitness(farm, genome, results) for genome in farm.genomes}

    def table(self) -> Table:
        """The genomes of the generation as the columns of `results.csv`: `pandas.DataFrame(farm.table())`."""
        return results_table(self._host.farm)

    def _has_genomes(self, generation: int) -> bool:
        """Whether the generation was begun, or its folder is there."""
        return self._host.ledger.has(generation) or self._host.paths.genomes(generation).exists()

    def _recorded(self, generation: int) -> set[str]:
        """Names of the genomes that the ledger has of a generation."""
        entries = self._host.ledger.entries_of(generation)
        return {entry.fact.name for entry in entries if isinstance(entry.fact, GenomeAdded)}

    def _next_generation(self) -> int:
        numbers = [0, *self._host.ledger.generations()]
        names = (path.name for path in self._host.paths.all_genomes.glob(GENERATION_GLOB))
        numbers += [int(match[1]) for match in map(GENERATION_FOLDER.fullmatch, names) if match is not None]
        return max(numbers) + 1


@contextmanager
def open_farm(
    root: str | Path,
    *,
    evaluator: Evaluator | None = None,
    workers: int | None = None,
    trials_per_genome: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> Iterator[OpenFarm]:
    """Opens the farm of a project folder; local workers run until the block ends. Arguments override `pipeline.toml`.

    Raises:
        InputError: the configuration (ConfigError) or the folder cannot be used, or an evaluator calls it.
        ProjectBusyError: another process has this project open.
        HostError: the folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """
    if IN_A_GAME in os.environ:
        raise InputError(
            "open_farm was called in a game, so each game would open another farm; "
            'put the call below `if __name__ == "__main__":`'
        )
    root = _path("root", root)
    config = load_config(root, check=False)
    config = checked(_overridden(config, evaluator, workers, trials_per_genome, seed, settings), str(root))
    folder = evaluator.folder if evaluator is not None and evaluator.folder is not None else root
    folder = _path("folder", folder)
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    with Host(root, config, folder) as host:
        yield OpenFarm(host)


def _path(what: str, path: Any) -> Path:
    try:
        return Path(path).resolve()
    except (TypeError, ValueError) as error:
        raise InputError(f"open_farm: {what} {path!r}: {error}") from error


def _overridden(
    config: Config,
    evaluator: Evaluator | None,
    workers: int | None,
    trials_per_genome: int | None,
    seed: int | None,
    settings: Mapping[str, Setting] | None,
) -> Config:
    given = {"trials_per_genome": trials_per_genome, "seed": seed}
    generation = {key: value for key, value in given.items() if value is not None}
    changes: dict[str, Any] = {"generation": replace(config.generation, **generation)}
    if evaluator is not None:
        changes["evaluator"] = _evaluator_table(evaluator)
    if workers is not None:
        changes["local"] = replace(config.local, workers=workers)
    if settings is not None:
        changes["settings"] = _plain(settings, "settings")
    return changed(config, changes, "open_farm")


def _evaluator_table(evaluator: object) -> dict[str, Any]:
    if not isinstance(evaluator, Evaluator):
        raise ConfigError(f'evaluator {evaluator!r}: expected an Evaluator, e.g. Evaluator(python="my_game:play")')
    return {
        "command": _texts(evaluator.command, "command", "its parts one by one, as a list"),
        "python": evaluator.python,
        "time_limit_s": evaluator.time_limit_s,
        "memory_limit_mb": evaluator.memory_limit_mb,
        "games_per_process": evaluator.games_per_process,
        "result_is_final": evaluator.result_is_final,
        "files": _texts(evaluator.files, "files", "a list of patterns"),
        "version": evaluator.version,
        "environment": {
            "allow": _texts(evaluator.inherited, "inherited", "a list of names") or [],
            "set": _plain(evaluator.environment, "environment"),
        },
    }


def _texts(given: object, what: str, expected: str) -> list[str] | None:
    """Texts and paths as a list. Raises ConfigError: a single text, which would be split, or no list."""
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"{what} {given!r}: expected {expected}")
    return [os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in given]


def _plain(given: object, what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} {given!r}: expected a mapping")
    return dict(given)


def _number(generation: Any) -> int:
    try:
        number = operator.index(generation)  # an integer, also of numpy
    except TypeError:
        number = 0
    if not 1 <= number <= GENERATION_MAX:
        raise InputError(f"generation {generation!r}: expected a number from 1 to {GENERATION_MAX}")
    return number
