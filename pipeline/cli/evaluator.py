"""The commands `check` and `try`: parse arguments and print. Not here: how a game is played."""

from pathlib import Path

import click

from inbox_agent.protocol.layout import Outcome
from pipeline.cli.options import root_option
from pipeline.config import Config, load_config
from pipeline.diagnosis.single_game import PlayedGame, evaluator_problem, evaluator_version, example_genome, play_game
from pipeline.errors import ConfigError, ExitCode


@click.command("check")
@root_option
def check_evaluator(root: Path) -> int:
    """Check the evaluator on this computer: load it, then play one genome.

    The genome is the first one of the newest generation. Nothing is recorded.
    Exit codes: 0 it works; 1 it does not; 2 bad configuration.
    """
    config = _config(root)
    click.echo(f"evaluator: {config.evaluator} of {root}")
    click.echo(f"version: {evaluator_version(root, config)}")
    if problem := evaluator_problem(root, config):
        click.echo(f"it cannot be loaded: {problem}")
        return ExitCode.FAILED
    genome = example_genome(root)
    if genome is None:
        click.echo("it can be loaded; no genome was played, because genomes/ has none")
        return ExitCode.OK
    click.echo(f"genome: {genome.relative_to(root)}")
    return _print_game(play_game(root, config, genome))


@click.command("try")
@click.argument("genome", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="The seed (default: that of the trial in a run).")
@click.option("--trial", type=click.IntRange(1, 1000), default=1, show_default=True, help="The number of the trial.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="The folder to copy artifacts to.")
@root_option
def try_genome(genome: Path, seed: int | None, trial: int, keep: Path | None, root: Path) -> int:
    """Play GENOME once on this computer and show its output, result and artifacts.

    It is the same game as in a run: same seed, settings and time limit. Nothing is recorded.
    Exit codes: 0 it completed; 1 it failed; 2 bad input or configuration.
    """
    return _print_game(play_game(root, _config(root), genome, trial=trial, seed=seed, keep=keep))


def _config(root: Path) -> Config:
    config = load_config(root, check=False)
    if not config.evaluator.is_playable:
        raise ConfigError(f"{root}: [evaluator] names nothing to play; set command or python in pipeline.toml")
    return config


def _print_game(game: PlayedGame) -> int:
    if log := game.log.decode("utf-8", "replace").rstrip():
        click.echo("output:")
        for line in log.splitlines():
            click.echo("  " + "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line))
    for name, size_bytes in game.artifacts.items():
        click.echo(f"artifact: {name}, {size_bytes} bytes")
    for name, value in game.metrics.items():
        click.echo(f"metric: {name} = {value:g}")
    how = f"seed {game.seed}, {game.seconds:.2f} s"
    if game.outcome is Outcome.COMPLETED:
        click.echo(f"completed: fitness {game.fitness:g} ({how})")
        return ExitCode.OK
    click.echo(f"{game.outcome.replace('_', ' ')}: {game.reason} ({how})")
    return ExitCode.FAILED
