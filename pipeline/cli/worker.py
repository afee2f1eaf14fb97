"""Command group `worker`: parses arguments and prints.

Not here: which workers can be changed how (`pipeline.control.worker_control`).
"""

import threading
from pathlib import Path

import click

from pipeline.cli.completion import complete_worker
from pipeline.cli.options import root_option
from pipeline.config import load_config
from pipeline.control.worker_control import WorkerControl
from pipeline.errors import ExitCode
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import has_ledger
from pipeline.views.progress import is_draining
from pipeline.views.text_table import format_table

_LOOK_S = 0.5

_worker_argument = click.argument("name", metavar="WORKER", shell_complete=complete_worker)


@click.group("worker")
def worker_commands() -> None:
    """Add, drain, restart and remove workers, also while a generation is played.

    A host that runs does it within two seconds; otherwise the next one does.
    """


@worker_commands.command("list")
@root_option
def list_workers(root: Path) -> int:
    """List the workers: where each is configured, its share, and whether it is drained.

    The workers on sites are those that the project had when it was played last.
    """
    config, control = load_config(root, check=False), WorkerControl(root)
    drained = control.drained()
    described = ProjectPaths(root).workers
    rows = [(name, "[local]", "", _drained(name in drained)) for name in config.local_names()]
    for table in config.worker:
        path = described / f"{table.name}.toml"
        where = f"{described.name}/{path.name}" if path.is_file() else "[[worker]]"
        rows.append((table.name, where, table.place, _drained(table.name in drained)))
    rows += [(name, f"site {site}", "", _drained(name in drained)) for name, site in control.site_of().items()]
    click.echo(format_table([("worker", "configured in", "share", "drained"), *rows]) if rows else "there are none yet")
    return ExitCode.OK


@worker_commands.command("add")
@click.argument("name", metavar="WORKER")
@click.option("--share", required=True, help="The path of its share, or a UNC path.")
@click.option("--queue-depth", type=click.IntRange(1, 64), help="Attempts that it holds (default: 2).")
@click.option("--account", default="", help="For a UNC path: who logs in there.")
@click.option("--secret", default="", metavar="REFERENCE", help="Where its password is kept: keyring:… or file:….")
@root_option
def add_worker(name: str, share: str, queue_depth: int | None, account: str, secret: str, root: Path) -> int:
    """Add a worker behind a share: an agent that you started. It joins a generation that is played.

    It is written to workers/WORKER.toml, where further keys of a [[worker]] may be added.

    Exit codes: 0 added; 2 it cannot be used, or there is one of that name.
    """
    where = share if share.replace("\\", "/").startswith("//") else str(Path(share).absolute())
    given = {"share": where, "queue_depth": queue_depth, "account": account, "secret": secret}
    loses_local = load_config(root, check=False).local.workers is None and not ProjectPaths(root).workers.exists()
    path = WorkerControl(root).add(name, {key: value for key, value in given.items() if value})
    click.echo(f"{name} is added: {path}")
    if loses_local:
        click.echo("from the next start on local workers play only if `workers` under [local] says how many")
    return ExitCode.OK


@worker_commands.command("drain")
@_worker_argument
@click.option("--wait", is_flag=True, help="Wait until it holds no more work.")
@root_option
def drain_worker(name: str, wait: bool, root: Path) -> int:
    """Give a worker no more work: its game is played to the end, its queue goes to others.

    Its machine is left alone until `pipeline worker return`: nothing starts, restarts or saves it.

    Exit codes: 0 asked for, with --wait drained; 2 there is no such worker.
    """
    WorkerControl(root).drain(name)
    if wait:
        _wait_until_idle(root, name)
    click.echo(f"{name} {'is drained' if wait else 'gets no more work'}; `pipeline worker return {name}` ends that")
    return ExitCode.OK


@worker_commands.command("return")
@_worker_argument
@root_option
def return_worker(name: str, root: Path) -> int:
    """Give a drained worker work again.

    Exit codes: 0 done; 2 there is no such worker.
    """
    WorkerControl(root).give_back(name)
    click.echo(f"{name} gets work again")
    return ExitCode.OK


@worker_commands.command("restart")
@_worker_argument
@root_option
def restart_worker(name: str, root: Path) -> int:
    """Restart a worker's machine, or its agent on this computer or on a site.

    What it plays goes to others; nothing is blamed for it.

    Exit codes: 0 asked for; 2 there is no such worker, or nothing of it can be restarted from here.
    """
    what = WorkerControl(root).restart(name)
    click.echo(f"the {what} of {name} will be restarted; `pipeline explain {name}` says what came of it")
    return ExitCode.OK


@worker_commands.command("remove")
@_worker_argument
@click.option("--now", is_flag=True, help="Do not wait for the end of its game; it is played again by another worker.")
@root_option
def remove_worker(name: str, now: bool, root: Path) -> int:
    """Remove a worker that was added; it finishes its game first.

    Exit codes: 0 removed; 2 there is no such worker, or it stands in pipeline.toml or belongs to a site.
    """
    control = WorkerControl(root)
    control.refuse_to_remove(name)
    if not now:
        control.drain(name)
        _wait_until_idle(root, name)
    control.remove(name)
    click.echo(f"{name} is removed")
    return ExitCode.OK


def _wait_until_idle(root: Path, name: str) -> None:
    """Waits until a host that runs has taken the worker's queue back and its game is over; at once without a host."""
    if not has_ledger(ProjectPaths(root).state):
        return  # nothing was played yet
    pause = threading.Event()
    with ProjectReader(root) as reader:
        while _holds_work(reader, name):
            pause.wait(_LOOK_S)


def _holds_work(reader: ProjectReader, name: str) -> bool:
    """Whether a host that runs has given attempts to a worker, or has not drained it yet."""
    playing = reader.playing()
    if playing is None:
        return False
    worker = reader.farm(playing).workers.get(name)
    return worker is not None and (is_draining(worker) or not worker.drained)


def _drained(is_drained: bool) -> str:
    return "yes" if is_drained else ""
