"""What the control loop may rely on at each of its ports, over the shipped implementation and the fake of the tests."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inbox_agent.protocol.layout import Outcome
from inbox_agent.settings import EvaluatorTable
from pipeline.config import Config, LocalTable
from pipeline.core.facts import AttemptEnded, AttemptIssued, Fact, RecoveryAction, ResultLate
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from pipeline.core.requests import MachineAction, ScanRequest, ShareRequest
from pipeline.errors import LedgerError
from pipeline.host.ports import Clock, FactStore, RequestExecutor, ResultStore, SystemClock
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.controller import MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.local_workers import LocalWorkers, agents_of
from pipeline.machines.pools import MachinePool, MachinePools
from pipeline.paths import RESULTS_JSONL, SET_ASIDE, ProjectPaths
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ShareResponse
from pipeline.storage.archive import Archive
from pipeline.storage.ledger import Ledger
from pipeline.storage.result_lines import read_result_lines
from tests.fakes.ports import ManualClock, MemoryArchive, MemoryLedger, MemoryMachines, ScriptedExecutor
from tests.harness.hyperv_farm import hyperv_harness
from tests.harness.records import WORKER, attempt
from tests.harness.site_harness import SiteHarness
from tests.harness.waiting import PATIENCE_S, eventually

# ------------------------------------------------------------------------------------------------------- the ledger


class LedgerCase:
    """A ledger and the facts in it; after `refuse_writes` every commit fails, as on a full disk."""

    def __init__(self, store: FactStore, facts: Callable[[], list[Fact]], refuse_writes: Callable[[], object]) -> None:
        self.store, self.facts, self.refuse_writes = store, facts, refuse_writes


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerCase]:
    if request.param == "memory":
        memory = MemoryLedger()
        yield LedgerCase(memory, lambda: memory.facts, lambda: setattr(memory, "full", True))
        return
    stored = Ledger(tmp_path)
    yield LedgerCase(
        stored,
        lambda: [entry.fact for entry in stored.entries()],
        lambda: stored._db.execute("PRAGMA query_only = 1"),
    )
    stored.close()


def issued(number: int) -> AttemptIssued:
    return AttemptIssued(
        attempt=attempt(number), genome=1, trial=1, number=number, worker=WORKER, epoch=1, publication=number
    )


def ended(number: int, *, has_result: bool) -> AttemptEnded:
    outcome = Outcome.COMPLETED if has_result else Outcome.WITHDRAWN
    return AttemptEnded(attempt=attempt(number), outcome=outcome, has_result=has_result, by_host=not has_result)


def late(number: int) -> ResultLate:
    return ResultLate(attempt=attempt(number), worker=WORKER, outcome=Outcome.COMPLETED)


def test_facts_are_kept_in_order(ledger: LedgerCase) -> None:
    """Over several commits, one of them without a fact."""
    facts = [issued(1), issued(2), ended(1, has_result=True)]
    ledger.store.append(facts[:2], 1.0, 7, 1)
    ledger.store.append([], 2.0, 7, 1)
    ledger.store.append(facts[2:], 3.0, 8, 1)

    assert ledger.facts() == facts


def test_issued_attempts_are_known_in_every_generation(ledger: LedgerCase) -> None:
    """By their ids alone."""
    ledger.store.append([issued(1)], 1.0, 7, 1)
    ledger.store.append([issued(2)], 2.0, 8, 2)

    assert [ledger.store.has_issued(attempt(number)) for number in (1, 2, 3)] == [True, True, False]


def test_attempt_with_recorded_result_is_collected(ledger: LedgerCase) -> None:
    """Whether the result was accepted or came late; an attempt that the host ended has none."""
    ledger.store.append([issued(number) for number in (1, 2, 3)], 1.0, 7, 1)
    ledger.store.append([ended(1, has_result=True), ended(2, has_result=False), ended(3, has_result=False)], 2.0, 7, 1)
    ledger.store.append([late(3)], 3.0, 7, 1)

    assert [ledger.store.has_collected(attempt(number)) for number in (1, 2, 3, 4)] == [True, False, True, False]


def test_failed_commit_raises_ledger_error(ledger: LedgerCase) -> None:
    """The recorder stops the host at this error, and at no other."""
    ledger.refuse_writes()

    with pytest.raises(LedgerError):
        ledger.store.append([issued(1)], 1.0, 7, 1)
    assert ledger.facts() == []


# ------------------------------------------------------------------------------------------------------ the archive


class ArchiveCase:
    """An archive and what is in it: bytes by attempt, and attempts set aside with their reasons."""

    def __init__(
        self, store: ResultStore, stored: Callable[[], dict[str, bytes]], aside: Callable[[], set[tuple[str, str]]]
    ) -> None:
        self.store, self.stored, self.aside = store, stored, aside


@pytest.fixture(params=["memory", "disk"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveCase:
    if request.param == "memory":
        memory = MemoryArchive()
        return ArchiveCase(memory, lambda: memory.stored, lambda: set(memory.aside.items()))
    results = ProjectPaths(tmp_path).results(7)
    return ArchiveCase(
        Archive(ProjectPaths(tmp_path)),
        lambda: {line.attempt: line.record for line in read_result_lines(results / RESULTS_JSONL)},
        lambda: {(path.name.split(".")[0], path.name.split(".")[1]) for path in (results / SET_ASIDE).iterdir()},
    )


def collected(number: int, data: bytes = b"{}") -> CollectedResult:
    return CollectedResult(attempt=attempt(number), record=None, data=data)


def test_result_may_be_stored_again(archive: ArchiveCase) -> None:
    """A host that was killed between archiving and recording collects it once more."""
    for _ in range(2):
        archive.store.store(7, [(WORKER, collected(1, b'{"one":1}'))])
    archive.store.store(7, [(WORKER, collected(2, b'{"two":2}')), (WORKER, collected(3))])

    assert archive.stored() == {attempt(1): b'{"one":1}', attempt(2): b'{"two":2}', attempt(3): b"{}"}


def test_judged_result_may_be_discarded_at_any_time(archive: ArchiveCase) -> None:
    """Before it is stored, after it, and twice; what is stored stays."""
    archive.store.discard(WORKER, attempt(1))
    archive.store.store(7, [(WORKER, collected(1))])
    for _ in range(2):
        archive.store.discard(WORKER, attempt(1))

    assert set(archive.stored()) == {attempt(1)}


def test_result_that_does_not_count_is_set_aside(archive: ArchiveCase) -> None:
    """With its reason, and also if that happens twice."""
    for _ in range(2):
        archive.store.set_aside(7, WORKER, collected(1), "late")

    assert archive.aside() == {(attempt(1), "late")}


# ----------------------------------------------------------------------------------------------------- the executor


class ExecutorCase:
    """An executor for the shares `vm-0` and `vm-1`; `respond` lets the requests in progress complete."""

    def __init__(self, executor: RequestExecutor, respond: Callable[[str], None]) -> None:
        self.executor, self.respond = executor, respond


def respond_to(request: ShareRequest) -> ShareResponse:
    return ShareResponse(worker=request.worker, sent={request.worker: True})


@pytest.fixture(params=["scripted", "local", "remote"])
def executor(request: pytest.FixtureRequest) -> Iterator[ExecutorCase]:
    if request.param == "scripted":
        scripted = ScriptedExecutor()
        yield ExecutorCase(
            scripted, lambda worker: scripted.arriving.append(ShareResponse(worker=worker, sent={worker: True}))
        )
        return
    free = threading.Event()

    def execute(share_request: ShareRequest) -> ShareResponse:
        assert request.param == "local" or free.wait(PATIENCE_S)
        return respond_to(share_request)

    shares = dict.fromkeys(("vm-0", "vm-1"), execute)
    shipped = ShareExecutor(shares, shares if request.param == "remote" else (), lambda: None)
    yield ExecutorCase(shipped, lambda _worker: free.set())
    free.set()
    shipped.close()


def responses(case: ExecutorCase, count: int) -> list[ShareResponse]:
    """The next responses, in the order of their workers."""
    found: list[ShareResponse] = []

    def take() -> bool:
        found.extend(case.executor.completed())
        return len(found) >= count

    assert eventually(take)
    return sorted(found, key=lambda response: response.worker)


def test_each_request_has_one_response(executor: ExecutorCase) -> None:
    """It is taken once."""
    for worker in ("vm-0", "vm-1"):
        executor.executor.submit(ScanRequest(worker=worker))
        executor.respond(worker)

    assert responses(executor, 2) == [respond_to(ScanRequest(worker=worker)) for worker in ("vm-0", "vm-1")]
    assert executor.executor.completed() == []


def test_share_is_free_once_its_response_is_taken(executor: ExecutorCase) -> None:
    """It may be free before that, too: a local share is never busy."""
    executor.executor.submit(ScanRequest(worker="vm-0"))
    assert not executor.executor.is_busy("vm-1")
    executor.respond("vm-0")
    responses(executor, 1)

    assert not executor.executor.is_busy("vm-0")
    executor.executor.submit(ScanRequest(worker="vm-0"))
    executor.respond("vm-0")
    assert len(responses(executor, 1)) == 1


def test_share_that_answers_soon_is_not_timed_out(executor: ExecutorCase) -> None:
    """The limit is a matter of the shipped executor's own tests."""
    executor.executor.submit(ScanRequest(worker="vm-0"))

    assert executor.executor.timed_out() == []
    executor.respond("vm-0")


