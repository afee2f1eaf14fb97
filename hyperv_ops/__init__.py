"""Machines: start them, stop them, ask how they are. Knows nothing of genomes, shares or farms.

Public: `Machines` (the protocol every kind of machine follows), `MachineInfo`, `PowerState`, `MachineError`, and the
implementation for processes of this computer, `LocalMachines` with `LocalSpec`.
"""

from hyperv_ops.local import LocalMachines, LocalSpec
from hyperv_ops.machines import MachineError, MachineInfo, Machines, PowerState

__all__ = ["LocalMachines", "LocalSpec", "MachineError", "MachineInfo", "Machines", "PowerState"]
