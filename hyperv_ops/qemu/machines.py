"""Machines that are QEMU processes of this computer: real guests without a hypervisor's host.

A machine is a folder: a copy-on-write disk on the template's image, the sockets of its monitor and of its guest agent,
its console's output. Its process is daemonized: it outlives the host that started it, and the next host finds it by the
folder.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from hyperv_ops.last_line import last_line
from hyperv_ops.machines import (
    GuestIdentity,
    MachineError,
    MachineInfo,
    PowerState,
    Ran,
    Trouble,
    one_line,
    require_name,
)
from hyperv_ops.qemu.console import GuestConsole
from hyperv_ops.qemu.guest_agent import GuestAgent
from hyperv_ops.qemu.memory import SavedMemory
from hyperv_ops.qemu.qmp import SOCKET_PATH_MAX, QmpConnection

START_LIMIT_S, DISK_LIMIT_S, AGENT_LIMIT_S, IDENTITY_LIMIT_S, CLOCK_LIMIT_S = 60.0, 120.0, 60.0, 60.0, 10.0
PROGRAMS = ("qemu-system-x86_64", "qemu-img")
CHECKPOINT = "clean"
LOOPBACK = "127.0.0.1"
_QUIT_S, _KILL_S, _POLL_S = 5.0, 10.0, 0.1
_KERNEL_ARGUMENTS = "root=/dev/vda rw console=tty0 console=ttyS0 quiet mitigations=off"
DISK_NODE = "disk"  #: the name of its disk in QEMU
#: Source: QAPI schema, RunState. All other states are read as CHANGING.
_STATES = {"running": PowerState.RUNNING, "guest-panicked": PowerState.RUNNING}
#: In the guest, as root. The password comes on standard input.
_IDENTIFY = """
set -e
echo "$1" > /etc/hostname
hostname "$1"
IFS= read -r password
printf '%s\\n%s\\n' "$password" "$password" | smbpasswd -s -a "$2"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuSpec:
    """The template and settings of machines, and the folder for them."""

    image: Path  #: the template's disk; a `vmlinuz` and an `initrd.img` beside it are booted directly
    folder: Path  #: contains one folder per machine
    memory_mb: int = 512
    processors: int = 1
    accelerator: str = "auto"  #: QEMU's name of it; auto: KVM where the processor offers it, otherwise TCG
    service: str = "inbox-agent"  #: the agent's name for `service NAME restart` in the guest


