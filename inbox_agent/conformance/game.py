"""The game of the conformance kit, a program of its own: `game.py GENOME RESULT SEED TRIAL SETTINGS`.

The genome says what the game does. Before it does anything it writes down what it was given, and what it sees in the
share, into a folder outside of the share, so that a check need not believe the agent.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_EVERY_S = 0.02
_AT_MOST_S = 120.0  #: no game outlives a check for long, whatever the agent does


def fitness_of(genome: bytes, seed: int) -> float:
    """The fitness of a genome: any mix-up of genomes or seeds shows in it."""
    digest = hashlib.sha256(genome + b"/" + str(seed).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**40


def main(argv: list[str]) -> int:
    """Plays one game; exit code 3 if the genome asks for a failure."""
    genome_path, result, seed, trial, settings = argv
    genome = Path(genome_path).read_bytes()
    orders = json.loads(genome)
    child = _start_child() if orders.get("child") else None
    report = {
        "pids": [os.getpid(), *([child.pid] if child else [])],
        "genome_sha256": hashlib.sha256(genome).hexdigest(),
        "genome_suffix": Path(genome_path).suffix,
        "seed": seed,
        "trial": trial,
        "settings": Path(settings).read_text(encoding="utf-8"),
        "outbox": sorted(os.listdir(orders["outbox"])) if "outbox" in orders else [],
    }
    if "reports" in orders:
        _write_down(Path(orders["reports"]), report)
    for text in orders.get("say", ()):
        os.write(1, text.encode() + b"\n")
    if "until" in orders:
        _wait_for(orders["until"])
    if orders.get("fail"):
        return 3
    for name, text in orders.get("artifacts", {}).items():
        os.makedirs("artifacts", exist_ok=True)
        Path("artifacts", name).write_bytes(text.encode())
    answer = orders.get("answer", json.dumps({"fitness": fitness_of(genome, int(seed)), "metrics": {"moves": 3}}))
    if answer:
        Path(result).write_bytes(answer.encode())
    return 0


def _start_child() -> "subprocess.Popen[bytes]":
    """A process that waits for as long as a game may, like a server that a game starts."""
    code = f"import threading; threading.Event().wait({_AT_MOST_S})"
    # Its last argument says whose it is: an id alone may belong to another process by now.
    return subprocess.Popen([sys.executable, "-c", code, __file__], stdin=subprocess.DEVNULL)


def _write_down(folder: Path, report: dict[str, Any]) -> None:
    """One file for each time that the genome is played; a reader sees all of it or nothing."""
    name = folder / f"{os.getpid()}.json"
    name.with_suffix(".new").write_text(json.dumps(report), encoding="utf-8")
    os.replace(name.with_suffix(".new"), name)


def _wait_for(path: str) -> None:
    pause, waited_s = threading.Event(), 0.0
    while not os.path.exists(path) and waited_s < _AT_MOST_S:
        pause.wait(_EVERY_S)
        waited_s += _EVERY_S


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
