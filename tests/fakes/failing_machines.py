"""Machines whose calls raise errors that no code expects, as a hostile guest or a defect of a library would cause."""

import random
import threading
from collections.abc import Callable
from typing import Any

from hyperv_ops import MachineError, Trouble

#: Of kinds that machines raise by their contract, and of kinds that they do not.
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: AttributeError("'NoneType' object has no attribute 'wrap'"),
    lambda: UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
    lambda: RecursionError("maximum recursion depth exceeded"),
    MemoryError,
    AssertionError,
    lambda: IndexError("list index out of range"),
    lambda: KeyError("status"),
    lambda: OSError(5, "Input/output error"),
    lambda: MachineError("vm", "no answer in time", Trouble.UNREACHABLE),
)


class FailingMachines:
    """Machines of any kind; each call for one of `failing`, and each query of all, may raise an error from a seed."""

    def __init__(self, machines: Any, failing: set[str], seed: int, *, chance: float = 0.5) -> None:
        self._machines, self._failing, self._chance = machines, failing, chance
        self._dice, self._lock = random.Random(seed), threading.Lock()
        self.raised = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._machines, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._may_raise(args[0] if args else "")
            return found(*args, **kwargs)

        return call

    def _may_raise(self, machine: str) -> None:
        with self._lock:
            if (not machine or machine in self._failing) and self._dice.random() < self._chance:
                self.raised += 1
                raise self._dice.choice(ERRORS)()
