"""Where an error that no code expects becomes a MachineError of one machine.

Owns: that such an error costs one machine one look or one action, and that its traceback is logged once for each
machine and place in the code. What a guest sends decides which errors the libraries raise, so they cannot be listed.
"""

import contextlib
import logging
import traceback
from collections.abc import Iterator

from hyperv_ops.machines import MachineError, MachineInfo, Power, PowerState, Trouble, one_line

log = logging.getLogger(__name__)

_ALL = "machines"


class ErrorBoundary:
    """The boundary of one caller; it remembers what it has logged. Any thread may call."""

    def __init__(self) -> None:
        self._logged: set[tuple[object, ...]] = set()

    @contextlib.contextmanager
    def around(self, machine: str) -> Iterator[None]:
        """Raises MachineError: that of the body, or UNFORESEEN for any other exception."""
        try:
            yield
        except MachineError:
            raise
        except Exception as error:
            # Not its text, which a guest could change at each look.
            seen = (machine, type(error), _place(error))
            if seen not in self._logged:
                self._logged.add(seen)
                log.error("%s: an error that was not foreseen", machine, exc_info=True)
            text = one_line(f"{type(error).__name__}: {error}")
            raise MachineError(machine, f"not foreseen: {text}", Trouble.UNFORESEEN) from error

    def infos(self, machines: Power) -> dict[str, MachineInfo]:
        """The states of all machines. One that cannot be asked for an unforeseen reason is UNKNOWN, with a note.

        Raises:
            MachineError: none of them can be asked.
        """
        try:
            with self.around(_ALL):
                return machines.infos()
        except MachineError as error:
            if error.trouble is not Trouble.UNFORESEEN:
                raise
        with self.around(_ALL):
            names = machines.names()
        return {name: info for name in names if (info := self._info(machines, name)) is not None}

    def _info(self, machines: Power, name: str) -> MachineInfo | None:
        try:
            with self.around(name):
                return machines.info(name)
        except MachineError as error:
            if error.trouble is Trouble.NO_SUCH_MACHINE:
                return None
            return MachineInfo(name=name, state=PowerState.UNKNOWN, note=error.reason)


def _place(error: Exception) -> tuple[str, int]:
    """The file and line that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    frame, line = frames[-1]
    return frame.f_code.co_filename, line
