"""The Python API: `with open_farm(root) as farm: farm.evaluate(genomes)`.

Owns: what a caller sees of a run: fitness by name, progress, and files in `results/`. A failed genome does not raise.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from msgspec.structs import replace

from inbox_agent.evaluation.environment import IN_A_GAME
from inbox_agent.protocol.layout import Setting
from inbox_agent.system.atomic_file import replace_file
from pipeline.config import Config, LocalTable, changed, checked, load_config
from pipeline.core.runs import GENERATION_MAX
from pipeline.errors import GenomeError, InputError, StalledError, disk_errors
from pipeline.host.host import Ending, Host
from pipeline.paths import GENERATION_FOLDER, GENERATION_GLOB
from pipeline.storage.snapshots import is_ignored
from pipeline.views.progress import Progress
from pipeline.views.results import failure_reason, genome_status


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
class Fitness:
    """The result of one genome."""

    value: float | None  #: mean over its trials; None unless every one of them has a fitness
    status: str  #: `completed`, `failed`, or `open` if the run was stopped before
    reason: str  #: why it has no fitness
    trials: list[float | None]


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
        genomes: Mapping[str, bytes | Path],
        *,
        generation: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, Fitness]:
        """Evaluates genomes, given by file name, as one generation: the next one unless a number is given.

        Raises:
            InputError: genomes (GenomeError), number or settings cannot be used; nothing was begun, and no new genome
                was left in the folder.
            StalledError: no worker can go on, or everything fails from the start.
            HostError: this host's disk or ledger failed; leave the block and open the farm again.
            LedgerError: the ledger is damaged.
        """
        number = generation if generation is not None else self._next_generation()
        if not 1 <= number <= GENERATION_MAX:
            raise InputError(f"generation {number}: expected a number from 1 to {GENERATION_MAX}")
        folder = self._host.paths.genomes(number)
        refuse_names(genomes, windows=sys.platform == "win32")
        if number in self._host.ledger.generations():
            _refuse_other_bytes(folder, genomes)
        with _taken_away_if_refused(folder, genomes):
            for name, source in genomes.items():
                with disk_errors(folder):
                    replace_file(folder / name, _content(source))
            self._host.begin(number)
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
        return {
            genome.name: Fitness(
                genome.fitness,
                genome_status(genome),
                failure_reason(genome),
                [trial.fitness for trial in genome.trials],
            )
            for genome in self._host.farm.genomes
        }

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
    root = Path(root).resolve()
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    config = load_config(root, check=False)
    config = checked(_overridden(config, evaluator, workers, trials_per_genome, seed, settings), str(root))
    folder = evaluator.folder if evaluator is not None and evaluator.folder is not None else root
    with Host(root, config, Path(folder).resolve()) as host:
        yield OpenFarm(host)


def _overridden(
    config: Config,
    evaluator: Evaluator | None,
    workers: int | None,
    trials_per_genome: int | None,
    seed: int | None,
    settings: Mapping[str, Setting] | None,
) -> Config:
    generation: dict[str, Any] = {}
    if trials_per_genome is not None:
        generation["trials_per_genome"] = trials_per_genome
    if seed is not None:
        generation["seed"] = seed
    changes: dict[str, Any] = {"generation": replace(config.generation, **generation)}
    if evaluator is not None:
        if isinstance(evaluator.command, str):
            raise InputError(f"command {evaluator.command!r}: expected its parts one by one, as a list")
        if isinstance(evaluator.files, str):
            raise InputError(f"files {evaluator.files!r}: expected a list of patterns")
        changes["evaluator"] = {
            "command": [str(part) for part in evaluator.command] if evaluator.command is not None else None,
            "python": evaluator.python,
            "time_limit_s": evaluator.time_limit_s,
            "memory_limit_mb": evaluator.memory_limit_mb,
            "games_per_process": evaluator.games_per_process,
            "result_is_final": evaluator.result_is_final,
            "files": [str(pattern) for pattern in evaluator.files] if evaluator.files is not None else None,
            "version": evaluator.version,
            "environment": {"allow": list(evaluator.inherited), "set": dict(evaluator.environment)},
        }
    if workers is not None:
        changes["local"] = LocalTable(workers=workers, queue_depth=config.local.queue_depth)
    if settings is not None:
        changes["settings"] = dict(settings)
    return changed(config, changes, "open_farm")


_WINDOWS_REFUSES = set('<>:"|?*\\')


def refuse_names(names: Iterable[str], *, windows: bool) -> None:
    """Refuses names that cannot be stored as genome files, before any is written.

    Raises:
        GenomeError: a name is not a plain file name, would be ignored, or is the same file as another one.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (PureWindowsPath if windows else PurePosixPath)(name).name != name or name in ("", ".", ".."):
            raise GenomeError(f"genome name {name!r}: a plain file name is needed")
        if is_ignored(name):
            raise GenomeError(f"genome name {name!r}: files of that name are not taken for genomes; choose another")
        if not windows:
            continue
        if PureWindowsPath(name).is_reserved() or name.rstrip(". ") != name or set(name) & _WINDOWS_REFUSES:
            raise GenomeError(f"genome name {name!r}: Windows has no file of that name; choose another")
        same = seen.setdefault(name.casefold(), name)
        if same != name:
            raise GenomeError(f"genome names {same!r} and {name!r} are one file on Windows; rename one")


def _refuse_other_bytes(folder: Path, genomes: Mapping[str, bytes | Path]) -> None:
    for name, source in genomes.items():
        if (folder / name).exists() and _content(folder / name) != _content(source):
            raise GenomeError(f"genome {name!r}: {folder.name} was begun with other bytes; give another generation")


def _content(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise GenomeError(f"{source}: cannot be read: {error.strerror}; give bytes or another path") from error


@contextmanager
def _taken_away_if_refused(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Deletes the new genomes of a refused call, so that a later call does not count them."""
    was_there = folder.is_dir()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    new = [name for name in names if not (folder / name).exists()]
    try:
        yield
    except InputError:
        for name in new:
            (folder / name).unlink(missing_ok=True)
        if not was_there:
            folder.rmdir()
        raise
