"""The genomes of a simulated world: their bytes, their snapshots, and the folder in which their files appear."""

import json
import random
import tempfile
from collections.abc import Generator
from functools import cache
from hashlib import sha256
from pathlib import Path

from pipeline.core.folder_looks import Stamp
from pipeline.core.model import GenomeFile
from tests.simulator.world import World


def later_genomes_of(world: World) -> dict[str, bytes]:
    """The genomes of the second generation. If results are reused, half of them are new."""
    rng, genomes = random.Random(f"later/{world.seed}"), genomes_of(world)
    return {name: data + b"\n" * (world.options.reuse and rng.random() < 0.5) for name, data in genomes.items()}


def replaced_genomes_of(world: World) -> dict[str, bytes]:
    """The genomes that are played again when everything is settled: half of them have new bytes then."""
    rng, genomes = random.Random(f"replaced/{world.seed}"), genomes_of(world)
    chosen = [name for name in genomes if rng.random() < world.options.replaced]
    return {name: genomes[name] + b" " * rng.choice([0, 1]) for name in chosen}


class MemorySnapshots:
    """`Snapshots`: the genomes of one world as real files, each written once."""

    def content(self, sha256_hex: str, _name: str) -> Path:
        return _snapshot_folder() / sha256_hex

    def put(self, data: bytes) -> str:
        """Writes the snapshot of a genome; returns its digest."""
        digest = sha256(data).hexdigest()
        path = _snapshot_folder() / digest
        if not path.exists():
            path.write_bytes(data)
        return digest


@cache
def _snapshot_folder() -> Path:
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    snapshots = folder / "simulated-genomes"
    snapshots.mkdir(exist_ok=True)
    return snapshots


def genomes_of(world: World) -> dict[str, bytes]:
    """The genomes of one world; each contains its own behaviour."""
    rng = random.Random(f"genomes/{world.seed}")
    kinds = ["poison"] * world.options.poison + ["fail"] * world.options.failing
    kinds += ["hang" if rng.random() < world.options.hanging else "play" for _ in range(world.options.genomes)]
    kinds = kinds[: world.options.genomes]
    rng.shuffle(kinds)
    seconds = rng.choice([0.5, 2.0, 6.0])
    seconds = 0.002 if world.options.short_games else seconds
    return {
        f"g{number}": json.dumps({"n": number, "do": kind, "seconds": 99.0 if kind == "hang" else seconds}).encode()
        for number, kind in enumerate(kinds)
    }


class SimulatedGenomes:
    """The folder of one generation. Some files are written while it is played, without a pause of a second."""

    def __init__(self, world: World, process: str, snapshots: MemorySnapshots, generation: int) -> None:
        self._world, self._process, self._snapshots = world, process, snapshots
        self._bytes = genomes_of(world) if generation == 1 else later_genomes_of(world)
        self.replaced = replaced_genomes_of(world)  #: those that the user plays again after the end
        rng = random.Random(f"late/{world.seed}")
        self._begun_at = dict.fromkeys(self._bytes, -1.0)
        self._written_at = dict(self._begun_at)
        for name in list(self._bytes)[1:]:
            if rng.random() < world.options.late:
                self._begun_at[name] = world.now + rng.choice([rng.uniform(0, 10), rng.uniform(0, 40)])
                self._written_at[name] = self._begun_at[name] + rng.uniform(0, 3)

    def replace(self) -> list[GenomeFile]:
        """The user puts new bytes in place of the old ones; returns the files."""
        self._bytes |= self.replaced
        return [self._imported(name, data) for name, data in self.replaced.items()]

    def begun_before(self, at: float) -> set[str]:
        """The files that were in the folder at that time, also in part."""
        return {name for name, begun_at in self._begun_at.items() if begun_at <= at}

    def import_all(self) -> list[GenomeFile]:
        """The genomes of the complete files, as a host takes them at its start."""
        return [self._imported(name, data) for name, data in self._bytes.items() if self._is_written(name)]

    def stamps(self) -> dict[str, Stamp]:
        """What a look shows."""
        found = {}
        for name in sorted(self.begun_before(self._world.now)):
            changed_ns = round(min(self._written_at[name], self._world.now) * 1e9)
            found[name] = Stamp(len(self._content(name)), changed_ns, changed_ns)
        return found

    def look_in_steps(self) -> Generator[None, None, dict[str, Stamp]]:
        """The same for a running host, whose process may be killed now; the folder may not answer."""
        self._step("unlistable folder")
        early = self.stamps()
        yield
        late = self.stamps().items()
        return {name: stamp if number % 2 else early.get(name, stamp) for number, (name, stamp) in enumerate(late)}

    def take(self, name: str) -> GenomeFile:
        """Stores a snapshot; the process may be killed before or after it."""
        self._world.step(self._process)
        taken = self._imported(name, self._content(name))
        self._world.step(self._process)
        return taken

    def digest(self, name: str) -> str:
        """The digest of a file as it is now."""
        return sha256(self._content(name)).hexdigest()

    def _imported(self, name: str, data: bytes) -> GenomeFile:
        return GenomeFile(name, "", len(data), self._snapshots.put(data))

    def _is_written(self, name: str) -> bool:
        return self._written_at[name] <= self._world.now

    def _content(self, name: str) -> bytes:
        data = self._bytes[name]
        return data if self._is_written(name) else data[: len(data) // 2]

    def _step(self, fault: str) -> None:
        failure = self._world.step(self._process)
        self._world.fault_applied = self._world.fault_applied or bool(failure)
        if failure or self._world.draw_fault(fault, self._world.options.op_fault):
            raise OSError(5, "Input/output error", "genomes")
