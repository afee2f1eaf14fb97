"""The recovery actions on machines that really boot, freeze and panic: `make test-vm`.

Two guests run evaluations; the hypervisor stops them, their kernels panic, their disks fill up. Every genome is counted
once.
"""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperv_ops import MachineError, wait_until_healthy
from inbox_agent.protocol.layout import Outcome
from pipeline import open_farm
from pipeline.core.facts import AttemptEnded, Fact, RecoveryAction, RecoveryStarted
from tests.harness.vm_farm import (
    FAULTS,
    NOTHING_LOST,
    READY_WITHIN_S,
    Figures,
    VmFarm,
    back_in_time,
    frozen,
    measure_boots,
    play_round,
    powerless,
    vm_farm,
)
from tests.harness.waiting import eventually
from tests.programs.system_programs import GUESTS
from vm_image.__main__ import LANDER

# Box2D's binding warns at import, and crashes the interpreter if the warning is an error.
pytestmark = [
    pytest.mark.vm,
    pytest.mark.needs(*GUESTS, root=True),
    pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning"),
]
NAMES = ("vm-1", "vm-2")


@pytest.mark.timeout(1200)
def test_qemu_machines_recover_from_freeze_and_power_loss(capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor finds no problem; the expected action recovers both, and the generation loses nothing."""
    figures = Figures()
    with vm_farm(*NAMES) as farm:
        measure_boots(farm, figures)
        play_round(farm, 1, {}, figures)
        code, out = farm.run("doctor")
        assert code == 0, out
        play_round(farm, 2, {"vm-1": frozen, "vm-2": powerless}, figures)

    with capsys.disabled():
        print(f"\n{figures}\n{NOTHING_LOST}")
    assert [story.actions[-1] for story in figures.stories] == [RecoveryAction.POWER_CYCLE, RecoveryAction.REBOOT]
    assert all(story.recovered_s for story in figures.stories)


@pytest.mark.timeout(900)
def test_qemu_machines_rest_between_generations() -> None:
    """Both are saved, and go on without a boot; nothing is lost, and no worker is recovered."""
    boots = []
    with vm_farm(*NAMES, idle_action="'save'", idle_after_s=5) as farm:
        with open_farm(farm.root) as opened:
            for generation in (1, 2):
                farm.drop_landers(4, generation)
                opened.evaluate({}, generation=generation)
                boots.append([farm.harness.in_guest(name, "cat /proc/sys/kernel/random/boot_id") for name in NAMES])
                farm.wait_until(lambda: all(_is_saved(farm, name) for name in NAMES), 120, every_s=0.5)

        for generation in (1, 2):
            farm.assert_counted_once(generation=generation)
        facts = [fact for _at, fact in farm.history()]
    assert boots[0] == boots[1]
    assert not [fact for fact in facts if isinstance(fact, RecoveryStarted | AttemptEnded) and not _counts(fact)]


def _is_saved(farm: VmFarm, name: str) -> bool:
    return "its memory is saved" in farm.machines.info(name).note


def _counts(fact: Fact) -> bool:
    return isinstance(fact, AttemptEnded) and fact.outcome is Outcome.COMPLETED


@pytest.mark.timeout(5400)
def test_qemu_machines_recover_from_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Each fault once, two at a time; the action meant for it recovers each, and every action is used."""
    figures, faults = Figures(), list(FAULTS)
    with vm_farm(*NAMES) as farm:
        measure_boots(farm, figures)
        play_round(farm, 1, {}, figures)
        for generation, pair in enumerate(zip(faults[::2], faults[1::2], strict=True), start=2):
            play_round(farm, generation, dict(zip(NAMES, pair, strict=True)), figures)

    with capsys.disabled():
        print(f"\n{figures}\n{NOTHING_LOST}")
    recovered = {story.fault: story.actions[-1] if story.actions else None for story in figures.stories}
    assert recovered == {fault: recovery.action for fault, recovery in FAULTS.items()}
    assert set(recovered.values()) >= set(RecoveryAction)
    assert all(story.recovered_s for story in figures.stories)
    assert all(story.noticed_s for story in figures.stories if story.fault is back_in_time), (
        "what was played came again"
    )


@pytest.mark.timeout(900)
def test_guest_plays_deployed_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that accepts evaluators gets a changed one over SMB, and plays it also after a power failure."""
    name, changed = "vm-1", _changed_lander(tmp_path, 1)
    with vm_farm(name) as farm:
        _expect_edition(farm, 1, monkeypatch)
        _start_with_accepting_agent(farm, name)

        code, out = farm.run("deploy", str(changed), "--wait", "240", within_s=300)
        assert code == 0, out
        _play_generation(farm, 1)
        played = {row["evaluator"] for row in farm.results(1).values()}

        _cut_power(farm, name)
        farm.harness.in_guest(name, "rm -f /srv/exchange/inbox/*.deploy.*")
        _play_generation(farm, 2)

        assert {row["evaluator"] for row in farm.results(2).values()} == played
        assert "deploy" not in farm.harness.in_guest(name, "ls /srv/exchange/inbox")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [3])
def test_deployment_to_guest_survives_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Of the command, of the agent, and a power failure, each in the middle of it; no generation mixes versions."""
    name, dice, versions = "vm-1", random.Random(seed), set[str]()
    with vm_farm(name) as farm:
        _start_with_accepting_agent(farm, name)
        faults: list[Callable[[VmFarm, str], None]] = [_kill_agent, _cut_power, _kill_agent, _cut_power]
        for edition, strike in enumerate(faults, start=1):
            changed = _changed_lander(tmp_path, edition)
            _expect_edition(farm, edition, monkeypatch)
            _kill_after(farm.start("deploy", str(changed)), dice.uniform(0.5, 4.0))

            deploy = farm.start("deploy", str(changed), "--wait", "240")
            eventually(lambda: False, dice.uniform(0.0, 4.0))
            strike(farm, name)
            code, out = farm.wait_for_end(deploy, 300)
            assert code == 0, out
            _play_generation(farm, edition)

            played = {row["evaluator"] for row in farm.results(edition).values()}
            assert len(played) == 1
            assert not played & versions
            versions |= played


def _kill_after(command: "subprocess.Popen[bytes]", seconds: float) -> None:
    eventually(lambda: command.poll() is not None, seconds)
    command.kill()
    command.communicate()


def _changed_lander(folder: Path, edition: int) -> Path:
    """The files of an evaluator whose fitness is higher by 1000 for each edition."""
    changed = folder / f"edition-{edition}"
    shutil.copytree(LANDER, changed, ignore=shutil.ignore_patterns("__pycache__"))
    with (changed / "evaluator.py").open("a") as module:
        module.write("\n\ndef play_more(genome, trial):\n    played = play(genome, trial)\n")
        module.write(f"    return {{**played, 'fitness': played['fitness'] + {1000.0 * edition}}}\n")
    return changed


def _expect_edition(farm: VmFarm, edition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The farm's results are checked with the fitness of this edition from now on."""
    settings = farm.root / "pipeline.toml"
    settings.write_text(settings.read_text().replace("'evaluator:play'", "'evaluator:play_more'"))
    plain = type(farm).fitness
    monkeypatch.setattr(farm, "fitness", lambda genome, seed: plain(farm, genome, seed) + 1000.0 * edition)


def _kill_agent(farm: VmFarm, name: str) -> None:
    """`kill -9` of the agent and its game; its service starts it again."""
    farm.harness.in_guest(name, "pkill -9 -f [i]nbox_agent || true")


def _start_with_accepting_agent(farm: VmFarm, name: str) -> None:
    """Starts a machine, and its agent once more with a settings file that accepts evaluators."""
    farm.machines.start(name)
    assert wait_until_healthy(farm.machines, name, READY_WITHIN_S, interval_s=0.5)
    accept = "sed -i '1i accept_evaluators = true' /opt/farm/agent.toml && sync && service inbox-agent restart"
    farm.harness.in_guest(name, accept)


def _cut_power(farm: VmFarm, name: str) -> None:
    """Resets a machine and waits until it is up again."""

    def boot_id() -> str:
        try:
            return farm.harness.in_guest(name, "cat /proc/sys/kernel/random/boot_id")
        except MachineError:  # it boots
            return ""

    before = boot_id()
    farm.machines.reset(name)
    assert eventually(lambda: boot_id() not in ("", before), READY_WITHIN_S, every_s=0.5)


def _play_generation(farm: VmFarm, generation: int) -> None:
    farm.drop_landers(5, generation)
    code, out = farm.run("run", "--gen", str(generation), within_s=300)
    assert code == 0, out
    farm.assert_counted_once(generation=generation)
    code, out = farm.run("verify", "--gen", str(generation))
    assert code == 0, out
