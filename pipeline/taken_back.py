"""A machine that is taken back by hand: its share may be what it was once, or empty, and the ledger is told before."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.config import Config
from pipeline.core.facts import EpochRaised
from pipeline.host import Host
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import has_ledger


def expect_taken_back(root: Path, config: Config, workers: Iterable[str]) -> None:
    """Begins new epochs for the shares of these workers; nothing is done where nothing was ever run (law 7).

    Without it the next host would take such a share for one that is not mounted, and wait (law 4).

    Raises:
        ProjectBusyError: this farm is running; it takes machines back by itself.
    """
    if not has_ledger(ProjectPaths(root).state):
        return
    with Host(root, config, root) as host:
        host.remember(generation=0)
        known = [host.farm.worker(name) for name in workers]
        # Too many epochs do no harm, so it is recorded first: whatever becomes of the machine, the share is looked at.
        host.loop.record(
            [
                EpochRaised(worker=worker.name, epoch=worker.epoch + 1, reason="its machine was taken back by hand")
                for worker in known
                if worker.epoch
            ]
        )