# ----------------------------------------------------------------------------------------------------- the machines


@contextmanager
def local_workers(folder: Path) -> Iterator[MachinePool]:
    """An agent as a process of this computer."""
    table = EvaluatorTable(command=[sys.executable, "-c", ""])
    config = Config(evaluator=table, local=LocalTable(workers=1))
    workers = LocalWorkers(agents_of(config), ProjectPaths(folder), folder, on_exit=lambda: None)
    workers.prepare()
    yield MachinePools({"local-0": workers})
    workers.close()


@contextmanager
def site_agents(folder: Path) -> Iterator[MachinePool]:
    """An agent of a site, which the host reaches over a link in this process."""
    site = SiteHarness(folder, workers=("local-0",))
    site.site.listen(site.bells)
    assert eventually(lambda: site.site.notifies)
    yield MachinePools({"local-0": site.sites})
    site.close()


@contextmanager
def hyperv_machines(folder: Path) -> Iterator[MachinePool]:
    """A machine of a simulated Hyper-V host, over WinRM."""
    with hyperv_harness(folder, "local-0", boot_s=0.1) as host:
        machines = host.machines()
        controller = MachineController(
            machines,
            {"local-0": "local-0"},
            BootQueue(machines, stagger_s=0.0, boot_limit_s=PATIENCE_S),
            MachineEvidence(machines, folder / "evidence"),
            lambda: None,
            watch_interval_s=0.05,
        )
        controller.open(on_down=lambda _worker: None)
        yield MachinePools({"local-0": controller})
        controller.close()


