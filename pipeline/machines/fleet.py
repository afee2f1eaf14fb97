"""Manual operations on the workers' machines for `pipeline vm`. Each verb is an operation of `Machines`.

Owns: which machines a command selects, always among the configured ones, and in what order they are processed.
"""

import concurrent.futures
import ipaddress
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hyperv_ops import (
    Difference,
    ErrorBoundary,
    GuestIdentity,
    MachineError,
    MachineInfo,
    Machines,
    Power,
    PowerState,
    Provisioning,
    Runner,
    Saving,
    Trouble,
    one_line,
    wait_until_healthy,
)
from pipeline.config import Config, WorkerTable
from pipeline.config.machine_tables import HyperVTable
from pipeline.errors import InputError
from pipeline.machines.addresses import given_addresses
from pipeline.views.text_table import format_table

AT_ONCE_MAX = 4
SHUTDOWN_LIMIT_S, SWITCH_LIMIT_S = 120.0, 90.0
COMPUTER_NAME_MAX = 15  #: Source: NetBIOS; Rename-Computer cuts what is longer

Verb = Callable[[Machines, str], str]


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome for one machine."""

    worker: str
    line: str
    ok: bool


def choose(config: Config, names: Sequence[str], *, all_machines: bool, count: int | None) -> dict[str, str]:
    """The machines that a command selects, by worker.

    Raises:
        InputError: none is configured, one is not, or none is selected.
    """
    machine_of = config.machine_of()
    if not machine_of:
        raise InputError(
            "no worker has a machine; name them in pipeline.toml: [[worker]] name = 'vm-1' machine = 'vm-1'"
        )
    if (bool(names) + all_machines + (count is not None)) != 1:
        raise InputError(f"which machines? Name workers, or give --all or --count; there are {_listed(machine_of)}")
    if unknown := [name for name in names if name not in machine_of]:
        raise InputError(f"{unknown[0]}: no worker of that name has a machine; there are {_listed(machine_of)}")
    if count is not None and count > len(machine_of):
        raise InputError(
            f"--count {count}: pipeline.toml names {len(machine_of)} machines; add a [[worker]] for each of the others"
        )
    chosen = names or list(machine_of)[: count if count is not None else sys.maxsize]
    return {name: machine_of[name] for name in chosen}


def run_on_all(machines: Machines, chosen: dict[str, str], verb: Verb) -> Iterator[Done]:
    """Applies a verb to the machines, a few at once; yields the outcomes in the order of `chosen`."""
    boundary = ErrorBoundary()

    def apply(machine: str) -> str:
        with boundary.around(machine):
            return verb(machines, machine)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE_MAX) as crew:
        waiting = {worker: crew.submit(apply, machine) for worker, machine in chosen.items()}
        for worker, done in waiting.items():
            try:
                yield Done(worker, done.result(), True)
            except MachineError as error:
                yield Done(worker, error.reason, False)


def status(machines: Power, chosen: dict[str, str]) -> list[tuple[str, MachineInfo | None]]:
    """The state of the machines; None for one that does not exist. Raises MachineError."""
    found = ErrorBoundary().infos(machines)
    return [(worker, found.get(machine)) for worker, machine in chosen.items()]


# ------------------------------------------------------------------------------------------------------------- verbs


def create(machines: Provisioning, machine: str) -> str:
    """Creates a machine; it has the template's identity until it is prepared."""
    warnings = machines.create(machine)
    there = "is there; `pipeline vm prepare` gives it its identity and its clean checkpoint"
    return "; warning: ".join((there, *map(one_line, warnings)))


def make_prepare(
    identity_of: Callable[[str], GuestIdentity],
    limit_s: float | None,
    look_inside: Callable[[Machines, str], None] | None = None,
) -> Verb:
    """Boots, sets the identity, shuts down, makes the clean checkpoint. Repeatable; without a limit, boots unwaited.

    `look_inside` is called when the guest has its identity, and may be restarting for it.
    """
    boot = start if limit_s is None else with_wait(start, limit_s)

    def prepare(machines: Machines, machine: str) -> str:
        identity = identity_of(machine)  # before the boot, because it may fail
        try:
            boot(machines, machine)
            machines.identify(machine, identity)
            if look_inside is not None:
                look_inside(machines, machine)
            if not machines.shutdown(machine, SHUTDOWN_LIMIT_S):  # it was rebooting for its new name
                stop(machines, machine)
            machines.checkpoint(machine)
        except MachineError as error:
            reason = f"{error.reason}; it is left as it is now, and `pipeline vm prepare` does all steps again"
            raise MachineError(machine, reason, error.trouble) from error
        return f"is {identity.computer} at {identity.address}, off, with a clean checkpoint"

    return prepare


