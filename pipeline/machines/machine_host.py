"""A host of machines with those of a farm that it has; asking several hosts at once."""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hyperv_ops import ErrorBoundary, MachineError, MachineInfo, Machines
from pipeline.config.machine_tables import HyperVTable, QemuTable, hyperv_title

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class MachineHost:
    """A host, the access to it, and the machines of a farm's workers there."""

    name: str  #: of `[hyperv.NAME]`; empty for the only one
    table: HyperVTable | QemuTable
    machines: Machines
    machine_of: Mapping[str, str]  #: worker -> its machine's name on this host
    free_memory_mb: Callable[[], int | None] | None = None  #: None: it cannot be queried for that

    @property
    def title(self) -> str:
        """Its table in `pipeline.toml`."""
        return hyperv_title(self.name) if isinstance(self.table, HyperVTable) else "[qemu]"

    def path(self, machine: str) -> str:
        """The machine as a `[[worker]]` names it."""
        return machine_path(self.name, machine)


def machine_path(host: str, machine: str) -> str:
    """A machine of a host as a `[[worker]]` names it."""
    return f"{host}/{machine}" if host else machine


#: The states of a host's machines, by their names there; or why they are not known.
Answer = dict[str, MachineInfo] | MachineError


def ask_hosts(hosts: Sequence[MachineHost]) -> dict[str, Answer]:
    """Queries all hosts at the same time; their answers by name."""
    return dict(zip([host.name for host in hosts], at_same_time(ask_host, hosts), strict=True))


def ask_host(host: MachineHost) -> Answer:
    """Queries one host."""
    try:
        return ErrorBoundary().infos(host.machines)
    except MachineError as error:
        return error


def reported_addresses(answers: Mapping[str, Answer], host: str) -> dict[str, tuple[str, ...]]:
    """Machine, as a `[[worker]]` names it -> its addresses, by the answers of those hosts that answered.

    Raises:
        MachineError: this host did not.
    """
    own = answers[host]
    if isinstance(own, MachineError):
        raise own
    return {
        machine_path(name, machine): info.addresses
        for name, answer in answers.items()
        if not isinstance(answer, MachineError)
        for machine, info in answer.items()
    }


def at_same_time(call: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The value of a call for each item, all in threads of their own: a host that does not answer delays no other."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(items)), thread_name_prefix="host") as threads:
        return list(threads.map(call, items))
