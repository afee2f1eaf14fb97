"""dask.distributed: a local cluster of two processes with one thread each, one task per genome, mapped in one call."""

import os

from bench.games import played_at
from bench.tasks import WORKERS, lay_out_all, measured


def measure(folder: str, count: int) -> dict[str, float]:
    """The figures of tasks."""
    os.environ["DASK_TEMPORARY_DIRECTORY"] = folder
    from distributed import Client, LocalCluster

    warm, paths = lay_out_all(folder, count)
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
        ) as cluster,
        Client(cluster) as client,
    ):

        def play_all(paths: list[str]) -> list[float]:
            ends: list[float] = client.gather(client.map(played_at, paths, pure=False))
            return ends

        play_all(warm)
        return measured(play_all, paths)
