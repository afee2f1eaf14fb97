"""A farm on real virtual machines that run the lunar lander, and the faults of such a machine.

Faults are injected from outside: through QEMU's monitor, its guest agent, its process. Their effects are read from the
ledger; the fitness of all genomes is computed independently from genomes and seeds.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hyperv_ops import wait_until_healthy
from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Fact,
    GenomeCharged,
    RecoveryAction,
    RecoveryStarted,
    ResultLate,
    WorkerRecovered,
)
from pipeline.storage.ledger import Ledger
from tests.harness.farm_project import FarmProject
from tests.harness.qemu_farm import PASSWORD, QemuHarness, qemu_harness
from vm_image.__main__ import LANDER

#: Compensates drift and tilt and brakes the fall: its evaluations last long.
PILOT = (0.5, 0, 1, 0, -1, -1, 0, 0, -0.05, -0.5, -1, -0.5, 0.3, 0, 0, 0, -0.05)
MAX_STEPS = 400
ROUND_ENDS_WITHIN_S, READY_WITHIN_S = 900.0, 240.0
#: Shorter than the defaults where that shortens the test, longer where an emulated processor is slow.
_LIMITS = """
silence_limit_s = 20.0
agent_restart_limit_s = 20.0
boot_limit_s = 45.0
claim_limit_s = 60.0
grace_s = 10.0
back_off_s = 5.0
losses_max = 10
losses_per_trial_max = 30
"""


class VmFarm(FarmProject):
    """A project whose workers are on real machines."""

    def __init__(self, root: Path, harness: QemuHarness) -> None:
        super().__init__(root)
        self.harness, self.machines = harness, harness.machines

    def set_up(self, **qemu: object) -> None:
        """Writes the project, with these settings of `[qemu]`, and creates its machines with the commands for users."""
        self.root.mkdir(parents=True)
        (self.root / "pipeline.toml").write_text(
            "[generation]\ntrials_per_genome = 1\nattempts_max = 8\nfailures_max = 8\nseed = 11\n"
            f"[settings]\nmax_steps = {MAX_STEPS}\n[evaluator]\npython = 'evaluator:play'\ntime_limit_s = 40.0\n"
            f"[local]\nworkers = 0\n[limits]{_LIMITS}{self.harness.tables(**qemu)}\n"
        )
        for words in (("vm", "create", "--backend", "qemu", "--all"), ("vm", "prepare", "--all", "--yes")):
            code, out = self.run(*words, within_s=READY_WITHIN_S)
            assert code == 0, out

    def drop_landers(self, count: int, generation: int) -> None:
        """Writes different genomes to the folder of a generation."""
        folder = self.root / f"genomes/gen-{generation:04d}"
        folder.mkdir(parents=True)
        _evaluator, policy = _example()
        dice = np.random.default_rng(generation)
        for number in range(count):
            genome = policy.encode(np.array(PILOT) + dice.normal(0, 0.02, len(PILOT)))
            (folder / f"g{number:03d}.npz").write_bytes(genome)

    def fitness(self, genome: bytes, seed: int) -> float:
        evaluator, policy = _example()
        with tempfile.NamedTemporaryFile() as file:
            file.write(genome)
            file.flush()
            return float(evaluator.episode(policy.Policy(policy.load(file.name)), seed, MAX_STEPS)["fitness"])

    def processes(self) -> list[psutil.Process]:
        return [process for process in super().processes() if not process.name().startswith("qemu")]

    def history(self) -> list[tuple[float, Fact]]:
        """The ledger so far."""
        if not (self.root / "state/ledger.db").exists():
            return []
        ledger = Ledger(self.root / "state", read_only=True)
        try:
            return [(entry.at, entry.fact) for entry in ledger.entries()]
        finally:
            ledger.close()

    def when_played(self, worker: str, games: int) -> None:
        """Waits until a worker has completed this number of further evaluations."""
        then = self._played(worker)
        self.wait_until(lambda: self._played(worker) >= then + games, READY_WITHIN_S, every_s=0.5)

    def _played(self, worker: str) -> int:
        history = self.history()
        issued = {fact.attempt for _at, fact in history if isinstance(fact, AttemptIssued) and fact.worker == worker}
        return sum(isinstance(fact, AttemptEnded) and fact.attempt in issued and _counts(fact) for _at, fact in history)


def _example() -> tuple[Any, Any]:
    """The modules `evaluator` and `policy` of the example, imported as its agent does."""
    if str(LANDER) not in sys.path:
        sys.path.insert(0, str(LANDER))
    return import_module("evaluator"), import_module("policy")


# ------------------------------------------------------------------------------------------------------------ faults


def frozen(farm: VmFarm, name: str) -> None:
    farm.machines.pause(name)


def powerless(farm: VmFarm, name: str) -> None:
    psutil.Process(farm.machines.info(name).pid).kill()


def panicked(farm: VmFarm, name: str) -> None:
    farm.harness.run_fatal(name, "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")


def agent_killed(farm: VmFarm, name: str) -> None:
    farm.harness.in_guest(name, "pkill -KILL -f 'm inbox_agen[t]'")


def agent_hangs(farm: VmFarm, name: str) -> None:
    farm.harness.in_guest(name, "pkill -STOP -f 'm inbox_agen[t]'")


def game_killed(farm: VmFarm, name: str) -> None:
    farm.harness.in_guest(name, "pkill -KILL -P $(pgrep -o -f 'm inbox_agen[t]')")


def server_killed(farm: VmFarm, name: str) -> None:
    farm.harness.in_guest(name, "pkill -KILL smbd")


def disk_full(farm: VmFarm, name: str) -> None:
    farm.harness.run_fatal(name, "dd if=/dev/zero of=/hog bs=1M")


def network_cut(farm: VmFarm, name: str) -> None:
    farm.machines.disconnect_network(name)


def back_in_time(farm: VmFarm, name: str) -> None:
    """Restores a saved state, memory included, from the middle of an evaluation that has since been counted."""
    boot_id = farm.harness.in_guest(name, "cat /proc/sys/kernel/random/boot_id")
    farm.machines.save_state(name, "mid-game")
    farm.when_played(name, 2)
    farm.machines.load_state(name, "mid-game")
    assert farm.harness.in_guest(name, "cat /proc/sys/kernel/random/boot_id") == boot_id


Fault = Callable[[VmFarm, str], None]
NOTHING_LOST = "losses: 0, duplicates: 0"  #: printed with the figures unless an assertion ended the rounds


@dataclass(frozen=True, slots=True)
class Cure:
    """The expected recovery from a fault."""

    action: RecoveryAction | None  #: None: it recovers without an action
    within_s: float  #: how long other workers must have work, so that the host is still running when it escalates


FAULTS: dict[Fault, Cure] = {
    frozen: Cure(RecoveryAction.POWER_CYCLE, 200.0),
    powerless: Cure(RecoveryAction.REBOOT, 45.0),
    agent_hangs: Cure(RecoveryAction.RESTART_AGENT, 60.0),
    panicked: Cure(RecoveryAction.POWER_CYCLE, 80.0),
    network_cut: Cure(RecoveryAction.REBOOT, 170.0),
    back_in_time: Cure(None, 30.0),
    agent_killed: Cure(None, 20.0),
    game_killed: Cure(None, 20.0),
    server_killed: Cure(None, 20.0),
    disk_full: Cure(RecoveryAction.RESTORE, 260.0),
}


# ----------------------------------------------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The observed recovery from one fault."""

    fault: Fault
    noticed_s: float | None  #: until the first reaction of the host; None: there was no reaction
    recovered_s: float | None  #: until an attempt that was issued afterwards was counted
    actions: tuple[RecoveryAction, ...]

    def __str__(self) -> str:
        noticed, recovered = (f"{s:.0f} s" if s is not None else "-" for s in (self.noticed_s, self.recovered_s))
        by = ", ".join(self.actions) or "itself"
        return (
            f"{self.fault.__name__.replace('_', ' ')}: noticed after {noticed}, plays again after {recovered}, by {by}"
        )


