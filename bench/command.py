"""One command of the program as a process, as a user waits for it: its wall time and its memory."""

import subprocess
import sys
import time

import psutil

from bench.apart import ROOT
from bench.samples import NotMeasured

LOOK_INTERVAL_S = 0.02


def command(*words: str, root: str) -> dict[str, float]:
    """Seconds until `pipeline WORDS --root ROOT` has ended, and the most memory that it was seen to have.

    Raises:
        NotMeasured: it failed.
    """
    begun_s, memory = time.perf_counter(), 0
    line = [sys.executable, "-m", "pipeline", *words, "--root", root]
    with psutil.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while True:
            try:
                code = process.wait(timeout=LOOK_INTERVAL_S)
                break
            except psutil.TimeoutExpired:
                memory = max(memory, process.memory_info().rss)
    took_s = time.perf_counter() - begun_s
    if code:
        raise NotMeasured(f"pipeline {words[0]} ended with exit code {code}")
    return {"s": took_s, "mb": memory / 1e6}
