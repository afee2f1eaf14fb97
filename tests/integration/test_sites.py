"""A site and its host, over a link in this process: requests, files by digest, what is unknown, and what is not."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from inbox_agent.arguments import LOCK
from inbox_agent.protocol.layout import StartRecord
from inbox_agent.system.file_lock import FileLock, holder_of
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState
from pipeline.core.requests import MachineAction
from pipeline.errors import HostError
from pipeline.machines.sites import losses
from pipeline.machines.sites.messages import (
    ANSWER_BYTES_MAX,
    CHUNK_BYTES,
    Execute,
    Refused,
    SiteDone,
    StoreChunk,
    decode_request,
    encode,
)
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_server import folder_name
from tests.harness import records
from tests.harness.records import GENOME, attempt, sha256
from tests.harness.site_harness import WORKER, SiteHarness
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteHarness]:
    """An open site with an empty share; no agent runs."""
    site = SiteHarness(tmp_path)
    site.open()
    yield site
    site.close()


def start(genome: bytes = GENOME, number: int = 1) -> StartRecord:
    return records.start(number, genome, worker=WORKER)


def sent(site: SiteHarness) -> list[Execute | StoreChunk]:
    """The messages about shares and contents."""
    found = map(decode_request, site.link.messages)
    return [message for message in found if isinstance(message, Execute | StoreChunk)]


def contents(site: SiteHarness) -> int:
    """How many genomes have travelled."""
    return sum(len(message.contents) if isinstance(message, Execute) else message.offset == 0 for message in sent(site))


# --------------------------------------------------------------------------------------------------------- requests


def test_genome_is_published_in_the_share_on_the_site(site: SiteHarness) -> None:
    """It comes along with the request."""
    site.genomes[sha256(GENOME)] = GENOME

    response = site.act(publish=(start(),))

    assert response.sent == {attempt(1): True}
    assert site.files.read(f"inbox/{attempt(1)}.genome", 100) == GENOME
    assert site.files.size(f"inbox/{attempt(1)}.start.json") > 0


def test_genome_travels_once(site: SiteHarness) -> None:
    """The site keeps it, for other trials."""
    site.genomes[sha256(GENOME)] = GENOME

    for number in (1, 2, 3):
        assert site.act(publish=(start(number=number),)).sent == {attempt(number): True}

    assert contents(site) == 1


def test_genome_that_the_site_has_lost_travels_again(site: SiteHarness) -> None:
    """It says what it lacks."""
    site.genomes[sha256(GENOME)] = GENOME
    site.act(publish=(start(),))
    (site.paths.store / sha256(GENOME)).unlink()

    assert site.act(publish=(start(number=2),)).sent == {attempt(2): True}
    assert contents(site) == 2


def test_large_genome_travels_in_parts(site: SiteHarness, tmp_path: Path) -> None:
    """Each part has its own time limit."""
    genome = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"end"
    (tmp_path / "large").write_bytes(genome)
    site.genomes[sha256(genome)] = tmp_path / "large"

    assert site.act(publish=(start(genome),)).sent == {attempt(1): True}
    assert [len(message.data) for message in sent(site) if isinstance(message, StoreChunk)] == [
        CHUNK_BYTES,
        CHUNK_BYTES,
        3,
    ]


def test_damaged_snapshot_ends_the_host_and_not_the_site(site: SiteHarness) -> None:
    """It is this computer's disk that failed."""

    def damaged(_sha256: str, _name: str) -> bytes:
        raise HostError("a snapshot is damaged")

    object.__setattr__(site.site._host, "genome", damaged)

    assert site.act(publish=(start(),)).fatal == "a snapshot is damaged"
    assert site.site.notifies


