"""Disks and the ways to them: one share's files, as host and agent see them, with faults on every single operation."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from inbox_agent.share_files import Absent, AlreadyThere, Unavailable
from inbox_agent.share_layout import INBOX, attempt_of
from tests.memory_files import MemoryFiles
from tests.simulator.world import World

STALE_LISTING_S, NEGATIVE_LOOKUP_S = 10.0, 5.0  # of Windows' redirector, by default


class Disk(MemoryFiles):
    """The truth about one share: what is on its disk, what of it would outlive a power cut, and older states of it."""

    def __init__(self) -> None:
        super().__init__()
        self.unflushed: set[str] = set()  #: files whose content a power cut may take
        self.unjournaled: set[str] = set()  #: … and their names with it
        self.played: set[str] = set()  #: attempts whose game was begun in this history of the disk
        self.reachable = True
        self.full = False

    def __deepcopy__(self, _memo: object) -> "Disk":
        return self

    def picture(self) -> tuple[dict[str, bytes], set[str], set[str]]:
        """A state that the disk may go back to."""
        return dict(self.files), set(self.folders), set(self.played)

    def go_back(self, picture: tuple[dict[str, bytes], set[str], set[str]]) -> None:
        """Goes back to an older state; whatever was written since never was."""
        files, folders, played = picture
        self.files, self.folders, self.played = dict(files), set(folders), set(played)
        self.unflushed.clear()
        self.unjournaled.clear()

    def lose_power(self, world: World) -> None:
        """Of what was never flushed, some is gone and some is there without its content, or with zeros in its place.

        The journal of NTFS and ext4 keeps the order of names: whoever flushed one file has kept every earlier name.
        """
        for path in sorted(self.unflushed & self.files.keys()):
            chance = world.dice.random()
            if chance < 0.3 and path in self.unjournaled:
                del self.files[path]
            elif chance < 0.4:
                self.files[path] = b""
            elif chance < 0.5:
                self.files[path] = bytes(len(self.files[path]))
        self.unflushed.clear()
        self.unjournaled.clear()

    def note(self, path: str, *, durable: bool) -> None:
        """A file was made."""
        if durable:
            self.unflushed.discard(path)
            self.unjournaled.clear()
        else:
            self.unflushed.add(path)
            self.unjournaled.add(path)


class Way:
    """`ShareFiles` for one process: a disk, through everything that can go wrong on the way.

    `remote` is whoever reaches the share over a network; `stale` whoever does so with a caching client, as an agent on
    Windows does whose share lies on another machine.
    """

    def __init__(
        self, world: World, disk: Callable[[], Disk], who: str, *, remote: bool = False, stale: bool = False
    ) -> None:
        self._world, self._where, self._who = world, disk, who
        self._remote, self._stale = remote, stale
        self._listings: dict[str, tuple[float, list[str]]] = {}
        self._missed: dict[str, float] = {}
        self.landed: dict[Path, bytes] = {}  #: what was fetched to this machine's own disk
        self.on_arrival: Callable[[str], None] = lambda _path: None

    @property
    def _disk(self) -> Disk:
        return self._where()

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
        missed_lately = self._stale and self._world.now - self._missed.get(path, -1e9) < NEGATIVE_LOOKUP_S
        if missed_lately and path in self._disk.files and self._world.strikes("negative lookup", 0.5):
            raise Absent(path)
        try:
            data = self._disk.read(path, bytes_max)
        except Absent:
            self._missed[path] = self._world.now
            raise
        self._after(after)
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        data = self.read(path, bytes_max)
        self.landed[destination] = data
        return hashlib.sha256(data).hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        after = self._before("write")
        data = source if isinstance(source, bytes) else self.landed.get(source) or source.read_bytes()
        if self._torn("torn payload", after):
            self._disk.write(path, data[: len(data) // 2])
            raise Unavailable(f"{path}: torn")
        self._room(path, after)
        self._disk.write(path, data)
        self._disk.note(path, durable=False)
        self._after(after)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        after = self._before("publish")
        if path in self._disk.files:
            raise AlreadyThere(path)
        # A compound is not all-or-nothing: the write failed, the rename did not (law 3).
        if self._remote and self._torn("torn record", after):
            self._disk.publish(path, b"")
            raise Unavailable(f"{path}: torn")
        self._room(path, after)
        self._disk.publish(path, data)
        self._disk.note(path, durable=durable)
        self.on_arrival(path)
        self._after(after)

    def replace(self, path: str, data: bytes) -> None:
        after = self._before("replace")
        self._room(path, after)
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
        if self._world.strikes("slow operation", self._world.options.slow):
            self._world.now += self._world.dice.uniform(0.5, 8)
        # A share that is gone is gone for those who reach it over the network; an agent stands beside its own disk.
        if not self._disk.reachable and self._remote:
            raise Unavailable("no route")
        if how == "fail" or self._world.strikes(f"failed {verb}", self._world.options.op_fault):
            raise Unavailable(f"{verb} failed")
        return how

    def _after(self, how: str) -> None:
        if how == "unknown" or self._world.strikes("unknown outcome", self._world.options.op_unknown):
            raise Unavailable("the answer was lost")

    def _torn(self, kind: str, how: str) -> bool:
        return how == "torn" or self._world.strikes(kind, self._world.options.torn)

    def _room(self, path: str, how: str) -> None:
        if self._disk.full or how == "full":
            self._world.fired["disk full"] += 1
            raise Unavailable(f"{path}: disk full")


def attempts_in(disk: Disk, folder: str) -> set[str]:
    """The attempts that have a file in `inbox/` or `outbox/`."""
    known = (attempt_of(path.partition("/")[2]) for path in disk.files if path.startswith(folder + "/"))
    return {found[0] for found in known if found is not None}
