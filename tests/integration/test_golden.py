"""Data as earlier versions left them on users' disks: what is read, and what is refused."""

import contextlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from inbox_agent.protocol.layout import LAYOUT, AgentState, Kind, Outcome
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.share_scanner import AgentLimits, ShareScanner
from pipeline.cli.new_project import init
from pipeline.config import load_config
from pipeline.core import facts as f
from pipeline.core.facts import (
    AnyFact,
    Fact,
    RecoveryAction,
    RunSettings,
    Settlement,
    decode_fact,
    encode_fact,
    kind_of,
)
from pipeline.core.farm import Farm
from pipeline.core.model import WorkerState
from pipeline.core.requests import ScanRequest
from pipeline.core.runs import replay
from pipeline.errors import ExitCode, LedgerError
from pipeline.host.takeover import start_new_epochs
from pipeline.paths import LEDGER_FILE
from pipeline.shares.share_client import ShareClient
from pipeline.storage.ledger import Ledger
from pipeline.storage.ledger_rows import VERSION
from tests.harness import records
from tests.harness.command_line import pipeline
from tests.harness.records import FARM, WORKER, attempt, sha256
from tests.programs.golden import (
    ARTIFACTS,
    BEGAN_AT,
    GENOME_BYTES,
    GOLDEN,
    LEDGER_FARM_ID,
    LOG,
    SETTINGS,
    tried,
    write_ledger,
    write_share,
)

#: The tag of each fact on disk. Classes may be renamed; another tag needs another version of the ledger.
TAGS: dict[str, type[Fact]] = {
    "host_started": f.HostStarted,
    "host_stopped": f.HostStopped,
    "run_opened": f.RunOpened,
    "genome_added": f.GenomeAdded,
    "evaluator_fixed": f.EvaluatorFixed,
    "evaluator_accepted": f.EvaluatorAccepted,
    "run_finished": f.RunFinished,
    "attempt_issued": f.AttemptIssued,
    "attempt_claimed": f.AttemptClaimed,
    "attempt_ended": f.AttemptEnded,
    "attempt_released": f.AttemptReleased,
    "result_late": f.ResultLate,
    "result_unexpected": f.ResultUnexpected,
    "genome_charged": f.GenomeCharged,
    "genome_poisoned": f.GenomePoisoned,
    "trial_settled": f.TrialSettled,
    "trial_reopened": f.TrialReopened,
    "genome_reopened": f.GenomeReopened,
    "epoch_raised": f.EpochRaised,
    "epoch_opened": f.EpochOpened,
    "worker_excluded": f.WorkerOut,
    "worker_unfit": f.WorkerUnfit,
    "recovery_started": f.RecoveryStarted,
    "worker_recovered": f.WorkerRecovered,
    "worker_quarantined": f.WorkerQuarantined,
    "probation_began": f.ProbationBegan,
    "worker_joined": f.WorkerJoined,
    "worker_left": f.WorkerLeft,
    "worker_drained": f.WorkerDrained,
    "worker_returned": f.WorkerReturned,
}


#: Those that generations depend on in which they were not recorded.
OF_ALL_GENERATIONS = {
    *("epoch_raised", "epoch_opened", "worker_joined", "worker_left", "worker_drained", "worker_returned")
}


def rows(ledger: Path) -> list[tuple[Any, ...]]:
    """Every row of a ledger without its checksum, with its facts parsed, read without the code under test."""
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        query = "SELECT last, facts, at, generation, run, epochs, body FROM commits ORDER BY last"
        return [(*row, [json.loads(line) for line in body.splitlines()]) for *row, body in db.execute(query)]


def bodies(ledger: Path) -> list[dict[str, Any]]:
    """The facts of a ledger, read without the code under test."""
    return [fact for *_columns, facts in rows(ledger) for fact in facts]


