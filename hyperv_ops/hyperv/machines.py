"""Machines of a Hyper-V host: each operation is one script, run there by a `Runner`.

Owns: each operation's deadline, what is repeated after an unknown outcome, and how Hyper-V's states are read. It only
changes the machines it was given.
"""

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hyperv_ops.hyperv.png import png_of_rgb565
from hyperv_ops.hyperv.script_call import Runner
from hyperv_ops.machines import (
    GuestIdentity,
    Heartbeat,
    MachineError,
    MachineInfo,
    PowerState,
    Ran,
    Trouble,
    require_name,
)

log = logging.getLogger(__name__)

ASK_LIMIT_S, START_LIMIT_S, POWER_OFF_LIMIT_S = 30.0, 60.0, 90.0
SAVE_LIMIT_S = 300.0  #: for a save or a resume: the memory goes through the host's disk
IDENTITY_LIMIT_S, CHECKPOINT_LIMIT_S, CREATE_LIMIT_S, SEND_LIMIT_S, AGENT_LIMIT_S = 180.0, 180.0, 120.0, 120.0, 60.0
COMPARE_LIMIT_S = 120.0
SEND_BYTES_MAX = 1024 * 1024  #: ConvertFrom-Json of PowerShell 5.1 accepts 2 MiB of characters
SCREEN = (1024, 768)
_TRIES_MAX, _PAUSE_S = 3, 1.0
_START_DELAY_MAX_S = 3600  #: the maximum that `New-FarmVM` accepts

