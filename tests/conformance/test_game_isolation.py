"""Games inherit nothing from each other and little from their agent: each kind of evaluator runs the same tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.evaluation import memory, scratch
from inbox_agent.evaluators import ONLY_WORKER, WorkerPlace, make_evaluator
from inbox_agent.protocol.layout import Outcome
from inbox_agent.settings import EnvironmentTable, EvaluatorTable
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.evaluator_harness import COMMAND, FUNCTION, SCRIPTED, EvaluatorHarness, is_gone
from tests.harness.waiting import eventually
from tests.programs.system_programs import require

pytestmark = pytest.mark.processes
Make = Callable[..., EvaluatorHarness]


@pytest.fixture(params=["command", "python"])
def make(request: pytest.FixtureRequest, tmp_path: Path, tree: ProcessTree) -> Iterator[Make]:
    """Makes an evaluator with the given keys of `[evaluator]`."""
    kind: dict[str, Any] = {"command": COMMAND} if request.param == "command" else {"python": FUNCTION}
    with ExitStack() as stack:

        def make(place: WorkerPlace = ONLY_WORKER, **keys: Any) -> EvaluatorHarness:
            evaluator = make_evaluator(EvaluatorTable(**kind, **keys), SCRIPTED, tmp_path / "scratch", tree, place)
            stack.callback(evaluator.close)
            return EvaluatorHarness(evaluator, tmp_path / "scratch")

        yield make


# ------------------------------------------------------------------------------------------------------- environment


def test_game_does_not_inherit_other_variables(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that programs usually need."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")

    finished = make().play("return float('DATABASE_PASSWORD' in os.environ) + 10 * float('PATH' in os.environ)")

    assert finished.fitness == 10


def test_allowed_and_fixed_variables_are_passed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow` has patterns, `set` has values, which win."""
    monkeypatch.setenv("GAME_LEVEL", "3")
    monkeypatch.setenv("GAME_MODE", "slow")
    table = EnvironmentTable(allow=["GAME_*"], set={"GAME_MODE": "fast"})

    finished = make(environment=table).play("print(os.environ['GAME_LEVEL'], os.environ['GAME_MODE']); return 1")

    assert finished.log.split() == [b"3", b"fast"]


def test_thread_pools_share_the_cores(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and four workers: two threads each, where nothing else is set."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")

    harness = make(WorkerPlace(0, 4), environment=EnvironmentTable(set={"NUMEXPR_NUM_THREADS": "1"}))
    finished = harness.play("print(*(os.environ[f'{n}_NUM_THREADS'] for n in ('OMP', 'MKL', 'NUMEXPR'))); return 1")

    assert finished.log.split() == [b"2", b"5", b"1"]


def test_worker_number_is_passed(make: Make) -> None:
    """For a port, a display or a graphics card of its own."""
    assert make(WorkerPlace(3, 4)).play("return trial.worker").fitness == 3


def test_game_knows_that_it_is_one(make: Make) -> None:
    """So that a module that opens a farm can refuse to do so when a game imports it."""
    assert make().play("return float(os.environ['INBOX_AGENT_GAME'])").fitness == 1


# ------------------------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "game",
    [
        "big = bytearray(400 << 20); hang()",
        "spawn('big = bytearray(400 << 20); import time; time.sleep(60)', 'pid'); hang()",
    ],
    ids=["itself", "its child"],
)
def test_game_above_memory_limit_fails(make: Make, game: str) -> None:
    """All its processes count, the reason has both numbers, and the next game is not affected."""
    harness = make(memory_limit_mb=300)

    finished = harness.play(game)

    assert (finished.outcome, finished.fitness) == (Outcome.FAILED, None)
    assert "more than memory_limit_mb = 300" in finished.reason
    assert harness.play("return 1").fitness == 1


def test_game_within_memory_limit_completes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is measured."""
    monkeypatch.setattr(memory, "MEASURE_INTERVAL_S", 0.01)

    assert make(memory_limit_mb=2000).play("time.sleep(0.3); return 1").fitness == 1


# ----------------------------------------------------------------------------------------------------------- scratch


def test_scratch_folder_that_cannot_be_cleaned_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next game gets a new one; the old one is removed once that is possible."""
    monkeypatch.setattr(scratch, "_REMOVE_AGAIN_S", 0.0)
    harness = make()
    harness.play("Path('stuck').touch(); return 1")
    remove = scratch._remove

    def refuse(path: str) -> None:
        if path.endswith("stuck"):
            raise PermissionError(13, "a process has it open", path)
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_remove", refuse)
        finished = harness.play("print(os.getcwd()); return len(os.listdir())")

    assert finished.fitness is not None
    assert Path(finished.log.decode().strip()) != harness.scratch
    assert (harness.scratch / "stuck").exists()
    assert harness.play("return 1").fitness == 1
    assert not harness.scratch.exists()


def test_scratch_folder_with_a_mount_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A game that mounted something there, as an emulator does, does not stop its worker."""
    require("mount", root=True)
    monkeypatch.setattr(scratch, "_REMOVE_AGAIN_S", 0.0)
    harness = make()
    mount = harness.scratch / "artifacts" / "disk"
    harness.play("os.makedirs('artifacts/disk'); return 1")
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], capture_output=True, check=False).returncode:
        pytest.skip("root of an unprivileged container may not mount")

    finished = harness.play("return 2")

    subprocess.run(["umount", mount], check=True)
    assert finished.fitness == 2
    assert eventually(lambda: harness.play("return 3").fitness == 3 and not mount.exists())


def test_folders_of_an_earlier_agent_are_removed(make: Make, tmp_path: Path) -> None:
    """Replaced ones that it could not remove."""
    old = tmp_path / "scratch-0a1b2c3d"
    (old / "inner").mkdir(parents=True)

    make().play("return 1")

    assert not old.exists()


def test_children_of_a_game_end_with_it(make: Make) -> None:
    """Also those of a game that completes."""
    harness = make()

    finished = harness.play("return spawn(SLEEPER, 'pid').pid")

    assert finished.fitness is not None
    assert eventually(lambda: is_gone(int(finished.fitness or 0)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an orphan to the agent")
def test_daemon_of_a_game_ends_with_it(make: Make) -> None:
    """Also one that hides, in its own session and without the game's environment."""
    harness = make()

    finished = harness.play(
        """
        spawn(DAEMON, "parent").wait()
        while not (Path("daemon").exists() and Path("daemon").read_text()):
            time.sleep(0.01)
        return int(Path("daemon").read_text())
        """
    )

    assert finished.fitness is not None
    assert eventually(lambda: is_gone(int(finished.fitness or 0)))
    assert harness.play("return 1").fitness == 1
