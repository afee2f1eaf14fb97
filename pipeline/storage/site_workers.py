"""The workers on sites of a project, for commands that look on: only the ledger knows them.

Not here: the workers of `pipeline.toml`.
"""

from contextlib import closing

from pipeline.core.facts import WorkerJoined, WorkerLeft
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger, has_ledger


def read_site_workers(paths: ProjectPaths) -> dict[str, str]:
    """Their names, with the names of their sites. Raises LedgerError, InputError as `Ledger`."""
    if not has_ledger(paths.state):
        return {}
    site_of: dict[str, str] = {}
    with closing(Ledger(paths.state, read_only=True)) as ledger:
        for entry in ledger.entries_of_shares():
            match entry.fact:
                case WorkerJoined(worker=worker, site=site):
                    site_of[worker] = site
                case WorkerLeft(worker=worker):
                    site_of.pop(worker, None)
    return {worker: site for worker, site in site_of.items() if site}