def identity_of(config: Config, machine: str, password: Callable[[WorkerTable], str]) -> GuestIdentity:
    """The identity for a machine: its name, its share's account and password, its address on the switch's network.

    Raises:
        MachineError: the configuration is incomplete, or does not allow it.
    """
    table = next(table for table in config.worker if table.machine == machine)
    computer = machine.replace("_", "-")
    if config.hyperv is not None and len(computer) > COMPUTER_NAME_MAX:
        raise MachineError(machine, f"Windows takes no computer name of more than {COMPUTER_NAME_MAX} characters")
    if not (table.account and table.secret):
        raise MachineError(machine, "its [[worker]] has no account and secret for the share")
    address, network = _address(config, machine)
    return GuestIdentity(
        computer=computer,
        share_account=account_of(table),
        share_password=password(table),
        address=str(address),
        prefix_length=network.prefixlen,
    )


def account_of(table: WorkerTable) -> str:
    """The account of a worker's share, as the guest names it: without a domain."""
    return table.account.rpartition("\\")[2].partition("@")[0]


def _address(config: Config, machine: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Network]:
    if config.hyperv is None:  # a QEMU machine is reached through this computer's loopback
        network = ipaddress.IPv4Network("127.0.0.0/8")
        return network[1], network
    if not config.hyperv.network:
        raise MachineError(machine, "[hyperv] network is not set, so it has no address to get")
    network, address = ipaddress.IPv4Network(config.hyperv.network), given_addresses(config).get(machine)
    if address is None:
        raise MachineError(machine, f"[hyperv] network {network} has no address left for it")
    return address, network


def start(machines: Power, machine: str) -> str:
    """Switches the machine on."""
    machines.start(machine)
    return "is on"


def with_wait(verb: Verb, limit_s: float) -> Verb:
    """The same verb, which then waits until the guest is up."""

    def wait(machines: Machines, machine: str) -> str:
        text = verb(machines, machine)
        if not wait_until_healthy(machines, machine, limit_s):
            reason = f"{text}, and its guest was not up after {limit_s:g} s; look at its console"
            raise MachineError(machine, reason, Trouble.TIMED_OUT)
        return f"{text}, its guest is up"

    return wait


def stop(machines: Power, machine: str) -> str:
    """Asks the guest to shut down."""
    if not machines.shutdown(machine, SHUTDOWN_LIMIT_S):
        reason = f"its guest did not shut down in {SHUTDOWN_LIMIT_S:g} s; --power-off cuts its power"
        raise MachineError(machine, reason, Trouble.TIMED_OUT)
    return "is off"


def save(machines: Saving, machine: str) -> str:
    """Saves the machine's memory."""
    machines.save(machine)
    return "is off, its memory is saved"


def power_off(machines: Power, machine: str) -> str:
    """Cuts the machine's power."""
    machines.power_off(machine)
    return "is off"


def restart(machines: Power, machine: str) -> str:
    """Shuts the guest down gracefully and starts the machine."""
    stop(machines, machine)
    return start(machines, machine)


def checkpoint(machines: Provisioning, machine: str) -> str:
    """Makes the current state the clean checkpoint."""
    machines.checkpoint(machine)
    return "has its clean checkpoint"


def restore(machines: Provisioning, machine: str) -> str:
    """Restores the clean checkpoint."""
    machines.restore(machine)
    return "is back at its clean checkpoint, and off"


def remove(machines: Provisioning, machine: str) -> str:
    """Removes the machine with its disks."""
    machines.remove(machine)
    return "is gone, with its disks"


def make_switch(runner: Runner, table: HyperVTable, *, what_if: bool) -> list[str]:
    """Creates the internal switch and gives the host the first address of its network. Raises MachineError."""
    network = ipaddress.IPv4Network(table.network)
    parameters = {"Name": table.switch, "Address": str(network[1]), "PrefixLength": network.prefixlen}
    reply = runner.run("New-FarmSwitch", {**parameters, **({"WhatIf": True} if what_if else {})}, SWITCH_LIMIT_S)
    return list(reply.messages) if what_if else [f"{table.switch}: is there, this side of it is {network[1]}"]


# ------------------------------------------------------------------------------------------------------------- output


def status_table(statuses: Sequence[tuple[str, MachineInfo | None]]) -> str:
    """The output of `vm status`."""
    rows: list[tuple[str, ...]] = [
        ("worker", "machine", "state", "heartbeat", "uptime", "cpu", "memory", "address", "checkpoint")
    ]
    for worker, info in statuses:
        if info is None:
            rows.append((worker, "there is none", *[""] * 7))
            continue
        on = info.state is PowerState.RUNNING
        rows.append(
            (
                *(worker, info.name, info.state.value, info.heartbeat.value if on else ""),
                f"{info.uptime_s / 60:.0f} min" if on else "",
                f"{info.cpu_percent:.0f} %" if on and info.cpu_percent is not None else "",
                f"{info.memory_mb} MB" if on and info.memory_mb is not None else "",
                one_line(next((address for address in info.addresses if ":" not in address), "")),  # from the guest
                one_line(", ".join(info.checkpoints)),
            )
        )
    return format_table(rows)


def differences(found: Sequence[Difference], like: str) -> list[str]:
    """The lines of one machine that differs from machine `like`; none if it does not."""
    return [one_line(f"{one.what} is {one.found or 'none'}, of {like} {one.wanted or 'none'}") for one in found]


def _listed(machine_of: dict[str, str]) -> str:
    return ", ".join(machine_of)
