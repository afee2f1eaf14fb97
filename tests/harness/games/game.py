"""An evaluator for tests: the genome says what it does; its fitness follows from bytes and seed.

A genome is JSON: `{"seconds": 0.2, "do": "kill_agent"}`. Any mix-up of genomes or seeds shows in the fitness.
"""

import hashlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil


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
    time.sleep(orders.get("seconds", 0))
    return {"fitness": fitness_of(data, trial.seed), "metrics": {"size": len(data)}}


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
