"""An error that no code expects costs one machine one look or one action; no thread and no other machine suffers."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hyperv_ops import LocalMachines, MachineError, MachineWatcher, PowerState, Trouble
from pipeline import Evaluator, open_farm
from pipeline.config.machine_tables import HyperVTable
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState
from pipeline.core.requests import MachineAction
from pipeline.machines import fleet, local_workers
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.controller import MACHINE_ACTIONS, MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.machine_host import MachineHost
from tests.fakes.failing_machines import ERRORS, FailingMachines
from tests.fakes.recorded_machines import FakeMachines
from tests.harness.farm_project import GAMES
from tests.harness.waiting import eventually

UNFORESEEN = [make for make in ERRORS if not isinstance(make(), MachineError)]


@contextmanager
def controlled(machines: Any, folder: Path) -> Iterator[MachineController]:
    """A controller of the machines `good` and `bad`; its workers have the same names."""
    queue = BootQueue(machines, stagger_s=0.0, boot_limit_s=1.0)
    evidence = MachineEvidence(machines, folder / "evidence")
    controller = MachineController(
        machines, {"good": "good", "bad": "bad"}, queue, evidence, lambda: None, watch_interval_s=0.01
    )
    controller.open(lambda _worker: None)
    try:
        yield controller
    finally:
        controller.close()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("seed", range(6))
def test_healthy_machine_beside_failing_one_is_seen_and_restarted(tmp_path: Path, seed: int) -> None:
    """Half of all calls for one machine, and half of the queries of all, raise; the watcher goes on, and ends."""
    fake = FakeMachines("good", "bad")
    machines = FailingMachines(fake, {"bad"}, seed)
    with controlled(machines, tmp_path) as controller:

        def is_(worker: str, state: MachineState) -> Callable[[], bool]:
            return lambda: controller.status()[worker].state is state

        for action in (*MACHINE_ACTIONS, None):
            controller.execute(MachineAction("bad", action))
            controller.execute(MachineAction("good", RecoveryAction.POWER_CYCLE))
            assert eventually(is_("good", MachineState.RUNNING))
            assert eventually(lambda: not any(one.busy for one in controller.status().values()))
            fake.power_off("good")
            assert eventually(is_("good", MachineState.OFF))
        assert machines.raised > 5
        assert "machine-watcher" in threads()
        fake.start("bad")
        assert eventually(is_("bad", MachineState.RUNNING)), "it is seen again when a look at it succeeds"


def test_machine_that_always_fails_is_unknown(tmp_path: Path) -> None:
    """The others are asked one by one; the note of the machine has the reason."""

    class OneBroken(FakeMachines):
        def info(self, name: str) -> Any:
            if name == "bad":
                raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")
            return super().info(name)

    with controlled(OneBroken("good", "bad"), tmp_path) as controller:
        assert eventually(lambda: controller.status()["good"].state is MachineState.OFF)
        found = controller.status()["bad"]

    assert found.state is MachineState.UNKNOWN
    assert found.note.startswith("not foreseen: UnicodeEncodeError: ")


@pytest.mark.parametrize("make", UNFORESEEN)
def test_failed_action_is_logged_and_allows_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], Exception]
) -> None:
    """With one traceback, however often it fails."""

    class NoRestart(FakeMachines):
        def restart_agent(self, name: str) -> None:
            raise make()

    fake = NoRestart("good", "bad")
    with controlled(fake, tmp_path) as controller:
        for _ in range(3):
            controller.execute(MachineAction("bad", RecoveryAction.RESTART_AGENT))
            assert eventually(lambda: not controller.status()["bad"].busy)

    tracebacks = [record for record in caplog.records if record.exc_info]
    warnings = [record for record in caplog.records if "restart_agent: bad: not foreseen" in record.message]
    assert (len(tracebacks), len(warnings)) == (1, 3)


def test_traceback_of_looks_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not at each look; also if a guest changes the text of the error each time. A new place in the code is logged."""
    looks = 0

    class Broken(FakeMachines):
        def infos(self) -> Any:
            nonlocal looks
            looks += 1
            return self._fail() if looks < 10 else int(f"x{looks}")

        def _fail(self) -> Any:
            raise KeyError(f"text {looks} of the guest")

        def names(self) -> Any:
            raise MemoryError

    machines: Any = Broken("bad")
    watcher = MachineWatcher(machines, lambda _name, _info: None, interval_s=0.0)
    watcher.start()
    assert eventually(lambda: looks > 20)
    watcher.close()

    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [KeyError, MemoryError, ValueError]
    assert watcher.error is not None
    assert watcher.error.trouble is Trouble.UNFORESEEN


def test_watcher_survives_its_listener(caplog: pytest.LogCaptureFixture) -> None:
    """A defect of what is called for a change ends neither the thread nor the states."""
    machines: Any = FakeMachines("a")

    def fail(_name: str, _info: object) -> None:
        raise AttributeError("a defect")

    watcher = MachineWatcher(machines, fail, interval_s=0.01)
    watcher.start()
    assert eventually(lambda: "a" in watcher.latest())
    machines.start("a")
    assert eventually(lambda: watcher.latest()["a"].state is PowerState.RUNNING)
    watcher.close()

    assert "a defect" in caplog.text


@pytest.mark.timeout(120)
def test_run_ends_rightly_beside_failing_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All genomes are counted while calls for one of two local workers raise, and the agents end with the host."""
    made: list[FailingMachines] = []

    def failing(*args: Any) -> FailingMachines:
        made.append(FailingMachines(LocalMachines(*args), {"local-1"}, seed=3, chance=0.3))
        return made[0]

    monkeypatch.setattr(local_workers, "LocalMachines", failing)
    genomes = {f"g{number}": b'{"n": %d}' % number for number in range(20)}
    with open_farm(
        tmp_path, evaluator=Evaluator(python="game:play", folder=GAMES), workers=2, trials_per_genome=1
    ) as farm:
        scores = farm.evaluate(genomes)

    assert {score.status for score in scores.values()} == {"completed"}
    assert made[0].raised > 0


def test_vm_command_goes_on_with_other_machines(caplog: pytest.LogCaptureFixture) -> None:
    """`pipeline vm start` reports the machine, in one line, and starts the others."""
    caplog.set_level(logging.CRITICAL)
    fake = FakeMachines("good", "bad")
    machines: Any = FailingMachines(fake, {"bad"}, seed=1, chance=1.0)

    host = MachineHost(name="", table=HyperVTable(), machines=machines, machine_of={"bad": "bad", "good": "good"})
    done = list(fleet.run_on_all(fleet.targets([host], ["bad", "good"]), fleet.start))

    assert [(one.worker, one.ok) for one in done] == [("bad", False), ("good", True)]
    assert fake.done == [("start", "good")]
