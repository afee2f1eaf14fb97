"""Writes the golden data: a ledger with every kind of fact, and a share with every kind of record.

python -m tests.programs.golden tests/data/golden

writes `ledger-<version>/` and `share-<layout>/`. They represent what users have on disk: they are written again only
when a fact, a field or a record is added, and a new version gets its own folder. `ledger-1/` and `ledger-2/` were
written by this file with the code of those versions. `tests/integration/test_golden.py` reads the data, and checks that
this program still writes the same.
"""

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from inbox_agent.agent import Agent
from inbox_agent.evaluation.protocol import EvaluationResult
from inbox_agent.evaluation.versioned import EvaluatorSource, VersionedEvaluator
from inbox_agent.identity import AgentIdentity
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import INBOX, LAYOUT, OUTBOX, STAGING, Kind, Outcome
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.desktop import DesktopSession
from pipeline.core.facts import (
    AttemptClaimed,
    AttemptEnded,
    AttemptIssued,
    AttemptReleased,
    EpochOpened,
    EpochRaised,
    EvaluatorAccepted,
    EvaluatorFixed,
    Fact,
    GenomeAdded,
    GenomeCharged,
    GenomePoisoned,
    GenomeReopened,
    HostStarted,
    HostStopped,
    ProbationBegan,
    RecoveryAction,
    RecoveryStarted,
    ResultLate,
    ResultUnexpected,
    ReusedResult,
    RunFinished,
    RunOpened,
    RunSettings,
    Settlement,
    TrialReopened,
    TrialSettled,
    WorkerDrained,
    WorkerJoined,
    WorkerLeft,
    WorkerOut,
    WorkerQuarantined,
    WorkerRecovered,
    WorkerReturned,
    WorkerUnfit,
)
from pipeline.core.requests import ShareAction
from pipeline.shares.share_client import ShareClient
from pipeline.storage.ledger import Ledger
from pipeline.storage.ledger_rows import VERSION
from tests.harness import records
from tests.harness.agent_harness import FakeClock, ScriptedEvaluator
from tests.harness.records import FARM, WORKER, attempt

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LEDGER_FARM_ID = "60d1f4c7a95e2b38"
BEGAN_AT = 1_790_000_000.0  #: of the ledger; commits are a second apart

# ---------------------------------------------------------------------------------------------------------- the ledger

SETTINGS = RunSettings(
    trials_per_genome=2,
    seed=5,
    settings={"level": 3, "map": "swamp", "gravity": 9.81, "sound": False},
    evaluator="python play.py",
    time_limit_s=60.0,
    timed_out_fitness=-1.0,
    evaluator_version="0123456789abcdef",
)
FIRST_SETTINGS = RunSettings(
    trials_per_genome=1,
    seed=5,
    settings={},
    evaluator="python play.py",
    time_limit_s=60.0,
    allow_mixed_evaluators=True,
)
LATER_SETTINGS = replace(SETTINGS, seeds="fixed", reuse="same-seeds")
NAMES = ("swift.json", "wrong.json", "slow.bin", "poison", "late.json")


def tried(genome: int, trial: int, number: int, generation: int = 7) -> str:
    """The id of an attempt in the golden ledger."""
    return layout.attempt_id(generation, genome, trial, number, f"{genome:04d}{trial:04d}{number:04d}")


def genome(number: int) -> GenomeAdded:
    name = NAMES[number - 1]
    suffix = layout.safe_suffix(name)
    return GenomeAdded(
        genome=number,
        name=name,
        suffix=suffix,
        size_bytes=100 + number,
        sha256=f"{number:x}" * 64,
        params={"elite": False, "layers": 3, "origin": "mutated", "rate": 0.5} if number == 3 else {},
    )


