"""pebble: a pool of two processes that survives the loss of one, and kills a task at its time limit."""

from bench.games import played_at
from bench.tasks import WORKERS, lay_out_all, measured

TIME_LIMIT_S = 120.0


def measure(folder: str, count: int) -> dict[str, float]:
    """The figures of tasks."""
    from pebble import ProcessPool

    warm, paths = lay_out_all(folder, count)
    with ProcessPool(max_workers=WORKERS) as pool:

        def play_all(paths: list[str]) -> list[float]:
            futures = [pool.schedule(played_at, args=[path], timeout=TIME_LIMIT_S) for path in paths]
            return [future.result() for future in futures]

        play_all(warm)
        return measured(play_all, paths)
