"""An evaluator for tests: the genome says what it does; its fitness follows from bytes and seed.

A genome is JSON: `{"seconds": 0.2, "do": "kill_agent"}`. Any mix-up of genomes or seeds shows in the fitness, and an
edited copy of this file in the metric `edition`. With `"until": path` a game lasts until that file is there, and with
`"first": path` the first game that makes that file never ends.
As a program: `game.py GENOME SEED RESULT`.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

EDITION = 1


def fitness_of(genome: bytes, seed: int) -> float:
    """The fitness of a genome; tests compute it from the genome file."""
    digest = hashlib.sha256(genome + b"/" + str(seed).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**40


def play(genome_path: str, trial: Any) -> dict[str, Any]:
    """The Python evaluator."""
    data = Path(genome_path).read_bytes()
    orders = json.loads(data)
    _obey(orders.get("do", ""))
    trial.progress(f"playing for {orders.get('seconds', 0)} s")
    if "first" in orders and _makes(orders["first"]):
        threading.Event().wait()
    time.sleep(orders.get("seconds", 0))
    while "until" in orders and not os.path.exists(orders["until"]):
        time.sleep(0.01)
    return {"fitness": fitness_of(data, trial.seed), "metrics": {"size": len(data), "edition": EDITION}}


def _makes(path: str) -> bool:
    try:
        with open(path, "x", encoding="utf-8"):
            return True
    except FileExistsError:
        return False


def _obey(order: str) -> None:
    match order:
        case "kill_agent":
            psutil.Process(psutil.Process().ppid()).kill()  # the agent; Wine has no os.getppid
            time.sleep(60)
        case "hang":
            threading.Event().wait()
        case "raise":
            raise RuntimeError("this genome cannot be played")
        case "die":
            psutil.Process().kill()
        case "exit":
            sys.exit(3)
        case "die_at_once":
            os._exit(3)
        case "leave_thread":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        case "set_alarm":
            signal.alarm(1)  # type: ignore[attr-defined,unused-ignore]  # POSIX
        case "use_memory":
            _hold = b"x" * (400 * 2**20)
            threading.Event().wait()


class _CommandTrial:
    """What a game uses of a trial."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def progress(self, text: str) -> None:
        print(f"progress: {text}", flush=True)


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(play(sys.argv[1], _CommandTrial(int(sys.argv[2])))), encoding="utf-8")
