"""The ports of the control loop in memory; `test_ports.py` checks them by the same tests as the real ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import orjson

from pipeline.core.facts import Entry, Fact, RecoveryAction, decode_fact, encode_fact
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus, ShareScan
from pipeline.core.requests import MachineAction, ShareRequest
from pipeline.errors import LedgerError
from pipeline.host.poll_schedule import PollSchedule
from pipeline.host.ports import Ports
from pipeline.shares.share_client import ShareResponse


class MemoryLedger:
    """A ledger that outlives its hosts; `full` makes every commit fail."""

    def __init__(self, farm_id: str = "f00d") -> None:
        self.farm_id = farm_id
        self.full = False
        self.rows: list[tuple[float, int, int, bytes]] = []  #: time, generation, run and the encoded fact
        self._issued: set[str] = set()
        self._collected: set[str] = set()

    def append(self, facts: Sequence[Fact], at: float, generation: int, run: int) -> None:
        if self.full:
            raise LedgerError("disk full")
        for body in [encode_fact(fact) for fact in facts]:
            self.rows.append((at, generation, run, body))
            fact = orjson.loads(body)
            if fact["fact"] == "attempt_issued":
                self._issued.add(fact["attempt"])
            elif fact["fact"] == "result_late" or fact.get("answered"):
                self._collected.add(fact["attempt"])

    @property
    def facts(self) -> list[Fact]:
        """All facts, in their order."""
        return [decode_fact(body) for *_, body in self.rows]

    def entries(self) -> list[Entry]:
        return [Entry(seq, at, gen, run, decode_fact(body)) for seq, (at, gen, run, body) in enumerate(self.rows, 1)]

    def has_issued(self, attempt: str) -> bool:
        return attempt in self._issued

    def has_collected(self, attempt: str) -> bool:
        return attempt in self._collected


class MemoryArchive:
    """An archive that keeps the bytes of results by attempt; `full` makes every write fail."""

    def __init__(self) -> None:
        self.full = False
        self.stored: dict[str, bytes] = {}
        self.aside: dict[str, str] = {}  #: attempt -> reason

    def store(self, generation: int, results: Sequence[tuple[str, CollectedResult]]) -> None:
        self._fail_if_full()
        self.stored |= {result.attempt: result.data for _worker, result in results}

    def set_aside(self, generation: int, worker: str, result: CollectedResult, reason: str) -> None:
        self._fail_if_full()
        self.aside[result.attempt] = reason

    def discard(self, worker: str, attempt: str) -> None:
        """Nothing is fetched."""

    def _fail_if_full(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")


class MemoryEventLog:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def write(self, facts: Sequence[Fact], at: float, generation: int) -> None:
        self.facts += facts


class ScriptedExecutor:
    """Executes nothing; the test sets which shares are busy, and which responses arrive.

    The responses of `arriving` are completed as soon as any request was submitted, so a response can arrive in the
    middle of a tick.
    """

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.submitted: list[ShareRequest] = []
        self.arriving: list[ShareResponse] = []

    def is_busy(self, worker: str) -> bool:
        return worker in self.busy

    def submit(self, request: ShareRequest) -> None:
        assert not self.is_busy(request.worker), request.worker
        self.submitted.append(request)
        self.busy.add(request.worker)

    def completed(self) -> list[ShareResponse]:
        if not self.submitted:
            return []
        arrived, self.arriving = self.arriving, []
        self.busy -= {response.worker for response in arrived}
        return arrived

    def timed_out(self) -> list[ShareScan]:
        return []


class MemoryMachines:
    """Machines that start at once; records the actions. A test may set their states."""

    def __init__(self, states: Mapping[str, MachineStatus] | None = None) -> None:
        self.states = dict(states or {})
        self.executed: list[MachineAction] = []

    def status(self) -> dict[str, MachineStatus]:
        found = dict(self.states)
        self.states = {name: replace(status, reverted=False) for name, status in found.items()}
        return found

    def execute(self, action: MachineAction) -> None:
        self.executed.append(action)
        reverted = action.recovery is RecoveryAction.RESTORE
        status = self.states[action.worker]
        self.states[action.worker] = replace(status, state=MachineState.RUNNING, reverted=reverted)


class ManualClock:
    """A clock that advances only when the test moves it; nonces are unique."""

    def __init__(self, now: Callable[[], float] = lambda: 1000.0) -> None:
        self._now = now
        self._nonces = 0

    def monotonic(self) -> float:
        return self._now()

    def wall(self) -> float:
        return self._now()

    def nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:08d}"


def memory_ports(
    *,
    ledger: MemoryLedger | None = None,
    archive: MemoryArchive | None = None,
    executor: ScriptedExecutor | None = None,
    machines: MemoryMachines | None = None,
    clock: ManualClock | None = None,
) -> Ports:
    """Ports of a control loop, all in memory; every share is due at every poll."""
    return Ports(
        ledger=ledger or MemoryLedger(),
        archive=archive or MemoryArchive(),
        event_log=MemoryEventLog(),
        executor=executor or ScriptedExecutor(),
        machines=machines or MemoryMachines(),
        poll_schedule=PollSchedule({}, silence_limit_s=30.0),
        clock=clock or ManualClock(),
    )


def workers_of(requests: Iterable[ShareRequest]) -> list[str]:
    """The workers of these requests."""
    return [request.worker for request in requests]
