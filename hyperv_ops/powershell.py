"""Runs scripts by the PowerShell of this computer, when it is the Hyper-V host itself. No WinRM, no password."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from hyperv_ops import script as scripts
from hyperv_ops.machines import MachineError, Trouble
from hyperv_ops.script import Reply

if sys.platform == "win32":
    _CREATION_FLAGS = subprocess.CREATE_NO_WINDOW
else:
    _CREATION_FLAGS = 0


class PowerShellRunner:
    """`Runner` on this computer. Any thread may call."""

    where = "this computer"

    def __init__(self, program: Sequence[str] = ("powershell",)) -> None:
        self._program = list(program)

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> Reply:
        try:
            process = subprocess.Popen(
                [*self._program, *scripts.arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=_CREATION_FLAGS,
            )
        except OSError as error:
            reason = f"PowerShell cannot be started: {error}; is this a Windows computer with Hyper-V?"
            raise MachineError(self.where, reason, Trouble.NO_HYPER_V) from error
        with process:
            try:
                out, err = process.communicate(scripts.pack(script, parameters), timeout_s)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise MachineError(self.where, "no answer in time", Trouble.UNKNOWN_OUTCOME) from error
        return scripts.unpack(self.where, out, err)
