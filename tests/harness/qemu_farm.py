"""QEMU machines for tests: guests that boot from the image of `make vm-image`, and are removed afterwards."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperv_ops import MachineError
from hyperv_ops.qemu.machines import DISK_NODE, QemuMachines, QemuSpec
from tests.harness.samba import free_port
from tests.harness.waiting import eventually
from vm_image.__main__ import LANDER, LANDER_NEEDS
from vm_image.build import Game, build
from vm_image.cache import cache

ACCOUNT, PASSWORD = "exchange", "Gu3st-canary"
STATE_LIMIT_S = 120.0
BOOT_S = 180.0  #: at most; an emulated processor is slow on a busy computer


class QemuTestMachines(QemuMachines):
    """QEMU machines with faults and saved states that the product does not need. A machine must be running."""

    def reset(self, name: str) -> None:
        """Resets it, like a reset button."""
        self._monitor[name].ask("system_reset")

    def pause(self, name: str) -> None:
        """Stops its processors; the guest does not notice."""
        self._monitor[name].ask("stop")

    def unpause(self, name: str) -> None:
        """Starts its processors again after `pause`."""
        self._monitor[name].ask("cont")

    def write_console(self, name: str, text: str) -> None:
        """Writes to its serial console, as its guest does."""
        self._monitor[name].ask("ringbuf-write", {"device": "console", "data": text})

    def disconnect_network(self, name: str) -> None:
        """Disconnects its network cable; a new start connects it."""
        self._monitor[name].ask("set_link", {"name": "net", "up": False})

    def save_state(self, name: str, state_name: str) -> None:
        """Saves its state, with its memory, under a name; replaces an earlier one."""
        self._run_job(name, "snapshot-delete", {"tag": state_name, "devices": [DISK_NODE]})
        self._run_job(name, "snapshot-save", {"tag": state_name, "vmstate": DISK_NODE, "devices": [DISK_NODE]})

    def load_state(self, name: str, state_name: str) -> None:
        """Reverts it to a saved state with its memory: it does not boot, so its boot id is the same."""
        self._run_job(name, "snapshot-load", {"tag": state_name, "vmstate": DISK_NODE, "devices": [DISK_NODE]})

    def _run_job(self, name: str, command: str, arguments: dict[str, object]) -> None:
        """Runs a QEMU background job and waits for its end. Source: QAPI schema, Background jobs."""
        job = f"{command}-{time.monotonic_ns()}"
        found: dict[str, str] = {}

        def has_concluded() -> bool:
            jobs = self._monitor[name].ask("query-jobs", timeout_s=STATE_LIMIT_S)
            found.update(next(one for one in jobs if one["id"] == job))
            return found["status"] == "concluded"

        self._monitor[name].ask(command, {"job-id": job, **arguments})
        assert eventually(has_concluded, STATE_LIMIT_S, every_s=0.1), f"{command} took more than {STATE_LIMIT_S:g} s"
        self._monitor[name].ask("job-dismiss", {"id": job})
        if "error" in found:
            raise MachineError(name, f"{command}: {found['error']}")


@dataclass(frozen=True, slots=True)
class QemuHarness:
    """QEMU machines and their folder."""

    image: Path
    folder: Path
    ports: dict[str, int]
    machines: QemuTestMachines

    def tables(self, **qemu: object) -> str:
        """The part of pipeline.toml for the machines."""
        settings = {"image": f"'{self.image}'", "folder": f"'{self.folder}'", **qemu}
        lines = ["[qemu]", *(f"{key} = {value}" for key, value in settings.items())]
        for name, port in self.ports.items():
            lines += ["[[worker]]", f"name = '{name}'", f"machine = '{name}'", f"port = {port}"]
            lines += [f"account = '{ACCOUNT}'", "secret = 'env:SHARE_SECRET'"]
        return "\n".join(lines)

    def in_guest(self, name: str, command: str) -> str:
        """The output of a shell command in a guest; raises AssertionError if it fails."""
        ran = self.machines.run(name, "/bin/sh", ["-c", command], 120)
        assert ran.exit_code == 0, f"{command}: {ran.output}"
        return ran.output.strip()

    def run_fatal(self, name: str, command: str) -> None:
        """Runs a shell command that its guest does not survive."""
        with contextlib.suppress(MachineError):
            self.machines.run(name, "/bin/sh", ["-c", command], 30)


@contextmanager
def qemu_harness(folder: Path, *names: str) -> Iterator[QemuHarness]:
    """Machines that may be created, in a folder with a short path."""
    image = build(Game(folder=LANDER, python="evaluator:play", requirements=LANDER_NEEDS), cache()) / "disk.raw"
    ports = {name: free_port() for name in names}
    machines = QemuTestMachines(QemuSpec(image=image, folder=folder), ports)
    try:
        yield QemuHarness(image, folder, ports, machines)
    finally:
        for name in names:
            machines.remove(name)
