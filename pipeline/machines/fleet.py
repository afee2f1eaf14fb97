"""Manual operations on the workers' machines for `pipeline vm`. Each verb is an operation of `Machines`.

Owns: which machines a command selects, always among the configured ones, and how many of a host are processed at once.
"""

import concurrent.futures
import contextlib
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hyperv_ops import (
    Difference,
    ErrorBoundary,
    GuestIdentity,
    MachineError,
    MachineInfo,
    PowerState,
    Runner,
    Trouble,
    one_line,
    wait_until_healthy,
)
from pipeline.config import Config, WorkerTable
from pipeline.config.machine_tables import HyperVTable, hyperv_title
from pipeline.errors import InputError
from pipeline.machines.addresses import given_addresses, table_of
from pipeline.machines.machine_host import MachineHost, ask_hosts
from pipeline.views.text_table import format_table

AT_ONCE_MAX = 4
SHUTDOWN_LIMIT_S, SWITCH_LIMIT_S = 120.0, 90.0
COMPUTER_NAME_MAX = 15  #: Source: NetBIOS; Rename-Computer cuts what is longer


@dataclass(frozen=True, slots=True)
class Target:
    """A worker's machine, and the host that has it."""

    worker: str
    host: MachineHost

    @property
    def machine(self) -> str:
        """The machine's name on its host."""
        return self.host.machine_of[self.worker]

    @property
    def path(self) -> str:
        """The machine as the `[[worker]]` names it."""
        return self.host.path(self.machine)


Verb = Callable[[Target], str]


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome for one machine."""

    worker: str
    line: str
    ok: bool


def choose(
    config: Config, names: Sequence[str], *, all_machines: bool, count: int | None, host: str | None = None
) -> list[str]:
    """The workers whose machines a command selects; with `host` only among those of that host.

    Raises:
        InputError: none is configured, one is not, or none is selected.
    """
    known = workers_on(config, host)
    if not known:
        raise InputError(
            "no worker has a machine; name them in pipeline.toml: [[worker]] name = 'vm-1' machine = 'vm-1'"
        )
    listed = ", ".join(known)
    if (bool(names) + all_machines + (count is not None)) != 1:
        raise InputError(f"which machines? Name workers, or give --all or --count; there are {listed}")
    if unknown := [name for name in names if name not in known]:
        where = f" on host {host}" if host else ""
        raise InputError(f"{unknown[0]}: no worker of that name has a machine{where}; there are {listed}")
    if count is not None and count > len(known):
        raise InputError(
            f"--count {count}: pipeline.toml names {len(known)} machines; add a [[worker]] for each of the others"
        )
    return list(dict.fromkeys(names)) or known[: count or None]


def workers_on(config: Config, host: str | None) -> list[str]:
    """The workers with a machine; with `host` those whose machines are there.

    Raises:
        InputError: no such host, or no worker has a machine there.
    """
    workers = [worker for worker in config.worker if worker.machine]
    if host is None:
        return [worker.name for worker in workers]
    require_host(config, host)
    found = [worker.name for worker in workers if worker.machine_host == host]
    if not found:
        raise InputError(f"--host {host}: no worker has a machine there: [[worker]] machine = '{host}/vm-1'")
    return found


def require_host(config: Config, host: str) -> None:
    """Raises InputError if no host has this name."""
    names = [name for name in config.machine_tables() if name]
    if host not in names:
        known = f"there are {', '.join(names)}" if names else "pipeline.toml has no [hyperv.NAME] table"
        raise InputError(f"--host {host}: there is none of that name; {known}")


def targets(hosts: Sequence[MachineHost], workers: Sequence[str]) -> list[Target]:
    """The machines of these workers."""
    host_of = {worker: host for host in hosts for worker in host.machine_of}
    return [Target(worker, host_of[worker]) for worker in workers]


def by_host(chosen: Sequence[Target]) -> dict[str, list[Target]]:
    """The machines of each host, by its name."""
    found: dict[str, list[Target]] = {}
    for target in chosen:
        found.setdefault(target.host.name, []).append(target)
    return found


def run_on_all(chosen: Sequence[Target], verb: Verb) -> Iterator[Done]:
    """Applies a verb to machines, on each host to a few at once; yields the outcomes in the order of `chosen`."""
    boundary = ErrorBoundary()

    def apply(target: Target) -> str:
        with boundary.around(target.machine):
            return verb(target)

    with contextlib.ExitStack() as stack:
        crews = {
            host: stack.enter_context(concurrent.futures.ThreadPoolExecutor(AT_ONCE_MAX)) for host in by_host(chosen)
        }
        waiting = {target.worker: crews[target.host.name].submit(apply, target) for target in chosen}
        for worker, done in waiting.items():
            try:
                yield Done(worker, done.result(), True)
            except MachineError as error:
                yield Done(worker, error.reason, False)


def status(chosen: Sequence[Target]) -> list[tuple[Target, MachineInfo | None]]:
    """The state of machines: None for one that does not exist, UNKNOWN if its host of several does not answer.

    Raises:
        MachineError: the only host does not answer.
    """
    answers = ask_hosts([machines[0].host for machines in by_host(chosen).values()])
    for answer in answers.values():
        if isinstance(answer, MachineError) and len(answers) == 1:
            raise answer
    found: list[tuple[Target, MachineInfo | None]] = []
    for target in chosen:
        answer = answers[target.host.name]
        if isinstance(answer, MachineError):
            found.append((target, MachineInfo(name=target.path, state=PowerState.UNKNOWN, note=str(answer))))
        else:
            info = answer.get(target.machine)
            found.append((target, None if info is None else replace(info, name=target.path)))
    return found


# ------------------------------------------------------------------------------------------------------------- verbs


def create(target: Target) -> str:
    """Creates a machine; it has the template's identity until it is prepared."""
    warnings = target.host.machines.create(target.machine)
    there = "is there; `pipeline vm prepare` gives it its identity and its clean checkpoint"
    return "; warning: ".join((there, *map(one_line, warnings)))


