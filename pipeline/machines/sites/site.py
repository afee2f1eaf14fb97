"""A site: the shares and agents of one farm in one process of a cluster, on that computer's disk.

Owns: which process is the site, and that no two agents play one share. It knows nothing of the cluster.
Not here: what a message may contain (`messages`), which requests are due (the host).
Threads: any may call. One request at a time is executed on a share; another one waits for a short time.
"""

import contextlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from inbox_agent.arguments import LOCK
from inbox_agent.protocol.layout import ANSWERS, OUTBOX, is_artifact, is_attempt
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.file_lock import FileLock
from inbox_agent.system.folder_watcher import FolderWatcher
from pipeline.core.facts import RecoveryAction
from pipeline.core.requests import MachineAction, ScanRequest, ShareAction
from pipeline.machines.local_workers import AgentProcesses, LocalWorkers
from pipeline.machines.sites.content_store import ContentStore
from pipeline.machines.sites.leftover_agents import end_leftovers
from pipeline.machines.sites.messages import (
    CHUNK_BYTES,
    Answer,
    AwaitChanges,
    Chunk,
    Execute,
    Executed,
    FetchChunk,
    Lacks,
    OpenSite,
    Refused,
    RunAgent,
    SiteChanges,
    SiteDone,
    StoreChunk,
    unknown_scan,
)
from pipeline.paths import SitePaths
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.share_client import ShareClient, ShareResponse

TURN_LIMIT_S = 2.0  #: for a request to a share to wait for the one before it
_UNLIMITED_BYTES = 2**53
_BUSY = "its site still executes an earlier request"
_NO_SUCH_WORKER = Refused(reason="no such worker", is_final=True)


