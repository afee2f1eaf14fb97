"""No process outlives its agent: agents are killed, and their games are looked for."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from inbox_agent.system.process_tree import (
    AgentAlreadyRunning,
    ProcessTree,
    kill_leftovers,
    may_start_later,
    wait_for_exit,
)
from tests.harness.evaluator_harness import SCRIPTED, has_ended, is_gone
from tests.harness.waiting import eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="on Windows the kernel ends the processes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an orphan to the agent, and has the limit")

AGENT = """
import os, sys
from subprocess import DEVNULL
from pathlib import Path
from inbox_agent.system.process_tree import ProcessTree
processes = ProcessTree(Path("processes"))
silent = dict(stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
processes.spawn([sys.executable, "-c", sys.argv[1]], cwd=Path.cwd(), env=os.environ, **silent)
sys.stdin.read()
"""
#: A game with a child in its own session and an orphan; it writes its id when it is complete.
GAME = """
from scripted import *
spawn(SLEEPER, "own-session", start_new_session=True)
spawn(ORPHAN, "parent").wait()
Path("game").write_text(str(os.getpid()))
hang()
"""
#: A game that has started a daemon, which hides from it.
HIDING = """
from scripted import *
spawn(DAEMON, "parent").wait()
while not (Path("daemon").exists() and Path("daemon").read_text()):
    time.sleep(0.01)
Path("game").write_text(str(os.getpid()))
hang()
"""
PYTHONPATH = os.pathsep.join(filter(None, (str(SCRIPTED), os.environ.get("PYTHONPATH"))))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PYTHONPATH}
SILENT: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass
class AgentProcess:
    """An agent process with a process tree in `folder`, and the game that it started."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    def pid(self, note: str) -> int:
        return int((self.folder / note).read_text())

    @property
    def leftovers(self) -> list[int]:
        """The processes of its game that still run."""
        notes = [note for note in ("game", "own-session", "orphan", "daemon") if (self.folder / note).exists()]
        return [pid for pid in map(self.pid, notes) if not has_ended(pid)]

    def is_killed(self) -> None:
        """SIGKILL, or its equivalent on Windows: no chance to clean up."""
        self.process.kill()
        self.process.wait()


def is_there(path: Path) -> Callable[[], bool]:
    return lambda: path.exists() and path.read_text(encoding="utf-8") != ""


@contextmanager
def agent_in(folder: Path, game: str) -> Iterator[AgentProcess]:
    """An agent that has started a game, which is complete."""
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, game], cwd=folder, env=ENVIRONMENT, **{**SILENT, "stdin": subprocess.PIPE}
    )
    assert process.stdin is not None
    agent = AgentProcess(process, folder)
    try:
        assert eventually(is_there(folder / "game"), 15)
        yield agent
    finally:
        agent.is_killed()
        process.stdin.close()
        for pid in agent.leftovers:
            psutil.Process(pid).kill()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    with agent_in(tmp_path, GAME) as agent:
        yield agent


