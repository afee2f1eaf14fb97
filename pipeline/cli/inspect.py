"""Read-only commands: `top`, `explain`, `results`, `report`."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.text import Text

from inbox_agent.system.atomic_file import made_folder, replace_file
from inbox_agent.system.standard_output import write_error
from pipeline.cli.completion import complete_genome_or_worker
from pipeline.cli.options import RemotePlace, gen_option, remote_options, root_option
from pipeline.cli.parquet import write_parquet
from pipeline.cli.remote import explain_remote, rows_of_remote, show_remote_progress
from pipeline.cli.signals import stopping_on_signals
from pipeline.core.runs import parse_generation
from pipeline.errors import ExitCode, InputError
from pipeline.inspection.follower import Follower, View
from pipeline.inspection.lookup import explain
from pipeline.inspection.page_data import page_data
from pipeline.inspection.project_reader import ProjectReader
from pipeline.inspection.unpack import unpack
from pipeline.paths import ATTEMPTS, RESULTS_JSONL, ProjectPaths
from pipeline.ui.html import relative_url, render_page
from pipeline.ui.terminal import TopScreen, plain_line, render_top
from pipeline.views.fact_text import counted
from pipeline.views.ranking import COLUMNS, columns_of, csv_text, json_text, ranked, table_text
from pipeline.views.results import evaluators, mixed_text

TOP_INTERVAL_S, TOP_INTERVAL_MAX_S = 0.5, 3.0
TOP_TIME_FRACTION_MAX = 0.1  #: of one processor is spent on looking


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the project folder and the generation."""
    return gen_option(root_option(command))


@click.command("top")
@click.option("--once", is_flag=True, help="Show it once and end.")
@_options
@remote_options
def top(once: bool, gen: str | None, root: Path, remote: RemotePlace | None) -> int:
    """Watch a run in a terminal.

    Without --gen it follows the generation that is played, goes on with the next one when that begins, waits for the
    first one if there was none yet, and ends by Ctrl-C. With --gen it waits for that generation if it was not begun,
    and ends when it is finished. If the output is not a terminal, it prints one line and ends; then, and with --once,
    it does not wait.

    Reads only: any number of these commands may run at once, without effect on the run. With --remote it prints one
    line, too.
    """
    generation, console = _number(gen), Console()
    if remote is not None:
        show_remote_progress(remote, generation)
        return ExitCode.OK
    if once or not console.is_terminal:
        with ProjectReader(root) as reader:
            chosen = reader.choose(generation)
            if console.is_terminal:
                console.print(render_top(reader.progress(chosen), reader.history(chosen), reader.farm(chosen)))
            else:
                mixed = mixed_text(evaluators(reader.farm(chosen)))
                click.echo(plain_line(reader.progress(chosen)) + (f"; {mixed}" if mixed else ""))
        return ExitCode.OK
    last = _follow(root, generation, console)
    if generation is not None and last is not None and last.now.finished:
        console.print(render_top(last.now, last.history, last.farm))
    return ExitCode.OK


def _follow(root: Path, generation: int | None, console: Console) -> View | None:
    """Shows a project until it is stopped or the given generation is finished; returns what it showed last."""
    stopped, found = threading.Event(), None
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(Follower(root, generation)) as follower:
        found = follower.look()  # raises if there is nothing to follow, before the screen is cleared
        with stopping_on_signals(stopped.set), TopScreen(console) as screen:
            while not stopped.is_set() and write_error(console.file) is None:  # until the terminal is closed
                begun = time.monotonic()
                found = follower.look()
                screen.show(_screen(found))
                if generation is not None and isinstance(found, View) and found.now.finished:
                    break
                pause_s = (time.monotonic() - begun) / TOP_TIME_FRACTION_MAX
                stopped.wait(min(TOP_INTERVAL_MAX_S, max(TOP_INTERVAL_S, pause_s)))
    return found if isinstance(found, View) else None


def _screen(found: View | str) -> RenderableType:
    if isinstance(found, View):
        return render_top(found.now, found.history, found.farm)
    return Text(f"{found}\nCtrl-C ends this.")


@click.command("explain")
@click.argument("what", shell_complete=complete_genome_or_worker)
@_options
@remote_options
def explain_something(what: str, gen: str | None, root: Path, remote: RemotePlace | None) -> int:
    """Explain a genome, an attempt or a worker: what was tried, the outcomes, and why it waits."""
    if remote is not None:
        explain_remote(remote, what, _number(gen))
        return ExitCode.OK
    with ProjectReader(root) as reader:
        click.echo(explain(reader, what, _number(gen)))
    return ExitCode.OK


