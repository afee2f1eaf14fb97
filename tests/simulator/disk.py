"""Disks and access to them: one share's files as host and agent see them, with faults at every operation."""

import copy
import hashlib
import sys
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
    """The attempts that had files on a share since its last revert, whether or not the files still exist."""

    published: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    played: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)


DiskState = tuple[dict[str, bytes], set[str], ShareHistory]


class SimulatedDisk(MemoryFiles):
    """The content of one share, what of it would survive a power loss, and what was played on it."""

    def __init__(self) -> None:
        super().__init__()
        self.unflushed: set[str] = set()  #: files whose content a power loss may destroy
        self.unjournaled: set[str] = set()  #: … and whose names it may remove
        self.history = ShareHistory()
        self.playing: dict[str, object] = {}  #: attempt -> the machine that plays it now
        self.reachable = True  #: whether hosts reach it over the network
        self.served = True  #: whether its machine serves it
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
        """A copy of the state, for a later revert."""
        return dict(self.files), set(self.folders), copy.deepcopy(self.history)

    def load_state(self, state: DiskState) -> None:
        """Reverts to an older state; later writes are undone."""
        files, folders, history = state
        self.files, self.folders, self.history = dict(files), set(folders), copy.deepcopy(history)
        self.unflushed.clear()
        self.unjournaled.clear()

    def lose_power(self, world: World) -> None:
        """Removes, empties or zeroes some of the files that were never flushed.

        The journal of NTFS and ext4 keeps the order of names: flushing one file makes every earlier name durable.
        """
        for path in sorted(self.unflushed & self.files.keys()):
            draw = world.rng.random()
            if draw < 0.3 and path in self.unjournaled:
                del self.files[path]
                if path.endswith(Kind.STARTED.value):  # a local agent's: no process can know that it was played
                    for memory in (self.history.claimed, self.history.played):
                        memory.discard(path.partition("/")[2].removesuffix(Kind.STARTED.value))
            elif draw < 0.4:
                self.files[path] = b""
            elif draw < 0.5:
                self.files[path] = bytes(len(self.files[path]))
            if draw < 0.5 and (known := attempt_of(path.partition("/")[2])) is not None:
                self.history.answered.discard(known[0])
        self.unflushed.clear()
        self.unjournaled.clear()

    def note(self, path: str, *, durable: bool) -> None:
        """Records that a file was created."""
        if durable:
            self.unflushed.discard(path)
            self.unjournaled.clear()
        else:
            self.unflushed.add(path)
            self.unjournaled.add(path)


