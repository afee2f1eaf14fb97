"""Command group `vm`: parses arguments and prints. Not here: the operations (`machines.fleet`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from hyperv_ops import GuestIdentity, MachineError, PowerState, one_line
from pipeline.cli.completion import complete_host, complete_worker
from pipeline.cli.options import root_option
from pipeline.config import Config, load_config
from pipeline.config.machine_tables import HyperVTable, hyperv_title
from pipeline.diagnosis.clones import CloneChecks, setting_differences, template_machine_of
from pipeline.diagnosis.template import GuestCheck, check_guest
from pipeline.errors import ConfigError, ExitCode, InputError, VmError
from pipeline.host.takeover import start_new_epochs
from pipeline.machines import fleet
from pipeline.machines.connections import machine_hosts, require_secrets, runner_of, template_machine
from pipeline.machines.fleet import Target
from pipeline.secrets import fetch_secret

_Command = Callable[..., Any]
_Findings = Callable[[Sequence[Target]], Iterable[str]]


class _VmGroup(click.Group):
    """Raises VmError for the MachineError of any of its commands."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MachineError as error:
            raise VmError(str(error)) from error


@click.group("vm", cls=_VmGroup)
def vm_commands() -> None:
    """Manage the workers' virtual machines by hand: make, start, stop, restore and remove them.

    Only machines that pipeline.toml names are touched. Exit codes: 0 done; 1 not with all of
    them, or not all are like their template; 2 bad input.
    """


_host_option = click.option(
    "--host", metavar="NAME", shell_complete=complete_host, help="Only machines of [hyperv.NAME]."
)
_one_host_option = click.option(
    "--host", metavar="NAME", shell_complete=complete_host, help="The host [hyperv.NAME], if there are several."
)


