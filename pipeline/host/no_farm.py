"""What a farm or an executor is in a pickle: it can be held, and not used.

An evaluator may hold a toolbox that holds the farm; a worker that unpickles it needs neither. Imports nothing else.
"""

from collections.abc import Callable
from typing import Any


class NoFarm:
    """Stands for a farm or an executor where there is none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):  # pickle and copy ask for these
            raise AttributeError(name)
        return _refuse


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise RuntimeError("this is a pickled copy of a farm, which cannot be used; a worker cannot use its own farm")
