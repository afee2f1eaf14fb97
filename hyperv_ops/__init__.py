"""Machines: create, start, stop and inspect them. Independent of genomes, shares and farms.

Public: the protocols `Power`, `Saving`, `Provisioning` and `Guest`, together `Machines`, with their states and errors,
and their implementations: `LocalMachines` (only `Power`) for processes of this computer, `HyperVMachines` for a Hyper-V
host, reached by a `PowerShellRunner` on that host or a `WinRmRunner` from elsewhere, and `qemu.machines.QemuMachines`
for QEMU guests on this computer.
"""

from hyperv_ops.error_boundary import ErrorBoundary
from hyperv_ops.hyperv.machines import Difference, GuestAccess, HyperVMachines, Template
from hyperv_ops.hyperv.powershell import PowerShellRunner
from hyperv_ops.hyperv.script_call import Runner, ScriptReply, script_folder
from hyperv_ops.local import LocalMachines, LocalSpec
from hyperv_ops.machines import (
    MACHINE_NAME,
    Guest,
    GuestIdentity,
    Heartbeat,
    MachineError,
    MachineInfo,
    Machines,
    Power,
    PowerState,
    Provisioning,
    Ran,
    Saving,
    Trouble,
    one_line,
)
from hyperv_ops.watcher import MachineWatcher, wait_until_healthy

__all__ = [
    "MACHINE_NAME",
    "Difference",
    "ErrorBoundary",
    "Guest",
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
    "Power",
    "PowerShellRunner",
    "PowerState",
    "Provisioning",
    "Ran",
    "Runner",
    "Saving",
    "ScriptReply",
    "Template",
    "Trouble",
    "one_line",
    "script_folder",
    "wait_until_healthy",
]