class FaultyFiles(OneByOne):
    """`ShareFiles` of one process: a disk, with faults at every operation.

    `remote`: the process reaches the share over a network. `stale`: it does so with a caching client, like an agent on
    Windows whose share is on another machine.
    """

    def __init__(
        self,
        world: World,
        disk: Callable[[], SimulatedDisk],
        process: str,
        *,
        remote: bool = False,
        stale: bool = False,
    ) -> None:
        self._world, self._get_disk, self._process = world, disk, process
        self._remote, self._stale = remote, stale
        self._listings: deque[tuple[float, list[str]]] = deque(
            maxlen=8
        )  #: earlier listings of `inbox/` by this process
        self._missed: dict[str, float] = {}
        self.fetched: dict[Path, bytes] = {}  #: files that were fetched to the local disk
        self.on_publish: Callable[[str], None] = lambda _path: None
        self.heartbeats_at: deque[float] = deque([-1e9] * 3, maxlen=3)  #: when this process wrote its last heartbeats
        self.last_heartbeat_at = -1e9  #: … the last one, by the fair clock

    @property
    def _disk(self) -> SimulatedDisk:
        return self._get_disk()

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        failure = self._before("names")
        if self._stale and folder == INBOX:
            # Any state of the last ten seconds, also an older one than the previous listing showed.
            recent = [names for at, names in self._listings if self._world.now - at < STALE_LISTING_S]
            if recent and self._world.draw_fault("stale listing", 0.5):
                return list(self._world.rng.choice(recent))
        names = self._disk.names(folder, entries_max)
        if self._stale and folder == INBOX:
            self._listings.append((self._world.now, names))
        self._after(failure)
        return list(names)

    def size(self, path: str) -> int:
        failure = self._before("size")
        size = self._disk.size(path)
        self._after(failure)
        return size

    def read(self, path: str, bytes_max: int) -> bytes:
        failure = self._before("read")
        missed_recently = self._stale and self._world.now - self._missed.get(path, -1e9) < NEGATIVE_LOOKUP_S
        if missed_recently and path in self._disk.files and self._world.draw_fault("negative lookup", 0.5):
            raise FileMissing(path)
        try:
            data = self._disk.read(path, bytes_max)
        except FileMissing:
            self._missed[path] = self._world.now
            raise
        self._after(failure)
        return data

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        data = self.read(path, bytes_max)
        self.fetched[destination] = data
        return hashlib.sha256(data).hexdigest()

    def write(self, path: str, source: bytes | Path) -> None:
        failure = self._before("write")
        data = source if isinstance(source, bytes) else self.fetched.get(source) or source.read_bytes()
        if self._torn("torn payload", failure):
            self._disk.write(path, data[: len(data) // 2])
            raise Unavailable(f"{path}: torn")
        self._require_space(path, failure)
        self._disk.write(path, data)
        self._disk.note(path, durable=False)
        self._after(failure)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        failure = self._before("publish")
        if path in self._disk.files:
            raise FileAlreadyExists(path)
        # A compound request is not atomic: the write failed, the rename did not (law 3).
        if self._remote and self._torn("torn record", failure):
            self._disk.publish(path, b"")
            self._update_history(path)
            self._note_half_claimed(path, "unknown")
            raise Unavailable(f"{path}: torn")
        self._require_space(path, failure)
        self._disk.publish(path, data)
        self._update_history(path)
        self._disk.note(path, durable=durable)
        self.on_publish(path)
        try:
            self._after(failure)
        except Unavailable:
            self._note_half_claimed(path, orjson.loads(data).get("run_id", ""))
            raise

    def replace(self, path: str, data: bytes) -> None:
        failure = self._before("replace")
        self._require_space(path, failure)
        self._disk.replace(path, data)
        self.heartbeats_at.append(self._world.now)
        self.last_heartbeat_at = self._world.now + self._world.fair_skew_s
        self._after(failure)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            failure = self._before("remove")
            self._disk.remove([path])
            self._disk.unflushed.discard(path)
            self._after(failure)

    def make_folders(self) -> None:
        failure = self._before("make_folders")
        self._disk.make_folders()
        self._after(failure)

    def _before(self, verb: str) -> str:
        world, options = self._world, self._world.options
        failure = world.step(self._process)
        if options.slow and world.draw_fault("slow operation", options.slow):
            world.now += world.rng.uniform(0.5, 8)
        # An outage affects processes that reach the share over the network; an agent's own disk stays available.
        if self._remote and not ((disk := self._disk).reachable and disk.served):
            raise Unavailable("no route")
        if failure == "fail" or (options.op_fault and world.draw_fault(f"failed {verb}", options.op_fault)):
            raise Unavailable(f"{verb} failed")
        return failure

    def _after(self, failure: str) -> None:
        if self._is_failure(failure, "unknown") or self._world.draw_fault(
            "unknown outcome", self._world.options.op_unknown
        ):
            raise Unavailable("the answer was lost")

    def _note_half_claimed(self, path: str, run_id: str) -> None:
        known = attempt_of(path.partition("/")[2])
        if known is not None and known[1] is Kind.STARTED:
            self._world.half_claimed[known[0]] = run_id

    def _is_failure(self, failure: str, kind: str) -> bool:
        """Whether this operation has the planned failure, and it is of this kind."""
        if failure == kind:
            self._world.fault_applied = True
        return failure == kind

    def _update_history(self, path: str) -> None:
        known = attempt_of(path.partition("/")[2])
        if known is None:
            return
        attempt, kind = known
        history = self._disk.history
        if kind is Kind.START:
            if attempt in history.published:
                self._world.report_violation(f"{attempt} was published a second time")
            history.published.add(attempt)
        elif kind is Kind.STARTED:
            history.claimed.add(attempt)
        elif kind is Kind.RESULT:
            history.answered.add(attempt)

    def _torn(self, kind: str, failure: str) -> bool:
        return self._is_failure(failure, "torn") or self._world.draw_fault(kind, self._world.options.torn)

    def _require_space(self, path: str, failure: str) -> None:
        if self._disk.full or self._is_failure(failure, "full"):
            self._world.fired["disk full"] += 1
            raise ShareFull(f"{path}: disk full")


def attempts_in(disk: SimulatedDisk, folder: str) -> set[str]:
    """The attempts that have a file in `inbox/` or `outbox/`."""
    return {attempt for path in disk.files if path.startswith(folder + "/") and (attempt := attempt_in(path))}


def attempt_in(path: str) -> str:
    """The attempt in a path; empty if it is not a file of one."""
    known = attempt_of(path.partition("/")[2])
    return known[0] if known is not None else ""
