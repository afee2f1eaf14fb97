"""What the control loop needs of the world, as protocols.

Owns: what may be called, in which order, and which errors mean what. Implementations are in `pipeline.storage`,
`pipeline.shares` and `pipeline.machines`; `tests/conformance` holds them and the fakes of the tests to the same rules.
Threads: all methods are called on the control loop's thread.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.core.assignment import base36
from pipeline.core.facts import Fact
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.requests import ShareRequest
from pipeline.host.poll_schedule import PollSchedule
from pipeline.machines.pools import MachinePool
from pipeline.shares.share_client import ShareResponse


class FactStore(Protocol):
    """The durable record of all facts."""

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        """Records facts, all or none. Raises LedgerError: they may be recorded, or not."""

    def has_issued(self, attempt: str) -> bool:
        """Whether an attempt of that id was ever issued, in any generation."""

    def has_collected(self, attempt: str) -> bool:
        """Whether a result of that id was ever recorded, in any generation: accepted, late or unexpected."""


class ResultStore(Protocol):
    """Where the bytes of results are kept."""

    def store(self, generation: int, results: Sequence[tuple[str, CollectedResult]]) -> None:
        """Archives accepted results, each with its worker; what was stored before is replaced.

        Raises:
            OSError: some of them may be archived, or none.
        """

    def set_aside(self, generation: int, worker: str, result: CollectedResult, reason: str) -> None:
        """Keeps a result that does not count, as evidence, if there is room. Raises OSError."""

    def discard(self, worker: str, attempt: str) -> None:
        """Removes what was fetched of a result and not stored."""


class FactLog(Protocol):
    """The log of recorded facts, for people."""

    def write(self, facts: Sequence[Fact], at: float, generation: int) -> None:
        """Writes facts; errors are ignored."""


class RequestExecutor(Protocol):
    """Executes requests to shares, one at a time for each share."""

    def is_busy(self, worker: str) -> bool:
        """Whether a request for this share is in progress; until its response is taken no other may be submitted."""

    def submit(self, request: ShareRequest) -> None:
        """Starts a request."""

    def completed(self) -> list[ShareResponse]:
        """The responses that have arrived since the last call."""

    def timed_out(self) -> list[ShareScan]:
        """Shares that do not answer, as *unknown* scans; their requests stay in progress."""


class Clock(Protocol):
    """Time and randomness."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set back."""

    def wall(self) -> float:
        """Seconds since 1970, for display."""

    def nonce(self) -> str:
        """Eight random characters of [0-9a-z], to tell the attempts of this tick from all others."""


class SystemClock:
    """This computer's clocks and random numbers."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def nonce(self) -> str:
        """Eight random characters."""
        return base36(secrets.randbits(41), 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world of one control loop."""

    ledger: FactStore
    archive: ResultStore
    event_log: FactLog
    executor: RequestExecutor
    machines: MachinePool
    poll_schedule: PollSchedule
    clock: Clock
