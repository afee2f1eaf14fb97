"""A whole farm inside a QEMU guest, so that a reset of the guest cuts the power of host, local workers and disk cache.

What the guest's kernel has not written to its disk is lost at a reset. The project is copied out at the end and checked
here, as one that was played here.
"""

import base64
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from hyperv_ops import MachineError, wait_until_healthy
from hyperv_ops.qemu.machines import QemuSpec
from tests.harness.farm_project import GAMES, FarmProject
from tests.harness.qemu_farm import BOOT_S, QemuHarness, QemuTestMachines
from tests.harness.samba import free_port
from tests.harness.waiting import eventually
from vm_image.build import PROJECT, Game, build
from vm_image.cache import cache

NAME = "farm"
PLACE = "/var/lib/farm"  #: of the project, in the guest
_SOURCE = "/opt/source"  #: of the program: the packages of this checkout
_PACKAGES = ("hyperv_ops", "inbox_agent", "pipeline")
_PIPELINE = f"PYTHONPATH={_SOURCE}:/opt/farm/lib python3 -m pipeline"
_START = f"{_PIPELINE} run --gen 1 </dev/null >run.log 2>&1; echo $? >run.exit"


class GuestFarm(FarmProject):
    """A project that is played in a guest; `root` is the copy of it that is checked."""

    def __init__(self, root: Path, harness: QemuHarness) -> None:
        super().__init__(root)
        self._harness = harness

    def set_up(self, genomes: Mapping[str, Any]) -> None:
        """Boots the guest and brings it the project; its disk has everything of it when this returns."""
        self.configure(workers=2, time_limit_s=60.0, attempts_max=8, losses_per_trial_max=30, silence_limit_s=60.0)
        self.add_genomes(genomes)
        machines = self._harness.machines
        machines.create(NAME)
        machines.start(NAME)
        assert wait_until_healthy(machines, NAME, BOOT_S, interval_s=0.5)
        self._send({PROJECT / name: name for name in _PACKAGES}, _SOURCE)
        self._send({self.root: "."}, PLACE)
        self._harness.in_guest(NAME, "sync")

    def start_run(self) -> None:
        """Gives the command that begins or resumes the generation, and returns at once."""
        self._in_project(f"rm -f run.exit; setsid sh -c '{_START}' >/dev/null 2>&1 </dev/null &")

    def lines_archived(self) -> int:
        """The number of lines of results that the guest shows now."""
        return int(self._in_project("cat results/gen-0001/results.jsonl 2>/dev/null | wc -l"))

    def exit_code(self) -> int | None:
        """The exit code of the last run; None while it runs."""
        said = self._in_project("cat run.exit 2>/dev/null || true")
        return int(said) if said else None

    def last_words(self) -> str:
        """The end of what the last run printed."""
        return self._in_project("tail -c 2000 run.log")

    def cut_power(self) -> None:
        """Resets the guest and waits until it is up again."""
        before = self._boot_id()
        self._harness.machines.reset(NAME)
        assert eventually(lambda: self._has_booted_since(before), BOOT_S, every_s=0.5)

    def copy_out(self) -> None:
        """Replaces the copy of the project by what the guest has."""
        packed = base64.b64decode(self._in_project("tar -cz --exclude=state/shares . | base64"))
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(self.root, filter="data")

    def _send(self, folders: Mapping[Path, str], place: str) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for folder, name in folders.items():
                archive.add(folder, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
        self._harness.machines.send(NAME, packed.getvalue(), f"{place}/packed.tar.gz")
        self._harness.in_guest(NAME, f"cd {place} && tar -xzf packed.tar.gz && rm packed.tar.gz")

    def _has_booted_since(self, boot_id: str) -> bool:
        try:
            return self._boot_id() != boot_id
        except MachineError:  # it boots
            return False

    def _boot_id(self) -> str:
        return self._harness.in_guest(NAME, "cat /proc/sys/kernel/random/boot_id")

    def _in_project(self, command: str) -> str:
        return self._harness.in_guest(NAME, f"export HOME=/root; cd {PLACE} && {command}")


@contextmanager
def guest_farm() -> Iterator[GuestFarm]:
    """A guest that can run a host; it is removed afterwards."""
    game = Game(folder=GAMES, python="game:play", requirements=_libraries_of_the_host())
    image = build(game, cache()) / "disk.raw"
    with tempfile.TemporaryDirectory(prefix="power-") as place:
        ports = {NAME: free_port()}
        machines = QemuTestMachines(QemuSpec(image=image, folder=Path(place) / "m", memory_mb=1024), ports)
        farm = GuestFarm(Path(place) / "farm", QemuHarness(image, Path(place) / "m", ports, machines))
        try:
            yield farm
        finally:
            farm.close()
            machines.remove(NAME)


def _libraries_of_the_host() -> tuple[str, ...]:
    """The libraries of the extra `host`, as pip takes them."""
    wanted = [Requirement(text) for text in requires("genome-pipeline") or ()]
    chosen = [one for one in wanted if one.marker is not None and one.marker.evaluate({"extra": "host"})]
    return tuple(sorted(f"{one.name}{one.specifier}" for one in chosen))
