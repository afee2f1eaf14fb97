"""How the workers are reached that join while a host runs: their shares, and what notifies of changes there.

Owns: the order in which the parts of a host learn of a worker, and forget it.
Not here: which workers join (`membership`, `site_workers`), those that are there from the start (`wiring`). Machines
that this host starts cannot join.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.protocol.layout import OUTBOX
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.folder_watcher import FolderWatcher
from pipeline.config import Config, WorkerTable
from pipeline.core.queues import Queues
from pipeline.host.poll_schedule import PollSchedule, WatchedFolder
from pipeline.host.wakeups import Wakeups
from pipeline.machines.connections import smb_access
from pipeline.machines.sites.interface import ConnectedSite
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ExecuteRequest
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbSession


class OpenShare(ShareFiles, Protocol):
    """The files of a share, on a connection that is closed."""

    def close(self) -> None:
        """Closes the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLinks:
    """Connects a host with workers, and disconnects it. All methods belong to the thread of the control loop."""

    root: Path
    client: Callable[[str, ShareFiles], ExecuteRequest]  #: makes what executes the requests to a worker's share
    shares: dict[str, OpenShare]  #: by worker, those of `smb` included
    smb: dict[str, SmbFiles]
    executor: ShareExecutor
    folder_watcher: FolderWatcher
    poll_schedule: PollSchedule
    queues: Queues
    wakeups: Wakeups

    def can_connect(self, worker: str) -> bool:
        """Whether nothing is left of a worker of this name that was disconnected."""
        return worker not in self.shares

    def connect(self, config: Config, table: WorkerTable) -> None:
        """Makes the share of a worker known to the host; nothing is sent to it yet."""
        name = table.name
        if table.unc is None:
            folder = self.root / table.place
            files: OpenShare = LocalFiles(folder)
            self.folder_watcher.add(name, folder / OUTBOX)
            self.poll_schedule.add(name, WatchedFolder(self.folder_watcher, name))
        else:
            files = smb = SmbFiles(SmbSession(smb_access(config, table, self.root)), partial(self.wakeups.notify, name))
            self.smb[name] = smb
            self.poll_schedule.add(name, smb)
        self.shares[name] = files
        self.queues.depth[name] = table.queue_depth
        self.executor.add(name, self.client(name, files))

    def connect_site(self, site: ConnectedSite, queue_depth: int) -> None:
        """Makes the shares of a site's workers known to the host; nothing is sent to them yet."""
        for name in site.workers:
            self.poll_schedule.add(name, site)
            self.queues.depth[name] = queue_depth
            self.executor.add(name, site.execute)

    def disconnect(self, worker: str) -> None:
        """Makes the host forget a worker, whose last request may still be in progress."""
        self.poll_schedule.remove(worker)
        if worker not in self.smb:
            self.folder_watcher.remove(worker)

        def close() -> None:
            self.smb.pop(worker, None)
            self.shares.pop(worker).close()

        self.executor.remove(worker, close)

    def close(self) -> None:
        """Stops the notifications and requests, and closes every share, also if one of them fails."""
        with ExitStack() as closing:
            for files in self.shares.values():
                closing.callback(files.close)
            closing.callback(self.executor.close)
            closing.callback(self.folder_watcher.close)