@dataclass(slots=True)
class Figures:
    """The figures of a series of rounds."""

    boot_s: list[float] = field(default_factory=list)
    games_per_s: float = 0.0  #: of all machines, without faults
    stories: list[Story] = field(default_factory=list)
    evaluations: int = 0
    attempts: int = 0

    def __str__(self) -> str:
        lines = [
            f"boot: {_range(self.boot_s)}",
            f"calm: {self.games_per_s:.1f} games per second",
            *map(str, self.stories),
        ]
        faults = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        lines += [f"faults: {faults}", f"evaluations: {self.evaluations} counted, {self.attempts} attempts"]
        return "\n".join(lines)

    def counts(self) -> dict[str, int]:
        """How often each fault was injected."""
        names = [story.fault.__name__ for story in self.stories]
        return {name: names.count(name) for name in dict.fromkeys(names)}


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.0f} to {max(seconds):.0f} s ({len(seconds)} boots)" if seconds else "none"


def _counts(fact: Fact) -> bool:
    return isinstance(fact, AttemptEnded) and fact.outcome is Outcome.COMPLETED


def story(history: list[tuple[float, Fact]], worker: str, fault: Fault, struck_at: float) -> Story:
    """The recovery of a worker from a fault, from the ledger."""
    worker_of = {fact.attempt: fact.worker for _at, fact in history if isinstance(fact, AttemptIssued)}
    issued_at = {fact.attempt: at for at, fact in history if isinstance(fact, AttemptIssued)}
    since = [(at, fact) for at, fact in history if at > struck_at]
    mine = [
        (at, fact)
        for at, fact in since
        if getattr(fact, "worker", worker_of.get(getattr(fact, "attempt", ""), "")) == worker
    ]
    actions = [(at, fact.action) for at, fact in mine if isinstance(fact, RecoveryStarted)]
    ill = [at for at, fact in mine if isinstance(fact, AttemptEnded) and not _counts(fact)]
    ill += [at for at, fact in mine if isinstance(fact, RecoveryStarted | ResultLate | GenomeCharged)]
    back_at = max((at for at, fact in mine if isinstance(fact, WorkerRecovered)), default=struck_at)
    well = [at for at, f in mine if isinstance(f, AttemptEnded) and _counts(f) and issued_at[f.attempt] >= back_at]
    return Story(
        fault=fault,
        noticed_s=min(ill) - struck_at if ill else None,
        recovered_s=min(well) - struck_at if well else None,
        actions=tuple(action for _at, action in actions),
    )


