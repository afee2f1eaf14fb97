"""Take-over: the only way to use another farm's share (law 7 of share_layout.md). Removes what is published there."""

from collections.abc import Iterable
from pathlib import Path

from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import archive_name, deployment_of, record_name
from inbox_agent.protocol.files import ShareError, ShareFiles
from inbox_agent.protocol.layout import INBOX, HostRecord, Kind
from inbox_agent.protocol.readers import newest_epoch
from pipeline.config import Config
from pipeline.core.facts import EpochRaised
from pipeline.errors import InputError, TakeOverError
from pipeline.host.control_loop import ControlLoop
from pipeline.host.host import Host
from pipeline.paths import ProjectPaths
from pipeline.shares.share_client import ENTRIES_MAX
from pipeline.storage.ledger import has_ledger


def take_over(root: Path, config: Config, worker: str) -> str:
    """Takes a configured worker's share over for this farm; returns one line that says what was done.

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
            host.local_workers.prepare()  # recreates a deleted folder of this project; a mount is not recreated
        try:
            return take_share(host.loop, host.share(worker), worker)
        except ShareError as error:
            reason = f"{error}; what was removed there stays removed, and the same command goes on with the rest"
            raise TakeOverError(f"{worker}: its share cannot be taken over: {reason}") from error


def take_share(loop: ControlLoop, files: ShareFiles, worker: str) -> str:
    """Takes one share over, also from another farm. Raises ShareError."""
    files.make_folders()
    names = files.names(INBOX, ENTRIES_MAX)
    epoch = 1 + max(newest_epoch(names), loop.farm.worker(worker).epoch)
    # Recorded before it is published, like every epoch; after a crash in between, repeat the command.
    loop.record([EpochRaised(worker=worker, epoch=epoch, reason="taken over by command")])
    record = HostRecord(farm=loop.farm.farm_id, worker=worker, epoch=epoch)
    files.publish(f"{INBOX}/{layout.host_name(epoch)}", layout.encode(record), durable=True)
    found = [known for name in names if (known := layout.attempt_of(name)) is not None]
    for kind in (Kind.START, Kind.GENOME):  # records first, then the payloads they refer to
        files.remove(f"{INBOX}/{kind.of(attempt)}" for attempt, kind_found in found if kind_found is kind)
    deployed = {number for name in names if (number := deployment_of(name)) is not None}
    for name_of in (record_name, archive_name):  # of the farm that had the share before
        files.remove(f"{INBOX}/{name_of(number)}" for number in deployed)
    starts = sum(kind is Kind.START for _attempt, kind in found)
    return f"{worker}: the share is this farm's now, epoch {epoch}; {starts} start signals were removed"


def start_new_epochs(root: Path, config: Config, workers: Iterable[str]) -> None:
    """Begins new epochs for the shares of these workers (law 7 of share_layout.md). Does nothing without a ledger.

    Otherwise the next host would treat such a share as not mounted, and wait (law 4 of share_layout.md).

    Raises:
        ProjectBusyError: this farm is running; it restores machines itself.
    """
    if not has_ledger(ProjectPaths(root).state):
        return
    with Host(root, config, root) as host:
        host.load(generation=0)
        known = [host.farm.worker(name) for name in workers]
        # Recorded before the machine is reverted, also if that fails then: a needless epoch is harmless.
        host.loop.record(
            [
                EpochRaised(worker=worker.name, epoch=worker.epoch + 1, reason="its machine was taken back by hand")
                for worker in known
                if worker.epoch
            ]
        )
