"""Ray: two CPUs, one stateless task per genome, all submitted at once."""

import os
import time

from bench.games import lay_out, played_at

STORE_BYTES = 128 * 1024 * 1024
PATH_CHARS_MAX = 40  # Ray puts sockets below its folder, and a socket's path is at most 107 bytes long


def measure(folder: str, count: int) -> dict[str, float]:
    """Tasks per second, from the end of the first game to the last result at the driver."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    warm, paths = lay_out(folder, "nap 0.02", 50), lay_out(folder, "noop 0", count)
    own = {"_temp_dir": f"{folder}/ray"} if len(folder) <= PATH_CHARS_MAX else {}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES, **own)
    try:
        task = ray.remote(played_at)
        ray.get([task.remote(path) for path in warm])
        ends = ray.get([task.remote(path) for path in paths])
        return {"rate": (count - 1) / (time.monotonic() - min(ends))}
    finally:
        ray.shutdown()
