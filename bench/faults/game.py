"""The game of every system: each genome takes 0.05 s, but one of them misbehaves as `FAULTS_KIND` says.

Only the standard library is imported: an agent loads this file as an evaluator.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

GENOMES, CULPRIT, WORKERS = 40, 17, 2
NORMAL_S, LATE_S = 0.05, 12.0
#: Given to each system that has a limit for one evaluation and ends the game at it, or at least the call.
TIME_LIMIT_S = 3.0
LEAK_STEPS, LEAK_STEP_BYTES = 16, 16 * 1024**2  # 256 MiB: other programs need memory, too

#: Name -> what the culprit does.
FAULTS = {
    "none": "plays like all others",
    "raise": "raises ValueError",
    "exit": "calls os._exit(3)",
    "crash": "is killed by a segmentation fault",
    "leak": "allocates 256 MiB, then gets SIGKILL, as from a kernel that is out of memory",
    "hang": "never returns",
    "late": f"returns after {LATE_S:g} s",
    "innocent": "plays like all others, but its process gets SIGKILL, once",
    "program": "plays like all others, but the program that asked for it gets SIGKILL, once; then it is run again",
}
#: The faults for which a system may leave the culprit without a fitness.
GENOME_AT_FAULT = frozenset({"raise", "exit", "crash", "leak", "hang", "late"})


def evaluate(number: int, *_: Any) -> float:
    """The fitness of a genome: its number."""
    _count()
    if number == CULPRIT:
        _misbehave(os.environ["FAULTS_KIND"])
    time.sleep(NORMAL_S)
    return float(number)


def evaluate_next(*_: Any, **__: Any) -> float:
    """The same for an optimiser that chooses the genomes itself: the n-th call of a run plays genome n."""
    return evaluate(_append("calls") - 1)


def play(genome: Path, _trial: object) -> float:
    """The same as an evaluator of the farm: the genome's file contains its number."""
    return evaluate(int(genome.read_text(encoding="utf-8")))


def games_played(folder: Path) -> int:
    """How many games have begun in this folder."""
    counted = folder / "games"
    return counted.stat().st_size if counted.exists() else 0


def _count() -> None:
    _append("games")


def _append(name: str) -> int:
    """Appends a byte to a file, which is atomic; returns its size."""
    descriptor = os.open(Path(os.environ["FAULTS_FOLDER"], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, b".")
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)


def _misbehave(kind: str) -> None:
    match kind:
        case "raise":
            raise ValueError("as the fault says")
        case "exit":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "leak":
            _leak()
        case "hang":
            while True:
                time.sleep(3600)
        case "late":
            time.sleep(LATE_S)
        case "innocent" if _is_first_time():
            os.kill(os.getpid(), signal.SIGKILL)
        case "program" if _is_first_time():
            os.kill(int(os.environ["FAULTS_PROGRAM"]), signal.SIGKILL)


def _leak() -> NoReturn:
    held = []
    for _ in range(LEAK_STEPS):
        held.append(bytearray(os.urandom(16)) * (LEAK_STEP_BYTES // 16))
        time.sleep(NORMAL_S)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(f"killed with {len(held)} blocks")


def _is_first_time() -> bool:
    try:
        os.close(os.open(Path(os.environ["FAULTS_FOLDER"], "struck"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
