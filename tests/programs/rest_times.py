"""`python -m tests.programs.rest_times`: how soon a QEMU machine is back from a saved memory, and how soon by booting.

The guest is real, and idle. Each time is from the call that starts the machine: until its guest agent answers, and
until the first new heartbeat of its inbox agent is read over SMB, as a host reads it; heartbeats are 5 s apart. The
processor time shows what a faster processor could save at most; with KVM, `--accelerator kvm` measures it. As root,
like the image.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from hyperv_ops import GuestIdentity, wait_until_healthy
from hyperv_ops.qemu.machines import QemuMachines, QemuSpec
from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.readers import read_heartbeat
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.harness.qemu_farm import ACCOUNT, BOOT_S, PASSWORD
from tests.harness.samba import free_port
from tests.harness.waiting import eventually
from vm_image.__main__ import LANDER, LANDER_NEEDS
from vm_image.build import Game, build
from vm_image.cache import cache

NAME, LOOK_S = "vm-1", 0.1
IDENTITY = GuestIdentity(
    computer=NAME, share_account=ACCOUNT, share_password=PASSWORD, address="127.0.0.1", prefix_length=8
)


def main() -> int:
    """Measures both in turn, and prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.rest_times", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accelerator", default="auto", choices=["auto", "kvm", "tcg"])
    parser.add_argument("--memory-mb", type=int, default=512)
    args = parser.parse_args()
    image = build(Game(folder=LANDER, python="evaluator:play", requirements=LANDER_NEEDS), cache()) / "disk.raw"
    with tempfile.TemporaryDirectory(prefix="rest-") as place:
        spec = QemuSpec(
            image=image, folder=Path(place), memory_mb=args.memory_mb, accelerator=args.accelerator, processors=1
        )
        machine = MeasuredMachine(spec)
        try:
            machine.set_up()
            for _ in range(args.rounds):
                machine.measure_boot()
                machine.measure_resume()
        finally:
            machine.remove()
    accelerator = "KVM" if args.accelerator == "kvm" else f"accelerator {args.accelerator!r}"
    print(f"QEMU, {accelerator}, {args.memory_mb} MB, {os.cpu_count()} processors, {args.rounds} rounds\n")
    print("| | median | range |\n|---|---|---|")
    for what, seconds in machine.seconds.items():
        print(f"| {what} | {statistics.median(seconds):.1f} s | {min(seconds):.1f} to {max(seconds):.1f} s |")
    print(f"\nsaved memory: {max(machine.saved_mb):.0f} MB")
    return 0


class MeasuredMachine:
    """One machine, and the times of what was done with it."""

    def __init__(self, spec: QemuSpec) -> None:
        port = free_port()
        self._machines, self._folder = QemuMachines(spec, {NAME: port}), spec.folder
        access = SmbAccess(server="127.0.0.1", share="exchange", port=port, account=ACCOUNT, password=lambda: PASSWORD)
        self._files = SmbFiles(SmbSession(access))
        self.seconds: dict[str, list[float]] = {}
        self.saved_mb: list[float] = []

    def set_up(self) -> None:
        """Creates it and sets the password of its share."""
        self._machines.create(NAME)
        self._machines.start(NAME)
        assert wait_until_healthy(self._machines, NAME, BOOT_S, interval_s=LOOK_S)
        self._machines.identify(NAME, IDENTITY)
        self._wait_for_heartbeat(None)
        assert self._machines.shutdown(NAME, BOOT_S)

    def measure_boot(self) -> None:
        """From off to the first heartbeat; the machine is on then."""
        self._time("boot", self._machines.start)

    def measure_resume(self) -> None:
        """From saved to the first heartbeat; the machine is off afterwards."""
        began = time.monotonic()
        self._machines.save(NAME)
        self._note("save", began)
        self.saved_mb.append((self._folder / NAME / "memory").stat().st_size / 2**20)
        self._time("resume", self._machines.resume)
        began = time.monotonic()
        assert self._machines.shutdown(NAME, BOOT_S)
        self._note("shut down", began)

    def remove(self) -> None:
        """Removes it with its disk."""
        self._machines.remove(NAME)

    def _time(self, what: str, start: Callable[[str], None]) -> None:
        self._files.close()
        began = time.monotonic()
        start(NAME)
        assert wait_until_healthy(self._machines, NAME, BOOT_S, interval_s=LOOK_S)
        self._note(f"{what} until the guest answers", began)
        self._wait_for_heartbeat(self._last)
        self._note(f"{what} until the first heartbeat", began)
        used = psutil.Process(self._machines.info(NAME).pid).cpu_times()
        self.seconds.setdefault(f"processor time of QEMU until then, {what}", []).append(used.user + used.system)

    def _wait_for_heartbeat(self, last: tuple[str, int] | None) -> None:
        assert eventually(lambda: self._heartbeat() not in (None, last), BOOT_S, every_s=LOOK_S)
        self._last = self._heartbeat()

    def _heartbeat(self) -> tuple[str, int] | None:
        with contextlib.suppress(ShareError):
            record = read_heartbeat(self._files)
            return record.run_id, record.counter
        return None

    def _note(self, what: str, began: float) -> None:
        self.seconds.setdefault(what, []).append(time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
