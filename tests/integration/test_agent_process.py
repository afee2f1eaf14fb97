"""`inbox-agent` as a process: what keeps a second one out, and what a request to stop leaves."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from inbox_agent.protocol.layout import Outcome, ResultRecord, decode, encode
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.file_lock import FileLock
from tests.harness import records
from tests.harness.records import GENOME
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


GAME = """
import time

def play(genome, trial):
    print("playing", flush=True)
    time.sleep(600)
"""


class AgentProcesses:
    """A share, and agents of it with state folders of their own."""

    def __init__(self, root: Path) -> None:
        self.root, self.share = root, root / "share"
        self.share.mkdir()
        LocalFiles(self.share).make_folders()
        (root / "game.py").write_text(GAME)
        self._agents: list[subprocess.Popen[str]] = []

    def start(self, state: str, *options: str) -> "subprocess.Popen[str]":
        words = ["--share", str(self.share), "--state", str(self.root / state), "--folder", str(self.root), *options]
        agent = subprocess.Popen(
            [sys.executable, "-m", "inbox_agent", *words, "--python", "game:play"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._agents.append(agent)
        return agent

    def start_first(self, *options: str) -> "subprocess.Popen[str]":
        agent = self.start("first", *options)
        assert eventually((self.share / "status/agent.json").exists)
        return agent

    def start_game(self) -> str:
        """Publishes a start signal as a host does, and waits until it is claimed; returns the attempt."""
        files = LocalFiles(self.share)
        start = records.start(1, evaluator=None)
        files.publish("inbox/1.host.json", encode(records.host()))
        files.deliver(f"inbox/{start.attempt}.genome", GENOME, f"inbox/{start.attempt}.start.json", encode(start))
        assert eventually((self.share / f"outbox/{start.attempt}.started.json").exists)
        return start.attempt

    def close(self) -> None:
        for agent in self._agents:
            agent.kill()
            agent.communicate()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[AgentProcesses]:
    started = AgentProcesses(tmp_path)
    yield started
    started.close()


def test_second_agent_of_a_share_is_refused(agents: AgentProcesses) -> None:
    """Also with another state folder: the lock is in the share."""
    first = agents.start_first()

    second = agents.start("second")

    assert second.wait(PATIENCE_S) == 3
    assert second.stderr is not None
    assert f"agent.lock is in use by process {first.pid}" in second.stderr.read()
    assert first.poll() is None


def test_agent_of_another_make_is_kept_out_by_the_lock(agents: AgentProcesses) -> None:
    """Whatever holds the lock that share_layout.md names is an agent."""
    lock = FileLock(agents.share / "status/agent.lock")
    try:
        assert agents.start("first").wait(PATIENCE_S) == 3
    finally:
        lock.release()


def test_killed_agent_leaves_no_lock(agents: AgentProcesses) -> None:
    """The operating system releases it."""
    first = agents.start_first()
    first.kill()
    first.wait()
    (agents.share / "status/agent.json").unlink()

    agents.start_first()


def test_share_that_cannot_be_locked_is_one_line(agents: AgentProcesses) -> None:
    """Exit code 2, and what to do about it."""
    (agents.share / "status/agent.lock").mkdir()

    agent = agents.start("first")

    assert agent.wait(PATIENCE_S) == 2
    assert agent.stderr is not None
    said = agent.stderr.read()
    assert "agent.lock cannot be locked" in said
    assert "--foreign-disk" in said
    assert "Traceback" not in said


def test_agent_on_foreign_disk_takes_no_lock_there(agents: AgentProcesses) -> None:
    """The lock of a machine says nothing about agents on another one, and a network share may have none."""
    (agents.share / "status/agent.lock").mkdir()

    agents.start_first("--foreign-disk", "--beat", "0.2", "--poll", "0.1")


@pytest.mark.parametrize("request_to_stop", [signal.SIGTERM, signal.SIGINT])
def test_request_to_stop_is_reported_for_the_running_game(agents: AgentProcesses, request_to_stop: int) -> None:
    """The result says that the agent was stopped, so that no genome is charged; the game's process is gone."""
    agent = agents.start_first()
    attempt = agents.start_game()
    games = psutil.Process(agent.pid).children(recursive=True)

    agent.send_signal(request_to_stop)

    assert agent.wait(PATIENCE_S) == 0
    name = f"{attempt}.result.json"
    result = decode(ResultRecord, (agents.share / "outbox" / name).read_bytes(), name)
    assert (result.outcome, result.agent_stopped) == (Outcome.INTERRUPTED, True)
    assert games
    assert not any(game.is_running() for game in games)
