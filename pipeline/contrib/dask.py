"""The workers of a Dask cluster as computers with agents: `open_farm(root, sites=DaskSites(client))`. Imports Dask."""

from pipeline.machines.sites.dask_sites import DaskSites

__all__ = ["DaskSites"]
