"""Hostile bytes and names in every place of a share that may have a record, read by both sides.

Neither side crashes or accepts them, memory stays bounded, nothing outside of the share is touched. The parsers'
results: `test_share_names.py`, `test_share_records.py` and `test_collecting.py`.
"""

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inbox_agent.agent import Agent
from inbox_agent.evaluation.protocol import EvaluationJob, EvaluationResult
from inbox_agent.evaluation.versioned import EvaluatorSource, FilesState, VersionedEvaluator
from inbox_agent.identity import AgentIdentity
from inbox_agent.protocol.layout import (
    HEARTBEAT,
    INBOX,
    OUTBOX,
    RECORD_BYTES_MAX,
    STAGING,
    STATUS,
    Kind,
    Outcome,
    encode,
    host_name,
)
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.core.echo import Echo, echo_problem
from pipeline.core.observation import CollectedResult
from pipeline.core.requests import ScanRequest
from pipeline.shares.result_collector import READS_MAX
from pipeline.shares.share_client import ShareClient
from tests.harness import records
from tests.harness.records import FARM, GENOME, WORKER, attempt, of_another_version

WHOLE = encode(records.result())

CORPUS = {
    "empty": b"",
    "zeros": bytes(4096),
    "half": WHOLE[: len(WHOLE) // 2],
    "torn in the last byte": WHOLE.rstrip()[:-1],
    "twice": WHOLE + WHOLE,
    "byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "utf-16": WHOLE.decode().encode("utf-16"),
    "lone surrogate": WHOLE.replace(b'"boot"', rb'"\ud800"'),
    "not utf-8": WHOLE.replace(b'"boot"', b'"\xff\xfe"'),
    "control characters": WHOLE.replace(b'"boot"', rb'"\u001b[2J\u0000"'),
    "NaN": WHOLE.replace(b"2.5", b"NaN"),
    "infinite": WHOLE.replace(b"2.5", b"1e999"),
    "huge integer": WHOLE.replace(b'"trial": 1', b'"trial": ' + b"9" * 5000),
    "duplicate keys": WHOLE.replace(b'"trial": 1', b'"trial": 1, "trial": 2'),
    "deep": b"[" * (RECORD_BYTES_MAX - 1),
    "deep object": b'{"layout":' * (RECORD_BYTES_MAX // 10),
    "too large": WHOLE + b" " * RECORD_BYTES_MAX,
    "a list": b"[1]",
    "null": b"null",
    "wrong types": b'{"layout": "1", "attempt": 7, "fitness": "high"}',
    "of another layout": of_another_version(records.result()),
    "of another attempt": encode(records.result(2)),
    "of another genome": encode(records.result(genome_sha256="f" * 64)),
    "of another farm": encode(records.result(farm="another")),
    "a name that leaves": WHOLE.replace(b'"artifacts": []', b'"artifacts": [{"name": "../../x"}]'),
}
WANTED = frozenset({attempt(1)})
REQUEST = ScanRequest(worker=WORKER, full=True, unanswered=WANTED, wanted=WANTED)
NAMES = ["..", "...", "a:b", "CON", "nul.result.json", "x" * 240, "..result.json", " .started.json", "é.start.json"]


def places(number: int = 1) -> dict[str, str]:
    """The places for records."""
    return {
        "whose share": f"{INBOX}/{host_name(2)}",
        "start signal": f"{INBOX}/{Kind.START.of(attempt(number))}",
        "claim": f"{OUTBOX}/{Kind.STARTED.of(attempt(number))}",
        "result": f"{OUTBOX}/{Kind.RESULT.of(attempt(number))}",
        "heartbeat": f"{STATUS}/{HEARTBEAT}",
    }


class FinishedEvaluator:
    """An evaluator whose evaluations end at once."""

    progress, loads, is_unused, reads_files_at_each_game = "", 1, True, False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, timeout_s: float) -> bool:
        return True

    def unload(self) -> None: ...

    def prepare(self, suffix: str) -> Path:
        return self._folder / f"genome{suffix}"

    def start(self, job: EvaluationJob) -> None: ...

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        return EvaluationResult(outcome=Outcome.COMPLETED, fitness=1.0, seconds=1.0)

    def stop(self) -> None: ...

    def close(self) -> None: ...


class NoWait:
    """A wait function without notifications."""

    def wait(self, timeout_s: float) -> bool:
        return False


@dataclass
class HostileHarness:
    """An agent on a share of real files, and a clock that the test moves."""

    agent: Agent
    files: LocalFiles
    clock: list[float]

    @property
    def root(self) -> Path:
        return self.files.root

    def rounds(self, count: int) -> None:
        """Runs rounds of the agent's loop, a second apart."""
        for _ in range(count):
            self.agent.step()
            self.agent.wait(0.0)
            self.clock[0] += 1.0


def publish_start(files: LocalFiles) -> None:
    """Writes the files of a host: host.json, the genome, the start signal."""
    files.publish(f"{INBOX}/{host_name(1)}", encode(records.host()))
    files.write(f"{INBOX}/{Kind.GENOME.of(attempt(1))}", GENOME)
    files.publish(f"{INBOX}/{Kind.START.of(attempt(1))}", encode(records.start()))


@pytest.fixture
def agent(tmp_path: Path) -> HostileHarness:
    """A share with one attempt, an agent, and a file outside of the share that must stay unchanged."""
    (tmp_path / "secret.json").write_bytes(WHOLE)
    files, clock = LocalFiles(tmp_path / "share"), [0.0]
    files.root.mkdir()
    files.make_folders()
    publish_start(files)
    identity = AgentIdentity(boot_id="boot", run_id="run")
    source = EvaluatorSource(FinishedEvaluator(tmp_path), lambda: FilesState(records.VERSION, 0, {}))
    evaluator = VersionedEvaluator(source)
    return HostileHarness(Agent(files, evaluator, identity, NoWait(), clock=lambda: clock[0]), files, clock)


@pytest.fixture
def host(agent: HostileHarness, tmp_path: Path) -> ShareClient:
    """The host's side of the same share."""
    return ShareClient(WORKER, FARM, LocalFiles(agent.root), tmp_path / "incoming", lambda *_: b"")


@pytest.fixture(autouse=True)
def nothing_outside_is_touched(tmp_path: Path) -> Iterator[None]:
    """After every test the file beside the share is unchanged and the only one."""
    yield
    assert (tmp_path / "secret.json").read_bytes() == WHOLE
    assert {path.name for path in tmp_path.iterdir()} <= {"secret.json", "share", "incoming", "genome.bin"}


@pytest.mark.parametrize("place", places())
@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_hostile_bytes_are_not_counted(agent: HostileHarness, host: ShareClient, place: str, data: bytes) -> None:
    """The host counts only results for its attempt; the agent continues or waits, and evaluates once."""
    path = agent.root / places()[place]
    path.unlink(missing_ok=True)
    path.write_bytes(data)

    for _ in range(READS_MAX):
        report = host.execute(REQUEST)
        agent.rounds(2)

    assert not report.fatal
    assert report.scan is not None
    for seen in report.scan.results:
        assert seen.problem.isprintable()
        assert not answers_what_was_asked(seen) or (agent.root / places()["result"]).read_bytes() != data


def answers_what_was_asked(seen: CollectedResult) -> bool:
    """Whether the core would count it: of this farm and this worker, with the right echoes."""
    asked = Echo(attempt(1), 1, 7, records.sha256(GENOME), records.VERSION)
    record = seen.record
    return record is not None and (record.farm, record.worker) == (FARM, WORKER) and not echo_problem(record, asked)


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("folder", [INBOX, OUTBOX, STATUS])
def test_hostile_names_are_ignored(agent: HostileHarness, host: ShareClient, folder: str, name: str) -> None:
    """The files are left alone; the attempt beside them is evaluated and collected."""
    litter = agent.root / folder / name.replace("..", "__dots__" if name == ".." else "..")
    litter.write_bytes(WHOLE)

    agent.rounds(3)
    scan = host.execute(REQUEST).scan

    assert scan is not None
    assert [seen.attempt for seen in scan.results] == [attempt(1)]
    assert litter.read_bytes() == WHOLE


@pytest.mark.parametrize("litter", ["x/y", "x"])
@pytest.mark.parametrize("folder", [INBOX, OUTBOX])
def test_folder_in_staging_folder_is_ignored(
    agent: HostileHarness, host: ShareClient, folder: str, litter: str
) -> None:
    """A file that cannot be removed neither makes the share unreadable nor stops evaluations."""
    (agent.root / folder / STAGING / litter).mkdir(parents=True)

    agent.rounds(3)
    scans = [host.execute(REQUEST).scan for _ in range(3)]

    assert [(scan.unknown, scan.owner) for scan in scans if scan] == [("", records.host())] * 3
    assert scans[0] is not None
    assert [seen.attempt for seen in scans[0].results] == [attempt(1)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs and no free links here")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", places())
@pytest.mark.parametrize("trap", ["fifo", "folder", "link", "link to a folder", "dangling link"])
def test_special_files_do_not_block(
    agent: HostileHarness, host: ShareClient, tmp_path: Path, place: str, trap: str
) -> None:
    """Only regular files are opened; nothing is followed or waited for."""
    path = agent.root / places()[place]
    path.unlink(missing_ok=True)
    match trap:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            (path / "x").mkdir(parents=True)
        case "link":
            path.symlink_to(tmp_path / "secret.json")
        case "link to a folder":
            path.symlink_to(tmp_path)
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")

    for _ in range(READS_MAX):
        report = host.execute(REQUEST)
        agent.rounds(2)

    assert not report.fatal
    assert not (tmp_path / "nothing").exists()


@pytest.mark.timeout(110)
@pytest.mark.parametrize(("folder", "kind"), [(INBOX, Kind.START), (INBOX, Kind.GENOME), (OUTBOX, Kind.LOG)])
def test_flood_of_files_uses_bounded_memory(agent: HostileHarness, host: ShareClient, folder: str, kind: Kind) -> None:
    """Many files cost no more memory than their names, and neither side loses its own files."""
    for number in range(100_000):
        name = kind.of(f"g0007-0042-t1-a1-{number:012d}")
        os.close(os.open(agent.root / folder / name, os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()

    report = host.execute(REQUEST)
    agent.rounds(1)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert report.scan is not None
    assert "a flood" in report.scan.unknown
    assert peak_bytes < 100 * 2**20
    # Only the host writes in `inbox/`: a flood of start signals makes it invalid, and the agent stops its heartbeat.
    assert (agent.root / STATUS / HEARTBEAT).exists() == (kind is not Kind.START)
    assert (agent.root / INBOX / Kind.GENOME.of(attempt(1))).exists()
