"""Builds the access to a worker's share and machine from the configuration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hyperv_ops import GuestAccess, HyperVMachines, MachineError, Machines, PowerShellRunner, Runner, Template, Trouble
from inbox_agent.protocol.files import Unavailable
from pipeline.config import Config, WorkerTable
from pipeline.config.machine_tables import HyperVTable, QemuTable
from pipeline.errors import SecretError
from pipeline.machines.addresses import AddressError, address_of
from pipeline.machines.machine_host import MachineHost
from pipeline.secrets import fetch_secret
from pipeline.shares.smb.session import SmbAccess

#: Machine, as a `[[worker]]` names it -> the addresses that its guest reports to the hypervisor. It may be queried.
Reports = Callable[[], Mapping[str, Sequence[str]]]


def smb_access(config: Config, worker: WorkerTable, root: Path, reports: Reports | None = None) -> SmbAccess:
    """The access data of a worker's share. The password is fetched for every connection.

    So is the address, if the share's server is the worker's machine.
    """
    assert worker.unc is not None
    server, share, folder = worker.unc
    on_machine = reports if worker.is_on_machine else None
    return SmbAccess(
        server=server,
        share=share,
        folder=folder,
        port=worker.port,
        account=worker.account,
        password=lambda: fetch_secret(worker.secret, root) if worker.secret else "",
        encryption=worker.encryption,
        dialect_min=worker.dialect,
        address=None if on_machine is None else lambda: _address_of(config, worker.machine, on_machine),
    )


def machine_hosts(config: Config, root: Path, what_if: Callable[[str], None] | None = None) -> list[MachineHost]:
    """The hosts of the workers' machines. With `what_if` they only report what they would do."""
    hosts = []
    for name, table in config.machine_tables().items():
        workers = [worker for worker in config.worker if worker.machine and worker.machine_host == name]
        machine_of = {worker.name: worker.machine_name for worker in workers}
        if not machine_of:
            continue
        machines: Machines
        if isinstance(table, QemuTable):
            ports = {worker.machine_name: worker.port for worker in workers}
            machines, free_memory_mb = _qemu_machines(table, ports, root, what_if), None
        else:
            machines = on_hyperv = _machines(table, list(machine_of.values()), root, what_if)
            free_memory_mb = on_hyperv.free_memory_mb
        hosts.append(MachineHost(name, table, machines, machine_of, free_memory_mb))
    return hosts


def template_machine(table: HyperVTable, root: Path) -> Machines:
    """The machine in which the template is set up; it belongs to no worker."""
    return _machines(table, [table.template_machine], root, None)


#: Assumed boot time, to stagger the automatic starts by Hyper-V.
_BOOT_S = 60.0


def _machines(
    table: HyperVTable, names: list[str], root: Path, what_if: Callable[[str], None] | None
) -> HyperVMachines:
    template = Template(
        disk=table.template,
        folder=table.folder,
        switch=table.switch,
        memory_min_mb=table.memory_min_mb,
        memory_max_mb=table.memory_max_mb,
        processors=table.processors,
        like=table.template_machine,
        start_stagger_s=max(table.stagger_s, _BOOT_S / table.booting_max),
    )
    guest = GuestAccess(
        account=table.guest_account,
        secret=lambda: _secret_of("the guests", table.guest_secret, root),
        task=table.task,
    )
    return HyperVMachines(
        runner_of(table, root),
        names,
        template=template if table.template and table.folder and table.switch else None,
        guest=guest if table.guest_account else None,
        checkpoint=table.checkpoint,
        what_if=what_if,
    )


def _qemu_machines(
    table: QemuTable, ports: Mapping[str, int], root: Path, what_if: Callable[[str], None] | None
) -> Machines:
    from hyperv_ops.qemu.machines import QemuMachines, QemuSpec  # slow import, often not needed

    spec = QemuSpec(
        image=root / table.image,
        folder=root / table.folder,
        memory_mb=table.memory_mb,
        processors=table.processors,
        accelerator=table.accelerator,
        service=table.service,
    )
    return QemuMachines(spec, ports, what_if=what_if)


def runner_of(table: HyperVTable, root: Path) -> Runner:
    """The runner of PowerShell scripts on the Hyper-V host."""
    if not table.host:
        return PowerShellRunner()
    from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner  # slow import, often not needed

    return WinRmRunner(
        WinRmAccess(
            host=table.host,
            account=table.account,
            password=lambda: _secret_of(table.host, table.secret, root),
            transport=table.transport,
            port=table.port,
            certificate=str(root / table.certificate) if table.certificate else None,
        )
    )


def require_secrets(config: Config, root: Path) -> None:
    """Raises SecretError if a secret cannot be fetched now; later it would look like an unavailable share."""
    for whose, reference in config.secrets().items():
        try:
            fetch_secret(reference, root)
        except SecretError as error:
            raise SecretError(f"{whose}: {error}") from error


def _secret_of(owner: str, reference: str, root: Path) -> str:
    """A password. Raises MachineError (DENIED, hence not retried): it cannot be fetched."""
    try:
        return fetch_secret(reference, root) if reference else ""
    except SecretError as error:
        raise MachineError(owner, f"its secret: {error}", Trouble.DENIED) from error


def _address_of(config: Config, machine: str, reports: Reports) -> str:
    """The address to try: the guest's report is a claim, `host.json` names the owner (law 7 of share_layout.md)."""
    try:
        return address_of(config, machine, reports())
    except MachineError as error:
        raise Unavailable(f"the address of machine {machine} is not known: {error}") from error
    except AddressError as error:
        raise Unavailable(str(error)) from error