def test_second_request_to_a_busy_share_is_refused(site: SiteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one may hang on a disk; what it will do is unknown."""
    monkeypatch.setattr("pipeline.machines.sites.site.TURN_LIMIT_S", 0.01)
    busy = site.server._sites[records.FARM]._turns[WORKER]
    with busy:
        response = site.scan()

    assert response.scan is not None
    assert response.scan.unknown == "its site still executes an earlier request"


# -------------------------------------------------------------------------------------------------------- artifacts


def test_artifacts_are_on_this_disk_before_the_result_is_judged(site: SiteHarness) -> None:
    """A large one in parts."""
    large = b"x" * (CHUNK_BYTES + 1)
    site.publish_result(1, small=b"small", large=large)

    scan = site.scan(1).scan

    assert scan is not None
    assert [result.artifacts for result in scan.results] == [("small", "large")]
    assert scan.results[0].record is not None
    assert scan.results[0].record.fitness == records.result().fitness
    assert (site.incoming / attempt(1) / "large").read_bytes() == large


def test_artifacts_beyond_the_budget_of_the_host_are_left_out(site: SiteHarness) -> None:
    """The result counts without them."""
    site.room._limits = replace(site.room._limits, worker_artifact_bytes_max=4)
    site.publish_result(1, small=b"four", large=b"more than four")

    scan = site.scan(1).scan

    assert scan is not None
    assert scan.results[0].artifacts == ("small",)
    assert scan.results[0].missing == ("large (over worker_artifact_bytes_max)",)


def test_artifact_that_is_lost_on_the_way_is_fetched_by_the_next_scan(site: SiteHarness) -> None:
    """Until then nothing of its result is here, and its room is free again."""
    site.publish_result(1, small=b"small")
    site.link.altered = lambda answer: answer if b"Executed" in answer[:40] else b""

    assert site.scan(1).scan is not None
    assert not list(site.incoming.rglob("small"))

    site.link.altered = lambda answer: answer
    assert eventually(lambda: site.site.notifies)
    scan = site.scan(1).scan
    assert scan is not None
    assert scan.results[0].artifacts == ("small",)
    assert site.room._by_worker[WORKER] == len(b"small")


# ------------------------------------------------------------------------------------------------ what is unknown


@pytest.mark.parametrize(
    "answer",
    [None, 7, b"", b"junk", bytes(ANSWER_BYTES_MAX + 1), encode(SiteDone()), encode(Refused(reason="no"))],
    ids=["nothing", "a number", "no bytes", "junk", "too large", "another answer", "refused"],
)
def test_hostile_answer_makes_the_site_unknown_until_it_answers_well(site: SiteHarness, answer: object) -> None:
    """Each share of it, and nothing else; the host goes on."""
    site.link.altered = lambda _answer: answer

    response = site.scan(1)

    assert not response.fatal
    assert response.scan is not None
    assert response.scan.unknown.startswith("site alice: ")
    assert "\n" not in response.scan.unknown
    site.link.altered = lambda answer: answer
    assert eventually(lambda: site.site.notifies)
    scan = site.scan(1).scan
    assert scan is not None
    assert not scan.unknown


def test_site_that_does_not_answer_makes_its_shares_unknown(site: SiteHarness) -> None:
    """And the state of its agents; nothing else follows."""
    site.link.problem = "no answer in 6 s"

    response = site.act(publish=())

    assert response.error == "site alice: no answer in 6 s"
    assert response.scan is not None
    assert response.scan.unknown == "site alice: no answer in 6 s"
    assert site.site.status()[WORKER].state is MachineState.UNKNOWN


def test_unknown_site_answers_at_once(site: SiteHarness) -> None:
    """No thread of the executor waits for it."""
    site.link.problem = "no answer"
    site.scan()
    site.link.messages.clear()

    for _ in range(3):
        assert site.scan().scan is not None
    assert site.link.messages == []


def test_call_that_fails_late_does_not_make_an_opened_site_unknown(site: SiteHarness) -> None:
    """It began before the site was opened again."""
    opening = site.site._openings
    site.restart()
    assert eventually(lambda: site.site._openings > opening and site.site.notifies)

    site.site._lose(SiteUnavailable("no answer"), opening)

    assert site.site.notifies


def test_publication_that_may_have_been_made_is_not_confirmed(site: SiteHarness) -> None:
    """The next full scan finds it."""
    site.genomes[sha256(GENOME)] = GENOME

    def lost(_answer: bytes) -> object:
        site.link.problem = "its connection has ended"
        return b""

    site.link.altered = lost
    assert site.act(publish=(start(),)).sent == {attempt(1): False}

    site.link.problem, site.link.altered = "", lambda answer: answer
    assert eventually(lambda: site.site.notifies)
    scan = site.scan().scan
    assert scan is not None
    assert scan.starts == {attempt(1)}


def test_site_is_opened_again_over_the_same_folder(site: SiteHarness) -> None:
    """A new process finds the shares of the one before."""
    site.genomes[sha256(GENOME)] = GENOME
    site.act(publish=(start(),))
    site.restart()

    assert eventually(lambda: site.scan().scan.starts == {attempt(1)})  # type: ignore[union-attr]


def test_order_that_comes_after_a_long_silence_is_not_carried_out(tmp_path: Path) -> None:
    """It may have waited in a network that was cut, while the host has decided otherwise."""
    site = SiteHarness(tmp_path, silence_limit_s=5.0)
    site.open()
    site.genomes[sha256(GENOME)] = GENOME
    site.act(publish=(start(),))
    late = site.link.messages[-1]
    site.link.problem = "no answer"
    site.site._closed.set()
    site.files.remove([f"inbox/{attempt(1)}.start.json"])
    site.server._asked_at[records.FARM] -= 10.0

    assert b"NotOpen" in site.server.answer(late)

    assert f"{attempt(1)}.start.json" not in site.files.names("inbox")
    site.close()


# -------------------------------------------------------------------------------------------------- bells and agents


def test_new_result_is_reported_at_once(site: SiteHarness) -> None:
    """No poll is waited for."""
    site.bells.notified.clear()
    site.publish_result(1)

    assert eventually(lambda: site.bells.notified == {WORKER}, within_s=10)


def test_agent_is_started_and_its_end_is_reported(site: SiteHarness) -> None:
    """By the site, which watches its process."""
    site.sites.execute(MachineAction(WORKER, None))
    assert eventually(lambda: site.sites.status()[WORKER].state is MachineState.RUNNING)

    site.server._sites[records.FARM]._agents._machines.power_off(WORKER)

    assert eventually(lambda: site.sites.status()[WORKER].state is MachineState.OFF)


def test_agent_that_is_being_started_is_not_reported_as_ended(site: SiteHarness) -> None:
    """Until the site has answered, its state is unknown."""
    release = threading.Event()

    def held(answer: object) -> object:
        if threading.current_thread().name == f"agent-{WORKER}":
            release.wait(PATIENCE_S)
        return answer

    site.open()
    site.link.altered = held
    site.site.act(MachineAction(WORKER, None))
    status = site.sites.status()[WORKER]
    assert (status.state, status.busy) == (MachineState.UNKNOWN, True)

    release.set()
    assert eventually(lambda: site.sites.status()[WORKER].state is not MachineState.UNKNOWN)
    assert site.sites.status()[WORKER].state is MachineState.RUNNING


def test_site_that_a_host_has_not_used_keeps_the_agents_that_play(site: SiteHarness) -> None:
    """They play on for the host before, although the next one cannot begin yet."""
    site.open()
    site.site.act(MachineAction(WORKER, None))
    assert eventually(lambda: site.sites.status()[WORKER].state is MachineState.RUNNING)
    site.limit()
    site.site.is_used = False
    site.site.listen(site.bells)
    assert eventually(lambda: site.site.notifies)

    site.site.close()

    assert site.server._sites[records.FARM]._agents.pid(WORKER) is not None


def test_answer_that_comes_late_does_not_replace_a_newer_one(site: SiteHarness) -> None:
    """An agent that was started meanwhile would seem to have ended."""
    states: list[MachineState] = []
    is_held, release = threading.Event(), threading.Event()

    def held(answer: object) -> object:
        if threading.current_thread().name == "site-alice" and not release.is_set():
            is_held.set()
            release.wait(PATIENCE_S)
        return answer

    site.open()
    site.link.altered = held
    assert is_held.wait(PATIENCE_S)
    site.site.act(MachineAction(WORKER, None))
    assert eventually(lambda: site.sites.status()[WORKER].state is MachineState.RUNNING)
    site.bells.on_sweep = lambda: states.append(site.sites.status()[WORKER].state)
    messages = len(site.link.messages)
    release.set()

    assert eventually(lambda: len(site.link.messages) > messages)
    assert MachineState.OFF not in states


def test_restore_of_an_earlier_host_is_not_reported(site: SiteHarness) -> None:
    """A restore ends the epoch of a share; that of an earlier host has ended one already."""
    site.sites.execute(MachineAction(WORKER, RecoveryAction.RESTORE))
    assert eventually(lambda: site.sites.status()[WORKER].reverted)

    earlier, site.site = site.site, None  # type: ignore[assignment]
    earlier._closed.set()
    site.limit()
    site.open()

    assert not site.sites.status()[WORKER].reverted


_OTHER_PROCESS = """
import sys
import msgspec
from pathlib import Path
from pipeline.machines.sites.messages import OpenSite, RunAgent
from pipeline.machines.sites.site import Site
settings = msgspec.json.decode(sys.argv[2], type=OpenSite)
site = Site(Path(sys.argv[1]), settings)
site.run_agent(RunAgent(farm=settings.farm, worker=settings.workers[0]))
print(site._agents.pid(settings.workers[0]), flush=True)
sys.stdin.read()
"""


def test_agent_that_was_left_behind_is_killed_first(tmp_path: Path) -> None:
    """It would end by itself, as its parent has ended; this one hangs. Two agents never play one share."""
    site = SiteHarness(tmp_path)
    arguments = [str(site.paths.folder), msgspec.json.encode(site.settings).decode()]
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        agent = psutil.Process(int(other.stdout.readline()))
        lock = site.paths.project.agent_state(WORKER) / LOCK
        assert eventually(lambda: holder_of(lock) == str(agent.pid))
        agent.suspend()
        other.kill()

    site.open()

    assert not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE
    site.close()


def test_site_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    """Until that process has ended."""
    site = SiteHarness(tmp_path)
    lock = FileLock(site.paths.lock)
    site.site.listen(site.bells)
    assert eventually(lambda: "is in use by process" in site.sites.status()[WORKER].note)

    lock.release()

    assert eventually(lambda: site.site.notifies)
    site.close()


def test_site_with_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    """It says what to do."""
    site = SiteHarness(tmp_path, version="99.0")
    site.site.listen(site.bells)

    assert eventually(lambda: "the host has 99.0; install the same" in site.site.refusal)
    assert "the host has 99.0" in site.site.status()[WORKER].note
    site.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_restart_of_a_site_is_said_once(
    site: SiteHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has several problems meanwhile; and once that it is back."""
    monkeypatch.setattr("pipeline.machines.sites.remote_site.RETRY_MAX_S", 0.01)
    site.server.close()
    assert eventually(lambda: "its process ends" in site.sites.status()[WORKER].note)
    for problem in ("no connection: nothing listens there", "the Dask scheduler knows no worker alice"):
        site.link.problem = problem
        assert eventually(lambda: problem in site.sites.status()[WORKER].note)  # noqa: B023
    lock = FileLock(site.paths.lock)
    site.link.problem = ""
    site.restart()
    assert eventually(lambda: "is in use by process" in site.sites.status()[WORKER].note)
    lock.release()
    assert eventually(lambda: site.site.notifies)

    lost, back = warnings(caplog)
    assert lost == "site alice: its process ends; its workers are unknown"
    assert back == "site alice: it answers again"


def test_refusal_that_lasts_is_said_after_the_loss(
    site: SiteHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs a change on that computer."""
    monkeypatch.setattr("pipeline.machines.sites.remote_site.RETRY_MAX_S", 0.01)
    monkeypatch.setattr(losses, "STEADY_S", 0.05)
    site.server.close()
    lock = FileLock(site.paths.lock)
    site.restart()

    assert eventually(lambda: len(warnings(caplog)) == 2)
    assert "is in use by process" in warnings(caplog)[1]
    lock.release()


def test_closed_site_has_no_agents(site: SiteHarness) -> None:
    """And another host may open it."""
    site.sites.execute(MachineAction(WORKER, None))
    assert eventually(lambda: site.sites.status()[WORKER].state is MachineState.RUNNING)
    machines = site.server._sites[records.FARM]._agents._machines

    site.sites.close()

    assert machines.info(WORKER).state.value == "off"
    FileLock(site.paths.lock).release()


def test_name_of_a_site_may_be_any_text() -> None:
    """Different names have different folders, and none leads elsewhere."""
    names = ["a/b", "a-b", "../x", "a b", "", "x" * 300]
    folders = list(map(folder_name, names))
    assert len(set(folders)) == len(names)
    assert not [folder for folder in folders if "/" in folder or "." in folder or len(folder) > 60]
