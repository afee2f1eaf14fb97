"""The worker's side of a call: unpickles it, calls the function and writes its value.

A genome is a pickle of `Call`, made by the program that runs on this computer; it is trusted as that program is.
"""

import hashlib
import math
import os
import pickle
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inbox_agent.evaluation.trial import ARTIFACTS, EvaluatorTrial
from pipeline.calls.values import shown_number, write_value

VALUE_FILES = "value_files"  #: the metric of a call with a value that is not its fitness: of how many files it is

_trial: ContextVar[EvaluatorTrial] = ContextVar("trial")
_shared: dict[str, Any] = {}  #: values that calls of this process have in common, by digest


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ValueElsewhere:
    """A value for a program on another computer."""

    value: Any


def play(genome: Path, trial: EvaluatorTrial) -> float | dict[str, Any]:
    """The evaluator: calls what the genome file has, and leaves the value among its artifacts."""
    call = pickle.loads(genome.read_bytes())  # noqa: S301  a file of the program that opened the executor
    token = _trial.set(trial)
    try:
        value = call.function(*call.args, **call.kwargs)
    finally:
        _trial.reset(token)
    folder = trial.scratch / ARTIFACTS
    if isinstance(value, ValueElsewhere):
        return _returned_elsewhere(value.value, folder)
    folder.mkdir(exist_ok=True)
    write_value(value, folder)
    return shown_number(value)


def call_from_elsewhere(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> "ValueElsewhere":
    """Calls a function for a program on another computer."""
    return ValueElsewhere(function(*args, **kwargs))


def _returned_elsewhere(value: Any, folder: Path) -> float | dict[str, Any]:
    """A finite float is the fitness, exactly, and has no files, which each would take requests to read."""
    if type(value) is float and math.isfinite(value):
        return value
    folder.mkdir(exist_ok=True)
    write_value(value, folder)
    return {"fitness": shown_number(value), "metrics": {VALUE_FILES: float(len(os.listdir(folder)))}}


def current_trial() -> EvaluatorTrial:
    """The trial of the call that is being played: its seed, its scratch folder, its time limit, `progress`.

    Raises:
        LookupError: not in a call of an executor.
    """
    return _trial.get()


def load_shared(path: str, sha256: str) -> Any:
    """The shared value of this file; it is read once in each process. Raises ValueError: the file was changed."""
    if sha256 not in _shared:
        data = Path(path).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{path}: a shared value was changed since the call was made")
        _shared[sha256] = pickle.loads(data)  # noqa: S301  as above
    return _shared[sha256]