@pytest.fixture
def innocent() -> Iterator["subprocess.Popen[bytes]"]:
    process = sleeper()
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProcessTree]:
    tree = ProcessTree(tmp_path / "mine")
    yield tree
    tree.close()


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def begin(tree: ProcessTree, code: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Starts a game in the process tree and waits until it is complete."""
    (folder / "game").unlink(missing_ok=True)
    process = tree.spawn([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, **SILENT)
    assert eventually(is_there(folder / "game"), 15)
    return process


@pytest.mark.needs(*([] if sys.platform == "win32" else ["setpriv"]))
def test_child_dies_with_killed_agent(agent: AgentProcess) -> None:
    """kill -9 of the agent ends the process that it started, without another program."""
    agent.is_killed()

    assert eventually(lambda: has_ended(agent.pid("game")), within_s=2)


def test_next_agent_kills_leftover_processes(
    agent: AgentProcess, innocent: "subprocess.Popen[bytes]", tree: ProcessTree
) -> None:
    """Orphans and escaped children are killed before the next agent does anything; other processes live on."""
    agent.is_killed()
    mine = tree.spawn(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        cwd=agent.folder,
        env=os.environ,
        **SILENT,
    )

    ProcessTree(agent.folder / "processes")

    assert agent.leftovers == []
    assert innocent.poll() is None
    assert mine.poll() is None


@posix
def test_kill_leftovers_returns_number_of_killed_processes(agent: AgentProcess) -> None:
    """The second time there are none."""
    agent.is_killed()
    assert eventually(lambda: len(agent.leftovers) == 2)  # the kernel ends the game itself

    assert kill_leftovers(agent.folder / "processes") == 2
    assert agent.leftovers == []
    assert kill_leftovers(agent.folder / "processes") == 0
    assert kill_leftovers(agent.folder / "no such file") == 0


@posix
def test_processes_of_live_agent_are_left_alone(agent: AgentProcess) -> None:
    """During an agent's life nothing is killed, and no other process gets its process tree."""
    assert kill_leftovers(agent.folder / "processes") == 0
    with pytest.raises(AgentAlreadyRunning, match=f"process {agent.process.pid} holds"):
        ProcessTree(agent.folder / "processes")

    assert len(agent.leftovers) == 3


@posix
def test_reused_process_id_is_not_dead_agent(agent: AgentProcess, innocent: "subprocess.Popen[bytes]") -> None:
    """The id of the dead agent now belongs to another process, which is not killed and protects nothing."""
    agent.is_killed()
    token_file = agent.folder / "processes"
    holder = msgspec.json.decode(token_file.read_bytes())
    token_file.write_bytes(msgspec.json.encode({**holder, "pid": innocent.pid}))

    ProcessTree(token_file)

    assert agent.leftovers == []
    assert innocent.poll() is None


@posix
def test_invalid_token_file_is_replaced(tmp_path: Path) -> None:
    """An agent starts with any content of the file, and what it writes names it."""
    (tmp_path / "processes").write_bytes(b'{"token": 1')

    ProcessTree(tmp_path / "processes").close()

    assert msgspec.json.decode((tmp_path / "processes").read_bytes())["pid"] == os.getpid()


def test_kill_ends_whole_process_tree(tree: ProcessTree, tmp_path: Path) -> None:
    """Children in their own sessions and orphans as well; nothing stays in the process table."""
    process = begin(tree, GAME, tmp_path)

    tree.kill(process)
    tree.kill(process)

    assert process.returncode is not None
    pids = [int((tmp_path / note).read_text()) for note in ("game", "own-session", "parent", "orphan")]
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_kill_spares_other_process_trees(
    tree: ProcessTree, tmp_path: Path, innocent: "subprocess.Popen[bytes]"
) -> None:
    """Another spawned process, its orphan, and other processes live on."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    doomed, neighbour = begin(tree, GAME, tmp_path / "a"), begin(tree, GAME, tmp_path / "b")

    tree.kill(doomed)

    assert [note for note in ("game", "orphan") if has_ended(int((tmp_path / "b" / note).read_text()))] == []
    assert neighbour.poll() is None
    assert innocent.poll() is None


def test_child_without_token_is_found_through_parent(tree: ProcessTree, tmp_path: Path) -> None:
    """A child without token and in its own session is found while its parent lives."""
    hidden = "spawn(SLEEPER, 'hidden', env={}, start_new_session=True)"
    process = begin(tree, GAME.replace("spawn(ORPHAN", f"{hidden}; spawn(ORPHAN"), tmp_path)

    tree.kill(process)

    assert is_gone(int((tmp_path / "hidden").read_text()))


@linux
def test_daemon_that_hides_ends_with_its_game(
    tree: ProcessTree, tmp_path: Path, innocent: "subprocess.Popen[bytes]"
) -> None:
    """An orphan in its own session with an empty environment; a child that the agent itself started lives on."""
    process = begin(tree, HIDING, tmp_path)

    tree.kill(process)

    assert is_gone(int((tmp_path / "daemon").read_text()))
    assert innocent.poll() is None


@linux
def test_daemon_that_hides_is_killed_when_no_game_is_left_that_may_own_it(tree: ProcessTree, tmp_path: Path) -> None:
    """Two games at once, which an agent never has: nothing says whose daemon it is."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    other = begin(tree, GAME, tmp_path / "a")
    doomed = begin(tree, HIDING, tmp_path / "b")
    daemon = int((tmp_path / "b" / "daemon").read_text())

    tree.kill(doomed)
    assert not has_ended(daemon)
    tree.kill(other)

    assert is_gone(daemon)


@linux
def test_next_agent_kills_daemon_that_hides(
    tmp_path: Path, innocent: "subprocess.Popen[bytes]", tree: ProcessTree
) -> None:
    """After SIGKILL of its agent; other processes of this user, and games of other agents, live on."""
    (tmp_path / "dead").mkdir()
    (tmp_path / "live").mkdir()
    with agent_in(tmp_path / "dead", HIDING) as dead, agent_in(tmp_path / "live", HIDING) as live:
        dead.is_killed()
        mine = begin(tree, GAME, tmp_path)
        assert not has_ended(dead.pid("daemon"))

        ProcessTree(dead.folder / "processes")

        assert eventually(lambda: has_ended(dead.pid("daemon")))
        assert not has_ended(live.pid("daemon"))
        assert not has_ended(live.pid("game"))
        assert innocent.poll() is None
        assert mine.poll() is None


@posix
def test_reaping_leaves_exit_codes_of_other_children(tree: ProcessTree) -> None:
    """Reaping orphans takes no exit status from other code that waits for a child."""
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    assert wait_for_exit(child, 10)

    tree.reap()

    assert child.wait() == 7


def test_wait_for_exit_returns_at_exit_or_timeout(tree: ProcessTree, tmp_path: Path) -> None:
    """It returns false in time while the process lives, and true as soon as it has ended."""
    process = begin(tree, GAME, tmp_path)
    asked = time.monotonic()
    assert not wait_for_exit(process, 0)
    assert not wait_for_exit(process, 0.05)
    grain_s = time.get_clock_info("monotonic").resolution  # 16 ms on Windows
    assert 0.05 - grain_s <= time.monotonic() - asked < 1

    process.kill()

    assert wait_for_exit(process, 10)
    tree.kill(process)
    assert wait_for_exit(process, 10)


def test_close_kills_all_processes(tree: ProcessTree, tmp_path: Path) -> None:
    """Every process of the tree ends; closing twice is no error."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        begin(tree, GAME, tmp_path / name)

    tree.close()
    tree.close()

    pids = [int((tmp_path / name / note).read_text()) for name in "ab" for note in ("game", "orphan")]
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_missing_program_raises_at_spawn(tree: ProcessTree, tmp_path: Path) -> None:
    """Instead of an exit code of an intermediate process."""
    with pytest.raises(FileNotFoundError, match="no such program"):
        tree.spawn(["no-such-game"], cwd=tmp_path, env=os.environ, **SILENT)


class Refusing:
    """Refuses the first starts of a program, and lets the next ones through."""

    def __init__(self, error: OSError, times: int) -> None:
        self._start, self._error, self._times = subprocess.Popen, error, times

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise self._error
        return self._start(*args, **options)


def test_start_is_tried_again_when_the_system_refuses_it(
    tree: ProcessTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory or processes may be short for a moment, which is no fault of the program."""
    refusing = Refusing(OSError(errno.EAGAIN, "Resource temporarily unavailable"), times=3)
    monkeypatch.setattr(subprocess, "Popen", refusing)

    process = tree.spawn([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path, env=ENVIRONMENT, **SILENT)

    assert process.poll() is None


def test_start_that_cannot_work_is_not_tried_again(
    tree: ProcessTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Refusing(OSError(errno.ENOEXEC, "Exec format error"), times=1))

    with pytest.raises(OSError, match="Exec format error"):
        tree.spawn([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path, env=ENVIRONMENT, **SILENT)


@pytest.mark.parametrize(
    ("winerror", "later"), [(8, True), (1359, True), (1450, True), (1455, True), (2, False), (193, False)]
)
def test_errors_of_windows_are_told_apart(winerror: int, later: bool) -> None:
    """Short of memory or resources, and an internal error; but not a missing file or one of another processor."""
    error = OSError("refused")
    error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]

    assert may_start_later(error) is later