class QemuMachines:
    """`Machines` as QEMU processes of this computer. Any thread may call."""

    def __init__(
        self, spec: QemuSpec, ports: Mapping[str, int], *, what_if: Callable[[str], None] | None = None
    ) -> None:
        """`ports`: the loopback port of each machine's SMB service."""
        self._spec, self._ports, self._what_if = spec, dict(ports), what_if
        self._monitor = {name: QmpConnection(name, self._folder(name) / "monitor") for name in ports}
        self._console = {
            name: GuestConsole(self._folder(name) / "console.log", monitor) for name, monitor in self._monitor.items()
        }
        self._guest = {
            name: GuestAgent(name, self._folder(name) / "guest", self._folder(name) / "heard") for name in ports
        }
        self._memory = {
            name: SavedMemory(name, self._folder(name) / "memory", monitor) for name, monitor in self._monitor.items()
        }

    def names(self) -> list[str]:
        return list(self._ports)

    # ------------------------------------------------------------------------------------------------------ asking

    def infos(self) -> dict[str, MachineInfo]:
        there = [name for name in self._ports if os.path.exists(self._disk(name))]
        with ThreadPoolExecutor(max(1, len(there))) as crew:
            return dict(zip(there, crew.map(self._inspect, there), strict=True))

    def info(self, name: str) -> MachineInfo:
        self._require(name)
        return self._inspect(name)

    def screenshot(self, name: str) -> bytes | None:
        require_name(name, self.names())
        if self._process(name) is None:
            return None
        picture = self._folder(name) / "screen.png"
        self._monitor[name].ask("screendump", {"filename": str(picture), "format": "png"})
        try:
            return picture.read_bytes()
        except OSError:
            return None
        finally:
            picture.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing to release: each query has its own connection."""

    # ------------------------------------------------------------------------------------------------------- power

    def create(self, name: str) -> Sequence[str]:
        require_name(name, self.names())
        disk = self._disk(name)
        if os.path.exists(disk):
            self._require_our_image(name)
            return ()
        if self._dry_run(name, f"make its disk on {self._spec.image}"):
            return ()
        if not os.path.isfile(self._spec.image):  # also if access is denied
            raise MachineError(name, f"there is no image {self._spec.image}", Trouble.NO_SUCH_TEMPLATE)
        if len(str(disk.with_name("monitor"))) > SOCKET_PATH_MAX:
            raise MachineError(name, f"the path of its folder is too long for a socket: {disk.parent}")
        if "," in str(disk):
            raise MachineError(name, f"QEMU takes no comma in a path: {disk.parent}")
        unfinished = disk.with_suffix(".new")
        kind = "raw" if self._spec.image.suffix == ".raw" else "qcow2"
        try:
            disk.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it contains the guest's passwords
            self._image(name, "create", "-q", "-f", "qcow2", "-b", self._spec.image.resolve(), "-F", kind, unfinished)
            os.replace(unfinished, disk)
        except OSError as error:
            raise MachineError(name, f"its disk cannot be made: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
                disk.parent.rmdir()  # if there is no disk in it now
        return ()

    def start(self, name: str) -> None:
        self._require(name)
        if self._process(name) is not None or self._dry_run(name, "switch it on"):
            return
        self._memory[name].discard()
        self._guest[name].forget()
        self._console[name].begin()
        _run(name, [PROGRAMS[0], *self._arguments(name)], START_LIMIT_S)

    def save(self, name: str) -> None:
        self._require(name)
        process = self._process(name)
        if process is None or self._dry_run(name, "save its memory and end it"):
            return
        self._memory[name].write()
        self._end(name, process)
        self._memory[name].complete()  # only now: while its process runs, it may still write to its disk

    def resume(self, name: str) -> None:
        self._require(name)
        if self._process(name) is not None or self._dry_run(name, "go on with its saved memory, or switch it on"):
            return
        if not self._memory[name].is_there:
            self.start(name)
            return
        self._guest[name].forget()
        self._console[name].begin()
        _run(name, [PROGRAMS[0], *self._arguments(name), *SavedMemory.arguments()], START_LIMIT_S)
        try:
            self._memory[name].load()
        except MachineError:
            self.power_off(name)  # it has no memory, and the next start boots
            raise
        self._set_clock(name)

    def shutdown(self, name: str, timeout_s: float) -> bool:
        self._require(name)
        if self._process(name) is None or self._dry_run(name, "ask its guest to shut down"):
            return True
        if self._is_paused(name):
            return False
        deadline = time.monotonic() + timeout_s
        asked = self._guest[name].ask_to_shut_down(timeout_s)
        return asked and self._wait_until_gone(name, deadline - time.monotonic())

    def power_off(self, name: str) -> None:
        self._require(name)
        process = self._process(name)
        if self._dry_run(name, "cut its power"):
            return
        if process is not None:
            self._end(name, process)
        self._memory[name].discard()

    def remove(self, name: str) -> None:
        require_name(name, self.names())
        if not os.path.exists(self._folder(name)) or self._dry_run(name, "remove it with its disk"):
            return
        if (process := self._process(name)) is not None:
            self._end(name, process)
        try:
            shutil.rmtree(self._folder(name))
        except OSError as error:
            raise MachineError(name, f"its disk cannot be removed: {error}") from error

    # ------------------------------------------------------------------------------------------------- checkpoints

    def checkpoint(self, name: str) -> None:
        self._require(name)
        if self._process(name) is not None:
            raise MachineError(name, "it runs; a clean checkpoint is made of a machine that is off")
        if self._memory[name].is_there:
            raise MachineError(
                name, "it is saved; a clean checkpoint is made of a machine that was shut down and is off"
            )
        if self._dry_run(name, f"make checkpoint {CHECKPOINT}"):
            return
        if CHECKPOINT in self._checkpoints(name):
            self._image(name, "snapshot", "-d", CHECKPOINT, self._disk(name))
        self._image(name, "snapshot", "-c", CHECKPOINT, self._disk(name))

    def restore(self, name: str) -> None:
        self._require(name)
        if self._dry_run(name, f"take it back to checkpoint {CHECKPOINT}"):
            return
        if CHECKPOINT not in self._checkpoints(name):
            raise MachineError(name, f"there is no checkpoint {CHECKPOINT!r}", Trouble.NO_CHECKPOINT)
        self.power_off(name)
        self._image(name, "snapshot", "-a", CHECKPOINT, self._disk(name))

    # -------------------------------------------------------------------------------------------------- in the guest

    def restart_agent(self, name: str) -> None:
        self._require_running(name)
        if self._dry_run(name, f"restart the service {self._spec.service}"):
            return
        ran = self.run(name, "/usr/sbin/service", [self._spec.service, "restart"], AGENT_LIMIT_S)
        if ran.exit_code != 0:
            raise MachineError(name, f"the agent's service: {one_line(ran.output)}", Trouble.GUEST_REFUSED)

    def identify(self, name: str, identity: GuestIdentity) -> None:
        """Sets the guest's name and the share account's password. The address is set by QEMU's network."""
        self._require(name)
        if self._dry_run(name, f"name its guest {identity.computer} and set the password of its share"):
            return
        self._require_running(name)
        words = ["-c", _IDENTIFY, "identify", identity.computer, identity.share_account]
        ran = self._guest[name].run("/bin/sh", words, IDENTITY_LIMIT_S, f"{identity.share_password}\n".encode())
        if ran.exit_code != 0:
            raise MachineError(name, f"its guest refused: {one_line(ran.output)}", Trouble.GUEST_REFUSED)

    def send(self, name: str, data: bytes, destination: str) -> None:
        self._require_running(name)
        if self._dry_run(name, f"write {destination} in its guest"):
            return
        self._guest[name].send(data, destination)

    def run(self, name: str, program: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        self._require_running(name)
        return self._guest[name].run(program, arguments, timeout_s)

    # -------------------------------------------------------------------------------------------------------- inside

    def _inspect(self, name: str) -> MachineInfo:
        process = self._process(name)
        try:
            if process is None:
                off = "off, its memory is saved" if self._memory[name].is_there else "off"
                note = f"{off}; its console said last: {self._console[name].last_line()}"
                return MachineInfo(name=name, state=PowerState.OFF, checkpoints=self._checkpoints(name), note=note)
            status = str(self._monitor[name].ask("query-status")["status"])
            drives = self._monitor[name].ask("query-block")
            self._console[name].collect()
        except MachineError as error:
            return MachineInfo(name=name, state=PowerState.UNKNOWN, note=error.reason)
        kept = [found for drive in drives for found in drive.get("inserted", {}).get("image", {}).get("snapshots", [])]
        state = _STATES.get(status, PowerState.CHANGING)
        with contextlib.suppress(psutil.Error):
            return MachineInfo(
                name=name,
                state=state,
                heartbeat=self._guest[name].heartbeat(ask=state is PowerState.RUNNING),
                uptime_s=time.time() - process.create_time(),
                memory_mb=self._spec.memory_mb,
                addresses=(LOOPBACK,),
                checkpoints=tuple(str(one["name"]) for one in kept),
                pid=process.pid,
                note=f"QEMU says {status}; its console said last: {self._console[name].last_line()}",
            )
        return MachineInfo(name=name, state=PowerState.OFF)

    def _set_clock(self, name: str) -> None:
        """Sets the guest's clock, which stood still; a guest that does not answer keeps its own."""
        with contextlib.suppress(MachineError):
            self._guest[name].run("/bin/date", ["-s", f"@{time.time():.3f}"], CLOCK_LIMIT_S)

    def _checkpoints(self, name: str) -> tuple[str, ...]:
        return tuple(str(one["name"]) for one in self._disk_info(name).get("snapshots", []))

    def _require_our_image(self, name: str) -> None:
        image = self._disk_info(name).get("full-backing-filename", "nothing")
        if Path(image) != self._spec.image.resolve():
            reason = f"it was made from another image, {image}; remove it, and create it again"
            raise MachineError(name, reason, Trouble.EXISTS)

    def _disk_info(self, name: str) -> dict[str, Any]:
        answer = self._image(name, "info", "--force-share", "--output=json", self._disk(name))
        return dict(orjson.loads(answer))

    def _is_paused(self, name: str) -> bool:
        """Whether its processors are known to be stopped, so that its guest cannot answer."""
        with contextlib.suppress(MachineError):
            return not self._monitor[name].ask("query-status")["running"]
        return False

    def _arguments(self, name: str) -> list[str]:
        spec, place = self._spec, self._folder(name)
        accelerator = _accelerator() if spec.accelerator == "auto" else spec.accelerator
        words = ["-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-machine", "pc"]
        words += ["-accel", accelerator, "-cpu", "max" if accelerator == "tcg" else "host"]
        words += ["-m", str(spec.memory_mb), "-smp", str(spec.processors)]
        words += ["-blockdev", f"driver=qcow2,node-name={DISK_NODE},file.driver=file,file.filename={self._disk(name)}"]
        words += ["-device", f"virtio-blk-pci,drive={DISK_NODE}", "-device", "virtio-rng-pci"]
        # The guest is reachable through this loopback port only, and has no outgoing network.
        words += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:{LOOPBACK}:{self._ports[name]}-:445"]
        words += ["-device", "virtio-net-pci,netdev=net,romfile="]
        words += ["-chardev", f"socket,id=guest,path={place / 'guest'},server=on,wait=off"]
        words += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=guest,name=org.qemu.guest_agent.0"]
        words += ["-qmp", f"unix:{place / 'monitor'},server=on,wait=off"]
        words += [*GuestConsole.arguments(), "-pidfile", str(place / "pid"), "-daemonize"]
        kernel, drivers = spec.image.with_name("vmlinuz"), spec.image.with_name("initrd.img")
        if kernel.exists() and drivers.exists():
            words += ["-kernel", str(kernel), "-initrd", str(drivers), "-append", _KERNEL_ARGUMENTS]
        return words

    def _folder(self, name: str) -> Path:
        return self._spec.folder / name

    def _disk(self, name: str) -> Path:
        return self._folder(name) / "disk.qcow2"

    def _process(self, name: str) -> psutil.Process | None:
        """The machine's process, also if another host process started it."""
        pid_file = self._folder(name) / "pid"
        try:
            process = psutil.Process(int(pid_file.read_text()))
            ours = str(pid_file) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _end(self, name: str, process: psutil.Process) -> None:
        self._console[name].collect()
        with contextlib.suppress(MachineError):  # QEMU may end before it answers
            self._monitor[name].ask("quit", timeout_s=_QUIT_S)
        if not self._wait_until_gone(name, _QUIT_S):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            if not self._wait_until_gone(name, _KILL_S):
                raise MachineError(name, f"its process {process.pid} does not die", Trouble.TIMED_OUT)

    def _wait_until_gone(self, name: str, timeout_s: float) -> bool:
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while self._process(name) is not None:
            if pause.wait(_POLL_S) or time.monotonic() > deadline:
                return False
        return True

    def _require(self, name: str) -> None:
        require_name(name, self.names())
        if not os.path.exists(self._disk(name)):  # also if access is denied
            reason = f"there is no such machine in {self._spec.folder}; `pipeline vm create {name}` makes it"
            raise MachineError(name, reason, Trouble.NO_SUCH_MACHINE)

    def _require_running(self, name: str) -> None:
        self._require(name)
        if self._process(name) is None:
            raise MachineError(name, "it is off; nothing can be done on it", Trouble.GUEST_REFUSED)

    def _dry_run(self, name: str, what: str) -> bool:
        if self._what_if is not None:
            self._what_if(f"{name}: would {what}")
        return self._what_if is not None

    def _image(self, name: str, *args: str | Path) -> bytes:
        return _run(name, [PROGRAMS[1], *map(str, args)], DISK_LIMIT_S)


def _run(name: str, args: Sequence[str], timeout_s: float) -> bytes:
    """Runs one of QEMU's programs. Raises MachineError with the last line of its error output."""
    if sys.platform == "win32":
        raise MachineError(name, "QEMU machines run on Linux only; on Windows there is Hyper-V", Trouble.UNSUPPORTED)
    try:
        done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise MachineError(name, f"{args[0]} is not installed", Trouble.UNSUPPORTED) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(name, f"{args[0]} did not end in {timeout_s:g} s", Trouble.UNKNOWN_OUTCOME) from error
    if done.returncode != 0:
        reason = last_line(done.stderr) or f"exit code {done.returncode}"
        raise MachineError(name, reason, Trouble.NO_SPACE if "No space" in reason else Trouble.OTHER)
    return done.stdout


def _accelerator() -> str:
    """KVM if the processor reports virtualization; with `/dev/kvm` alone, an ordinary kernel may not boot."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    return "kvm" if flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"
