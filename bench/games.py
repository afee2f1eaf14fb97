"""The game of every measurement, for the farm and the other task farms, and its genomes.

A genome's first line says what the game does: `noop 0`, `spin 0.05` (50 ms of CPU time) or `nap 0.02` (20 ms asleep).
"""

import os
import random
import time
from pathlib import Path
from typing import Any

GENOME_BYTES = 4096


def genome(order: str, number: int, size_bytes: int = GENOME_BYTES) -> bytes:
    """A genome with unique bytes: the order, and padding."""
    head = f"{order}\n".encode()
    return head + random.Random(number).randbytes(size_bytes - len(head))


def genomes(order: str, count: int) -> dict[str, bytes]:
    """`count` genomes by file name."""
    return {f"g{number:05d}.bin": genome(order, number) for number in range(count)}


def play(path: Path, _trial: object = None) -> float | dict[str, Any]:
    """The evaluator. The metrics of a nap are its begin, its end and its process id."""
    word, seconds = path.read_bytes().split(b"\n", 1)[0].split()
    begin = time.monotonic()
    if word == b"spin":
        until = time.process_time() + float(seconds)
        while time.process_time() < until:
            sum(range(1000))
    elif word == b"nap":
        time.sleep(float(seconds))
        return {"fitness": 0.0, "metrics": {"pid": os.getpid(), "begin": begin, "end": time.monotonic()}}
    return 0.0


def played_at(path: str) -> float:
    """The task of the other task farms: the same game; returns its end by the clock that all processes share."""
    play(Path(path))
    return time.monotonic()


def lay_out(folder: str, order: str, count: int) -> list[str]:
    """Writes genomes as files; returns their paths."""
    base = Path(folder, order.partition(" ")[0])
    base.mkdir(parents=True)
    paths = []
    for name, data in genomes(order, count).items():
        (base / name).write_bytes(data)
        paths.append(str(base / name))
    return paths
