"""The game of the soak: a pole is balanced by a genome, after a pause that costs nothing.

A genome is JSON: `{"gains": [6.0, 1.5], "steps": 200, "seconds": 0.3, "do": "hang"}`. The fitness follows from bytes
and seed, and an edited copy of this file shows in the metric `edition`.
"""

import hashlib
import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

EDITION = 1
STEP_S, GRAVITY, FALLEN_RAD = 0.02, 9.8, 0.6
_LOG_LINES, _ARTIFACT_BYTES = 40, 32 * 1024


def play(genome_path: str, trial: Any) -> dict[str, Any]:
    """The evaluator. It leaves a log and an artifact, so that there is something to be removed."""
    data = Path(genome_path).read_bytes()
    orders = json.loads(data)
    _obey(orders.get("do", ""))
    time.sleep(orders["seconds"])
    fitness = fitness_of(data, trial.seed)
    for number in range(_LOG_LINES):
        print(f"{number}: {orders}")
    Path("artifacts").mkdir(exist_ok=True)
    Path("artifacts", "replay.bin").write_bytes(hashlib.sha256(data).digest() * (_ARTIFACT_BYTES // 32))
    return {"fitness": fitness, "metrics": {"edition": EDITION}}


def fitness_of(data: bytes, seed: int) -> float:
    """How many steps the pole stands, and a fraction that any other genome or seed would change."""
    orders = json.loads(data)
    digest = hashlib.sha256(data + b"/" + str(seed).encode()).digest()
    push, brake = orders["gains"]
    angle, speed, stood = (digest[0] - 127.5) / 500, 0.0, 0
    while stood < orders["steps"] and abs(angle) < FALLEN_RAD:
        speed += (GRAVITY * math.sin(angle) - push * angle - brake * speed) * STEP_S
        angle += speed * STEP_S
        stood += 1
    return stood + int.from_bytes(digest[1:5], "big") / 2**32


def _obey(order: str) -> None:
    match order:
        case "raise":
            raise RuntimeError("this genome cannot be played")
        case "hang":
            threading.Event().wait()
        case "die":
            os._exit(3)
