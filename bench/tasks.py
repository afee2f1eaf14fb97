"""What is measured of another task farm while it plays genomes: the same figures as of the farm itself."""

import time
from collections.abc import Callable, Sequence

from bench.cpu import cpu_time
from bench.games import lay_out
from bench.samples import per_second

WORKERS = 2


def lay_out_all(folder: str, count: int) -> tuple[list[str], list[str]]:
    """The paths of genomes that warm its workers up, and of those that are measured."""
    return lay_out(folder, "nap 0.02", 50), lay_out(folder, "noop 0", count)


def measured(play_all: Callable[[list[str]], Sequence[float]], paths: list[str]) -> dict[str, float]:
    """Tasks per second from the end of the first game to the last result at the caller, and of the whole call.

    CPU time for each task is that of all processes in the whole call: to submit a task is a part of its cost.
    """
    begun_s, cpu = time.monotonic(), cpu_time()
    ends = play_all(paths)
    done_s, cpu_s = time.monotonic(), cpu_time().all_s - cpu.all_s
    return {
        "rate": per_second(len(paths) - 1, done_s - min(ends)),
        "whole_rate": len(paths) / (done_s - begun_s),
        "all_us": 1e6 * cpu_s / len(paths),
    }