@contextmanager
def memory_machines(folder: Path) -> Iterator[MachinePool]:
    """The fake; `folder` is not used."""
    del folder
    yield MemoryMachines({"local-0": MachineStatus(MachineState.OFF, tuple(RecoveryAction))})


@pytest.fixture(
    params=[
        memory_machines,
        pytest.param(local_workers, marks=pytest.mark.processes),
        pytest.param(site_agents, marks=pytest.mark.processes),
        pytest.param(hyperv_machines, marks=pytest.mark.processes),
    ]
)
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MachinePool]:
    with request.param(tmp_path) as pool:
        yield pool


def has_state(machines: MachinePool, state: MachineState) -> bool:
    return eventually(lambda: machines.status()["local-0"].state is state and not machines.status()["local-0"].busy)


def test_machine_is_off_until_its_first_start(machines: MachinePool) -> None:
    """And runs afterwards."""
    assert has_state(machines, MachineState.OFF)

    machines.execute(MachineAction("local-0", None))

    assert has_state(machines, MachineState.RUNNING)


def test_machine_offers_recovery_actions_least_disruptive_first(machines: MachinePool) -> None:
    """In the order of their definition; the core escalates along it."""
    offered = machines.status()["local-0"].actions

    assert offered
    assert list(offered) == sorted(offered, key=list(RecoveryAction).index)


def test_restore_is_reported_once(machines: MachinePool) -> None:
    """The core begins a new epoch for each report."""
    assert has_state(machines, MachineState.OFF)

    machines.execute(MachineAction("local-0", RecoveryAction.RESTORE))

    assert eventually(lambda: machines.status()["local-0"].reverted)
    assert has_state(machines, MachineState.RUNNING)
    assert not machines.status()["local-0"].reverted


# -------------------------------------------------------------------------------------------------------- the clock


@pytest.fixture(params=[ManualClock, SystemClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_nonces_fit_attempt_ids_and_differ(clock: Clock) -> None:
    """Eight characters of [0-9a-z]."""
    nonces = [clock.nonce() for _ in range(1000)]

    assert len(set(nonces)) == 1000
    assert all(len(nonce) == 8 and set(nonce) <= set("0123456789abcdefghijklmnopqrstuvwxyz") for nonce in nonces)


def test_monotonic_clock_is_not_set_back(clock: Clock) -> None:
    """Two readings are in order."""
    assert clock.monotonic() <= clock.monotonic()
