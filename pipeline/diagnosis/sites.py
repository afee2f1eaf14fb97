"""`pipeline doctor` for `[sites]`: whether the cluster answers, and whether each of its workers could be a site.

Not here: their shares and agents, which only a running host has; `pipeline status` shows them.
"""

import contextlib
from collections.abc import Iterator

from inbox_agent.checks import CheckResult
from pipeline.config import Config
from pipeline.errors import InputError, LedgerError, MissingExtraError
from pipeline.machines.sites.of_table import sites_of_table
from pipeline.paths import ProjectPaths
from pipeline.storage.site_workers import read_site_workers


def check_sites(config: Config, paths: ProjectPaths) -> Iterator[CheckResult]:
    """One result for each Dask worker; none without `[sites]`."""
    if config.sites is None:
        return
    try:
        sites = sites_of_table(config.sites)
    except MissingExtraError as error:
        yield CheckResult("[sites]", False, str(error))
        return
    known: set[str] = set()
    with contextlib.suppress(LedgerError, InputError):  # `pipeline run` says it
        known |= {*read_site_workers(paths).values()}
    for finding in sites.examine(config.worker_names(), known):
        yield CheckResult(finding.item, finding.ok, finding.found, finding.fix)
