"""A Hyper-V host as its scripts show it: machines with states, heartbeats, boot times and ways to get stuck.

It runs neither Hyper-V nor PowerShell: it takes the command line and the standard input from a runner, checks that they
are exactly as expected, and returns what the script documents. The guest of a machine is a real local process, usually
an agent. All actions on machines are recorded, and whether the machine was healthy before.
"""

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import psutil

from hyperv_ops import MachineError
from hyperv_ops.hyperv import script_call as scripts
from tests.fakes.guest_processes import GuestProcesses
from tests.fakes.wsman_server import Answer, Command

SCRIPTS = {path.stem: scripts.script_text(path.stem) for path in scripts.script_folder().glob("*-*.ps1")}
LAST_WORDS_S = 0.3  #: between the freeze of a guest and the loss of its heartbeat


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """An action on a machine."""

    at: float
    machine: str
    what: str
    well: bool  #: whether it was healthy, so that an evaluation may have been cut short


@dataclass(slots=True)
class _Vm:
    name: str
    state: str = "Off"
    heartbeat: str = "NoContact"
    started_at: float = 0.0
    boot_s: float = 0.3
    ill: str = ""  #: its fault: frozen, gone, silent
    frozen: list[int] = field(default_factory=list)
    sticky: bool = False  #: its next stop hangs until its worker process is ended
    nailed: bool = False  #: and ending the worker process does not help
    checkpoints: list[str] = field(default_factory=list)
    boots: int = 0
    computer: str = "TEMPLATE"
    address: str = "127.0.0.1"
    screen: str = "Default"


