"""Guests of simulated machines: processes of this computer whose disks are folders, with checkpoints and files."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hyperv_ops import LocalMachines, MachineError, Ran, Trouble


class GuestProcesses(LocalMachines):
    """Local machines with what a hypervisor adds to them."""

    def create(self, name: str) -> None:
        self._make_folders(name)

    def restart_agent(self, name: str) -> None:
        """The guest consists of its agent only."""
        self.power_off(name)
        self.start(name)

    def checkpoint(self, name: str) -> None:
        shutil.rmtree(self._checkpoint(name), ignore_errors=True)
        shutil.copytree(self._spec(name).disk, self._checkpoint(name))

    def restore(self, name: str) -> None:
        super().restore(name)
        if self._checkpoint(name).exists():
            shutil.copytree(self._checkpoint(name), self._spec(name).disk, dirs_exist_ok=True)

    def remove(self, name: str) -> None:
        self.power_off(name)
        for folder in (self._spec(name).disk, self._checkpoint(name)):
            if folder.exists():
                shutil.rmtree(folder)

    def send(self, name: str, data: bytes, destination: str) -> None:
        path = self._spec(name).disk / destination
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def run(self, name: str, program: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        try:
            done = subprocess.run(
                [program, *arguments],
                cwd=self._spec(name).disk,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(name, f"{program} cannot be run: {error}", Trouble.GUEST_REFUSED) from error
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"))

    def _checkpoint(self, name: str) -> Path:
        disk = self._spec(name).disk
        return disk.with_name(f"{disk.name}.checkpoint")
