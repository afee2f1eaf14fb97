"""Functions that tests call on workers."""

import copyreg
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import current_trial

_loads: dict[int, int] = {}


def square(x: float) -> float:
    return x * x


def add(a: int, b: int = 0, *, more: int = 0) -> int:
    return a + b + more


def stats(values: list[float]) -> dict[Any, Any]:
    """A value with everything that can travel."""
    array = np.array(values)
    return {"mean": float(array.mean()), "pair": (1, "two"), "doubled": array * 2, 3: None}


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def begin_and_wait_for(begun: str, path: str) -> str:
    Path(begun).touch()
    return wait_for(path)


def fail(text: str) -> None:
    raise ValueError(text)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(3600)


def return_object() -> object:
    return object()


def scratch_and_seed() -> tuple[str, int]:
    trial = current_trial()
    trial.progress("in a call")
    Path("note.txt").write_text("here", encoding="utf-8")
    return trial.scratch.joinpath("note.txt").read_text(encoding="utf-8"), trial.seed


class Counted:
    """Counts how often it is unpickled in a process."""

    def __init__(self) -> None:
        self.text = "x" * 100_000

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _loads[0] = _loads.get(0, 0) + 1


def loads_of(value: Any, number: int) -> int:
    return _loads[0]


def call(function: Any) -> Any:
    return function()


def sum_of_kit(kit: dict[str, Any], x: int) -> int:
    return int(sum(kit["table"])) + x


def use(executor: Any) -> None:
    executor.submit(square, 2)


def inputs_times_key(genome: Any, config: Any) -> int:
    assert config.genome_config.node_indexer is None
    return int(config.genome_config.inputs * genome.key)


def drawn(genome: Any, config: Any) -> float:
    return random.random()


class Made(type):
    """Classes that a library makes at run time, from other arguments than those of a class statement."""

    def __new__(cls, name: str) -> "Made":
        return super().__new__(cls, name, (), {"__module__": __name__})

    def __init__(cls, name: str) -> None:
        super().__init__(name, (), {})


copyreg.pickle(Made, lambda made: (Made, (made.__name__,)))


def name_of(value: Any) -> str:
    return type(value).__name__