# ------------------------------------------------------------------------------------------------------------ rounds


def play_round(farm: VmFarm, generation: int, faults: Mapping[str, Fault], figures: Figures) -> None:
    """One generation with one fault on each of these machines; raises AssertionError if anything was lost.

    The first round of a farm has no faults; it measures the rate of evaluations.
    """
    lasts_s = max((FAULTS[fault].within_s for fault in faults.values()), default=0.0)
    genomes = 20 + round(lasts_s * figures.games_per_s)
    farm.drop_landers(genomes, generation)
    host = farm.start("run", "--gen", str(generation))
    try:
        struck_at = {}
        for name, fault in faults.items():
            farm.when_played(name, 1)
            assert host.poll() is None, "the generation was over too soon"
            struck_at[name] = time.time()
            fault(farm, name)
        out, _ = host.communicate(timeout=ROUND_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        host.terminate()
        raise AssertionError(
            f"generation {generation} did not end:\n{host.communicate()[0].decode()[-3000:]}"
        ) from None
    assert host.returncode == 0, out.decode()[-3000:]
    farm.assert_counted_once(generation=generation)
    code, verified = farm.run("verify", "--gen", str(generation))
    assert code == 0, verified
    history = farm.history()
    if not faults:
        ended = [at for at, fact in history if _counts(fact)]
        figures.games_per_s = (len(ended) - 1) / (ended[-1] - ended[0])
    figures.stories += [story(history, name, fault, struck_at[name]) for name, fault in faults.items()]
    figures.evaluations += genomes
    figures.attempts += farm.summary(generation)["attempts"]["issued"]


@contextmanager
def vm_farm(*names: str, **qemu: object) -> Iterator[VmFarm]:
    """Prepared machines in a temporary project; all are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="vms-") as place:
        os.environ["SHARE_SECRET"] = PASSWORD
        with qemu_harness(Path(place) / "m", *names) as harness:
            farm = VmFarm(Path(place) / "farm", harness)
            try:
                farm.set_up(**qemu)
                yield farm
                code, out = farm.run("vm", "remove", "--all", "--yes", within_s=60)
                assert code == 0, out
                assert not any((harness.folder / name).exists() for name in names)
            finally:
                farm.close()


def measure_boots(farm: VmFarm, figures: Figures) -> None:
    """Starts every machine, one after the other, and measures the time until its guest responds."""
    for name in farm.harness.ports:
        began = time.monotonic()
        farm.machines.start(name)
        assert wait_until_healthy(farm.machines, name, READY_WITHIN_S, interval_s=0.2)
        figures.boot_s.append(time.monotonic() - began)


def draw_faults(dice: random.Random, names: tuple[str, ...]) -> dict[str, Fault]:
    """A fault for each machine."""
    return {name: dice.choice(list(FAULTS)) for name in names}
