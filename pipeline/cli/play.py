"""The commands that play: `run` plays one generation, `watch` each one that appears.

Owns: what both print, and how their log is shown. Not here: playing (`pipeline.host.host`), watching
(`pipeline.host.watch`).
"""

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.logging import RichHandler

from pipeline.cli.completion import complete_generation, complete_genome
from pipeline.cli.options import root_option
from pipeline.cli.signals import stopping_on_signals
from pipeline.config import load_config
from pipeline.core.runs import parse_generation
from pipeline.errors import ExitCode, InputError, StalledError
from pipeline.host.host import Ending, Host
from pipeline.host.watch import Watch
from pipeline.service.notify import ALIVE, READY, notify
from pipeline.storage.event_log import LOGGERS
from pipeline.ui.terminal import Monitor
from pipeline.views.fact_text import counted, duration
from pipeline.views.progress import Progress
from pipeline.views.results import failure_reason, fittest, genome_status, mixed_text, summary

NAMED_MAX = 20  #: failed genomes, and files of each kind, at the end of a run


@click.command()
@click.option(
    "--gen",
    "gen",
    required=True,
    help="The generation: 7, gen-7 or genomes/gen-0007.",
    shell_complete=complete_generation,
)
@click.option("--retry-failed", is_flag=True, help="Try failed and skipped trials again.")
@click.option("--fresh", is_flag=True, help="Start the generation again; old results are moved aside.")
@click.option(
    "--accept-evaluator", is_flag=True, help="Go on although the evaluator was changed; the results are then mixed."
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_genome,
    help="Play this genome again, with the bytes its file has now, and no other; may be repeated.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show every log record of this program.")
@root_option
def run(
    gen: str,
    retry_failed: bool,
    fresh: bool,
    accept_evaluator: bool,
    only: tuple[str, ...],
    verbose: bool,
    root: Path,
) -> int:
    """Play every genome of a generation, or resume a stopped one.

    Files that appear in its folder while it runs are played, too. A genome whose file changes keeps
    the bytes that were read first, and is named. Ctrl-C stops gracefully; the same command resumes.
    A finished generation is not played again; files that were added since are.
    """
    generation = parse_generation(gen)
    if only and (fresh or retry_failed):
        raise InputError("--only plays single genomes again; leave out --fresh and --retry-failed")
    config = load_config(root)
    console = Console(stderr=True)
    _log_to(console, verbose=verbose)
    with Host(root, config, root) as host:
        if only:
            host.begin_again(generation, only, accept_evaluator=accept_evaluator)
        else:
            host.begin(
                generation,
                fresh=fresh,
                retry_failed=retry_failed,
                accept_evaluator=accept_evaluator,
                follow_folder=True,
            )
        gc.freeze()  # what was read stays until this process ends, so no collection has to look at it
        if host.is_finished:
            click.echo(f"generation {generation} is finished already; nothing is played")
        elif host.outputs is not None and host.outputs.earlier is not None:
            click.echo(f"generation {generation} begins again; its earlier results are in {host.outputs.earlier}")
        with stopping_on_signals(host.stop), Monitor(console) as monitor:
            ending = host.play(monitor.show, lambda facts: monitor.tell(facts, host.farm))
    _print_result(host, ending)
    return _end(host, ending)


