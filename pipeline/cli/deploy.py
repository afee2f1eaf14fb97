"""The command `deploy`: brings the evaluator's files to the workers. Not here: what is sent to whom and when."""

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli.options import root_option
from pipeline.cli.signals import stopping_on_signals
from pipeline.config import Config, load_config
from pipeline.core.deployment import Deployment
from pipeline.core.disk_room import bytes_text
from pipeline.errors import ExitCode, InputError, ProjectBusyError
from pipeline.host import deploy as deploying
from pipeline.host.deploy import WorkerEvaluator
from pipeline.host.evaluator_packing import PackedEvaluator, pack
from pipeline.host.host import Host
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore
from pipeline.views.text_table import format_table

_FILES_SHOWN_MAX = 20


@click.command("deploy")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--to", multiple=True, metavar="WORKER", help="Only to this worker; may be repeated.")
@click.option("--rollback", is_flag=True, help="Deploy the version before the last one again.")
@click.option("--what-if", is_flag=True, help="Print which files would travel, and change nothing.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 86400), default=120.0, show_default=True, help="Seconds to wait."
)
@root_option
def deploy(folder: Path | None, to: tuple[str, ...], rollback: bool, what_if: bool, wait_s: float, root: Path) -> int:
    """Bring the evaluator of FOLDER to the workers, through their shares.

    The files that count for the evaluator's version travel: `files` in [evaluator], or all *.py and what the command
    names. FOLDER is the project by default. The agents must have been started with --accept-evaluators, or with
    `accept_evaluators = true` in agent.toml.

    If no host runs here, this command waits until the workers have loaded it, and says who has what. A host that runs
    brings it to its workers when it begins the next generation: one that is being played keeps its version.
    Exit codes: 0 all workers have it, or will get it; 1 a worker does not have it; 2 it cannot be deployed; 3 this
    computer's disk failed.
    """
    config = load_config(root)
    source = folder.resolve() if folder is not None else root
    if rollback and (folder is not None or to or what_if):
        raise InputError("--rollback deploys an earlier version to all workers; leave out FOLDER, --to and --what-if")
    deploying.require_deployable(config, root, source, to)
    store = DeploymentStore(ProjectPaths(root))
    if what_if:
        _print_files(pack(root, config, source, to, keep=False), source)
        click.echo("nothing was changed")
        return ExitCode.OK
    with store.changing():
        if rollback:
            deployment = store.add(deploying.earlier(store))
        else:
            packed = pack(root, config, source, to, keep=True)
            _print_files(packed, source)
            deployment = store.add(packed.deployment) if packed.is_new else store.read().known[-1]
    whom = ", ".join(deployment.workers or ()) or "all workers"
    click.echo(f"deployment {deployment.number}: evaluator {deployment.evaluator} for {whom}")
    return _bring(config, root, deployment, wait_s)


def _bring(config: Config, root: Path, deployment: Deployment, wait_s: float) -> int:
    workers = deployment.workers or tuple(table.name for table in config.worker)
    try:
        host = Host(root, config, root)
    except ProjectBusyError:
        if deployment.workers is not None:
            click.echo(
                "a host runs here, which brings workers only what was deployed to all of them; deploy it again when "
                "the host has ended"
            )
            return ExitCode.FAILED
        click.echo("a host runs here: it brings the evaluator to each worker when it begins the next generation")
        return ExitCode.OK
    with host, stopping_on_signals(host.stop):
        deploying.bring(host, workers, wait_s)
        found = deploying.evaluators(host, workers)
    click.echo(_table(found))
    if missing := [each.worker for each in found if not each.has_it]:
        click.echo(
            f"{len(missing)} of {len(found)} workers do not have it; they get it with the next generation, if they can"
        )
        return ExitCode.FAILED
    return ExitCode.OK


def _print_files(packed: PackedEvaluator, folder: Path) -> None:
    names = sorted(packed.files)
    click.echo(f"{folder}: {len(names)} files, {bytes_text(packed.deployment.archive_bytes)} packed")
    for name in names[:_FILES_SHOWN_MAX]:
        click.echo(f"  {name}")
    if more := len(names) - _FILES_SHOWN_MAX:
        click.echo(f"  and {more} more") if more > 0 else None


def _table(found: Sequence[WorkerEvaluator]) -> str:
    rows = [(each.worker, each.evaluator or "-", each.state) for each in found]
    return format_table([("worker", "evaluator", "state"), *rows])
