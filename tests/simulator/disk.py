"""Disks and the ways to them: one share's files, as host and agent see them, with faults on every single operation."""

import copy
import hashlib
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from inbox_agent.share_files import AlreadyThere, Unavailable
from inbox_agent.share_layout import INBOX, attempt_of
from tests.memory_files import MemoryFiles
from tests.simulator.world import World

STALE_LISTING_S = 10.0


class Disk(MemoryFiles):
    """The truth about one share: what is on its disk, what of it would outlive a power cut, and older states of it."""

    def __init__(self) -> None:
        super().__init__()
        self.unflushed: set[str] = set()
        self.reachable = True
        self.full = False
        self.snapshots: deque[tuple[dict[str, bytes], set[str]]] = deque(maxlen=4)

    def remember(self) -> None:
        """Takes a snapshot that the share may go back to."""
        self.snapshots.append((dict(self.files), set(self.folders)))

    def go_back(self) -> bool:
        """Goes back to the oldest snapshot; False if there is none."""
        if not self.snapshots:
            return False
        files, folders = self.snapshots[0]
        self.files, self.folders = copy.copy(files), copy.copy(folders)
        self.unflushed.clear()
        return True

    def lose_power(self, world: World) -> None:
        """Of what was never flushed, some is gone and some is there without its content."""
        for path in sorted(self.unflushed & self.files.keys()):
            chance = world.dice.random()
            if chance < 0.3:
                del self.files[path]
            elif chance < 0.5:
                self.files[path] = b""
        self.unflushed.clear()


class Way:
    """`ShareFiles` for one process: the same disk, through everything that can go wrong on the way."""

    def __init__(self, world: World, disk: Disk, who: str, *, stale: bool = False) -> None:
        self._world, self._disk, self._who = world, disk, who
        self._stale = stale
        self._listings: dict[str, tuple[float, list[str]]] = {}
        self.landed: dict[Path, bytes] = {}  #: what was fetched to this machine's own disk
        self.on_arrival = lambda _folder: None

    def names(self, folder: str) -> list[str]:
        after = self._before("names")
        if self._stale and folder == INBOX:
            seen_at, names = self._listings.get(folder, (-1e9, []))
            if self._world.now - seen_at < STALE_LISTING_S and self._world.strikes("stale listing", 0.5):
                return list(names)
        names = self._disk.names(folder)
        self._listings[folder] = (self._world.now, names)
        self._after(after)
        return list(names)

    def size(self, path: str) -> int:
        after = self._before("size")
        size = self._disk.size(path)
        self._after(after)
        return size

    def read(self, path: str, bytes_max: int) -> bytes:
        after = self._before("read")
        data = self._disk.read(path, bytes_max)
        self._after(after)
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        data = self.read(path, bytes_max)
        self.landed[destination] = data
        return hashlib.sha256(data).hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        after = self._before("write")
        data = source if isinstance(source, bytes) else self.landed.get(source) or source.read_bytes()
        if self._world.strikes("torn payload", self._world.options.torn):
            self._disk.write(path, data[: len(data) // 2])
            raise Unavailable(f"{path}: torn")
        self._room(path)
        self._disk.write(path, data)
        self._disk.unflushed.add(path)
        self._after(after)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        after = self._before("publish")
        # A compound is not all-or-nothing: the write failed, the rename did not (law 3).
        host = self._who.startswith("host")
        if host and (self._world.strikes("torn record", self._world.options.torn) or after == "torn"):
            self._disk.publish(path, b"")
            raise Unavailable(f"{path}: torn")
        self._room(path)
        if path in self._disk.files:
            raise AlreadyThere(path)
        self._disk.publish(path, data)
        if durable:
            self._disk.unflushed.discard(path)
        else:
            self._disk.unflushed.add(path)
        self.on_arrival(path.partition("/")[0])
        self._after(after)

    def replace(self, path: str, data: bytes) -> None:
        after = self._before("replace")
        self._room(path)
        self._disk.replace(path, data)
        self._after(after)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            after = self._before("remove")
            self._disk.remove([path])
            self._disk.unflushed.discard(path)
            self._after(after)

    def make_folders(self) -> None:
        after = self._before("make_folders")
        self._disk.make_folders()
        self._after(after)

    def _before(self, verb: str) -> str:
        how = self._world.step(self._who)
        # A share that is gone is gone for those who reach it over the network; the agent stands beside its own disk.
        if not self._disk.reachable and (self._who.startswith("host") or self._stale):
            raise Unavailable("no route")
        if how == "fail" or self._world.strikes(f"failed {verb}", self._world.options.op_fault):
            raise Unavailable(f"{verb} failed")
        return how

    def _after(self, how: str) -> None:
        if how == "unknown" or self._world.strikes("unknown outcome", self._world.options.op_unknown):
            raise Unavailable("the answer was lost")

    def _room(self, path: str) -> None:
        if self._disk.full:
            self._world.fired["disk full"] += 1
            raise Unavailable(f"{path}: disk full")


def attempts_in(disk: Disk, folder: str) -> set[str]:
    """The attempts that have a file in `inbox/` or `outbox/`."""
    known = (attempt_of(path.partition("/")[2]) for path in disk.files if path.startswith(folder + "/"))
    return {found[0] for found in known if found is not None}
