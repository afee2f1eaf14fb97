"""Disks and the ways to them: one share's files, as host and agent see them, with faults on every single operation."""

import copy
import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from inbox_agent.protocol.files import FileAlreadyExists, FileMissing, OneByOne, ShareFull, Unavailable
from inbox_agent.protocol.layout import INBOX, Kind, attempt_of, epoch_of
from tests.fakes.memory_files import MemoryFiles
from tests.simulator.world import World

STALE_LISTING_S, NEGATIVE_LOOKUP_S = 10.0, 5.0  # of Windows' redirector, by default


@dataclass
class ShareHistory:
    """What this history of a share has seen, whether or not its files are still there. Sets of attempts."""

    published: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    played: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)


DiskState = tuple[dict[str, bytes], set[str], ShareHistory]


class SimulatedDisk(MemoryFiles):
    """The truth about one share: what is on its disk, what of it would outlive a power cut, and older states of it."""

    def __init__(self) -> None:
        super().__init__()
        self.unflushed: set[str] = set()  #: files whose content a power cut may take
        self.unjournaled: set[str] = set()  #: … and their names with it
        self.story = ShareHistory()
        self.playing: dict[str, object] = {}  #: attempt -> who plays it now
        self.reachable = True  #: over the network
        self.served = True  #: … by the computer that it is in
        self.full = False

    def __deepcopy__(self, _memo: object) -> "SimulatedDisk":
        return self

    def owner(self) -> tuple[str, str, int] | None:
        """Farm, worker and epoch of the newest `host.json`; None if there is none, or it cannot be read."""
        epochs = {epoch: path for path in self.files if (epoch := epoch_of(path.partition("/")[2]))}
        try:
            record = orjson.loads(self.files[epochs[max(epochs)]])
        except ValueError:  # none, or a torn one
            return None
        return record["farm"], record["worker"], record["epoch"]

    def state(self) -> DiskState:
        """A state that the disk may go back to."""
        return dict(self.files), set(self.folders), copy.deepcopy(self.story)

    def load_state(self, state: DiskState) -> None:
        """Goes back to an older state; whatever was written since never was."""
        files, folders, story = state
        self.files, self.folders, self.story = dict(files), set(folders), copy.deepcopy(story)
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
            if chance < 0.5 and (known := attempt_of(path.partition("/")[2])) is not None:
                self.story.answered.discard(known[0])
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


class FaultyFiles(OneByOne):
    """`ShareFiles` for one process: a disk, through everything that can go wrong on the way.

    `remote` is whoever reaches the share over a network; `stale` whoever does so with a caching client, as an agent on
    Windows does whose share lies on another machine.
    """

    def __init__(
        self, world: World, disk: Callable[[], SimulatedDisk], who: str, *, remote: bool = False, stale: bool = False
    ) -> None:
        self._world, self._where, self._who = world, disk, who
        self._remote, self._stale = remote, stale
        self._listings: deque[tuple[float, list[str]]] = deque(maxlen=8)  #: of `inbox/`, from this side
        self._missed: dict[str, float] = {}
        self.landed: dict[Path, bytes] = {}  #: what was fetched to this machine's own disk
        self.on_arrival: Callable[[str], None] = lambda _path: None
        self.beats_at: deque[float] = deque([-1e9] * 3, maxlen=3)  #: when the heartbeat was written through here
        self.beaten_at = -1e9  #: … last, by a fair clock

    @property
    def _disk(self) -> SimulatedDisk:
        return self._where()

    def names(self, folder: str) -> list[str]:
        after = self._before("names")
        if self._stale and folder == INBOX:
            # Any state of the last ten seconds, also one that an earlier listing had left behind already.
            young = [names for at, names in self._listings if self._world.now - at < STALE_LISTING_S]
            if young and self._world.strikes("stale listing", 0.5):
                return list(self._world.dice.choice(young))
        names = self._disk.names(folder)
        if self._stale and folder == INBOX:
            self._listings.append((self._world.now, names))
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
            raise FileMissing(path)
        try:
            data = self._disk.read(path, bytes_max)
        except FileMissing:
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
            raise FileAlreadyExists(path)
        # A compound is not all-or-nothing: the write failed, the rename did not (law 3).
        if self._remote and self._torn("torn record", after):
            self._disk.publish(path, b"")
            self._tell(path)
            self._half_claimed(path, "nobody can tell")
            raise Unavailable(f"{path}: torn")
        self._room(path, after)
        self._disk.publish(path, data)
        self._tell(path)
        self._disk.note(path, durable=durable)
        self.on_arrival(path)
        try:
            self._after(after)
        except Unavailable:
            self._half_claimed(path, orjson.loads(data).get("run_id", ""))
            raise

    def replace(self, path: str, data: bytes) -> None:
        after = self._before("replace")
        self._room(path, after)
        self._disk.replace(path, data)
        self.beats_at.append(self._world.now)
        self.beaten_at = self._world.now + self._world.fair_skew_s
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
        world, options = self._world, self._world.options
        how = world.step(self._who)
        if options.slow and world.strikes("slow operation", options.slow):
            world.now += world.dice.uniform(0.5, 8)
        # A share that is gone is gone for those who reach it over the network; an agent stands beside its own disk.
        if self._remote and not ((disk := self._disk).reachable and disk.served):
            raise Unavailable("no route")
        if how == "fail" or (options.op_fault and world.strikes(f"failed {verb}", options.op_fault)):
            raise Unavailable(f"{verb} failed")
        return how

    def _after(self, how: str) -> None:
        if self._is(how, "unknown") or self._world.strikes("unknown outcome", self._world.options.op_unknown):
            raise Unavailable("the answer was lost")

    def _half_claimed(self, path: str, who: str) -> None:
        known = attempt_of(path.partition("/")[2])
        if known is not None and known[1] is Kind.STARTED:
            self._world.half_claimed[known[0]] = who

    def _is(self, how: str, this: str) -> bool:
        """Whether the one operation that was to fail is this one, and fails in this way."""
        if how == this:
            self._world.struck = True
        return how == this

    def _tell(self, path: str) -> None:
        known = attempt_of(path.partition("/")[2])
        if known is None:
            return
        attempt, kind = known
        story = self._disk.story
        if kind is Kind.START:
            if attempt in story.published:
                self._world.breach(f"{attempt} was published a second time")
            story.published.add(attempt)
        elif kind is Kind.STARTED:
            story.claimed.add(attempt)
        elif kind is Kind.RESULT:
            story.answered.add(attempt)

    def _torn(self, kind: str, how: str) -> bool:
        return self._is(how, "torn") or self._world.strikes(kind, self._world.options.torn)

    def _room(self, path: str, how: str) -> None:
        if self._disk.full or self._is(how, "full"):
            self._world.fired["disk full"] += 1
            raise ShareFull(f"{path}: disk full")


def attempts_in(disk: SimulatedDisk, folder: str) -> set[str]:
    """The attempts that have a file in `inbox/` or `outbox/`."""
    return {attempt for path in disk.files if path.startswith(folder + "/") and (attempt := attempt_in(path))}


def attempt_in(path: str) -> str:
    """The attempt in a path; empty if it is not a file of one."""
    known = attempt_of(path.partition("/")[2])
    return known[0] if known is not None else ""
