"""multiprocessing.Pool: two processes and a pipe. One lost worker loses the generation; for information only."""

import multiprocessing
import time

from bench.games import lay_out, played_at


def measure(folder: str, count: int) -> dict[str, float]:
    """Tasks per second, from the end of the first game to the last result."""
    warm, paths = lay_out(folder, "nap 0.02", 50), lay_out(folder, "noop 0", count)
    with multiprocessing.Pool(2) as pool:
        pool.map(played_at, warm, chunksize=1)
        ends = list(pool.imap_unordered(played_at, paths, chunksize=1))
        return {"rate": (count - 1) / (time.monotonic() - min(ends))}
