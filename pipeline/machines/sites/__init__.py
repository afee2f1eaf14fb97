"""Sites: processes of a cluster that keep shares on their own disks and run agents; the host's requests travel to them.

Owns: what travels between host and sites, and when a site is *unknown*. Not here: which requests are due
(`pipeline.core`), executing one on a share (`pipeline.shares`).
Only `dask`, `dask_cluster` and `dask_plugin` import Dask.
"""