#: Source: Microsoft.HyperV.PowerShell.VMState. `…Critical` is the same with a disk that is full or missing.
_STATES = {
    "Running": PowerState.RUNNING,
    "Off": PowerState.OFF,
    "Saved": PowerState.OFF,
    "FastSaved": PowerState.OFF,
    "Hibernated": PowerState.OFF,
}
_CHANGING = frozenset(
    (
        *("Starting", "Stopping", "Paused", "Pausing", "Resuming", "Saving", "FastSaving"),
        *("Reset", "ForceShutdown", "ForceReboot"),
    )
)
#: Source: Microsoft.HyperV.PowerShell.VMHeartbeatStatus, by name.
_HEARTBEATS = {
    "OkApplicationsUnknown": Heartbeat.OK,
    "OkApplicationsHealthy": Heartbeat.OK,
    "OkApplicationsCritical": Heartbeat.OK,
    "NoContact": Heartbeat.NONE,
    "LostCommunication": Heartbeat.LOST,
    "Error": Heartbeat.LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The template of new machines. Paths are on the Hyper-V host."""

    disk: str
    folder: str
    switch: str
    memory_min_mb: int = 1024
    memory_max_mb: int = 4096
    processors: int = 2
    like: str = ""  #: the machine in which it was set up; a new one gets its settings that the disk does not carry
    start_stagger_s: float = 10.0  #: between the starts of two machines when their host starts


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestAccess:
    """The account inside the guests that may restart the agent's task."""

    account: str
    secret: Callable[[], str] = field(repr=False)
    task: str = "inbox-agent"


class _VmInfo(msgspec.Struct):
    """One machine, as `Get-FarmVM` writes it."""

    name: str
    state: str
    heartbeat: str
    uptime_s: float
    cpu_percent: float
    memory_mb: int
    addresses: list[str]
    checkpoints: list[str]


class _HostMemory(msgspec.Struct):
    """The part of the output of `Get-FarmHost` that says how much memory is free."""

    free_memory_mb: int | None


class Difference(msgspec.Struct, frozen=True):
    """One setting in which a machine differs from another, as `Compare-FarmVM` writes it."""

    what: str
    found: str
    wanted: str


class _Compared(msgspec.Struct):
    """One machine, as `Compare-FarmVM` writes it."""

    name: str
    differs: list[Difference]


class HyperVMachines:
    """`Machines` of a Hyper-V host. Any thread may call."""

    def __init__(
        self,
        runner: Runner,
        names: Sequence[str],
        *,
        template: Template | None = None,
        guest: GuestAccess | None = None,
        checkpoint: str = "clean",
        what_if: Callable[[str], None] | None = None,
    ) -> None:
        self._what_if = what_if  #: if set, nothing is changed; called with each change that would be made
        self._runner, self._names = runner, list(names)
        self._template, self._guest, self._checkpoint = template, guest, checkpoint

    def names(self) -> list[str]:
        return list(self._names)

    # ------------------------------------------------------------------------------------------------------ asking

    def infos(self) -> dict[str, MachineInfo]:
        if not self._names:
            return {}
        written = self._runner.run("Get-FarmVM", {"Name": self._names}, ASK_LIMIT_S).value
        try:
            seen = msgspec.convert(written, list[_VmInfo])
        except msgspec.ValidationError as error:
            raise MachineError(self._runner.where, f"an answer that makes no sense: {error}") from error
        ours = {name.lower(): name for name in self._names}  # to Hyper-V `VM-1` and `vm-1` are one machine
        return {name: _read(name, one) for one in seen if (name := ours.get(one.name.lower()))}

    def info(self, name: str) -> MachineInfo:
        require_name(name, self._names)
        found = self.infos().get(name)
        if found is None:
            reason = f"there is no such machine on {self._runner.where}; `pipeline vm create {name}` makes it"
            raise MachineError(name, reason, Trouble.NO_SUCH_MACHINE)
        return found

    def free_memory_mb(self) -> int | None:
        """The memory of the host that is free; None if the account may not query it."""
        value = self._runner.run("Get-FarmHost", {}, ASK_LIMIT_S).value
        try:
            return msgspec.convert(value, _HostMemory).free_memory_mb
        except msgspec.ValidationError as error:
            raise MachineError(self._runner.where, f"an answer that makes no sense: {error}") from error

    # -------------------------------------------------------------------------------------------------------- verbs

    def create(self, name: str) -> Sequence[str]:
        require_name(name, self._names)
        template = self._template
        if template is None:
            raise MachineError(name, "there is no [hyperv] template in pipeline.toml to make it from", Trouble.OTHER)
        # Hyper-V starts its machines with the host, all at once unless their delays differ.
        delay_s = min(round(self._names.index(name) * template.start_stagger_s), _START_DELAY_MAX_S)
        parameters = {
            "Template": template.disk,
            "Folder": template.folder,
            "Switch": template.switch,
            "MemoryMinMb": template.memory_min_mb,
            "MemoryMaxMb": template.memory_max_mb,
            "Processors": template.processors,
            "StartDelaySeconds": delay_s,
            **({"Like": template.like} if template.like else {}),
        }
        # An unknown outcome is repeated: the script keeps a correct machine and completes a partial one.
        value = self._do(name, "New-FarmVM", CREATE_LIMIT_S, lambda _info: False, parameters) or {}
        try:
            return msgspec.convert(value.get("warnings", []), list[str])
        except msgspec.ValidationError as error:
            raise MachineError(name, f"New-FarmVM: an answer that makes no sense: {error}") from error

    def start(self, name: str) -> None:
        self._do(name, "Start-FarmVM", START_LIMIT_S, lambda info: info.state is PowerState.RUNNING)

    def save(self, name: str) -> None:
        parameters = {"TimeoutSeconds": round(SAVE_LIMIT_S - ASK_LIMIT_S), "Save": True}
        self._do(name, "Stop-FarmVM", SAVE_LIMIT_S, _is_off, parameters)

    def resume(self, name: str) -> None:
        self._do(name, "Start-FarmVM", SAVE_LIMIT_S, lambda info: info.state is PowerState.RUNNING, {"Resume": True})

    def shutdown(self, name: str, timeout_s: float) -> bool:
        parameters = {"TimeoutSeconds": max(1, round(timeout_s))}
        value = self._do(name, "Stop-FarmVM", timeout_s + ASK_LIMIT_S, _is_off, parameters)
        return value is None or bool(value.get("off")) or self._what_if is not None

    def power_off(self, name: str) -> None:
        parameters = {"TimeoutSeconds": round(POWER_OFF_LIMIT_S - ASK_LIMIT_S), "TurnOff": True}
        self._do(name, "Stop-FarmVM", POWER_OFF_LIMIT_S, _is_off, parameters)

    def restart_agent(self, name: str) -> None:
        """Restarts the guest's logon task, since PowerShell Direct has no desktop (docs/how-to/template-vm.md)."""
        guest = self._require_guest(name)
        # Safe to repeat: a second agent finds the lock of the first one, or none.
        parameters = {
            "Account": guest.account,
            "Secret": guest.secret(),
            "Task": guest.task,
            "TimeoutSeconds": round(AGENT_LIMIT_S - ASK_LIMIT_S),
        }
        self._do(name, "Restart-FarmVMAgent", AGENT_LIMIT_S, lambda _info: False, parameters)

    def identify(self, name: str, identity: GuestIdentity) -> None:
        guest = self._require_guest(name)
        parameters = {
            "Account": guest.account,
            "Secret": guest.secret(),
            "Worker": identity.computer,
            "ShareAccount": identity.share_account,
            "SharePassword": identity.share_password,
            "Address": identity.address,
            "PrefixLength": identity.prefix_length,
            "TimeoutSeconds": round(IDENTITY_LIMIT_S - ASK_LIMIT_S),
        }
        self._do(name, "Set-FarmVMIdentity", IDENTITY_LIMIT_S, lambda _info: False, parameters)

    def checkpoint(self, name: str) -> None:
        self._do(name, "Checkpoint-FarmVM", CHECKPOINT_LIMIT_S, lambda _info: False, {"Checkpoint": self._checkpoint})

    def restore(self, name: str) -> None:
        # No state shows whether it was done, and a repetition has the same effect.
        self._do(name, "Restore-FarmVM", CHECKPOINT_LIMIT_S, lambda _info: False, {"Checkpoint": self._checkpoint})

    def remove(self, name: str) -> None:
        folder = self._template.folder if self._template is not None else ""
        if not folder:
            raise MachineError(name, "there is no [hyperv] folder in pipeline.toml to find its disks in", Trouble.OTHER)
        self._do(name, "Remove-FarmVM", CREATE_LIMIT_S, lambda _info: False, {"Folder": folder})

    def send(self, name: str, data: bytes, destination: str) -> None:
        if len(data) > SEND_BYTES_MAX:
            raise MachineError(
                name, f"{destination}: more than {SEND_BYTES_MAX} bytes; use its share", Trouble.UNSUPPORTED
            )
        parameters = {"Destination": destination, "Content": base64.b64encode(data).decode()}
        self._do(name, "Send-FarmVMFile", SEND_LIMIT_S, lambda _info: False, parameters)

    def run(self, name: str, program: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        guest = self._require_guest(name)
        parameters = {
            "Name": name,
            "Account": guest.account,
            "Secret": guest.secret(),
            "FilePath": program,
            "ArgumentList": list(arguments),
            "TimeoutSeconds": max(1, round(timeout_s)),
        }
        # Once: a program may not be repeatable. The guest has 30 s beyond the program's time.
        value = self._runner.run("Invoke-FarmVMCommand", parameters, timeout_s + 2 * ASK_LIMIT_S).value
        try:
            return Ran(int(value["exit_code"]), str(value["output"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MachineError(name, f"an answer that makes no sense: {error}", Trouble.UNKNOWN_OUTCOME) from error

    def screenshot(self, name: str) -> bytes | None:
        require_name(name, self._names)
        width, height = SCREEN
        parameters = {"Name": name, "Width": width, "Height": height}
        value = self._runner.run("Get-FarmVMScreen", parameters, ASK_LIMIT_S).value
        try:
            return png_of_rgb565(base64.b64decode(value["rgb565"]), int(value["width"]), int(value["height"]))
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None

    def compare(self, names: Sequence[str], like: str) -> dict[str, list[Difference]]:
        """The settings, except those on the disk, in which these machines differ from machine `like`."""
        for machine in names:
            require_name(machine, self._names)
        parameters = {"Name": list(names), "Like": like}
        written = self._runner.run("Compare-FarmVM", parameters, COMPARE_LIMIT_S).value
        try:
            compared = msgspec.convert(written, list[_Compared])
        except msgspec.ValidationError as error:
            raise MachineError(self._runner.where, f"an answer that makes no sense: {error}") from error
        ours = {name.lower(): name for name in names}
        return {name: one.differs for one in compared if (name := ours.get(one.name.lower()))}

    def close(self) -> None:
        self._runner.close()

    # ------------------------------------------------------------------------------------------------------- inside

    def _require_guest(self, name: str) -> GuestAccess:
        require_name(name, self._names)
        if self._guest is None:
            reason = "there is no [hyperv] guest_account in pipeline.toml, so nothing can be done inside of it"
            raise MachineError(name, reason, Trouble.UNSUPPORTED)
        return self._guest

    def _do(
        self,
        name: str,
        script: str,
        limit_s: float,
        done: Callable[[MachineInfo], bool],
        parameters: Mapping[str, object] | None = None,
    ) -> dict[str, Any] | None:
        """Runs a script until it is confirmed, within a deadline; None if only its effect was observed."""
        require_name(name, self._names)
        deadline = time.monotonic() + limit_s
        given = {"Name": name, **(parameters or {}), **({"WhatIf": True} if self._what_if is not None else {})}
        for number in range(1, _TRIES_MAX + 1):
            left_s = deadline - time.monotonic()
            try:
                reply = self._runner.run(script, given, left_s)
            except MachineError as error:
                if error.trouble is Trouble.UNKNOWN_OUTCOME and self._was_done(name, done):
                    return None
                pause_s = _PAUSE_S * 2 ** (number - 1)
                # A script that timed out by itself has used the whole deadline.
                final = not error.transient or error.trouble is Trouble.TIMED_OUT
                if final or number == _TRIES_MAX or time.monotonic() + pause_s >= deadline:
                    raise MachineError(name, f"{script}: {error}", error.trouble) from error
                log.info("%s: %s: %s; again in %g s", name, script, error, pause_s)
                threading.Event().wait(pause_s)
            else:
                if self._what_if is not None:
                    for line in reply.messages:
                        self._what_if(line)
                return reply.value if isinstance(reply.value, dict) else {}
        raise AssertionError("unreachable")

    def _was_done(self, name: str, done: Callable[[MachineInfo], bool]) -> bool:
        try:
            return done(self.info(name))
        except MachineError:
            return False


def _is_off(info: MachineInfo) -> bool:
    return info.state is PowerState.OFF


def _read(name: str, vm: _VmInfo) -> MachineInfo:
    plain = vm.state.removesuffix("Critical")
    state = PowerState.CHANGING if plain in _CHANGING else _STATES.get(plain, PowerState.UNKNOWN)
    return MachineInfo(
        name=name,
        state=state,
        heartbeat=_HEARTBEATS.get(vm.heartbeat, Heartbeat.UNKNOWN) if state is PowerState.RUNNING else Heartbeat.NONE,
        uptime_s=vm.uptime_s,
        cpu_percent=vm.cpu_percent,
        memory_mb=vm.memory_mb,
        addresses=tuple(vm.addresses),
        checkpoints=tuple(vm.checkpoints),
        note=f"Hyper-V says {vm.state}, {vm.heartbeat}",
    )
