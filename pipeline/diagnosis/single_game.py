"""Plays one genome with the project's evaluator on this computer, without a farm: `pipeline check`, `pipeline try`."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inbox_agent.evaluation.version import files_that_count
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.protocol.layout import Outcome
from inbox_agent.single_game import NoTemporaryFolder, load_problem, play_genome, temporary_evaluator
from inbox_agent.system.atomic_file import made_folder, new_file, replace_file
from pipeline.config import Config
from pipeline.core.model import seeding_generation, trial_seed
from pipeline.errors import ConfigError, GenomeError, InputError
from pipeline.paths import GENERATION_FOLDER, GENERATION_GLOB, ProjectPaths
from pipeline.storage.snapshots import is_ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedGame:
    """What came of one game."""

    seed: int
    outcome: Outcome
    reason: str  #: why it has no fitness
    fitness: float | None
    metrics: dict[str, float]
    seconds: float
    log: bytes
    artifacts: dict[str, int] = field(default_factory=dict)  #: names and sizes in bytes


def evaluator_version(root: Path, config: Config) -> str:
    """The version of the evaluator on this computer, and how many files count. Raises ConfigError: it has none."""
    files = EvaluatorFiles(config.evaluator, root)
    try:
        found = files.read()
        return f"{files.version(found)}, {files_that_count(len(found))}"
    except EvaluatorFilesError as error:
        raise ConfigError(str(error)) from error


def evaluator_problem(root: Path, config: Config) -> str:
    """Why the evaluator cannot be loaded, in one line; empty if it can. A function is imported for that.

    Raises:
        InputError: no folder for temporary files can be written.
    """
    with (
        _temporary_folder_needed(),
        temporary_evaluator(config.evaluator, root, config.without_secrets(os.environ)) as evaluator,
    ):
        return load_problem(evaluator)


def play_game(
    root: Path, config: Config, genome: Path, *, trial: int = 1, seed: int | None = None, keep: Path | None = None
) -> PlayedGame:
    """Plays one genome once. Without a seed it is the one of this trial in the genome's generation, or in the first.

    Raises:
        GenomeError: it cannot be read.
        InputError: the artifacts cannot be copied to `keep`, or no folder for temporary files can be written.
    """
    if seed is None:
        folder = GENERATION_FOLDER.fullmatch(genome.resolve().parent.name)
        generation = int(folder[1]) if folder else 1
        seeding = seeding_generation(config.generation.seeds, generation)
        seed = trial_seed(config.generation.seed, seeding, trial)
    with (
        _temporary_folder_needed(),
        temporary_evaluator(config.evaluator, root, config.without_secrets(os.environ)) as evaluator,
    ):
        try:
            game = play_genome(
                evaluator,
                genome,
                trial=trial,
                seed=seed,
                time_limit_s=config.evaluator.time_limit_s,
                settings=config.settings,
            )
        except OSError as error:
            raise GenomeError(f"{genome}: cannot be read: {error.strerror}; give the path of a genome file") from error
        artifacts = {path.name: path.stat().st_size for path in game.artifacts}
        if keep is not None:
            _copy(game.artifacts, keep)
    return PlayedGame(
        seed=seed,
        outcome=game.outcome,
        reason=game.reason,
        fitness=game.fitness,
        metrics=game.metrics,
        seconds=game.seconds,
        log=game.log,
        artifacts=artifacts,
    )


@contextmanager
def _temporary_folder_needed() -> Iterator[None]:
    try:
        yield
    except NoTemporaryFolder as error:
        raise InputError(str(error)) from error


def example_genome(root: Path) -> Path | None:
    """The first genome of the newest generation; None if there is none."""
    for folder in sorted(ProjectPaths(root).all_genomes.glob(GENERATION_GLOB), reverse=True):
        genomes = [path for path in sorted(folder.iterdir()) if path.is_file() and not is_ignored(path.name)]
        if genomes:
            return genomes[0]
    return None


def _copy(artifacts: list[Path], folder: Path) -> None:
    try:
        with ExitStack() as made:
            made.enter_context(made_folder(folder))
            for path in artifacts:
                copy = folder / path.name
                if copy.exists():
                    replace_file(copy, path.read_bytes())
                else:
                    made.enter_context(new_file(copy, path.read_bytes()))
    except OSError as error:
        raise InputError(f"{folder}: the artifacts cannot be copied: {error.strerror}; give another folder") from error
