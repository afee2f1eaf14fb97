"""The workers on sites of a project, for commands that look on: only the ledger knows them.

Not here: the workers of `pipeline.toml`.
"""

from contextlib import closing

from pipeline.core.facts import WorkerJoined, WorkerLeft
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger, has_ledger


def read_site_workers(paths: ProjectPaths) -> dict[str, str]:
    """The names, and those of their sites; none before the first run. Raises LedgerError, InputError as `Ledger`."""
    if not has_ledger(paths.state):
        return {}
    with closing(Ledger(paths.state, read_only=True)) as ledger:
        return site_of_workers(ledger)


def site_of_workers(ledger: Ledger) -> dict[str, str]:
    """The workers on sites that a ledger names, and their sites."""
    site_of: dict[str, str] = {}
    for entry in ledger.entries_of_shares():
        match entry.fact:
            case WorkerJoined(worker=worker, site=site):
                site_of[worker] = site
            case WorkerLeft(worker=worker):
                site_of.pop(worker, None)
    return {worker: site for worker, site in site_of.items() if site}
