"""`pipeline doctor` for machines: checks their hosts and each worker's machine, and says how to fix faults.

Like the checks of shares it reports only faults and readings, and stops where later checks depend on a failed one.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hyperv_ops import (
    ErrorBoundary,
    Heartbeat,
    MachineError,
    MachineInfo,
    Machines,
    PowerShellRunner,
    PowerState,
    Trouble,
)
from inbox_agent.checks import CheckResult
from pipeline.config import Config
from pipeline.config.machine_tables import HyperVTable, QemuTable
from pipeline.diagnosis.evaluators import Fault
from pipeline.machines.connections import machine_hosts, runner_of
from pipeline.machines.machine_host import MachineHost, at_same_time

ASK_LIMIT_S = 60.0
FREE_DISK_GB_PER_MACHINE = 10.0  #: growth of a differencing disk in a night: logs, updates, page files
_QEMU = "[qemu]"
_NEW_PROCESS_PER_CALL = (
    "PowerShell does not read its input line by line here, so each look at the machines starts a process of its own, "
    "which takes processor time from games"
)
_FIXES = {
    Trouble.DENIED: "correct `account` or `secret`; one of that host, no Microsoft account (docs/how-to/hyper-v.md)",
    Trouble.UNTRUSTED: (
        'is that the Hyper-V host? `transport = "https"` proves it; set `certificate` to the file of its authority '
        "(docs/how-to/hyper-v.md)"
    ),
    Trouble.UNREACHABLE: "is it on, WinRM enabled there (`winrm quickconfig`), its port open in the firewall?",
    Trouble.BUSY: "close other sessions there, or raise MaxShellsPerUser",
    Trouble.NO_HYPER_V: "leave `host` out only on a Hyper-V host",
}


class _HyperVHostInfo(msgspec.Struct):
    """The output of `Get-FarmHost`."""

    computer: str
    hyper_v: bool
    administrator: bool
    switch_type: str  #: Internal, External, Private; empty: no such switch
    folder_exists: bool
    template_exists: bool
    template_read_only: bool
    free_disk_gb: float
    free_memory_mb: int | None  #: None: the account may not query it
    total_memory_mb: int
    logical_processors: int
    powershell: str


def check_machines(root: Path, config: Config, names: tuple[str, ...] = ()) -> Iterator[CheckResult]:
    """Checks the machines of these workers, or of all, and their hosts. Yields nothing without machines."""

    def examined(host: MachineHost) -> list[CheckResult]:
        chosen = {worker: machine for worker, machine in host.machine_of.items() if not names or worker in names}
        if not chosen:
            return []
        if isinstance(host.table, QemuTable):
            return list(_qemu(root, host.table, host.machines, chosen))
        return list(_hyperv(root, config, host, host.table, chosen))

    for results in at_same_time(examined, machine_hosts(config, root)):
        yield from results


def _qemu(root: Path, table: QemuTable, machines: Machines, chosen: dict[str, str]) -> Iterator[CheckResult]:
    from hyperv_ops.qemu.machines import CHECKPOINT, PROGRAMS

    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        yield _failed(_QEMU, f"{missing[0]} is not installed", "on Debian: apt-get install qemu-system-x86 qemu-utils")
        return
    if not os.path.isfile(root / table.image):  # also false if this user may not check
        yield _failed(
            _QEMU, f"there is no image {root / table.image}", "`make vm-image` builds one (docs/how-to/qemu.md)"
        )
    try:
        found = ErrorBoundary().infos(machines)
    except MachineError as error:
        yield _failed(_QEMU, f"its machines cannot be looked at: {error}")
        return
    for worker, machine in chosen.items():
        yield from (_failed(worker, *fault) for fault in _machine(worker, machine, found.get(machine), CHECKPOINT))


def _hyperv(
    root: Path, config: Config, host: MachineHost, table: HyperVTable, chosen: dict[str, str]
) -> Iterator[CheckResult]:
    runner, title = runner_of(table, root), host.title
    try:
        asked = {"Switch": table.switch, "Folder": table.folder, "Template": table.template}
        answer = runner.run("Get-FarmHost", asked, ASK_LIMIT_S)
        seen = msgspec.convert(answer.value, _HyperVHostInfo)
    except MachineError as error:
        yield _failed(title, str(error), _FIXES.get(error.trouble, "run Get-FarmHost.ps1 there by hand"))
        return
    except msgspec.ValidationError as error:
        yield _failed(title, f"an answer that makes no sense: {error}", "is PowerShell there older than 5.1?")
        return
    yield from (_failed(title, *fault) for fault in _host(seen, table))
    yield CheckResult(title, True, _reading(seen, len(chosen)))
    if isinstance(runner, PowerShellRunner) and runner.reuses is False:
        yield CheckResult(title, True, _NEW_PROCESS_PER_CALL)
    if seen.hyper_v and seen.administrator:
        if table.host and seen.switch_type == "Internal" and _uses_smb(config, chosen):
            yield _failed(
                title,
                f"switch {table.switch!r} joins its machines with {seen.computer} and no other computer, so no share "
                "is reached from here",
                f"run the pipeline on {seen.computer}, or take an external switch (docs/how-to/hyper-v.md)",
            )
        yield from _machines(host, chosen, seen, table)


def _failed(item: str, found: str, fix: str = "") -> CheckResult:
    return CheckResult(item, False, found, fix)


def _uses_smb(config: Config, chosen: dict[str, str]) -> bool:
    return any(worker.unc is not None for worker in config.worker if worker.name in chosen)


def _host(host: _HyperVHostInfo, table: HyperVTable) -> Iterator[Fault]:
    if not host.hyper_v:
        yield f"{host.computer} has no Hyper-V", "turn on the Windows feature, or correct `host`"
        return
    if not host.administrator:
        yield f"the account may not manage Hyper-V on {host.computer}", "add it to Hyper-V Administrators there"
        return
    if table.memory_reserve_mb is not None and host.free_memory_mb is None:
        yield (
            f"`memory_reserve_mb` has no effect, as {host.computer} does not report free memory to this account",
            "take an administrator of that host, or leave the key out",
        )
    if table.switch and not host.switch_type:
        yield (
            f"{host.computer} has no switch {table.switch!r}",
            "New-FarmSwitch.ps1 makes it: docs/how-to/template-vm.md",
        )
    if table.folder and not host.folder_exists:
        yield f"{table.folder} is not there on {host.computer}", "make it, on a disk with room"
    if table.template and not host.template_exists:
        yield f"{table.template} is not there on {host.computer}", "make it (docs/how-to/template-vm.md)"
    elif table.template and not host.template_read_only:
        yield f"{table.template} may be written, and a change to it spoils every clone", "set it read-only"


def _reading(host: _HyperVHostInfo, machines: int) -> str:
    free = "unknown" if host.free_memory_mb is None else f"{host.free_memory_mb / 1024:.0f}"
    return (
        f"{host.computer}: {host.logical_processors} processors, {free} of {host.total_memory_mb / 1024:.0f} GB memory "
        f"free, {host.free_disk_gb:.0f} GB disk free, {machines} machines; PowerShell {host.powershell}"
    )


def _machines(
    host: MachineHost, chosen: dict[str, str], seen: _HyperVHostInfo, table: HyperVTable
) -> Iterator[CheckResult]:
    title = host.title
    try:
        found = ErrorBoundary().infos(host.machines)
    except MachineError as error:
        yield _failed(title, f"its machines cannot be listed: {error}")
        return
    for worker, machine in chosen.items():
        faults = _machine(worker, machine, found.get(machine), table.checkpoint)
        yield from (_failed(worker, *fault) for fault in faults)
        if machine in found and not table.guest_account:
            yield _failed(worker, "its agent cannot be restarted alone", f"set {title} guest_account and guest_secret")
    missing_mb = sum(table.memory_min_mb for machine in chosen.values() if not _is_on(found.get(machine)))
    if seen.free_memory_mb is not None and missing_mb > seen.free_memory_mb:
        yield _failed(
            title,
            f"{missing_mb} MB of memory are needed for the machines that are off, {seen.free_memory_mb} are free",
            "lower `memory_min_mb`, or run fewer",
        )
    needed_gb = FREE_DISK_GB_PER_MACHINE * len(chosen)
    if table.folder and seen.folder_exists and seen.free_disk_gb < needed_gb:
        yield _failed(title, f"{seen.free_disk_gb:.0f} GB are free in {table.folder}; {needed_gb:.0f} let disks grow")


def _machine(worker: str, machine: str, info: MachineInfo | None, checkpoint: str) -> Iterator[Fault]:
    if info is None:
        yield f"there is no machine {machine}", f"`pipeline vm create {worker}` makes it"
        return
    if info.state is PowerState.UNKNOWN:
        yield f"{machine} cannot be asked: {info.note}", ""
        return
    if checkpoint not in info.checkpoints:
        fix = f"`pipeline vm prepare {worker}` if it is new, or `vm checkpoint`"
        yield f"{machine} has no checkpoint {checkpoint!r}", fix
    if info.state is PowerState.CHANGING:
        yield f"{machine} is between on and off ({info.note})", "look at its console"
    elif info.state is PowerState.RUNNING and info.heartbeat is Heartbeat.LOST:
        yield f"the guest of {machine} has lost its heartbeat", "look at its console, `pipeline vm stop --power-off`"
    elif info.state is PowerState.RUNNING and info.healthy and not info.addresses:
        yield f"{machine} reports no address; it has no network, or its integration services are old", ""


def _is_on(info: MachineInfo | None) -> bool:
    return info is not None and info.state is PowerState.RUNNING
