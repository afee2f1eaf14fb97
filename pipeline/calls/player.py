"""The worker's side of a call: unpickles it, calls the function and writes its value.

A genome is a pickle of `Call`, made by the program that runs on this computer; it is trusted as that program is.
"""

import hashlib
import math
import pickle
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inbox_agent.evaluation.trial import ARTIFACTS, EvaluatorTrial
from pipeline.calls.values import shown_number, write_value

_trial: ContextVar[EvaluatorTrial] = ContextVar("trial")
_shared: dict[str, Any] = {}  #: values that calls of this process have in common, by digest


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def play(genome: Path, trial: EvaluatorTrial) -> float:
    """The evaluator: calls what the genome file has, and leaves the value among its artifacts."""
    call = pickle.loads(genome.read_bytes())  # noqa: S301  a file of the program that opened the executor
    token = _trial.set(trial)
    try:
        value = call.function(*call.args, **call.kwargs)
    finally:
        _trial.reset(token)
    folder = trial.scratch / ARTIFACTS
    folder.mkdir(exist_ok=True)
    write_value(value, folder)
    return shown_number(value)


def call_for_number(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Calls a function whose value comes back as a fitness, and so must be a number. Raises TypeError, ValueError."""
    value = function(*args, **kwargs)
    if not isinstance(value, int | float) or isinstance(value, bool):
        what = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"a value of type {what} cannot come back from a farm elsewhere; return a float")
    number = float(value)
    if not math.isfinite(number) or number != value:
        raise ValueError(f"the value {value!r:.100} cannot come back from a farm elsewhere; return a finite float")
    return number


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
