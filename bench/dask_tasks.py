"""dask.distributed: a local cluster of two processes with one thread each, one task per genome, mapped in one call."""

import os
import time

from bench.games import lay_out, played_at


def measure(folder: str, count: int) -> dict[str, float]:
    """Tasks per second, from the end of the first game to the last result at the client."""
    os.environ["DASK_TEMPORARY_DIRECTORY"] = folder
    from distributed import Client, LocalCluster

    warm, paths = lay_out(folder, "nap 0.02", 50), lay_out(folder, "noop 0", count)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
        ) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(played_at, warm, pure=False))
        ends = client.gather(client.map(played_at, paths, pure=False))
        return {"rate": (count - 1) / (time.monotonic() - min(ends))}
