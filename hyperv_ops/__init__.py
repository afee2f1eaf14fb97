"""Machines: create, start, stop and inspect them. Independent of genomes, shares and farms.

Public: `Machines` (the protocol of every kind of machine) with its states and errors, and its implementations:
`LocalMachines` for processes of this computer, `HyperVMachines` for a Hyper-V host, reached by a `PowerShellRunner` on
that host or a `WinRmRunner` from elsewhere, and `qemu.machines.QemuMachines` for QEMU guests on this computer.
"""

from hyperv_ops.hyperv.machines import Difference, GuestAccess, HyperVMachines, Template
from hyperv_ops.hyperv.powershell import PowerShellRunner
from hyperv_ops.hyperv.script_call import Runner, ScriptReply, script_folder
from hyperv_ops.local import LocalMachines, LocalSpec
from hyperv_ops.machines import (
    MACHINE_NAME,
    GuestIdentity,
    Heartbeat,
    MachineError,
    MachineInfo,
    Machines,
    PowerState,
    Ran,
    Trouble,
    one_line,
)
from hyperv_ops.watcher import MachineWatcher, wait_until_healthy

__all__ = [
    "MACHINE_NAME",
    "Difference",
    "GuestAccess",
    "GuestIdentity",
    "Heartbeat",
    "HyperVMachines",
    "LocalMachines",
    "LocalSpec",
    "MachineError",
    "MachineInfo",
    "MachineWatcher",
    "Machines",
    "PowerShellRunner",
    "PowerState",
    "Ran",
    "Runner",
    "ScriptReply",
    "Template",
    "Trouble",
    "one_line",
    "script_folder",
    "wait_until_healthy",
]