def _of_machines(*, changes: bool = True) -> Callable[[_Command], _Command]:
    """Adds the arguments that select machines, and `--what-if`."""
    options = [
        click.argument("workers", nargs=-1, shell_complete=complete_worker),
        click.option("--all", "all_machines", is_flag=True, help="All machines of pipeline.toml."),
        click.option("--count", type=click.IntRange(1, 256), help="The first N of them."),
        _host_option,
        click.option("--backend", type=click.Choice(["hyperv", "qemu"]), help="Refuse machines of any other kind."),
        root_option,
    ]
    if changes:
        options.append(click.option("--what-if", is_flag=True, help="Change nothing; print what would be done."))

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_wait_option = click.option("--wait", is_flag=True, help="Wait until the guest is up.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
_player_option = click.option("--player", default="player", show_default=True, help="The guest's user who plays.")
_ignore_option = click.option(
    "--ignore", "ignored", multiple=True, metavar="ITEM", help="Do not report this item, like gpu. May be repeated."
)


@vm_commands.command("create")
@_of_machines()
def create(**chosen: Any) -> int:
    """Make machines from the template, with copy-on-write disks. Existing machines are not changed."""
    return _run_command(fleet.create, **chosen)


@vm_commands.command("prepare")
@_of_machines()
@_player_option
@click.option("--game-folder", default="", help=r"Where the game is in the guests; empty: it is not checked.")
@_ignore_option
@_yes_option
def prepare(yes: bool, player: str, game_folder: str, ignored: Sequence[str], **chosen: Any) -> int:
    """Set up new machines: boot, set name, address and password, shut down, make the clean checkpoint.

    On Hyper-V each is checked: its guest as by `check-template`, its settings as by `compare`.
    What differs is printed, and the exit code is 1; the machine is set up nevertheless.
    """
    root, what_if = chosen["root"], chosen["what_if"]
    config = load_config(root)
    if not what_if:
        require_secrets(config, root)
    checks = None
    if config.hyperv is not None and not what_if:
        checks = CloneChecks(config, GuestCheck(player=player, game_folder=game_folder, ignored=ignored))
    limit_s = None if what_if else config.limits.boot_limit_s
    verb = fleet.make_prepare(
        lambda worker: _identity(config, root, worker), limit_s, checks.look_inside if checks else None
    )
    question = not yes and "Boot, rename and make a new clean checkpoint of"
    code = _run_command(verb, question=question, findings=checks.findings if checks else None, **chosen)
    for title in checks.not_compared if checks else ():
        click.echo(f"their settings were not compared: pipeline.toml: {title} template_machine is not set")
    return code


@vm_commands.command("start")
@_of_machines()
@_wait_option
def start(wait: bool, **chosen: Any) -> int:
    """Switch machines on."""
    return _run_command(fleet.start, wait=wait, **chosen)


@vm_commands.command("stop")
@_of_machines()
@click.option("--power-off", is_flag=True, help="Cut the power; a running game is lost.")
@_yes_option
def stop(power_off: bool, yes: bool, **chosen: Any) -> int:
    """Ask guests to shut down."""
    if not power_off:
        return _run_command(fleet.stop, **chosen)
    return _run_command(fleet.power_off, question=not yes and "Cut the power of", **chosen)


@vm_commands.command("save")
@_of_machines()
def save(**chosen: Any) -> int:
    """Save the memory of machines without work; a run goes on with it. `pipeline vm start` boots them."""
    return _run_command(fleet.save, **chosen)


@vm_commands.command("restart")
@_of_machines()
@_wait_option
def restart(wait: bool, **chosen: Any) -> int:
    """Shut guests down gracefully and start the machines again."""
    return _run_command(fleet.restart, wait=wait, **chosen)


@vm_commands.command("checkpoint")
@_of_machines()
def checkpoint(**chosen: Any) -> int:
    """Make the clean checkpoint from the present state of machines that are off."""
    return _run_command(fleet.checkpoint, **chosen)


@vm_commands.command("restore")
@_of_machines()
@_yes_option
def restore(yes: bool, **chosen: Any) -> int:
    """Restore the clean checkpoint of machines; later changes are lost. Not while they play."""
    return _run_command(fleet.restore, question=not yes and "Take back to the clean checkpoint", reverts=True, **chosen)


@vm_commands.command("remove")
@_of_machines()
@_yes_option
def remove(yes: bool, **chosen: Any) -> int:
    """Remove machines with their disks. Not while they play."""
    return _run_command(fleet.remove, question=not yes and "Remove, with all disks,", reverts=True, **chosen)


@vm_commands.command("status")
@_of_machines(changes=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool, root: Path, **chosen: Any) -> int:
    """Show the state of machines (default: all)."""
    found = fleet.status(_chosen_or_all(root, **chosen))
    if as_json:
        rows = [{"worker": target.worker, **(asdict(info) if info else {"state": "none"})} for target, info in found]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(fleet.status_table(found))
    unknown: dict[str, list[str]] = {}  # the workers by reason, which all machines of a host share that does not answer
    for target, info in found:
        if info is not None and info.state is PowerState.UNKNOWN:
            unknown.setdefault(one_line(info.note), []).append(target.worker)
    for reason, workers in unknown.items():
        click.echo(f"{', '.join(workers)}: {reason}", err=True)
    return ExitCode.FAILED if unknown or any(info is None for _target, info in found) else ExitCode.OK


@vm_commands.command("compare")
@_of_machines(changes=False)
def compare(root: Path, **chosen: Any) -> int:
    """List how machines differ from `template_machine` of [hyperv] (default: all).

    Compares settings outside the disk: processors, screen, firmware, TPM and partitions of the GPU.
    """
    targets = _chosen_or_all(root, **chosen)
    for target in targets:
        if not template_machine_of(target):
            title = hyperv_title(target.host.name)
            raise ConfigError(
                f"pipeline.toml: {title} template_machine is not set; name the machine to compare with there"
            )
    like = {target.worker: template_machine_of(target) for target in targets}
    differ = setting_differences(targets)
    for whose, lines in differ.items():
        for line in lines or [f"as {like[whose]}"]:
            click.echo(f"{whose}: {line}")
    return ExitCode.FAILED if any(differ.values()) else ExitCode.OK


@vm_commands.command("check-template")
@_player_option
@click.option("--game-folder", required=True, help=r"Where the game is in the guest: C:\\game")
@_ignore_option
@click.option("-v", "--verbose", is_flag=True, help="Print what is correct, too.")
@_one_host_option
@root_option
def check_template_machine(
    player: str, game_folder: str, ignored: Sequence[str], verbose: bool, host: str | None, root: Path
) -> int:
    """Check the template's machine, item by item, and print what to fix before it is cloned.

    The machine is `template_machine` of [hyperv]; it must be on, its user logged on, the agent running.
    """
    title, table = _one_hyperv_host(load_config(root), host)
    if table is None or not table.template_machine:
        raise ConfigError(f"pipeline.toml: {title} template_machine is not set; name the template's own machine there")
    check = GuestCheck(player=player, game_folder=game_folder, ignored=ignored)
    items = check_guest(template_machine(table, root), table.template_machine, table, check)
    for item in items:
        if verbose or not item.ok:
            click.echo(str(item))
    return ExitCode.OK if all(item.ok for item in items) else ExitCode.FAILED


@vm_commands.command("switch")
@click.option("--what-if", is_flag=True, help="Change nothing; print what would be done.")
@_one_host_option
@root_option
def make_switch(what_if: bool, host: str | None, root: Path) -> int:
    """Make the internal switch of the farm and give the host its address on it."""
    title, table = _one_hyperv_host(load_config(root), host)
    if table is None or not (table.switch and table.network):
        raise ConfigError(f"pipeline.toml: {title} needs `switch` and `network`: the switch's name and its addresses")
    reply = fleet.make_switch(runner_of(table, root), table, what_if=what_if)
    for line in reply:
        click.echo(line)
    return ExitCode.OK


def _one_hyperv_host(config: Config, host: str | None) -> tuple[str, HyperVTable | None]:
    """The title and the table of the host that a command is for; None without `[hyperv]`."""
    tables = config.hyperv or {}
    if host is not None:
        fleet.require_host(config, host)
    elif len(tables) > 1:
        raise InputError(f"which host? Give --host with one of {', '.join(tables)}")
    name = host if host is not None else next(iter(tables), "")
    return hyperv_title(name), tables.get(name)


def _run_command(
    verb: fleet.Verb,
    *,
    root: Path,
    what_if: bool,
    wait: bool = False,
    question: str | bool = False,
    reverts: bool = False,
    findings: _Findings | None = None,
    **selection: Any,
) -> int:
    config = load_config(root)
    chosen = _chosen(config, root, what_if=click.echo if what_if else None, **selection)
    workers = [target.worker for target in chosen]
    if question and not what_if:
        _confirm(f"{question} {', '.join(workers)}?")
    if reverts and not what_if:
        start_new_epochs(root, config, workers)
    if wait and not what_if:
        verb = fleet.with_wait(verb, config.limits.boot_limit_s)
    failed = []
    for done in fleet.run_on_all(chosen, verb):
        if not done.ok:
            failed.append(done.worker)
        if not what_if or not done.ok:
            click.echo(f"{done.worker}: {done.line}", err=not done.ok)
    if failed and len(chosen) > 1 and not what_if:
        which = f"not done with {', '.join(failed)}; what was done with the others stays"
        click.echo(f"{which}; to try again, give the same command these names only", err=True)
    ready = [target for target in chosen if target.worker not in failed]
    found = False
    for line in findings(ready) if findings and ready else ():
        found = True
        click.echo(line, err=True)
    return ExitCode.FAILED if failed or found else ExitCode.OK


def _identity(config: Config, root: Path, worker: str) -> GuestIdentity:
    return fleet.identity_of(config, worker, lambda table: fetch_secret(table.secret, root))


def _confirm(question: str) -> None:
    try:
        agreed = click.confirm(question)
    except click.Abort:  # no terminal to ask on, or Ctrl-C
        agreed = False
    if not agreed:
        raise InputError("not confirmed, so nothing was done; --yes answers beforehand")


def _chosen_or_all(
    root: Path, *, workers: Sequence[str], all_machines: bool, count: int | None, **rest: Any
) -> list[Target]:
    everything = all_machines or not (workers or count)
    return _chosen(load_config(root), root, workers=workers, all_machines=everything, count=count, **rest)


def _chosen(
    config: Config,
    root: Path,
    *,
    workers: Sequence[str],
    all_machines: bool,
    count: int | None,
    host: str | None,
    backend: str | None,
    what_if: Callable[[str], None] | None = None,
) -> list[Target]:
    """The machines that the arguments of a command select."""
    if backend is not None and getattr(config, backend) is None:
        raise InputError(f"--backend {backend}: pipeline.toml has no [{backend}] table")
    names = fleet.choose(config, workers, all_machines=all_machines, count=count, host=host)
    return fleet.targets(machine_hosts(config, root, what_if), names)
