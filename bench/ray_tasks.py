"""Ray: two CPUs, one stateless task per genome, all submitted at once."""

import os
from typing import Any

from bench.games import played_at
from bench.tasks import WORKERS, lay_out_all, measured

STORE_BYTES = 128 * 1024 * 1024
PATH_CHARS_MAX = 40  # Ray puts sockets below its folder, and a socket's path is at most 107 bytes long


def measure(folder: str, count: int) -> dict[str, float]:
    """The figures of tasks."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    warm, paths = lay_out_all(folder, count)
    own: dict[str, Any] = {"_temp_dir": f"{folder}/ray"} if len(folder) <= PATH_CHARS_MAX else {}
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES, **own)
    try:
        task = ray.remote(played_at)

        def play_all(paths: list[str]) -> list[float]:
            ends: list[float] = ray.get([task.remote(path) for path in paths])
            return ends

        play_all(warm)
        return measured(play_all, paths)
    finally:
        ray.shutdown()