class Site:
    """The open site of a farm.

    Raises:
        AlreadyLocked: another process is this site.
        AgentStays: an agent that another process has left behind cannot be ended.
        HostError, OSError: its disk refuses.
    """

    def __init__(self, folder: Path, settings: OpenSite) -> None:
        self.folder, self.settings = folder, settings
        self._paths = SitePaths(folder)
        self._changed = threading.Condition()
        self._changes = 0
        self._result_at: dict[str, int] = {}  #: worker -> the change that was its last new result
        self._restores: Counter[str] = Counter()
        self._rearming = threading.Lock()
        self._turns = {name: threading.Lock() for name in settings.workers}
        with contextlib.ExitStack() as opening:
            opening.callback(FileLock(self._paths.lock).release)
            project = self._paths.project
            end_leftovers([project.agent_state(name) / LOCK for name in settings.workers])
            self._store = ContentStore(self._paths.store)
            shutil.rmtree(project.incoming, ignore_errors=True)
            self._agents = LocalWorkers(_agents(settings), project, folder, on_exit=self._note_change)
            opening.callback(self._agents.close)
            self._agents.prepare()
            self._shares = {name: self._share(name, opening) for name in settings.workers}
            outboxes = {name: share / OUTBOX for name, share in self._agents.shares.items()}
            self._watcher = FolderWatcher(outboxes, self._note_result, suffixes=ANSWERS)
            opening.callback(self._watcher.close)
            self._closing = opening.pop_all()

    def execute(self, message: Execute) -> Answer:
        """Executes a request, if all contents that it refers to are here."""
        request = message.scan or message.action
        if request is None or request.worker not in self._shares:
            return _NO_SUCH_WORKER
        for sha256, data in message.contents.items():
            self._store.put(sha256, data)
        if isinstance(request, ShareAction) and (lacks := self._lacks(request)):
            return Lacks(digests=frozenset(lacks))
        with self._turn(request.worker) as is_free:
            if not is_free:
                unknown = unknown_scan(request, _BUSY)
                return Executed(response=ShareResponse(worker=request.worker, error=_BUSY, scan=unknown))
            if isinstance(request, ScanRequest):  # the host has what the last scan has collected, or asks again
                shutil.rmtree(self._paths.project.incoming / request.worker, ignore_errors=True)
            response = self._shares[request.worker].execute(request)
        self._rearm()
        return Executed(response=response)

    def store(self, message: StoreChunk) -> Answer:
        """Stores a part of a genome or an archive."""
        self._store.put_part(message.sha256, message.offset, message.total_bytes, message.data)
        return SiteDone()

    def fetch(self, message: FetchChunk) -> Answer:
        """A part of an artifact that the last scan has collected."""
        if message.worker not in self._shares or not is_attempt(message.attempt) or not is_artifact(message.name):
            return Refused(reason="no such artifact", is_final=True)
        try:
            with (self._paths.project.incoming / message.worker / message.attempt / message.name).open("rb") as file:
                file.seek(message.offset)
                return Chunk(data=file.read(CHUNK_BYTES))
        except FileNotFoundError:
            return Refused(reason=f"{message.name} of {message.attempt} is not there any more")

    def run_agent(self, message: RunAgent) -> Answer:
        """Performs an action on an agent; an error shows in its state."""
        if message.worker not in self._shares:
            return _NO_SUCH_WORKER
        with self._turn(message.worker) as is_free:
            if not is_free:
                return Refused(reason=_BUSY)
            if message.recovery is RecoveryAction.RESTORE:
                self._restores[message.worker] += 1
            self._agents.execute(MachineAction(message.worker, message.recovery))
        self._note_change()
        return SiteDone()

    def watch(self, message: AwaitChanges) -> Answer:
        """Waits for a change after that number, and returns what there is."""
        self._rearm()
        with self._changed:
            self._changed.wait_for(lambda: self._changes != message.after, message.timeout_s)
            changes = self._changes
            results = frozenset(name for name, number in self._result_at.items() if number > message.after)
        return SiteChanges(
            changes=changes, results=results, machines=self._agents.status(), restores=dict(self._restores)
        )

    def close(self) -> None:
        """Ends the agents."""
        self._closing.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _share(self, name: str, opening: contextlib.ExitStack) -> ShareClient:
        project = self._paths.project
        files = LocalFiles(self._agents.shares[name])
        opening.callback(files.close)
        # The artifacts of a generation are counted by the host.
        sums = {"worker_artifact_bytes_max": _UNLIMITED_BYTES, "generation_artifact_bytes_max": _UNLIMITED_BYTES}
        room = ArtifactRoom(msgspec.structs.replace(self.settings.limits, **sums), (self.folder,))

        def genome(sha256: str, _name: str) -> Path:
            return self._store.path(sha256)

        incoming = project.incoming / name
        return ShareClient(name, self.settings.farm, files, incoming, genome, room, archive=self._store.path)

    def _rearm(self) -> None:
        """Watches folders that are not watched yet. The watcher is for one thread at a time."""
        if self._rearming.acquire(blocking=False):
            try:
                self._watcher.rearm()
            finally:
                self._rearming.release()

    def _lacks(self, action: ShareAction) -> list[str]:
        asked = {start.genome_sha256 for start in action.publish}
        asked |= {action.deploy.record.archive_sha256} if action.deploy is not None else set()
        return [sha256 for sha256 in asked if not self._store.has(sha256)]

    @contextlib.contextmanager
    def _turn(self, worker: str) -> Iterator[bool]:
        """Whether nothing else is done on a share during the block."""
        is_free = self._turns[worker].acquire(timeout=TURN_LIMIT_S)
        try:
            yield is_free
        finally:
            if is_free:
                self._turns[worker].release()

    def _note_result(self, worker: str) -> None:
        with self._changed:
            self._changes += 1
            self._result_at[worker] = self._changes
            self._changed.notify_all()

    def _note_change(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()


def _agents(settings: OpenSite) -> AgentProcesses:
    """Agents that wait for the evaluator that the host deploys to them."""
    environment = {name: value for name, value in os.environ.items() if name not in settings.hidden_variables}
    return AgentProcesses(
        names=settings.workers,
        settings={
            "evaluator": {"environment": msgspec.to_builtins(settings.environment)},
            "accept_evaluators": True,
        },
        environment=environment,
        beat_s=settings.limits.silence_limit_s / 6,
        options=("--host-elsewhere",),
    )
