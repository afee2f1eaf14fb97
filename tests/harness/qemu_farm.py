"""QEMU machines for tests: real guests that boot from the image of `make vm-image`, and are all gone afterwards."""

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
BOOT_S = 180.0  #: at most; an emulated processor on a busy computer takes its time


@dataclass(frozen=True, slots=True)
class QemuHarness:
    """Machines, and where they are."""

    image: Path
    folder: Path
    ports: dict[str, int]
    machines: QemuMachines

    def tables(self, **qemu: object) -> str:
        """The part of pipeline.toml that names the machines."""
        told = {"image": f"'{self.image}'", "folder": f"'{self.folder}'", **qemu}
        lines = ["[qemu]", *(f"{key} = {value}" for key, value in told.items())]
        for name, port in self.ports.items():
            lines += ["[[worker]]", f"name = '{name}'", f"machine = '{name}'", f"port = {port}"]
            lines += [f"account = '{ACCOUNT}'", "secret = 'env:SHARE_SECRET'"]
        return "\n".join(lines)

    def in_guest(self, name: str, command: str) -> str:
        """What a line of shell says in a guest; raises AssertionError if it fails."""
        ran = self.machines.run(name, "/bin/sh", ["-c", command], 120)
        assert ran.exit_code == 0, f"{command}: {ran.output}"
        return ran.output.strip()

    def run_fatal(self, name: str, command: str) -> None:
        """Runs a line of shell that its guest does not live to tell of."""
        with contextlib.suppress(MachineError):
            self.machines.run(name, "/bin/sh", ["-c", command], 30)


@contextmanager
def qemu_harness(folder: Path, *names: str) -> Iterator[QemuHarness]:
    """Machines that may be made, in a folder with a short path."""
    image = build(Game(folder=LANDER, python="evaluator:play", requirements=LANDER_NEEDS), cache()) / "disk.raw"
    ports = {name: free_port() for name in names}
    machines = QemuMachines(QemuSpec(image=image, folder=folder), ports)
    try:
        yield QemuHarness(image, folder, ports, machines)
    finally:
        for name in names:
            machines.remove(name)
