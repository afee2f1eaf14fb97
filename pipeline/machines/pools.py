"""Machine pools: the machines of a farm as the control loop uses them, of several kinds at once."""

from collections.abc import Mapping
from typing import Protocol

from pipeline.core.observation import MachineStatus
from pipeline.core.requests import MachineAction


class MachinePool(Protocol):
    """The machines of some workers, as the control loop uses them."""

    def status(self) -> dict[str, MachineStatus]:
        """The state of each worker's machine."""

    def execute(self, action: MachineAction) -> None:
        """Performs an action; an error shows in the next `status`."""


class MachinePools:
    """Several pools as one; a worker's machine is in one of them or in none."""

    def __init__(self, pool_of: Mapping[str, MachinePool]) -> None:
        self._pool_of = dict(pool_of)

    def add(self, worker: str, pool: MachinePool) -> None:
        """Adds the machine of a worker that joins."""
        self._pool_of[worker] = pool

    def status(self) -> dict[str, MachineStatus]:
        """The state of all machines."""
        pools = {id(pool): pool for pool in self._pool_of.values()}
        return {name: seen for pool in pools.values() for name, seen in pool.status().items()}

    def execute(self, action: MachineAction) -> None:
        """Passes an action to the worker's pool."""
        self._pool_of[action.worker].execute(action)
