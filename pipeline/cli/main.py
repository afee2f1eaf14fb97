"""The command line's entry point, and the commands `init`, `schema`, `status`, `verify`, `doctor`, `take-over`.

Owns: the printed texts, the exit code of a defect, the log levels of libraries. Not here: the exit codes of other
errors (`pipeline.errors`), the work of the commands.
"""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from inbox_agent.identity import agent_version
from inbox_agent.protocol.printable import escaped
from inbox_agent.system.atomic_file import replace_file
from inbox_agent.system.standard_output import lost_output
from pipeline.cli import new_project
from pipeline.cli.agent import agent_commands
from pipeline.cli.completion import complete_generation, complete_worker
from pipeline.cli.config_schema import agent_schema, config_schema
from pipeline.cli.deploy import deploy
from pipeline.cli.evaluator import check_evaluator, try_genome
from pipeline.cli.inspect import inspection_commands
from pipeline.cli.mcp import serve_mcp
from pipeline.cli.options import RemotePlace, gen_option, remote_options, root_option, shell_line
from pipeline.cli.play import run, watch
from pipeline.cli.prune import prune_project
from pipeline.cli.remote import show_remote_status
from pipeline.cli.serve import serve_project
from pipeline.cli.service import service_commands
from pipeline.cli.token import token_commands
from pipeline.cli.vm import vm_commands
from pipeline.cli.worker import worker_commands
from pipeline.config import load_config
from pipeline.core.runs import parse_generation
from pipeline.diagnosis.disk import check_disk
from pipeline.diagnosis.machines import check_machines
from pipeline.diagnosis.shares import BEAT_WAIT_S, check_shares, merge_same
from pipeline.diagnosis.sites import check_sites
from pipeline.errors import ExitCode, HostError, InputError, PipelineError
from pipeline.host.takeover import take_over
from pipeline.inspection.project_reader import ProjectReader
from pipeline.inspection.verify import exit_code, report_text, verify
from pipeline.paths import ProjectPaths
from pipeline.storage.disk_use import project_use
from pipeline.views.status import status_text

DISK_LOOK_S = 0.3  #: for the disk use that `status` shows