@click.command("results")
@click.option("--all", "all_generations", is_flag=True, help="Include all generations.")
@click.option("--top", "top_max", type=click.IntRange(min=1), help="The first so many only.")
@click.option("--sort", type=click.Choice(COLUMNS), default="fitness", show_default=True, help="Sort by this column.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--parquet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a Parquet file instead; needs the extra `table`.",
)
@click.option(
    "--unpack",
    "unpack_to",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Write DIR/<attempt>/result.json for each accepted result instead (default: in attempts/ of the results).",
)
@_options
@remote_options
def results(
    all_generations: bool,
    top_max: int | None,
    sort: str,
    reverse: bool,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None,
    unpack_to: str | None,
    gen: str | None,
    root: Path,
    remote: RemotePlace | None,
) -> int:
    """List the genomes and their fitness, the fittest first.

    With --unpack it makes a folder for each accepted result of the generation, from the lines of results.jsonl, with
    its log and artifacts.
    """
    forms = [
        f"--{form}" for form, given in {"json": as_json, "csv": as_csv, "parquet": parquet is not None}.items() if given
    ]
    if len(forms) > 1:
        raise click.UsageError(f"{' and '.join(forms)} cannot both be had; choose one")
    if all_generations and gen is not None:
        raise click.UsageError("--all and --gen cannot both be had; choose one")
    if unpack_to is not None:
        if remote is not None:
            raise click.UsageError("--unpack needs the files, which are on the server; run it there")
        if all_generations or top_max or forms:
            raise click.UsageError("--unpack writes all results of one generation; leave out the options of the table")
        return _unpack(root, _number(gen), unpack_to)
    if remote is not None:
        rows = rows_of_remote(remote, _number(gen), sort, all_generations=all_generations, reverse=reverse)
    else:
        rows = _rows(root, _number(gen), sort, all_generations=all_generations, reverse=reverse)
    rows = rows[:top_max]
    if parquet is not None:
        write_parquet(columns_of(rows), parquet)
        click.echo(f"{counted(len(rows), 'genome')} in {parquet}")
    elif as_json:
        click.echo(json_text(rows))
    elif as_csv:
        click.echo(csv_text(rows), nl=False)
    else:
        click.echo(table_text(rows, Console().width if sys.stdout.isatty() else None))
    return ExitCode.OK


def _rows(root: Path, number: int | None, by: str, *, all_generations: bool, reverse: bool) -> list[dict[str, Any]]:
    with ProjectReader(root) as reader:
        newest = reader.choose(number)  # raises if there is none
        chosen = reader.generations() if all_generations else [newest]
        farms = [reader.farm(generation) for generation in chosen]
        minimize = reader.config.generation.direction == "minimize"
    return ranked(farms, by, minimize=minimize, reverse=reverse)


def _unpack(root: Path, generation: int | None, to: str) -> int:
    with ProjectReader(root) as reader:
        results = ProjectPaths(root).results(reader.choose(generation))
    target = Path(to) if to else results / ATTEMPTS
    found = unpack(results, target)
    click.echo(f"{counted(found.results, 'result')} in {target}")
    if found.damaged_lines:
        skipped = counted(found.damaged_lines, "damaged line")
        click.echo(f"{results / RESULTS_JSONL}: {skipped} skipped; `pipeline verify` says which", err=True)
    return ExitCode.OK


@click.command("report")
@click.option("--all", "all_generations", is_flag=True, help="Of all generations, to be chosen on the page.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file (default: in results/).")
@_options
def write_report(all_generations: bool, out: Path | None, gen: str | None, root: Path) -> int:
    """Write the report of a generation: one self-contained HTML file that works without a network."""
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {out}: a report is an HTML file; give it a name that ends in .html")
    with ProjectReader(root) as reader:
        chosen, paths = reader.choose(_number(gen)), ProjectPaths(root)
        path = out or paths.report(None if all_generations else chosen)
        shown = reader.generations() if all_generations else None
        text = render_page(page_data(reader, chosen, shown, results=relative_url(paths.all_results, path)))
    try:
        with made_folder(path.parent) if out is None else contextlib.nullcontext():
            replace_file(path.resolve(), text.encode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give another place with --out") from error
    click.echo(f"{path}")
    return ExitCode.OK


def _number(gen: str | None) -> int | None:
    return parse_generation(gen) if gen is not None else None


inspection_commands = (top, explain_something, results, write_report)
