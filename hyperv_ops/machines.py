"""The public protocol of machines: states, verbs and errors that every kind of machine shares.

All verbs are idempotent: starting what runs and stopping what is off is no error. Every call ends within its deadline.
A verb whose outcome is unknown asks `info` before anything is repeated, and says so if even that does not tell.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: What a machine may be called. No wildcard, no path and no markup can be spelt with it.
MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)


class PowerState(enum.StrEnum):
    """Whether a machine has power."""

    RUNNING = "running"
    OFF = "off"  #: saved counts as off: only a start makes it run again
    CHANGING = "changing"  #: on its way up or down, or paused; one that stays so is stuck
    UNKNOWN = "unknown"


class Heartbeat(enum.StrEnum):
    """What the guest lets its hypervisor know of itself. It says nothing of the agent."""

    OK = "ok"
    NONE = "none"  #: never since the start: booting, or no integration services
    LOST = "lost"  #: it had one
    UNKNOWN = "unknown"  #: this kind of machine has none


class Trouble(enum.StrEnum):
    """Why a machine could not be asked or did not obey. The first thirteen are the scripts' own error ids."""

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
    BAD_INPUT = "BadInput"  #: what was asked for is impossible: more processors than there are, a broadcast address
    UNREACHABLE = "unreachable"
    BUSY = "busy"  #: the hypervisor's host takes no more calls for now
    DENIED = "denied"
    UNTRUSTED = "untrusted"  #: its certificate
    UNKNOWN_OUTCOME = "unknown outcome"  #: it may or may not have been done
    UNSUPPORTED = "unsupported"  #: this kind of machine cannot do that
    OTHER = "other"


#: The same call may work in a moment.
TRANSIENT = frozenset({Trouble.UNREACHABLE, Trouble.BUSY, Trouble.TIMED_OUT, Trouble.UNKNOWN_OUTCOME})


class MachineError(Exception):
    """A machine could not be asked or did not obey."""

    def __init__(self, machine: str, reason: str, trouble: Trouble = Trouble.OTHER) -> None:
        super().__init__(f"{machine}: {reason}")
        self.machine, self.reason, self.trouble = machine, reason, trouble

    @property
    def transient(self) -> bool:
        """Whether the same call may work in a moment."""
        return self.trouble in TRANSIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineInfo:
    """What is known of a machine at one moment."""

    name: str
    state: PowerState
    heartbeat: Heartbeat = Heartbeat.UNKNOWN
    uptime_s: float = 0.0
    cpu_percent: float | None = None
    memory_mb: int | None = None
    addresses: tuple[str, ...] = ()  #: as the guest reports them
    checkpoints: tuple[str, ...] = ()
    pid: int | None = None  #: of a machine that is a process of this computer
    note: str = ""  #: how it ended, or what it said last

    @property
    def healthy(self) -> bool:
        """It runs, and its guest says so where it can."""
        return self.state is PowerState.RUNNING and self.heartbeat in (Heartbeat.OK, Heartbeat.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestIdentity:
    """What tells a clone from its template and from all other clones."""

    computer: str
    share_account: str
    share_password: str = field(repr=False)
    address: str
    prefix_length: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program in a guest."""

    exit_code: int
    output: str


class Machines(Protocol):
    """A set of machines of one kind, each known by its name. Every verb raises MachineError."""

    def names(self) -> list[str]:
        """The machines this object may touch; it never touches another one."""

    def infos(self) -> dict[str, MachineInfo]:
        """How those of them that exist are now, in one question."""

    def info(self, name: str) -> MachineInfo:
        """How a machine is now."""

    def create(self, name: str) -> Sequence[str]:
        """Makes it, off, from its template. Returns warnings for the user."""

    def start(self, name: str) -> None:
        """Gives it power; does not wait until it has booted."""

    def shutdown(self, name: str, timeout_s: float) -> bool:
        """Asks it to end in order and waits at most `timeout_s`; whether it is off now."""

    def power_off(self, name: str) -> None:
        """Takes the power away, whatever it is doing."""

    def restart_agent(self, name: str) -> None:
        """Starts anew what the machine is there for, and leaves the machine alone."""

    def identify(self, name: str, identity: GuestIdentity) -> None:
        """Gives a running clone its identity; it may boot once more for it."""

    def checkpoint(self, name: str) -> None:
        """Makes its state of now, off, the clean checkpoint."""

    def restore(self, name: str) -> None:
        """Takes it back to its clean checkpoint; it is off afterwards. Everything it had on its disk since is gone."""

    def remove(self, name: str) -> None:
        """Takes it away with everything it has."""

    def send(self, name: str, data: bytes, destination: str) -> None:
        """Writes a file in the guest."""

    def run(self, name: str, program: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        """Runs a program in the guest, where nobody sees its windows."""

    def screenshot(self, name: str) -> bytes | None:
        """What is to be seen on it, as a PNG; None where there is no screen."""

    def close(self) -> None:
        """Releases what this object keeps on this computer between calls; virtual machines keep running."""


def one_line(text: str) -> str:
    """What somebody said, as one printable line of bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def require_name(name: str, names: Sequence[str]) -> None:
    """Raises MachineError: this is not one of the machines that may be touched."""
    if name not in names:
        raise MachineError(name, "not a machine of this farm; pipeline.toml names them", Trouble.NO_SUCH_MACHINE)
