"""The machine controllers of a farm, one for each host of machines.

Owns: that hosts are independent. Each has a watcher, a boot queue and connections of its own, so one that does not
answer makes its own machines UNKNOWN and delays neither states nor actions of others.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.config.machine_tables import HyperVTable
from pipeline.machines.boot_queue import BootQueue, HostMemoryLimit
from pipeline.machines.controller import WATCH_INTERVAL_S, MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.machine_host import MachineHost, at_same_time


class MachineControllers:
    """The controllers of all hosts."""

    def __init__(
        self, hosts: Sequence[MachineHost], config: Config, evidence: Path, on_change: Callable[[], None]
    ) -> None:
        self._hosts = [(host, _controller(host, config, evidence, on_change)) for host in hosts]
        #: by worker
        self.of_worker = {name: controller for host, controller in self._hosts for name in host.machine_of}

    def open(self, on_down: Callable[[str], None]) -> None:
        """Starts to watch all machines. `on_down(worker)` is called after a machine was switched off for an action."""
        for _host, controller in self._hosts:
            controller.open(on_down)

    def addresses(self, worker: str) -> dict[str, tuple[str, ...]]:
        """Machine, as a `[[worker]]` names it -> its addresses, as its guest last reported; the worker's at least.

        Of other hosts than the worker's this is what is known: none of them is queried.

        Raises:
            MachineError: the worker's host was queried in vain.
        """
        own = self.of_worker[worker]
        found: dict[str, tuple[str, ...]] = {}
        for host, controller in self._hosts:
            reported = own.addresses(worker) if controller is own else controller.known_addresses()
            found |= {host.path(machine): addresses for machine, addresses in reported.items()}
        return found

    def close(self) -> None:
        """Stops watching, on all hosts at the same time, as each may have a query under way; the machines run on."""
        at_same_time(MachineController.close, [controller for _host, controller in self._hosts])


def _controller(host: MachineHost, config: Config, evidence: Path, on_change: Callable[[], None]) -> MachineController:
    table = host.table
    boot_queue = BootQueue(
        host.machines,
        booting_max=table.booting_max,
        stagger_s=table.stagger_s,
        boot_limit_s=config.limits.boot_limit_s,
        memory=_memory_limit(host, table) if isinstance(table, HyperVTable) else None,
    )
    return MachineController(
        host.machines,
        host.machine_of,
        boot_queue,
        MachineEvidence(host.machines, evidence),
        on_change,
        watch_interval_s=min(WATCH_INTERVAL_S, config.limits.silence_limit_s / 6),
        saves=table.idle_action == "save",
    )


def _memory_limit(host: MachineHost, table: HyperVTable) -> HostMemoryLimit | None:
    if host.free_memory_mb is None or table.memory_reserve_mb is None:
        return None
    return HostMemoryLimit(
        free_mb=host.free_memory_mb, reserve_mb=table.memory_reserve_mb, machine_mb=table.start_memory_mb
    )