class _Commands(click.Group):
    """All commands. What they print may be cut off by its reader, but not by a full disk, unless they keep a log."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
        except BrokenPipeError as error:  # never of standard output; click would end with 1, the code of a failure
            raise RuntimeError("a pipe to another program is broken") from error
        keeps_log = ctx.invoked_subcommand in (run.name, watch.name)
        if code == ExitCode.OK and not keeps_log and (reason := lost_output()):
            raise HostError(f"standard output: {reason}; the command is done, but what it printed is incomplete")
        return code


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(agent_version())
def commands() -> None:
    """Evaluate genomes by playing games on a pool of workers.

    Every genome is counted exactly once per generation, or the reason is reported.

    \b
    pipeline init            make a project that runs at once
    pipeline check           load the evaluator and play one genome on this computer
    pipeline run --gen 1     play the genomes in genomes/gen-0001/
    pipeline watch           play each generation that appears in genomes/
    pipeline status          show the state of a generation
    pipeline verify          count again, independently
    pipeline vm status       show the state of the workers' virtual machines

    Exit codes: 0 every genome completed; 1 finished, some genomes failed, or some files of the
    folder were not counted; 2 bad input or configuration; 3 stopped early, the same command
    resumes; 4 the farm cannot go on.
    """
    _quiet_libraries()


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> int:
    """Make a project in FOLDER: pipeline.toml, an example evaluator and a first generation."""
    for path in new_project.init(folder):
        click.echo(f"made {path}")
    root = ["--root", str(folder)] if folder != Path() else []
    click.echo(f"now: {shell_line(['pipeline', 'run', '--gen', '1', *root])}")
    return ExitCode.OK


@commands.command("schema")
@click.option("--agent", "of_agent", is_flag=True, help="Of the file that `inbox-agent --config` takes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write instead.")
def print_schema(of_agent: bool, out: Path | None) -> int:
    """Print the JSON Schema of pipeline.toml, with which editors complete and check keys.

    `init` writes it beside pipeline.toml, whose first line names it. After an update of this program:
    pipeline schema --out pipeline.schema.json
    """
    text = agent_schema() if of_agent else config_schema()
    if out is None:
        click.echo(text, nl=False)
        return ExitCode.OK
    try:
        replace_file(out, text.encode())
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; give another place with --out") from error
    return ExitCode.OK


commands.add_command(run)
commands.add_command(watch)


@commands.command("status")
@gen_option
@root_option
@remote_options
def show_status(gen: str | None, root: Path, remote: RemotePlace | None) -> int:
    """Show the state of a generation: counts, workers, open trials and why they are open.

    The last line has the disk use of the project, as far as a third of a second is enough to look;
    `pipeline doctor -v` counts all of it.
    """
    number = parse_generation(gen) if gen is not None else None
    if remote is not None:
        show_remote_status(remote, number)
        return ExitCode.OK
    with ProjectReader(root) as reader:
        generation = reader.choose(number)
        farm, live = reader.farm(generation), reader.live(generation)
        click.echo(status_text(farm, reader.last_at(), live, reader.history(generation)))
    click.echo(f"disk: {project_use(ProjectPaths(root), DISK_LOOK_S)}")
    return ExitCode.OK


@commands.command("verify")
@click.option(
    "--gen",
    "gen",
    default=None,
    help="The generation (default: every one that was run).",
    shell_complete=complete_generation,
)
@root_option
def verify_results(gen: str | None, root: Path) -> int:
    """Check that every genome was counted exactly once.

    Reads the ledger, the snapshots and the results, and counts again with independent code. A
    generation that several versions of the evaluator played passes, and the versions are named.
    Exit codes: 0 verified; 1 a genome was lost, counted twice or counted wrongly; 2 nothing was run here;
    4 the ledger is damaged or of another version; 5 the count is right, and files of the results, genomes
    or tables are missing or were changed. Each problem is printed with what to do.
    """
    audits = verify(root, parse_generation(gen) if gen is not None else None)
    click.echo(report_text(audits))
    return exit_code(audits)


@commands.command("doctor")
@click.argument("workers", nargs=-1, shell_complete=complete_worker)
@click.option("-v", "--verbose", is_flag=True, help="Also print what was measured.")
@root_option
def examine_shares(workers: tuple[str, ...], verbose: bool, root: Path) -> int:
    """Check the machines and shares of WORKERS (default: all that are not local) and print how to fix faults.

    Without WORKERS the sites of a cluster and the disk of this computer are checked, too, and with -v the disk use of
    the project is counted.
    A worker whose evaluator is not that of this project is a fault, too; the files that differ are named.
    Without -v it prints faults only. Exit codes: 0 all is well; 1 there are faults; 2 bad configuration.
    """
    config = load_config(root)
    if config.worker and sys.stderr.isatty():
        click.echo(f"examining the shares; a silent agent is waited for, for {BEAT_WAIT_S:.0f} s", err=True)
    results = merge_same([*check_machines(root, config, workers), *check_shares(root, config, workers)])
    if not workers:
        results += check_sites(config, ProjectPaths(root))
        results += check_disk(ProjectPaths(root), config.limits, measured=verbose)
    for result in results:
        if verbose or not result.ok:
            click.echo(str(result))
    return ExitCode.OK if all(result.ok for result in results) else ExitCode.FAILED


@commands.command("take-over")
@click.argument("worker", shell_complete=complete_worker)
@root_option
def take_over_share(worker: str, root: Path) -> int:
    """Take over WORKER's share for this farm, also from another farm.

    Use it only when the other host is gone for good: everything it had published there is removed.
    """
    click.echo(take_over(root, load_config(root), worker))
    return ExitCode.OK


commands.add_command(check_evaluator)
commands.add_command(try_genome)
commands.add_command(prune_project)
commands.add_command(deploy)
commands.add_command(vm_commands)
commands.add_command(worker_commands)
commands.add_command(agent_commands)
commands.add_command(service_commands)
commands.add_command(serve_mcp)
commands.add_command(serve_project)
commands.add_command(token_commands)
for inspection_command in inspection_commands:
    commands.add_command(inspection_command)


def run_commands(args: list[str] | None = None) -> int:
    """Runs one command; returns its exit code. Prints a PipelineError's message, or the traceback of a defect."""
    try:
        code = commands.main(args, prog_name="pipeline", standalone_mode=False)
        return code if isinstance(code, int) else ExitCode.OK
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PipelineError as error:
        return _print_error(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _print_error("stopped at once; the same command resumes", ExitCode.STOPPED)
    except Exception:
        traceback.print_exc()
        return _print_error(
            "a defect of this program; nothing is lost, the ledger has every decision", ExitCode.INTERNAL_ERROR
        )


def _print_error(text: str, code: int) -> int:
    for number, line in enumerate(escaped(text).splitlines()):
        click.echo(f"pipeline: {line}" if not number else line, err=True)
    return code


def _quiet_libraries() -> None:
    """Silences libraries that log what they also raise; smbprotocol logs whole messages, too."""
    for name in ("qemu.qmp", "smbprotocol"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
