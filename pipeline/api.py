"""The Python API: `with open_farm(root) as farm: farm.evaluate(genomes)`.

Owns: what a caller sees of a run: fitness by name, progress, and files in `results/`. A failed genome does not raise.
Threads: any may call; the host has a thread of its own (`host_thread`).
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from inbox_agent.evaluation.environment import IN_A_GAME
from inbox_agent.protocol.layout import Setting
from pipeline.config import Config, changed, checked, load_config
from pipeline.core.facts import GenomeAdded, Reuse, Seeds
from pipeline.core.model import Genome
from pipeline.core.params import NO_PARAMS, Params, checked_params, genome_params
from pipeline.core.retention import Keep
from pipeline.core.runs import generation_number
from pipeline.errors import ConfigError, FarmClosed, InputError, StalledError, disk_errors
from pipeline.host.generation_numbers import next_generation
from pipeline.host.genome_fitness import Fitness, genome_fitness
from pipeline.host.host import Ending, Host
from pipeline.host.host_thread import HostThread, result_of
from pipeline.host.no_farm import NoFarm
from pipeline.host.submissions import Submissions
from pipeline.machines.sites.interface import Sites
from pipeline.storage.submitted_genomes import GenomeSource, genome_content, put_genomes
from pipeline.views.generation_summary import GenerationSummary, generation_summary
from pipeline.views.progress import Progress
from pipeline.views.table import Table, results_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """How local workers evaluate: a command, or a callable `module:function` of a module in `folder`."""

    command: Sequence[str] | None = None
    python: str | None = None
    folder: Path | None = None  #: where the evaluator's files are; None: the farm's root
    time_limit_s: float = 1800.0
    #: a game is killed if its `progress:` line has not changed for so long; None: never
    stall_limit_s: float | None = None
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
    """An open farm; created by `open_farm`. Any thread may call, also to close it."""

    def __init__(self, host: HostThread, on_generation: Callable[[GenerationSummary], object] | None = None) -> None:
        self._host, self._on_generation = host, on_generation
        self._counting = threading.Lock()
        self._open: Submissions[Fitness] | None = None  #: of the open generation
        self._submitted = 0  #: genomes, to the open generation

    def __reduce__(self) -> tuple[type[NoFarm], tuple[()]]:
        """Pickled it is a stand-in: an evaluator's toolbox that holds the farm can be pickled."""
        return NoFarm, ()

    @property
    def generation(self) -> int:
        """The number of the generation evaluated last; 0 before the first."""
        return self._host.call(lambda host: host.farm.generation)

    @property
    def results(self) -> Path:
        """The results folder of the generation evaluated last."""
        return self._host.call(lambda host: host.paths.results(host.farm.generation))

    @property
    def workers(self) -> list[WorkerHandle]:
        """The workers, with the process ids of the local ones."""
        return self._host.call(_workers)

    def evaluate(
        self,
        genomes: Mapping[str, GenomeSource],
        *,
        params: Mapping[str, Mapping[str, Setting]] | None = None,
        generation: int | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> dict[str, Fitness]:
        """Evaluates genomes, given by file name, as one generation: the next one unless a number is given.

        A genome is any object with bytes (`bytes`, `bytearray`, `memoryview`, a numpy array), or the path of a file.
        `params` are plain values by genome and name, which are recorded with the genome and shown in the results; they
        stay as they were first recorded. Without genomes no generation is begun, and there are no results.
        If the call fails before the generation is begun, for whatever reason, files and numbers are as before it.
        A call that another thread makes meanwhile waits for its turn. `on_progress` is called in the calling thread.

        Raises:
            InputError: genomes (GenomeError), number or settings cannot be used; nothing was begun.
            StalledError: no worker can go on, or everything fails from the start.
            HostError: this host's disk or ledger failed; leave the block and open the farm again.
            LedgerError: the ledger is damaged.
            FarmClosed: the farm is closed.
        """
        number = None if generation is None else generation_number(generation)
        _refuse_uncallable("on_progress", on_progress)
        recorded = checked_params(params, genomes) if isinstance(genomes, Mapping) else {}  # refused when it is begun
        with self._host.turn("evaluate"):
            begun = self._host.call(lambda host: _begin(host, number, genomes, recorded))
            if begun is None:
                return {}
            ending = self._host.play(on_progress)
            if ending.diagnosis:
                raise StalledError(f"{ending.diagnosis}\nevaluate with generation={begun} to resume")
            if ending.stopped:
                raise FarmClosed(f"the farm was closed; evaluate with generation={begun} to resume")
            self._tell_generation()
            return self.scores()

    @contextmanager
    def open_generation(self, number: int | None = None) -> Iterator[int]:
        """Opens a generation for a block that submits its genomes one at a time: the next one unless a number is given.

        Yields its number. The end of the block waits until everything submitted is settled. If the block raises,
        playing stops, and futures without a result raise FarmClosed; what is counted is kept. With the same number the
        generation goes on: what is submitted again with the same name and bytes is answered from the ledger.

        Raises:
            InputError: number or settings cannot be used; nothing was begun.
            StalledError: no worker can go on, or everything fails from the start; unfinished futures raise it, too.
            HostError, LedgerError: as `evaluate`; unfinished futures raise it, too.
            FarmClosed: the farm is closed.
        """
        chosen = None if number is None else generation_number(number)
        with self._host.turn("open_generation"):
            begun, submissions = self._host.call(lambda host: _begin_submissions(host, chosen))
            self._open, self._submitted = submissions, 0
            playing = self._host.start_playing(on_facts=submissions.note)
            playing.add_done_callback(lambda ended: submissions.fail(_why_ended(ended, begun)))
            try:
                yield begun
                submissions.close()
                ending = result_of(playing)
            except BaseException:
                self._host.abandon(playing)
                raise
            finally:
                self._open = None
            if not ending.finished:
                raise _why_ended(playing, begun)
            self._tell_generation()

    def submit(
        self, genome: GenomeSource, *, name: str | None = None, params: Mapping[str, Setting] | None = None
    ) -> Future[Fitness]:
        """Submits a genome to the open generation and returns at once; its future gets the result when it is settled.

        The future can be cancelled until a worker has room for the genome; a genome that was cancelled is not part of
        the generation. A failed genome is a result, too. Callbacks of the future are called in the farm's own thread:
        they may submit, and must not block.

        Args:
            genome: any object with bytes, or the path of a file.
            name: of its file. None: the number of this call in the open generation, so that a program that submits the
                same genomes in the same order resumes.
            params: plain values by name, recorded with the genome and shown in the results.

        Raises:
            InputError: no generation is open. GenomeError: name, content or params cannot be used, or the name was used
                before.
            FarmClosed: the farm is closed, or the block was left. StalledError, HostError, LedgerError: why the run
                has ended.
        """
        if (submissions := self._open) is None:
            self._host.call(lambda host: host)  # raises FarmClosed
            raise InputError("submit: no generation is open; call it inside `with farm.open_generation():`")
        if name is None:
            with self._counting:
                self._submitted += 1
                name = f"{self._submitted:06d}"
        content = genome_content(name, genome)
        return submissions.submit(name, content, NO_PARAMS if params is None else genome_params(name, params))

    def progress(self) -> Progress:
        """The progress of the run."""
        return self._host.call(lambda host: host.progress())

    def scores(self) -> dict[str, Fitness]:
        """The result of every genome of the generation, by name."""
        return self._host.call(lambda host: {genome.name: _fitness(host, genome) for genome in host.farm.genomes})

    def table(self) -> Table:
        """The genomes of the generation as the columns of `results.csv`: `pandas.DataFrame(farm.table())`."""
        return self._host.call(lambda host: results_table(host.farm))

    def _tell_generation(self) -> None:
        if self._on_generation is not None:
            self._on_generation(self._host.call(_summary))


def _workers(host: Host) -> list[WorkerHandle]:
    local = set(host.local_workers.names())
    return [WorkerHandle(name, host.local_workers.pid(name) if name in local else None) for name in host.farm.workers]


def _begin(
    host: Host, generation: int | None, genomes: Mapping[str, GenomeSource], params: Mapping[str, Params]
) -> int | None:
    """Begins a generation with these genomes, or resumes it; returns its number. None: it has no genomes."""
    number, before = generation or next_generation(host), host.farm.generation
    has_genomes = bool(genomes) or host.ledger.has(number) or host.paths.genomes(number).exists()
    if isinstance(genomes, Mapping) and not has_genomes:
        return None
    try:
        with put_genomes(host.paths.genomes(number), genomes, lambda: _recorded(host, number)):
            host.begin(number, params=params)
    except InputError:
        host.load(before)
        raise
    return number


def _begin_submissions(host: Host, generation: int | None) -> tuple[int, Submissions[Fitness]]:
    number, before = generation or next_generation(host), host.farm.generation
    try:
        return number, host.begin_submissions(number, lambda genome: _fitness(host, genome))
    except InputError:
        host.load(before)
        raise


def _recorded(host: Host, generation: int) -> set[str]:
    """Names of the genomes that the ledger has of a generation."""
    entries = host.ledger.entries_of(generation)
    return {entry.fact.name for entry in entries if isinstance(entry.fact, GenomeAdded)}


def _fitness(host: Host, genome: Genome) -> Fitness:
    return genome_fitness(host.farm, genome, host.paths.results(host.farm.generation))


def _summary(host: Host) -> GenerationSummary:
    return generation_summary(host.farm, host.config.generation.direction, host.paths.results(host.farm.generation))


def _why_ended(playing: Future[Ending], generation: int) -> Exception:
    """Why the run of an open generation has ended."""
    error = playing.exception()
    if isinstance(error, Exception):
        return error
    resume = f"go on with open_generation({generation})"
    if error is None and (diagnosis := playing.result().diagnosis):
        return StalledError(f"{diagnosis}\n{resume}")
    return FarmClosed(f"generation {generation} was left; {resume}")


@contextmanager
def open_farm(
    root: str | Path,
    *,
    evaluator: Evaluator | None = None,
    workers: int | None = None,
    sites: Sites | None = None,
    trials_per_genome: int | None = None,
    failures_max: int | None = None,
    seed: int | None = None,
    seeds: Seeds | None = None,
    reuse: Reuse | None = None,
    keep: Keep | None = None,
    copy_stragglers: bool | None = None,
    settings: Mapping[str, Setting] | None = None,
    on_generation: Callable[[GenerationSummary], object] | None = None,
) -> Iterator[OpenFarm]:
    """Opens the farm of a project folder; local workers run until the block ends. Arguments override `pipeline.toml`.

    `sites`: computers of a cluster, as `pipeline.contrib.dask.DaskSites`, whose agents get the evaluator's files from
    here. With them there are no local workers, unless `workers` or `pipeline.toml` says how many.

    `on_generation` is called with the summary of each generation that `evaluate`, or the block of `open_generation`,
    has finished, in the thread of that call and before it returns: also of one that was finished by an earlier run.
    Everything is counted and written then. If it raises, the call raises that error; the results stay, and the farm
    can be used.

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
    _refuse_uncallable("on_generation", on_generation)
    root = _path("root", root)
    config = load_config(root, check=False)
    generation: dict[str, object] = {"trials_per_genome": trials_per_genome, "failures_max": failures_max}
    generation |= {"seed": seed, "seeds": seeds, "reuse": reuse, "keep": keep, "copy_stragglers": copy_stragglers}
    if sites is not None and workers is None and config.local.workers is None:
        workers = 0
    config = _overridden(config, evaluator, workers, settings, generation)
    config = checked(config, str(root), awaits_workers=sites is not None)
    folder = evaluator.folder if evaluator is not None and evaluator.folder is not None else root
    folder = _path("folder", folder)
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    host = HostThread(lambda: Host(root, config, folder, sites))
    try:
        yield OpenFarm(host, on_generation)
    finally:
        host.close()


def _refuse_uncallable(what: str, given: object) -> None:
    if given is not None and not callable(given):
        raise InputError(f"{what}: expected a function, found {type(given).__name__}")


def _path(what: str, path: Any) -> Path:
    try:
        return Path(path).resolve()
    except (TypeError, ValueError) as error:
        raise InputError(f"open_farm: {what} {path!r}: {error}") from error


def _overridden(
    config: Config,
    evaluator: Evaluator | None,
    workers: int | None,
    settings: Mapping[str, Setting] | None,
    generation: Mapping[str, object],
) -> Config:
    given = {key: value for key, value in generation.items() if value is not None}
    changes: dict[str, Any] = {"generation": {**asdict(config.generation), **given}}
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
        "stall_limit_s": evaluator.stall_limit_s,
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
