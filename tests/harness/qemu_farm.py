"""QEMU machines for tests: guests that boot from the image of `make vm-image`, and are removed afterwards."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperv_ops import MachineError
from hyperv_ops.qemu.machines import QemuMachines, QemuSpec
from tests.harness.samba import free_port
from vm_image.__main__ import LANDER, LANDER_NEEDS
from vm_image.build import Game, build
from vm_image.cache import cache

ACCOUNT, PASSWORD = "exchange", "Gu3st-canary"
BOOT_S = 180.0  #: at most; an emulated processor is slow on a busy computer


@dataclass(frozen=True, slots=True)
class QemuHarness:
    """QEMU machines and their folder."""

    image: Path
    folder: Path
    ports: dict[str, int]
    machines: QemuMachines

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
    machines = QemuMachines(QemuSpec(image=image, folder=folder), ports)
    try:
        yield QemuHarness(image, folder, ports, machines)
    finally:
        for name in names:
            machines.remove(name)
