"""Command group `service`: parses arguments and prints. Not here: what a service is (`pipeline.service`)."""

import sys
from pathlib import Path

import click

from pipeline.cli.options import root_option
from pipeline.config import load_config
from pipeline.errors import ExitCode, InputError
from pipeline.service.definition import Service
from pipeline.service.scheduled_task import ScheduledTask
from pipeline.service.service_manager import ServiceManager
from pipeline.service.systemd import Systemd

_system_option = click.option(
    "--system", "of_system", is_flag=True, help="Of the whole system, by systemd: run this as root."
)


@click.group("service")
def service_commands() -> None:
    """Run `pipeline watch` in the background, from the start of this computer on.

    On Linux it is a unit of systemd, of this user or with --system of the whole system; on Windows it is
    a scheduled task. It is started again when it fails.
    """


@service_commands.command("install")
@_system_option
@root_option
def install(of_system: bool, root: Path) -> int:
    """Install and start the service of the project; a second time it takes the present program and PATH.

    Exit codes: 0 it runs; 2 bad configuration, or it cannot be installed here.
    """
    load_config(root)
    for line in _manager(of_system=of_system).install(_service(root)):
        click.echo(line)
    return ExitCode.OK


@service_commands.command("uninstall")
@_system_option
@root_option
def uninstall(of_system: bool, root: Path) -> int:
    """Stop the service and remove it. The project, its results and its ledger stay.

    Exit codes: 0 removed; 2 it is not installed, or cannot be removed.
    """
    for line in _manager(of_system=of_system).uninstall(_service(root)):
        click.echo(line)
    return ExitCode.OK


@service_commands.command("status")
@_system_option
@root_option
def show_status(of_system: bool, root: Path) -> int:
    """Show whether the service is installed and runs, and where its log is.

    `pipeline status` shows what it plays. Exit codes: 0 it runs; 1 it does not run; 2 it is not installed.
    """
    status = _manager(of_system=of_system).status(_service(root))
    for line in status.lines:
        click.echo(line)
    if not status.installed:
        return ExitCode.BAD_INPUT
    return ExitCode.OK if status.running else ExitCode.FAILED


def _service(root: Path) -> Service:
    return Service(root, Path(sys.executable))


def _manager(*, of_system: bool) -> ServiceManager:
    if sys.platform == "win32":
        if of_system:
            raise InputError("--system is for systemd; a scheduled task starts with Windows without it")
        return ScheduledTask()
    if sys.platform != "linux":
        raise InputError(f"services are for systemd and Windows; start `pipeline watch` by what {sys.platform} has")
    return Systemd(of_system=of_system)
