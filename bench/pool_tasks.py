"""multiprocessing.Pool: two processes and a pipe. One lost worker loses the generation; for information only."""

import multiprocessing

from bench.games import played_at
from bench.tasks import WORKERS, lay_out_all, measured


def measure(folder: str, count: int) -> dict[str, float]:
    """The figures of tasks."""
    warm, paths = lay_out_all(folder, count)
    with multiprocessing.Pool(WORKERS) as pool:

        def play_all(paths: list[str]) -> list[float]:
            return list(pool.imap_unordered(played_at, paths, chunksize=1))

        play_all(warm)
        return measured(play_all, paths)