class _Publications:
    """Issues attempts and counts the publications of each worker, as a farm does."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(self, number: tuple[int, int, int], worker: str, epoch: int = 1, generation: int = 7) -> AttemptIssued:
        self._counts[worker] = self._counts.get(worker, 0) + 1
        return AttemptIssued(
            attempt=tried(*number, generation),
            genome=number[0],
            trial=number[1],
            number=number[2],
            worker=worker,
            epoch=epoch,
            publication=self._counts[worker],
        )


def answered(
    number: tuple[int, int, int], outcome: Outcome, reason: str = "", *, archived: bool = True
) -> AttemptEnded:
    return AttemptEnded(
        attempt=tried(*number), outcome=outcome, reason=reason, has_result=True, archived=archived, seconds=2.0
    )


def completed(number: tuple[int, int, int], fitness: float) -> list[Fact]:
    attempt_id = tried(*number)
    return [
        AttemptEnded(
            attempt=attempt_id,
            outcome=Outcome.COMPLETED,
            has_result=True,
            fitness=fitness,
            metrics={"steps": 120.0, "lives": 2.5},
            seconds=12.5,
            archived=True,
            evaluator="0123456789abcdef",
        ),
        TrialSettled(
            genome=number[0], trial=number[1], settlement=Settlement.COMPLETED, attempt=attempt_id, fitness=fitness
        ),
    ]


def commits() -> list[tuple[int, int, Sequence[Fact]]]:
    """(generation, run, facts) of each commit."""
    issue = _Publications()
    poison = "poison: 3 attempts took their worker down"
    first_run: list[tuple[int, int, Sequence[Fact]]] = [
        (7, 1, [HostStarted(pid=4001, workers=3), RunOpened(generation=7, run=1, settings=FIRST_SETTINGS), genome(1)]),
        (7, 1, [EpochRaised(worker=name, epoch=1, reason="first contact") for name in ("vm-0", "vm-1", "vm-2")]),
        (7, 1, [EpochOpened(worker=name, epoch=1) for name in ("vm-0", "vm-1", "vm-2")]),
        (7, 1, [issue((1, 1, 9), "vm-0")]),
        (
            7,
            1,
            [
                AttemptEnded(attempt=tried(1, 1, 9), outcome=Outcome.WITHDRAWN, reason="begun afresh", by_host=True),
                HostStopped(reason="stopped"),
            ],
        ),
    ]
    second_run: list[Sequence[Fact]] = [
        [HostStarted(pid=4002, workers=3), RunOpened(generation=7, run=2, settings=SETTINGS)],
        [genome(1), genome(2), genome(3), genome(4)],
        [issue((1, 1, 1), "vm-0"), issue((2, 1, 1), "vm-1"), issue((1, 2, 1), "vm-2")],
        [AttemptClaimed(attempt=tried(1, 1, 1)), AttemptClaimed(attempt=tried(2, 1, 1))],
        completed((1, 1, 1), 41.5),
        [
            answered((1, 2, 1), Outcome.REJECTED, "layout 2, spoken is 1", archived=False),
            WorkerOut(worker="vm-2", reason="its agent does not speak this host's layout"),
        ],
        [
            answered((2, 1, 1), Outcome.FAILED, "ValueError: no such level"),
            TrialSettled(
                genome=2,
                trial=1,
                settlement=Settlement.FAILED,
                attempt=tried(2, 1, 1),
                reason="ValueError: no such level",
            ),
            TrialSettled(genome=2, trial=2, settlement=Settlement.SKIPPED, reason="another trial failed"),
        ],
        [issue((1, 2, 2), "vm-0"), issue((3, 1, 1), "vm-1")],
        completed((1, 2, 2), 42.5),
        [
            answered((3, 1, 1), Outcome.TIMED_OUT, "time limit of 60 s"),
            TrialSettled(genome=3, trial=1, settlement=Settlement.TIMED_OUT, attempt=tried(3, 1, 1), fitness=-1.0),
        ],
        [issue((4, 1, 1), "vm-0")],
        [
            answered((4, 1, 1), Outcome.INTERRUPTED, "claimed by an earlier life"),
            GenomeCharged(attempt=tried(4, 1, 1), genome=4, worker="vm-0"),
        ],
        [issue((4, 1, 2), "vm-1")],
        [
            AttemptEnded(attempt=tried(4, 1, 2), outcome=Outcome.LOST, reason="its worker was silent for 61 s"),
            GenomeCharged(attempt=tried(4, 1, 2), genome=4, worker="vm-1"),
            RecoveryStarted(worker="vm-1", action=RecoveryAction.RESTART_AGENT, reason="silent for 61 s"),
        ],
        [WorkerRecovered(worker="vm-1"), issue((4, 1, 3), "vm-1")],
        [
            answered((4, 1, 3), Outcome.INTERRUPTED, "claimed by an earlier life"),
            GenomeCharged(attempt=tried(4, 1, 3), genome=4, worker="vm-1"),
            GenomePoisoned(genome=4, charges=3),
            *(
                TrialSettled(genome=4, trial=n, settlement=Settlement.FAILED, attempt=tried(4, 1, 3), reason=poison)
                for n in (1, 2)
            ),
        ],
        [issue((3, 2, 1), "vm-0")],
        [answered((3, 2, 1), Outcome.UNDELIVERED, "the genome's digest is another one"), issue((3, 2, 2), "vm-0")],
        [answered((3, 2, 2), Outcome.CORRUPT, "seed is 1, expected 2", archived=False), issue((3, 2, 3), "vm-1")],
        [
            AttemptEnded(
                attempt=tried(3, 2, 3),
                outcome=Outcome.LOST,
                reason="the share could not be read for 61 s",
                left_published=True,
                run_alone=True,
            ),
            RecoveryStarted(worker="vm-0", action=RecoveryAction.REBOOT, reason="silent for 61 s"),
        ],
        [
            AttemptReleased(attempt=tried(3, 2, 3)),
            RecoveryStarted(worker="vm-0", action=RecoveryAction.POWER_CYCLE, reason="reboot did not help"),
        ],
        [
            ResultLate(
                attempt=tried(3, 2, 3), worker="vm-1", outcome=Outcome.FAILED, reason="its trial is played elsewhere"
            ),
            ResultUnexpected(attempt=tried(9, 9, 9), worker="vm-1"),
            RecoveryStarted(worker="vm-0", action=RecoveryAction.RESTORE, reason="power_cycle did not help"),
        ],
        [EpochRaised(worker="vm-0", epoch=2, reason="the machine was restored"), EpochOpened(worker="vm-0", epoch=2)],
        [WorkerQuarantined(worker="vm-0", back_off_s=60.0, reason="4 losses in a row")],
        [ProbationBegan(worker="vm-0"), issue((3, 2, 4), "vm-0", epoch=2)],
        [*completed((3, 2, 4), 7.25), WorkerRecovered(worker="vm-0"), RunFinished()],
    ]
    reused = TrialSettled(
        genome=1,
        trial=2,
        settlement=Settlement.COMPLETED,
        attempt=tried(1, 2, 2),
        fitness=42.5,
        reused=ReusedResult(generation=7, evaluator="0123456789abcdef", metrics={"steps": 120.0}),
    )
    other_generation: list[tuple[int, int, Sequence[Fact]]] = [
        (8, 1, [HostStarted(pid=4003, workers=3), RunOpened(generation=8, run=1, settings=LATER_SETTINGS), genome(1)]),
        (8, 1, [issue((1, 1, 1), "vm-1", generation=8), reused]),
        (8, 1, [RecoveryStarted(worker="vm-1", action=RecoveryAction.RESTORE, reason="silent for 61 s")]),
    ]
    taken_up_again: list[Sequence[Fact]] = [
        [
            HostStarted(pid=4004, workers=3, boot_id="7d1c2c1e-boot"),
            genome(5),
            TrialReopened(genome=2, trial=1),
            TrialReopened(genome=2, trial=2),
            GenomeReopened(genome=2, size_bytes=112, sha256="a" * 64),
        ],
        [
            WorkerUnfit(worker="vm-2", reason="its evaluator cannot be loaded: no such file"),
            WorkerRecovered(worker="vm-2"),
        ],
        [EvaluatorAccepted(version=""), EvaluatorFixed(version="fedcba9876543210", worker="vm-0")],
        [issue((2, 1, 2), "vm-0", epoch=2), issue((5, 1, 1), "vm-0", epoch=2)],
        [AttemptClaimed(attempt=tried(2, 1, 2))],
        [WorkerDrained(worker="vm-2"), WorkerJoined(worker="vm-9", site="alice")],
        [WorkerReturned(worker="vm-2"), WorkerLeft(worker="vm-9", reason="its description was removed")],
    ]
    return [
        *first_run,
        *((7, 2, facts) for facts in second_run),
        *other_generation,
        *((7, 2, facts) for facts in taken_up_again),
    ]


def write_ledger(folder: Path) -> None:
    ledger = Ledger(folder)
    for number, (generation, run, facts) in enumerate(commits()):
        ledger.append(facts, BEGAN_AT + number, generation, run)
    ledger.close()
    db = sqlite3.connect(ledger.path)
    db.execute("UPDATE farm SET id = ?", (LEDGER_FARM_ID,))  # random for every ledger
    db.commit()
    db.close()


# ----------------------------------------------------------------------------------------------------------- the share

GENOME_BYTES = b"\x00a genome\r\n\xff"
LOG = "level 3 begins\r\nübel\n".encode()
ARTIFACTS = {"replay.bin": bytes(range(256)), "picture.png": b"\x89PNG\r\n\x1a\n"}
HOST_EPOCH = 2
SETTINGS_OF_START = {"level": 3, "map": "swamp", "gravity": 9.81, "sound": False}
COMPLETED = EvaluationResult(
    outcome=Outcome.COMPLETED, fitness=41.5, metrics={"steps": 120.0, "lives": 2.5}, seconds=12.5, log=LOG
)
FAILED = EvaluationResult(outcome=Outcome.FAILED, reason="ValueError: no such level", seconds=0.5)


def write_share(root: Path) -> None:
    """Writes a share during a run, with the code of host and agent.

    Attempt 1 has its result with log and artifacts, attempt 2 failed, attempt 3 is being evaluated, attempt 4 waits and
    the start signal of attempt 5 is damaged.
    """
    root.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        _host_publishes(root, Path(scratch))
        _agent_evaluates(root, Path(scratch))
    for folder in (INBOX, OUTBOX):
        shutil.rmtree(root / folder / STAGING)  # second names of published records, which are never read


def _host_publishes(root: Path, scratch: Path) -> None:
    snapshot = scratch / "snapshot"
    snapshot.write_bytes(GENOME_BYTES)
    share = ShareClient(WORKER, FARM, LocalFiles(root), scratch / "incoming", lambda *_: snapshot)
    for epoch in range(1, HOST_EPOCH + 1):
        share.execute(ShareAction(WORKER, host=records.host(epoch)))
    starts = [
        records.start(number, GENOME_BYTES, epoch=HOST_EPOCH, settings=SETTINGS_OF_START) for number in (1, 2, 3, 4)
    ]
    report = share.execute(ShareAction(WORKER, publish=tuple(starts)))
    assert report.sent == {start.attempt: True for start in starts}, report
    (root / INBOX / Kind.START.of(attempt(5))).write_bytes(b'{"layout": 2, "farm": ')
    (root / INBOX / Kind.GENOME.of(attempt(5))).write_bytes(GENOME_BYTES)
    # The host's copy of a genome may be a link to its snapshot; a working tree needs files.
    for number in range(1, 6):
        path = root / INBOX / Kind.GENOME.of(attempt(number))
        path.unlink()
        path.write_bytes(GENOME_BYTES)


def _agent_evaluates(root: Path, scratch: Path) -> None:
    time = FakeClock()
    evaluator = ScriptedEvaluator(time, scratch)
    agent = Agent(
        LocalFiles(root),
        VersionedEvaluator(
            EvaluatorSource(evaluator, evaluator.look_at_files, "game:play"), clock=time, pause=time.wait
        ),
        AgentIdentity(
            boot_id="7d1c2c1e-boot",
            run_id="9f2b6a51c0de4e77",
            versions={"agent": "0.1.0", "python": "3.11.7", "platform": "linux"},
        ),
        time,
        clock=time,
        session=lambda: DesktopSession(id="1", desktop="Default", width=1280, height=720, adapter="Display"),
    )
    artifacts = [scratch / name for name in ARTIFACTS]
    for path in artifacts:
        path.write_bytes(ARTIFACTS[path.name])
    agent.step()
    endings = {1: COMPLETED, 2: FAILED}
    for number, ending in endings.items():
        assert evaluator.running is not None
        assert evaluator.running.attempt == attempt(number)
        evaluator.ending = ending
        ending.artifacts[:] = artifacts if ending is COMPLETED else []
        agent.wait(0.0)
        agent.step()
    evaluator.progress = "level 3 of 7"
    for _ in range(20):  # the agent gives the damaged start signal up, and writes a heartbeat
        agent.wait(agent.step())


def write_all(folder: Path) -> None:
    ledger, share = folder / f"ledger-{VERSION}", folder / f"share-{LAYOUT}"
    for old in (ledger, share):
        shutil.rmtree(old, ignore_errors=True)
    write_ledger(ledger)
    write_share(share)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