WANTED = frozenset(attempt(number) for number in (1, 2, 5))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with the golden ledger of this version."""
    shutil.copytree(GOLDEN / f"ledger-{VERSION}", tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def farm(state: Path) -> Callable[[int], Farm]:
    """Replays the golden ledger like a host with two of its three workers in its configuration."""

    def replayed(generation: int) -> Farm:
        ledger = Ledger(state)
        try:
            farm = Farm(ledger.farm_id, ["vm-0", "vm-1"])
            replay(ledger.entries(), farm, generation)
            return farm
        finally:
            ledger.close()

    return replayed


# ---------------------------------------------------------------------------------------------------- the facts on disk


def test_fact_tags_are_frozen() -> None:
    """Each fact has its own explicit tag, independent of its class name."""
    assert {kind.__struct_config__.tag: kind for kind in get_args(AnyFact)} == TAGS
    assert {kind for kind in Fact.__subclasses__() if kind.__module__ == f.__name__} == set(get_args(AnyFact))
    assert {kind.__struct_config__.tag_field for kind in get_args(AnyFact)} == {"fact"}
    assert TAGS.keys() == f.KINDS


def test_golden_ledger_has_every_fact_and_field(state: Path) -> None:
    """So that no field, default or enum value can change unnoticed."""
    written = bodies(state / LEDGER_FILE)
    found: dict[str, set[str]] = {}
    for body in written:
        found.setdefault(body["fact"], set()).update(body.keys() - {"fact"})

    assert found == {tag: set(kind.__struct_encode_fields__) for tag, kind in TAGS.items()}, (
        "give each field a value other than its default in tests/programs/golden.py, "
        "then run: python -m tests.programs.golden tests/data/golden"
    )
    assert {body["outcome"] for body in written if "outcome" in body} == {outcome.value for outcome in Outcome}
    assert {body["settlement"] for body in written if "settlement" in body} == {how.value for how in Settlement}
    assert {body["rung"] for body in written if "rung" in body} == {action.value for action in RecoveryAction}


def test_golden_facts_encode_to_same_bytes(state: Path) -> None:
    """A field that was removed would be missing here."""
    for body in bodies(state / LEDGER_FILE):
        fact = decode_fact(json.dumps(body))
        assert kind_of(fact) == body["fact"]
        assert json.loads(encode_fact(fact)) == body


def test_golden_ledger_equals_ledger_written_now(state: Path, tmp_path: Path) -> None:
    """The same facts, the same rows; a fact may have new fields."""
    write_ledger(tmp_path / "today")
    golden, today = rows(state / LEDGER_FILE), rows(tmp_path / "today" / LEDGER_FILE)

    assert [row[:-1] for row in today] == [row[:-1] for row in golden]
    for before, now in zip(bodies(state / LEDGER_FILE), bodies(tmp_path / "today" / LEDGER_FILE), strict=True):
        assert before.items() <= now.items()


def test_ledger_columns_match_facts(state: Path) -> None:
    """Queries use the columns, rules the body."""
    seq = 0
    for last, count, *_columns, epochs, facts in rows(state / LEDGER_FILE):
        seq += count
        assert (last, count) == (seq, len(facts))
        assert epochs == any(fact["fact"] in OF_ALL_GENERATIONS for fact in facts)


def test_ledger_attempts_match_facts(state: Path) -> None:
    """Each issued attempt with its generation, and whether a result of it was collected."""
    facts = bodies(state / LEDGER_FILE)
    collected = {fact["attempt"] for fact in facts if fact["fact"] == "result_late" or fact.get("answered")}
    with contextlib.closing(sqlite3.connect(state / LEDGER_FILE)) as db:
        found = db.execute("SELECT attempt, generation, collected FROM attempts").fetchall()

    assert {row[0] for row in found} == {fact["attempt"] for fact in facts if fact["fact"] == "attempt_issued"}
    assert {row[0] for row in found if row[2]} == collected
    assert all(name.startswith(f"g{generation:04d}-") for name, generation, _collected in found)


def test_ledger_from_before_evaluator_versions_is_replayed(tmp_path: Path) -> None:
    """Fields that were added have defaults: the version is not known, and that of the first worker counts."""
    shutil.copytree(GOLDEN / "ledger-2-without-evaluators", tmp_path / "state")
    with contextlib.closing(Ledger(tmp_path / "state")) as ledger:
        found = Farm(ledger.farm_id, ["vm-0", "vm-1"])
        replay(ledger.entries(), found, 7)

    assert (found.evaluator_version, found.allows_any_evaluator) == ("", False)
    assert {attempt.wanted_evaluator for attempt in found.attempts.values()} == {""}
    assert found.trial(1, 1).fitness == 41.5


def test_golden_ledger_is_replayed(farm: Callable[[int], Farm]) -> None:
    """The numbers of its generation, as they were when it was written."""
    found = farm(7)

    assert (found.farm_id, found.generation, found.run, found.finished) == (LEDGER_FARM_ID, 7, 2, False)
    assert found.settings == RunSettings(
        trials_per_genome=2,
        seed=5,
        settings={"level": 3, "map": "swamp", "gravity": 9.81, "sound": False},
        evaluator="python play.py",
        time_limit_s=60.0,
        timed_out_fitness=-1.0,
        evaluator_version="0123456789abcdef",
    )
    assert found.evaluator_version == "fedcba9876543210"
    assert [(g.name, g.suffix, g.size_bytes, g.sha256[:4], g.fitness, len(g.charges)) for g in found.genomes] == [
        ("swift.json", ".json", 101, "1111", 42.0, 0),
        ("wrong.json", ".json", 112, "aaaa", None, 0),
        ("slow.bin", ".bin", 103, "3333", 3.125, 0),
        ("poison", "", 104, "4444", None, 3),
        ("late.json", ".json", 105, "5555", None, 0),
    ]
    params = {"elite": False, "layers": 3, "origin": "mutated", "rate": 0.5}
    assert [genome.params for genome in found.genomes] == [{}, {}, params, {}, {}]
    assert +found.settled == Counter({Settlement.COMPLETED: 3, Settlement.FAILED: 2, Settlement.TIMED_OUT: 1})
    assert +found.outcomes == Counter(
        {
            Outcome.COMPLETED: 3,
            Outcome.FAILED: 1,
            Outcome.TIMED_OUT: 1,
            Outcome.INTERRUPTED: 2,
            Outcome.UNDELIVERED: 1,
            Outcome.REJECTED: 1,
            Outcome.LOST: 2,
            Outcome.CORRUPT: 1,
        }
    )
    assert (found.open_trials, found.retries_issued, found.late, found.unexpected) == (4, 7, 1, 1)
    assert found.seconds_played == 37.5
    assert found.noted == {tried(3, 2, 3), tried(9, 9, 9)}
    assert found.spans == [[BEGAN_AT + 5, BEGAN_AT + 30], [BEGAN_AT + 34, BEGAN_AT + 38]]


def test_golden_attempts_are_replayed(farm: Callable[[int], Farm]) -> None:
    """Results, causes of their ends, and what is still wanted."""
    attempts = farm(7).attempts

    played = attempts[tried(1, 1, 1)]
    assert (played.worker, played.epoch, played.number, played.publication) == ("vm-0", 1, 1, 2)
    assert (played.outcome, played.fitness, played.seconds) == (Outcome.COMPLETED, 41.5, 12.5)
    assert played.metrics == {"steps": 120.0, "lives": 2.5}
    assert (played.has_result, played.archived, played.by_host) == (True, True, False)
    assert (played.issued_at, played.claimed_at, played.ended_at) == (BEGAN_AT + 7, BEGAN_AT + 8, BEGAN_AT + 9)
    unseen = attempts[tried(3, 2, 3)]
    assert (unseen.outcome, unseen.left_published, unseen.has_result, unseen.charged) == (
        Outcome.LOST,
        True,
        False,
        False,
    )
    assert unseen.reason == "the share could not be read for 61 s"
    assert attempts[tried(4, 1, 2)].charged
    assert attempts[tried(2, 1, 2)].claimed_at == BEGAN_AT + 38
    assert tried(1, 1, 9) not in attempts, "of a run before"


def test_golden_workers_are_replayed(farm: Callable[[int], Farm]) -> None:
    """Epochs and publications are counted over all generations; one worker is not configured any more."""
    found = farm(7)

    known = [(w.name, w.state, w.epoch, w.epoch_open, w.publications, w.reverting) for w in found.workers.values()]
    assert known == [
        ("vm-0", WorkerState.READY, 2, True, 9, False),
        ("vm-1", WorkerState.READY, 1, True, 6, True),
    ]
    assert list(found.workers["vm-0"].wanted) == [tried(2, 1, 2), tried(5, 1, 1)]
    retired = [(w.name, w.epoch, w.publications) for w in found.retired.values()]
    assert retired == [("vm-2", 1, 1), ("vm-9", 0, 0)]


def test_golden_generations_are_separate(farm: Callable[[int], Farm], state: Path) -> None:
    """Each has its own genomes and attempts."""
    found = farm(8)
    ledger = Ledger(state, read_only=True)

    assert (found.generation, found.run, found.open_trials, list(found.attempts)) == (8, 1, 1, [tried(1, 1, 1, 8)])
    assert found.settings == replace(SETTINGS, seeds="fixed", reuse="same-seeds")
    by = f.ReusedResult(generation=7, evaluator="0123456789abcdef", metrics={"steps": 120.0})
    reused = found.trial(1, 2)
    assert (reused.fitness, reused.decided_by, reused.reused) == (42.5, tried(1, 2, 2), by)
    assert found.workers["vm-0"].publications == 9
    assert ledger.generations() == [7, 8]
    assert (ledger.generation_of(tried(1, 1, 1, 8)), ledger.generation_of(tried(1, 1, 9))) == (8, 7)
    assert ledger.has_collected(tried(3, 2, 3)) and not ledger.has_collected(tried(4, 1, 2))
    assert [kind_of(entry.fact) for entry in ledger.entries_of_shares()].count("epoch_raised") == 4
    ledger.close()


# ----------------------------------------------------------------------------------------------- a ledger of version 1

REFUSAL = (
    "a ledger of version 1, and this pipeline reads version 3 only; use the pipeline that wrote it, "
    "restore the state folder from a backup, or move it away to begin a new farm"
)


@pytest.fixture
def old_project(tmp_path: Path) -> Path:
    """A project whose ledger was written before facts had explicit tags."""
    init(tmp_path / "project")
    shutil.copytree(GOLDEN / "ledger-1", tmp_path / "project" / "state")
    return tmp_path / "project"


def files(root: Path) -> dict[str, bytes]:
    """Everything in a folder but locks and the index of a write-ahead log, which SQLite makes when it reads."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("host.lock") and not path.name.endswith("-shm")
    }


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--gen", "7"),
        ("run", "--gen", "9", "--fresh"),
        ("verify",),
        ("status",),
        ("doctor",),
        ("take-over", "local-1"),
        ("top", "--once"),
        ("explain", "vm-0"),
        ("results", "--all"),
        ("report",),
        ("serve", "--port", "1"),
    ],
    ids=lambda command: command[0],
)
def test_version_1_ledger_is_refused_by_every_command(
    old_project: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """One line has problem, file and fix; nothing else is printed and nothing changes on disk."""
    before = files(old_project)

    code, out, err = pipeline(capsys, *command, "--root", old_project)

    assert (code, out) == (ExitCode.CANNOT_CONTINUE, "")
    assert err == f"pipeline: {old_project.resolve() / 'state' / LEDGER_FILE}: {REFUSAL}\n"
    assert files(old_project) == before


def test_version_1_ledger_is_refused_before_vm_restore(old_project: Path) -> None:
    """`pipeline vm restore` and `remove` record epochs first."""
    before = files(old_project)

    with pytest.raises(LedgerError, match="a ledger of version 1"):
        start_new_epochs(old_project, load_config(old_project), ["vm-0"])

    assert files(old_project) == before


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_version_1_ledger_with_write_ahead_log_is_refused(tmp_path: Path, checkpointed: bool, read_only: bool) -> None:
    """Its last commits, or all of them, are in the write-ahead log; the log is not changed."""
    open_state, left = tmp_path / "open", tmp_path / "state"
    shutil.copytree(GOLDEN / "ledger-1", open_state)
    old = sqlite3.connect(open_state / LEDGER_FILE)
    dump = "\n".join(old.iterdump())
    old.close()
    (open_state / LEDGER_FILE).unlink()
    db = sqlite3.connect(open_state / LEDGER_FILE, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(dump)
    if checkpointed:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("UPDATE farm SET id = 'the last commit'")
    shutil.copytree(open_state, left, ignore=shutil.ignore_patterns("*-shm"))
    db.close()
    before = files(left)
    assert before.keys() == {LEDGER_FILE, f"{LEDGER_FILE}-wal"}

    with pytest.raises(LedgerError, match="a ledger of version 1"):
        Ledger(left, read_only=read_only)

    assert files(left) == before


# -------------------------------------------------------------------------------------------------- a share of layout 1


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A copy of the golden share."""
    shutil.copytree(GOLDEN / f"share-{LAYOUT}", tmp_path / "share")
    return tmp_path / "share"


def test_host_reads_golden_share(share: Path, tmp_path: Path) -> None:
    """Owner, start signals, genomes, heartbeat, claims, and results with their payloads."""
    client = ShareClient(WORKER, FARM, LocalFiles(share), tmp_path / "incoming", lambda *_: b"")
    size = (share / f"inbox/{Kind.START.of(attempt(4))}").stat().st_size
    measure = {attempt(4): (size, len(GENOME_BYTES)), attempt(5): (size, len(GENOME_BYTES))}

    report = client.execute(
        ScanRequest(worker=WORKER, full=True, unanswered=WANTED, wanted=WANTED, expected_sizes=measure)
    )

    look = report.scan
    assert look is not None
    assert (report.error, report.fatal, look.unknown, look.no_folders, look.damaged_epoch) == ("", "", "", False, 0)
    assert look.owner == records.host(2)
    assert look.starts == look.payloads == {attempt(number) for number in (1, 2, 3, 4, 5)}
    assert look.complete == {attempt(4)}
    assert look.claims == {attempt(number) for number in (1, 2, 3)}
    assert look.answers == {attempt(number) for number in (1, 2, 5)}
    first, second, damaged = look.results
    assert (first.attempt, first.log, first.artifacts, first.missing) == (attempt(1), LOG, tuple(ARTIFACTS), ())
    assert first.record is not None
    assert (first.record.outcome, first.record.fitness, first.record.seconds) == (Outcome.COMPLETED, 41.5, 12.5)
    assert (first.record.farm, first.record.worker, first.record.epoch) == (FARM, WORKER, 2)
    assert (first.record.trial, first.record.seed, first.record.genome_sha256) == (1, 7, sha256(GENOME_BYTES))
    assert first.record.metrics == {"steps": 120.0, "lives": 2.5}
    assert (first.record.boot_id, first.record.run_id) == ("7d1c2c1e-boot", "9f2b6a51c0de4e77")
    fetched = {path.name: path.read_bytes() for path in (tmp_path / "incoming" / attempt(1)).iterdir()}
    assert fetched == ARTIFACTS
    assert second.record is not None
    assert (second.record.outcome, second.record.fitness) == (Outcome.FAILED, None)
    assert second.record.reason == "ValueError: no such level"
    assert damaged.record is not None
    assert (damaged.record.outcome, damaged.record.trial, damaged.record.seed) == (Outcome.UNDELIVERED, None, None)


def test_host_reads_heartbeat_of_golden_share(share: Path, tmp_path: Path) -> None:
    """Every field of it."""
    client = ShareClient(WORKER, FARM, LocalFiles(share), tmp_path / "incoming", lambda *_: b"")

    look = client.execute(ScanRequest(worker=WORKER, full=True, unanswered=WANTED, wanted=WANTED)).scan

    assert look is not None
    assert look.heartbeat == records.beat(
        run_id="9f2b6a51c0de4e77",
        counter=4,
        farm=FARM,
        worker=WORKER,
        epoch=2,
        boot_id="7d1c2c1e-boot",
        state=AgentState.PLAYING,
        attempt=attempt(3),
        progress="level 3 of 7",
        versions={"agent": "0.1.0", "python": "3.11.7", "platform": "linux"},
        session="1",
        desktop="Default, 1280x720, Display",
        evaluator="0123456789abcdef",
    )


def test_agent_reads_golden_share(share: Path) -> None:
    """The owner of the highest epoch, the readable start signals, and its own files."""
    lookout = ShareScanner(LocalFiles(share), clock=lambda: 0.0, share_is_local=True, limits=AgentLimits())

    seen = lookout.scan(running=attempt(3))

    assert seen.owner == records.host(2)
    assert seen.present == {attempt(number) for number in (1, 2, 3, 4, 5)}
    settings = {"level": 3, "map": "swamp", "gravity": 9.81, "sound": False}
    assert seen.starts == {
        attempt(number): records.start(number, GENOME_BYTES, epoch=2, settings=settings) for number in (3, 4)
    }
    assert seen.outbox == {
        attempt(1): {Kind.STARTED, Kind.RESULT, Kind.LOG, Kind.FILES},
        attempt(2): {Kind.STARTED, Kind.RESULT},
        attempt(3): {Kind.STARTED},
        attempt(5): {Kind.RESULT},
    }
    assert (dict(seen.undeliverable), seen.running) == ({}, attempt(3))


def test_golden_share_equals_share_written_now(share: Path, tmp_path: Path) -> None:
    """Same files, same payloads; a record may have new fields. The reason of a damaged record is a library's."""
    write_share(tmp_path / "today")

    golden, today = files(share), files(tmp_path / "today")
    assert today.keys() == golden.keys()
    for name, data in golden.items():
        if name.endswith(".json") and name != f"inbox/{Kind.START.of(attempt(5))}":
            before, now = json.loads(data), json.loads(today[name])
            assert {**before, "reason": ""}.items() <= {**now, "reason": ""}.items(), name
        else:
            assert today[name] == data, name


# ------------------------------------------------------------------------------------------------ a share of layout 1


@pytest.fixture
def old_share(tmp_path: Path) -> Path:
    """A share as the host and the agent of layout 1 left it."""
    shutil.copytree(GOLDEN / "share-1", tmp_path / "old-share")
    return tmp_path / "old-share"


def test_host_refuses_share_of_layout_1_in_one_line(old_share: Path, tmp_path: Path) -> None:
    """Owner and heartbeat are of another version, both named; a result is refused at once and not read again."""
    client = ShareClient(WORKER, FARM, LocalFiles(old_share), tmp_path / "incoming", lambda *_: b"")

    scan = client.execute(ScanRequest(worker=WORKER, full=True, unanswered=WANTED, wanted=WANTED)).scan

    assert scan is not None
    assert (scan.owner, scan.damaged_epoch) == (None, 2)
    assert scan.damage == "2.host.json: layout 1, this program uses layout 2"
    assert (scan.heartbeat, scan.unknown_heartbeat) == (None, "layout 1, this program uses layout 2")
    assert [result.unknown_layout for result in scan.results] == [True, True, True]


def test_agent_refuses_share_of_layout_1_in_one_line(old_share: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It claims nothing, removes nothing and says why, once."""
    before = files(old_share)
    scanner = ShareScanner(LocalFiles(old_share), clock=lambda: 0.0, share_is_local=True, limits=AgentLimits())

    states = [scanner.scan(running=None) for _ in range(3)]

    assert [state.owner for state in states] == [None, None, None]
    assert files(old_share) == before
    (record,) = caplog.records
    assert record.getMessage() == (
        "nothing is played: 2.host.json: layout 1, this program uses layout 2; "
        "install the same version on host and agent"
    )
