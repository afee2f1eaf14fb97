"""Taking a share over: the one explicit way to another farm's share (law 7). Everything published there is removed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import ShareError, ShareFiles
from inbox_agent.protocol.layout import INBOX, HostRecord, Kind
from pipeline.config import Config
from pipeline.core.facts import EpochRaised
from pipeline.core.farm import Farm
from pipeline.errors import InputError, TakeOverError
from pipeline.host.control_loop import ControlLoop
from pipeline.host.host import Host
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import has_ledger


def take_over(root: Path, config: Config, worker: str) -> str:
    """Makes a configured worker's share this farm's; returns what was done in one line.

    Raises:
        InputError: no such worker.
        TakeOverError: the share cannot be reached.
        ProjectBusyError: this farm is running.
    """
    if worker not in config.worker_names():
        raise InputError(f"{worker}: no worker of that name; there are {', '.join(config.worker_names()) or 'none'}")
    with Host(root, config, root) as host:
        host.load(generation=0)
        if worker in config.local_names():
            host.local_workers.prepare()  # a folder of this project, which somebody deleted; a mount is not made anew
        try:
            return take_share(host, host.share(worker), worker)
        except ShareError as error:
            raise TakeOverError(f"{worker}: its share cannot be taken over: {error}") from error


class _LoopOwner(Protocol):
    """Who has a farm and its ledger in hand."""

    @property
    def farm(self) -> Farm: ...

    @property
    def loop(self) -> ControlLoop: ...


def take_share(host: _LoopOwner, files: ShareFiles, worker: str) -> str:
    """Takes one share over, whosever it is; raises ShareError."""
    files.make_folders()
    names = files.names(INBOX)
    on_share = max((epoch for name in names if (epoch := layout.epoch_of(name))), default=0)
    epoch = 1 + max(on_share, host.farm.worker(worker).epoch)
    # Recorded before it is published, like every epoch; if this ends in between, the command is given again.
    host.loop.record([EpochRaised(worker=worker, epoch=epoch, reason="taken over by command")])
    record = HostRecord(farm=host.farm.farm_id, worker=worker, epoch=epoch)
    files.publish(f"{INBOX}/{layout.host_name(epoch)}", layout.encode(record), durable=True)
    found = [known for name in names if (known := layout.attempt_of(name)) is not None]
    for kind in (Kind.START, Kind.GENOME):  # records first, then what they speak for
        files.remove(f"{INBOX}/{kind.of(attempt)}" for attempt, kind_found in found if kind_found is kind)
    starts = sum(kind is Kind.START for _attempt, kind in found)
    return f"{worker}: the share is this farm's now, epoch {epoch}; {starts} start signals were removed"


def start_new_epochs(root: Path, config: Config, workers: Iterable[str]) -> None:
    """Begins new epochs for the shares of these workers; nothing is done where nothing was ever run (law 7).

    Without it the next host would take such a share for one that is not mounted, and wait (law 4).

    Raises:
        ProjectBusyError: this farm is running; it takes machines back by itself.
    """
    if not has_ledger(ProjectPaths(root).state):
        return
    with Host(root, config, root) as host:
        host.load(generation=0)
        known = [host.farm.worker(name) for name in workers]
        # Too many epochs do no harm, so it is recorded first: whatever becomes of the machine, the share is looked at.
        host.loop.record(
            [
                EpochRaised(worker=worker.name, epoch=worker.epoch + 1, reason="its machine was taken back by hand")
                for worker in known
                if worker.epoch
            ]
        )