@click.command()
@click.option("--until-idle", is_flag=True, help="End when nothing is left to be played, instead of waiting.")
@click.option("-v", "--verbose", is_flag=True, help="Show every log record of this program.")
@root_option
def watch(until_idle: bool, verbose: bool, root: Path) -> int:
    """Play each generation that appears in genomes/, lowest number first, until this is stopped.

    A file counts as complete when it has not changed for a second; what arrives later is played, too,
    also in a generation that is finished. What cannot be played is named once, and tried again later
    and after a change. Ctrl-C and SIGTERM stop gracefully; the next start continues.
    Exit codes: 0 stopped; 2 bad input or configuration; 3 this host's disk failed at the start; 4 the
    ledger is damaged. With --until-idle: 0 all was counted; 1 some genomes failed, some files were not
    counted, or something could not be played; 3 stopped early.
    """
    console = Console(stderr=True)
    _log_to(console, verbose=verbose)
    watched = Watch(root, _Display(console), on_alive=lambda: notify(ALIVE))
    with watched, stopping_on_signals(watched.stop):
        notify(READY)
        if not until_idle:
            click.echo(f"watching {watched.folder}; Ctrl-C or SIGTERM stops", err=True)
        all_counted = watched.run(until_idle=until_idle)
    if watched.is_stopped:
        click.echo("pipeline: stopped; the next start continues", err=True)
        return ExitCode.STOPPED if until_idle else ExitCode.OK
    return ExitCode.OK if all_counted else ExitCode.FAILED


class _Display:
    """Shows each generation as `run` does."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def play(self, host: Host, proceed: Callable[[], bool], between: Callable[[], None]) -> Ending:
        with Monitor(self._console) as monitor:

            def on_progress(now: Progress) -> None:
                monitor.show(now)
                between()

            return host.play(on_progress, lambda facts: monitor.tell(facts, host.farm), proceed)

    def show_end(self, host: Host, ending: Ending) -> None:
        _print_result(host, ending)


def _print_result(host: Host, ending: Ending) -> None:
    assert host.outputs is not None
    counts = summary(host.farm)
    failed = [genome for genome in host.farm.genomes if genome_status(genome) == "failed"]
    click.echo(
        f"generation {counts['generation']}: {counted(counts['submitted'], 'genome')}, "
        f"{counts['completed']} completed, {counts['failed']} failed, {counts['open']} open, {counts['lost']} lost, "
        f"{counts['duplicated']} duplicated; {counted(counts['attempts']['issued'], 'attempt')} in "
        f"{duration(counts['wall_s'])}"
    )
    if (best := fittest(host.farm, host.config.generation.direction)) is not None:
        click.echo(f"  best: {best.name}: {best.fitness:g}")
    if mixed := mixed_text(counts["evaluators"]):
        click.echo(f"  {mixed}; results.csv says which")
    for line in _first([f"{genome.name}: {failure_reason(genome)}" for genome in failed], ", see results.csv"):
        click.echo(f"  {line}")
    for line in (*_first(ending.files.not_counted), *_first(ending.files.deleted)):
        click.echo(f"  {line}")
    click.echo(f"results: {host.outputs.folder}")


def _end(host: Host, ending: Ending) -> int:
    """The exit code of `run`, and what to do next. Raises StalledError."""
    failed = host.farm.counts.failed
    if ending.diagnosis:
        fix = "correct it, then run the same command" + (" with --retry-failed" if failed else "")
        raise StalledError(f"the farm cannot go on: {ending.diagnosis}\n{fix}")
    if ending.stopped:
        click.echo("pipeline: stopped; the same command resumes", err=True)
        return ExitCode.STOPPED
    if failed:
        click.echo(
            f"to play what failed once more: pipeline run --gen {host.farm.generation} --retry-failed, "
            "and --accept-evaluator if you have changed the game"
        )
    return ExitCode.FAILED if failed or ending.files.not_counted else ExitCode.OK


def _first(lines: Sequence[str], where: str = "") -> list[str]:
    """The first lines, and how many are left out."""
    more = len(lines) - NAMED_MAX
    return [*lines[:NAMED_MAX], f"… and {more} more{where}"] if more > 0 else list(lines)


class _LineHandler(logging.Handler):
    """Prints each record on standard error, as it is when the record comes."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _log_to(console: Console, *, verbose: bool) -> None:
    form = "%(name)s: %(message)s" if verbose else "%(message)s"
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    else:  # rich would break the lines at 80 columns
        handler, form = _LineHandler(), f"%(levelname)s: {form}"
    logging.basicConfig(level=logging.WARNING, format=form, handlers=[handler], force=True)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.NOTSET)