class ScriptError(Exception):
    """An error that a script throws."""

    def __init__(self, trouble: str, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


class SimulatedHyperV:
    """Simulated machines; `guests` are the processes in them."""

    def __init__(self, guests: GuestProcesses, *existing: str, boot_s: float = 0.3, first_address: int = 11) -> None:
        self._guests, self._boot_s = guests, boot_s
        self._lock = threading.RLock()
        self._vms = {
            name: _Vm(name, boot_s=boot_s, checkpoints=["clean"], address=f"127.0.0.{first_address + number}")
            for number, name in enumerate(existing)
        }
        self.events: list[MachineEvent] = []
        self.scripts: list[str] = []  #: names of the scripts that were run, in order
        self.secrets: set[str] = set()  #: values that arrived as secrets
        self.missing: set[str] = set()  #: any of template, switch, space, hyperv, rights
        self.template: object = []  #: what Test-FarmTemplate.ps1 returns in a guest
        self.template_arguments: list[str] = []  #: the arguments that it got
        self.before_check: Callable[[], None] = lambda: None  #: called each time before it runs
        self.warnings: list[str] = []  #: warnings of New-FarmVM
        self.memory_mb = 32_000  #: of the host, for its machines
        self.booting_max = 0  #: the most machines that booted at once
        self.stuck_s = 0.3  #: how long the worker process gets to end by itself: half of the script's limit

    # ----------------------------------------------------------------------------------------------------------- faults

    def freeze(self, name: str) -> None:
        """The guest freezes, as after a driver's fault: no process in it responds, its heartbeat stops."""
        with self._lock:
            vm = self._vms[name]
            vm.ill, vm.frozen = "frozen", self._processes(name)
            for pid in vm.frozen:
                psutil.Process(pid).suspend()
            vm.heartbeat = "LostCommunication"

    def freeze_agent(self, name: str) -> None:
        """Only the agent freezes; the guest is healthy."""
        with self._lock:
            vm = self._vms[name]
            vm.ill, vm.frozen = "silent", self._processes(name)
            for pid in vm.frozen:
                psutil.Process(pid).suspend()

    def crash(self, name: str) -> None:
        """The machine powers off by itself."""
        with self._lock:
            self._vms[name].ill = "gone"
            self._down(self._vms[name])

    def hang_in_stopping(self, name: str) -> None:
        """Its next stop hangs in Stopping until a power-off ends its worker process."""
        self._vms[name].sticky = True

    def ignore_power_off(self, name: str) -> None:
        """No action can turn it off."""
        self._vms[name].nailed = True

    def set_screen(self, name: str, screen: str) -> None:
        """Sets the resolution of its screen."""
        self._vms[name].screen = screen

    def boot_slowly(self, name: str, boot_s: float) -> None:
        """Sets the duration of its next boots."""
        self._vms[name].boot_s = boot_s

    def is_healthy(self, name: str) -> bool:
        """Whether the machine and its agent are healthy."""
        vm = self._vms[name]
        return vm.state == "Running" and vm.heartbeat.startswith("Ok") and not vm.ill

    def identity(self, name: str) -> tuple[str, str]:
        """Its computer name and its address."""
        return self._vms[name].computer, self._vms[name].address

    def guest_pid(self, name: str) -> int | None:
        """The process that is its guest; another one after a boot."""
        return self._guests.info(name).pid

    def boots(self, name: str) -> int:
        """How often the machine was started."""
        return self._vms[name].boots

    def close(self) -> None:
        """Ends all guests."""
        with self._lock:
            for vm in self._vms.values():
                self._down(vm)

    # --------------------------------------------------------------------------------------------------- the scripts

    def answer(self, command: Command) -> Answer:
        """What PowerShell would write for the command of a runner."""
        assert command.line == " ".join(("powershell", *scripts.powershell_arguments())), "not our command line"
        assert command.line.count('"') == command.line.count("'") == 0
        job = orjson.loads(base64.b64decode(command.stdin.strip(), validate=True))
        name = next(name for name, text in SCRIPTS.items() if text == job["script"])
        parameters: dict[str, Any] = job["parameters"]
        for parameter in parameters.keys() - {"WhatIf"}:
            assert re.search(rf"\${parameter}\b", job["script"]), f"{name} has no parameter {parameter}"
        self.secrets |= {str(value) for key, value in parameters.items() if "Secret" in key or "Password" in key}
        self.scripts.append(name)
        said = ""
        try:
            if parameters.pop("WhatIf", False):
                said, value = f'What if: Performing the operation "{name}" on target "{parameters["Name"]}".\n', None
            else:
                value = self._play(name, parameters)
            reply = {"ok": True, "value": orjson.dumps(value).decode()}
        except (ScriptError, MachineError) as error:
            trouble = error.trouble if isinstance(error, ScriptError) else "GuestRefused"
            reply = {"ok": False, "id": f"{trouble},{name}.ps1", "message": str(error)}
        line = b"reply:" + base64.b64encode(orjson.dumps(reply))
        return Answer(said.encode() + line + b"\r\n", exit_code=int(not reply["ok"]))

    def _play(self, script: str, parameters: Mapping[str, Any]) -> Any:
        if "hyperv" in self.missing:
            raise ScriptError("NoHyperV", "the Hyper-V module is not installed; run Enable-WindowsOptionalFeature")
        if "rights" in self.missing:
            raise ScriptError("NotAllowed", "the account is no Hyper-V administrator; add it to that group")
        verbs: dict[str, Callable[..., Any]] = {
            "Get-FarmVM": self._get,
            "Get-FarmHost": self._host,
            "New-FarmVM": self._new,
            "Start-FarmVM": self._start,
            "Stop-FarmVM": self._stop,
            "Checkpoint-FarmVM": self._checkpoint,
            "Restore-FarmVM": self._restore,
            "Remove-FarmVM": self._remove,
            "Send-FarmVMFile": self._send,
            "Invoke-FarmVMCommand": self._invoke,
            "Restart-FarmVMAgent": self._restart_agent,
            "Set-FarmVMIdentity": self._identify,
            "Get-FarmVMScreen": self._screen,
            "Compare-FarmVM": self._compare,
            "New-FarmSwitch": self._switch,
        }
        return verbs[script](**parameters)

    def _get(self, Name: list[str]) -> list[dict[str, Any]]:  # noqa: N803
        with self._lock:
            return [self._row(self._vms[name]) for name in Name if name in self._vms]

    def _row(self, vm: _Vm) -> dict[str, Any]:
        running = vm.state == "Running"
        return {
            "name": vm.name,
            "id": f"00000000-0000-0000-0000-{abs(hash(vm.name)) % 10**12:012d}",
            "state": vm.state,
            "heartbeat": vm.heartbeat if running else "NoContact",
            "uptime_s": time.monotonic() - vm.started_at if running else 0,
            "cpu_percent": 3 if running else 0,
            "memory_mb": 2048 if running else 0,
            "processors": 2,
            "addresses": ["fe80::1", vm.address] if running and vm.heartbeat.startswith("Ok") else [],
            "checkpoints": list(vm.checkpoints),
        }

    def _host(self, Switch: str = "", Folder: str = "", Template: str = "") -> dict[str, Any]:  # noqa: N803
        return {
            "computer": "hv1",
            "hyper_v": True,
            "administrator": True,
            "switch_type": "" if "switch" in self.missing else "Internal",
            "folder_exists": True,
            "template_exists": "template" not in self.missing,
            "template_read_only": True,
            "free_disk_gb": 3 if "space" in self.missing else 900,
            "free_memory_mb": None if "administrator" in self.missing else self._free_memory_mb(),
            "total_memory_mb": 65_536,
            "logical_processors": 16,
            "powershell": "5.1",
        }

    def _free_memory_mb(self) -> int:
        with self._lock:
            return self.memory_mb - 2048 * sum(vm.state == "Running" for vm in self._vms.values())

    def _new(self, Name: str, Template: str, **_other: Any) -> dict[str, Any]:  # noqa: N803
        if "template" in self.missing:
            raise ScriptError("NoSuchTemplate", f"there is no template {Template}; correct `template` in pipeline.toml")
        if "space" in self.missing:
            raise ScriptError("NoSpace", "3 GB are free on D:; make some room")
        with self._lock:
            made = Name not in self._vms
            self._vms.setdefault(Name, _Vm(Name, boot_s=self._boot_s))
            self._guests.create(Name)
        return {"name": Name, "created": made, "warnings": self.warnings}

    def _compare(self, Name: list[str], Like: str) -> list[dict[str, Any]]:  # noqa: N803
        with self._lock:
            for name in (*Name, Like):
                if name not in self._vms:
                    raise ScriptError("NoSuchMachine", f"{name}: no such machine on hv1; New-FarmVM makes it")
            wanted = self._vms[Like].screen
            return [
                {
                    "name": name,
                    "differs": [
                        {"what": "screen", "found": found, "wanted": wanted}
                        for found in [self._vms[name].screen]
                        if found != wanted
                    ],
                }
                for name in Name
            ]

    def _start(self, Name: str, Resume: bool = False) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            if vm.state == "Stopping":
                raise ScriptError("NotAllowed", f"{Name} is stopping; it cannot be started now")
            if vm.state == "Saved" and Resume:
                self._wake(vm)
                vm.state, vm.heartbeat = "Running", "OkApplicationsUnknown"
                self._note(vm, "resume", well=False)
            elif vm.state == "Saved":
                self._down(vm)
            if vm.state != "Running":
                vm.state, vm.heartbeat, vm.started_at, vm.boots = "Running", "NoContact", time.monotonic(), vm.boots + 1
                vm.ill, vm.frozen = "", []
                booting = sum(v.state == "Running" and v.heartbeat == "NoContact" for v in self._vms.values())
                self.booting_max = max(self.booting_max, booting)
                self._note(vm, "start", well=False)
                self._boot(vm)
            return {"name": Name, "state": vm.state}

    def _save(self, name: str) -> dict[str, Any]:
        with self._vm(name) as vm:
            if vm.state == "Running":
                self._note(vm, "save", well=False)
                vm.state, vm.frozen = "Saved", self._processes(name)
                for pid in vm.frozen:
                    psutil.Process(pid).suspend()
            return {"name": name, "state": vm.state, "off": True}

    def _stop(
        self,
        Name: str,  # noqa: N803
        TimeoutSeconds: int,  # noqa: N803
        TurnOff: bool = False,  # noqa: N803
        Save: bool = False,  # noqa: N803
    ) -> dict[str, Any]:
        if Save:
            return self._save(Name)
        with self._vm(Name) as vm:
            hangs = TurnOff and vm.sticky
        if hangs:  # and meanwhile other machines can be queried
            time.sleep(self.stuck_s)
        with self._vm(Name) as vm:
            if vm.state != "Off":
                self._note(vm, "cut" if TurnOff else "shutdown", well=self.is_healthy(Name))
                if not TurnOff and vm.ill == "frozen":
                    return {"name": Name, "state": vm.state, "off": False}  # no process in the guest responds
                if vm.nailed and TurnOff:
                    raise ScriptError("TimedOut", f"{Name}: still Stopping; restart the host")
                if vm.sticky and not TurnOff:
                    vm.state = "Stopping"
                    return {"name": Name, "state": vm.state, "off": False}
                vm.sticky = False
                self._down(vm)
            return {"name": Name, "state": "Off", "off": True}

    def _checkpoint(self, Name: str, Checkpoint: str) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            if vm.state != "Off":
                raise ScriptError("NotAllowed", f"{Name} runs; a clean checkpoint is made of a machine that is off")
            self._guests.checkpoint(Name)
            vm.checkpoints = [Checkpoint]
            return {"name": Name, "checkpoint": Checkpoint}

    def _restore(self, Name: str, Checkpoint: str) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            if Checkpoint not in vm.checkpoints:
                raise ScriptError("NoCheckpoint", f"{Name} has no checkpoint {Checkpoint!r}; make one")
            self._note(vm, "restore", well=self.is_healthy(Name))
            self._down(vm)
            self._guests.restore(Name)
            return {"name": Name, "checkpoint": Checkpoint, "state": "Off"}

    def _remove(self, Name: str, Folder: str) -> dict[str, Any]:  # noqa: N803
        with self._lock:
            vm = self._vms.pop(Name, None)
            if vm is not None:
                self._down(vm)
                self._guests.remove(Name)
            return {"name": Name, "removed": vm is not None}

    def _send(self, Name: str, Destination: str, Content: str) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            self._need_guest(vm)
            data = base64.b64decode(Content)
            self._guests.send(Name, data, Destination)
            return {"name": Name, "bytes": len(data)}

    def _invoke(self, Name: str, FilePath: str, ArgumentList: list[str], **other: Any) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            self._need_guest(vm)
            if FilePath == "powershell.exe":  # there is no PowerShell here; the simulated guest returns the report
                self.before_check()
                self.template_arguments = ArgumentList
                return {"name": Name, "exit_code": 0, "output": orjson.dumps(self.template).decode()}
            ran = self._guests.run(Name, FilePath, ArgumentList, float(other["TimeoutSeconds"]))
            return {"name": Name, "exit_code": ran.exit_code, "output": ran.output}

    def _restart_agent(self, Name: str, **_other: Any) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            self._need_guest(vm)
            self._note(vm, "agent", well=self.is_healthy(Name))
            self._wake(vm)
            vm.ill = ""
            self._guests.restart_agent(Name)
            return {"name": Name, "state": "Running"}

    def _identify(self, Name: str, Worker: str, Address: str, **_other: Any) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name) as vm:
            self._need_guest(vm)
            restarted = vm.computer != Worker
            vm.computer, vm.address = Worker, Address
            return {"name": Name, "computer": Worker, "address": Address, "restarted": restarted}

    def _switch(self, Name: str, Address: str, PrefixLength: int) -> dict[str, Any]:  # noqa: N803
        created = "switch" in self.missing
        self.missing.discard("switch")
        return {"name": Name, "address": f"{Address}/{PrefixLength}", "created": created}

    def _screen(self, Name: str, Width: int, Height: int) -> dict[str, Any]:  # noqa: N803
        with self._vm(Name):
            pixels = base64.b64encode(b"\x1f\x00" * (Width * Height)).decode()
            return {"name": Name, "width": Width, "height": Height, "rgb565": pixels}

    # ---------------------------------------------------------------------------------------------- machines and guests

    @contextmanager
    def _vm(self, name: str) -> Iterator[_Vm]:
        with self._lock:
            if name not in self._vms:
                raise ScriptError("NoSuchMachine", f"there is no machine {name}; New-FarmVM makes it")
            yield self._vms[name]

    def _need_guest(self, vm: _Vm) -> None:
        if vm.state != "Running" or not vm.heartbeat.startswith("Ok"):
            raise ScriptError("GuestRefused", f"{vm.name} does not answer")

    def _boot(self, vm: _Vm) -> None:
        timer = threading.Timer(vm.boot_s, self._up, (vm, vm.boots))
        timer.daemon = True
        timer.start()

    def _up(self, vm: _Vm, boot: int) -> None:
        with self._lock:
            if vm.state != "Running" or vm.boots != boot:
                return
            try:
                self._guests.start(vm.name)
            except MachineError:  # a local error, such as too little memory: the guest boots a little later
                self._boot(vm)
            else:
                vm.heartbeat = "OkApplicationsUnknown"

    def _down(self, vm: _Vm) -> None:
        self._wake(vm)
        self._guests.power_off(vm.name)
        vm.state, vm.heartbeat = "Off", "NoContact"

    def _wake(self, vm: _Vm) -> None:
        """A frozen process dies only after it is resumed."""
        for pid in vm.frozen:
            try:
                psutil.Process(pid).resume()
            except psutil.NoSuchProcess:
                continue
        vm.frozen = []

    def _processes(self, name: str) -> list[int]:
        pid = self._guests.info(name).pid
        if pid is None:
            return []
        agent = psutil.Process(pid)
        return [pid, *(child.pid for child in agent.children(recursive=True))]

    def _note(self, vm: _Vm, what: str, *, well: bool) -> None:
        self.events.append(MachineEvent(time.monotonic(), vm.name, what, well))