def make_prepare(
    identity_of: Callable[[str], GuestIdentity],
    limit_s: float | None,
    look_inside: Callable[[Target], None] | None = None,
) -> Verb:
    """Boots, sets the identity, shuts down, makes the clean checkpoint. Repeatable; without a limit, boots unwaited.

    `identity_of` takes a worker. `look_inside` is called when the guest has its identity, and may be restarting for it.
    """
    boot = start if limit_s is None else with_wait(start, limit_s)

    def prepare(target: Target) -> str:
        machines, machine = target.host.machines, target.machine
        identity = identity_of(target.worker)  # before the boot, because it may fail
        try:
            boot(target)
            machines.identify(machine, identity)
            if look_inside is not None:
                look_inside(target)
            if not machines.shutdown(machine, SHUTDOWN_LIMIT_S):  # it was rebooting for its new name
                stop(target)
            machines.checkpoint(machine)
        except MachineError as error:
            reason = f"{error.reason}; it is left as it is now, and `pipeline vm prepare` does all steps again"
            raise MachineError(machine, reason, error.trouble) from error
        return f"is {identity.computer} at {identity.address}, off, with a clean checkpoint"

    return prepare


def identity_of(config: Config, worker: str, password: Callable[[WorkerTable], str]) -> GuestIdentity:
    """The identity for a worker's machine: its name, its share's account and password, its address on the network.

    Raises:
        MachineError: the configuration is incomplete, or does not allow it.
    """
    table = next(table for table in config.worker if table.name == worker)
    machine, computer = table.machine, table.machine_name.replace("_", "-")
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
    table = table_of(config, machine)
    if table is None:  # a QEMU machine is reached through this computer's loopback
        network = ipaddress.IPv4Network("127.0.0.0/8")
        return network[1], network
    title = hyperv_title(machine.rpartition("/")[0])
    if not table.network:
        raise MachineError(machine, f"{title} network is not set, so it has no address to get")
    network, address = ipaddress.IPv4Network(table.network), given_addresses(config).get(machine)
    if address is None:
        raise MachineError(machine, f"{title} network {network} has no address left for it")
    return address, network


def start(target: Target) -> str:
    """Switches the machine on."""
    target.host.machines.start(target.machine)
    return "is on"


def with_wait(verb: Verb, limit_s: float) -> Verb:
    """The same verb, which then waits until the guest is up."""

    def wait(target: Target) -> str:
        text = verb(target)
        if not wait_until_healthy(target.host.machines, target.machine, limit_s):
            reason = f"{text}, and its guest was not up after {limit_s:g} s; look at its console"
            raise MachineError(target.machine, reason, Trouble.TIMED_OUT)
        return f"{text}, its guest is up"

    return wait


def stop(target: Target) -> str:
    """Asks the guest to shut down."""
    if not target.host.machines.shutdown(target.machine, SHUTDOWN_LIMIT_S):
        reason = f"its guest did not shut down in {SHUTDOWN_LIMIT_S:g} s; --power-off cuts its power"
        raise MachineError(target.machine, reason, Trouble.TIMED_OUT)
    return "is off"


def save(target: Target) -> str:
    """Saves the machine's memory."""
    target.host.machines.save(target.machine)
    return "is off, its memory is saved"


def power_off(target: Target) -> str:
    """Cuts the machine's power."""
    target.host.machines.power_off(target.machine)
    return "is off"


def restart(target: Target) -> str:
    """Shuts the guest down gracefully and starts the machine."""
    stop(target)
    return start(target)


def checkpoint(target: Target) -> str:
    """Makes the current state the clean checkpoint."""
    target.host.machines.checkpoint(target.machine)
    return "has its clean checkpoint"


def restore(target: Target) -> str:
    """Restores the clean checkpoint."""
    target.host.machines.restore(target.machine)
    return "is back at its clean checkpoint, and off"


def remove(target: Target) -> str:
    """Removes the machine with its disks."""
    target.host.machines.remove(target.machine)
    return "is gone, with its disks"


def make_switch(runner: Runner, table: HyperVTable, *, what_if: bool) -> list[str]:
    """Creates the internal switch and gives the host the first address of its network. Raises MachineError."""
    network = ipaddress.IPv4Network(table.network)
    parameters = {"Name": table.switch, "Address": str(network[1]), "PrefixLength": network.prefixlen}
    reply = runner.run("New-FarmSwitch", {**parameters, **({"WhatIf": True} if what_if else {})}, SWITCH_LIMIT_S)
    return list(reply.messages) if what_if else [f"{table.switch}: is there, this side of it is {network[1]}"]


# ------------------------------------------------------------------------------------------------------------- output


def status_table(found: Sequence[tuple[Target, MachineInfo | None]]) -> str:
    """The output of `vm status`."""
    rows: list[tuple[str, ...]] = [
        ("worker", "machine", "state", "heartbeat", "uptime", "cpu", "memory", "address", "checkpoint")
    ]
    for target, info in found:
        if info is None:
            rows.append((target.worker, "there is none", *[""] * 7))
            continue
        on = info.state is PowerState.RUNNING
        rows.append(
            (
                *(target.worker, info.name, info.state.value, info.heartbeat.value if on else ""),
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
