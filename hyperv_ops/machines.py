"""The public protocol of machines: states, verbs and errors that every kind of machine shares.

All verbs are idempotent: starting what runs and stopping what is off is no error. Every call ends within its deadline;
one whose outcome is unknown says so, and the caller asks `info` before it repeats anything.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class PowerState(enum.StrEnum):
    """Whether a machine has power."""

    RUNNING = "running"
    OFF = "off"
    UNKNOWN = "unknown"


class MachineError(Exception):
    """A machine could not be asked or did not obey. `transient`: the same call may work in a moment."""

    def __init__(self, machine: str, reason: str, *, transient: bool = True) -> None:
        super().__init__(f"{machine}: {reason}")
        self.machine, self.reason, self.transient = machine, reason, transient


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineInfo:
    """What is known of a machine at one moment."""

    name: str
    state: PowerState
    uptime_s: float = 0.0
    pid: int | None = None  #: of a machine that is a process of this computer
    note: str = ""  #: how it ended, or what it said last


class Machines(Protocol):
    """A set of machines of one kind, each known by its name. Every verb raises MachineError."""

    def names(self) -> list[str]:
        """The machines this object may touch; it never touches another one."""

    def info(self, name: str) -> MachineInfo:
        """How a machine is now."""

    def start(self, name: str) -> None:
        """Gives it power."""

    def shutdown(self, name: str, timeout_s: float) -> bool:
        """Asks it to end in order and waits at most `timeout_s`; whether it is off now."""

    def power_off(self, name: str) -> None:
        """Takes the power away, whatever it is doing."""

    def restore(self, name: str) -> None:
        """Takes it back to its clean checkpoint; it is off afterwards. Everything it had on its disk since is gone."""
