"""The sites of `[sites]` in `pipeline.toml`. Dask is imported only here, where it is asked for."""

from typing import TYPE_CHECKING

from pipeline.config.sites_table import SitesTable
from pipeline.errors import MissingExtraError

if TYPE_CHECKING:
    from pipeline.machines.sites.dask_sites import DaskSites


def sites_of_table(table: SitesTable) -> "DaskSites":
    """The sites, not yet looked for. Raises MissingExtraError: the extra `dask` is not installed."""
    try:
        from pipeline.machines.sites.dask_sites import DaskSites
    except ImportError as error:
        raise MissingExtraError(f'{error}; [sites] needs the extra: pip install "genome-pipeline[dask]"') from error
    return DaskSites(
        table.cluster,
        agents_per_site=table.agents_per_site,
        queue_depth=table.queue_depth,
        sites_min=table.sites_min,
        folder=table.folder,
    )
