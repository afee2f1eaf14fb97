"""The public protocols of machines: states, operations and errors that every kind of machine shares.

All operations raise MachineError and are idempotent: starting a running machine or stopping one that is off is no
error. Every call ends within its deadline. After an unknown outcome `info` is queried before anything is repeated; if
that does not settle it, the operation raises UNKNOWN_OUTCOME.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: Allowed names of machines. They cannot contain wildcards, paths or markup.
MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)


class PowerState(enum.StrEnum):
    """The power state of a machine."""

    RUNNING = "running"
    OFF = "off"  #: saved counts as off: only a start or a resume makes it run again
    CHANGING = "changing"  #: starting, stopping or paused; a machine that stays in this state is stuck
    UNKNOWN = "unknown"


class Heartbeat(enum.StrEnum):
    """The guest's heartbeat to its hypervisor. It says nothing about the agent."""

    OK = "ok"
    NONE = "none"  #: none since the start: booting, or no integration services
    LOST = "lost"  #: there was one, but not recently
    UNKNOWN = "unknown"  #: this kind of machine has no heartbeat


class Trouble(enum.StrEnum):
    """Why an operation on a machine failed. The first thirteen are the scripts' own error ids."""

    NO_SUCH_MACHINE = "NoSuchMachine"
    NO_SUCH_TEMPLATE = "NoSuchTemplate"
    BAD_TEMPLATE = "BadTemplate"
    NO_SPACE = "NoSpace"
    NO_SWITCH = "NoSwitch"
    EXISTS = "Exists"
    NO_HYPER_V = "NoHyperV"
    NOT_ALLOWED = "NotAllowed"
    NO_CHECKPOINT = "NoCheckpoint"
    TIMED_OUT = "TimedOut"
    GUEST_REFUSED = "GuestRefused"
    NO_GUEST_SERVICES = "NoGuestServices"
    BAD_INPUT = "BadInput"  #: impossible request: more processors than there are, a broadcast address
    UNREACHABLE = "unreachable"
    BUSY = "busy"  #: the hypervisor's host accepts no more calls at present
    DENIED = "denied"
    UNTRUSTED = "untrusted"  #: the host's certificate is not trusted, or it did not prove that it knows the password
    UNKNOWN_OUTCOME = "unknown outcome"  #: it may or may not have been done
    UNSUPPORTED = "unsupported"  #: this kind of machine cannot do that
    UNFORESEEN = "unforeseen"  #: an error that no code expects; the log has its traceback
    OTHER = "other"


#: Errors after which the same call may succeed soon.
TRANSIENT = frozenset({Trouble.UNREACHABLE, Trouble.BUSY, Trouble.TIMED_OUT, Trouble.UNKNOWN_OUTCOME})


class MachineError(Exception):
    """An operation on a machine failed."""

    def __init__(self, machine: str, reason: str, trouble: Trouble = Trouble.OTHER) -> None:
        super().__init__(f"{machine}: {reason}")
        self.machine, self.reason, self.trouble = machine, reason, trouble

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed soon."""
        return self.trouble in TRANSIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineInfo:
    """The state of a machine at one moment."""

    name: str
    state: PowerState
    heartbeat: Heartbeat = Heartbeat.UNKNOWN
    uptime_s: float = 0.0
    cpu_percent: float | None = None
    memory_mb: int | None = None
    addresses: tuple[str, ...] = ()  #: as the guest reports them
    checkpoints: tuple[str, ...] = ()
    pid: int | None = None  #: of a machine that is a process of this computer
    note: str = ""  #: how it ended, or its last output

    @property
    def healthy(self) -> bool:
        """Whether it runs and its guest has a heartbeat, where this kind of machine has one."""
        return self.state is PowerState.RUNNING and self.heartbeat in (Heartbeat.OK, Heartbeat.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestIdentity:
    """The settings that differ between a clone, its template and other clones."""

    computer: str
    share_account: str
    share_password: str = field(repr=False)
    address: str
    prefix_length: int


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a program that ran in a guest."""

    exit_code: int
    output: str


class Power(Protocol):
    """Machines of one kind that can be switched on and off, each identified by its name."""

    def names(self) -> list[str]:
        """The machines that this object may change; it never changes another one."""

    def infos(self) -> dict[str, MachineInfo]:
        """The states of those that exist, in one query where possible."""

    def info(self, name: str) -> MachineInfo:
        """The state of a machine."""

    def start(self, name: str) -> None:
        """Powers it on; does not wait until it has booted."""

    def shutdown(self, name: str, timeout_s: float) -> bool:
        """Asks it to shut down gracefully and waits at most `timeout_s`; returns whether it is off."""

    def power_off(self, name: str) -> None:
        """Cuts the power, whatever its state."""

    def close(self) -> None:
        """Releases the resources that are kept between calls; virtual machines keep running."""


class Saving(Protocol):
    """Machines whose memory can be saved, so that they go on where they were instead of booting."""

    def save(self, name: str) -> None:
        """Saves the memory of a running machine; it is off afterwards. One that is off stays as it is."""

    def resume(self, name: str) -> None:
        """Starts a machine with the memory that was saved, or as `start` does if none was.

        Saved memory belongs to the disk as it was then: it is used once, `start`, `power_off` and `restore` discard it,
        and a machine that is saved gets no checkpoint.
        """


class Provisioning(Protocol):
    """Machines that can be made from a template, reverted and removed."""

    def create(self, name: str) -> Sequence[str]:
        """Creates it from its template, powered off. Returns warnings for the user."""

    def checkpoint(self, name: str) -> None:
        """Saves its current state, powered off, as the clean checkpoint."""

    def restore(self, name: str) -> None:
        """Reverts it to its clean checkpoint; it is off afterwards. Later changes on its disk are lost."""

    def remove(self, name: str) -> None:
        """Removes it with all its files."""


class Guest(Protocol):
    """Access to the system inside a machine."""

    def restart_agent(self, name: str) -> None:
        """Restarts the agent without restarting the machine."""

    def identify(self, name: str, identity: GuestIdentity) -> None:
        """Gives a running clone its identity; it may reboot for that."""

    def send(self, name: str, data: bytes, destination: str) -> None:
        """Writes a file in the guest."""

    def run(self, name: str, program: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        """Runs a program in the guest, without a visible desktop."""

    def screenshot(self, name: str) -> bytes | None:
        """Its screen as a PNG; None where there is no screen."""


class Machines(Power, Saving, Provisioning, Guest, Protocol):
    """Virtual machines: all four roles."""


def one_line(text: str) -> str:
    """`text` from elsewhere as one printable line of bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def require_name(name: str, names: Sequence[str]) -> None:
    """Raises MachineError if `name` is not one of the machines that may be changed."""
    if name not in names:
        raise MachineError(name, "not a machine of this farm; pipeline.toml names them", Trouble.NO_SUCH_MACHINE)
