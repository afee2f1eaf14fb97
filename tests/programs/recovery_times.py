"""`python -m tests.programs.recovery_times`: how soon a stuck machine is noticed and recovers, with all defaults.

The machines are simulated (tests.fakes.simulated_hyperv) and boot in 20 s; host, agents and WinRM are real. The times
are from the ledger: from the fault to the first recovery action, and to the worker's recovery.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.core.facts import RecoveryStarted, WorkerQuarantined, WorkerRecovered
from pipeline.storage.ledger import Ledger
from tests.fakes.simulated_hyperv import SimulatedHyperV
from tests.harness.farm_project import FarmProject
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, hyperv_harness
from tests.harness.waiting import eventually

BOOT_S = 20.0
STUCK_S = 30.0  # half of the minute that Stop-FarmVM.ps1 has
Fault = Callable[[SimulatedHyperV, str], None]


def _stick(hyperv: SimulatedHyperV, name: str) -> None:
    hyperv.hang_in_stopping(name)
    hyperv.freeze(name)


def _crash_and_boot_slowly(hyperv: SimulatedHyperV, name: str) -> None:
    hyperv.boot_slowly(name, 90.0)
    hyperv.crash(name)


FAULTS: dict[str, Fault] = {
    "its agent hangs": SimulatedHyperV.freeze_agent,
    "its guest freezes": SimulatedHyperV.freeze,
    "it loses its power": SimulatedHyperV.crash,
    "it freezes, and then hangs in Stopping": _stick,
    "it loses its power, and boots in 90 s": _crash_and_boot_slowly,
}


def main() -> int:
    """Runs one generation with each fault on its own machine."""
    os.environ |= {"HYPERV_SECRET": PASSWORD, "GUEST_SECRET": GUEST_SECRET}
    names = [f"vm-{number}" for number in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        project = FarmProject(Path(folder) / "farm")
        project.root.mkdir()
        with hyperv_harness(project.root, *names, boot_s=BOOT_S) as pool:
            pool.hyperv.stuck_s = STUCK_S
            project.configure(
                workers=0, extra=pool.tables(), silence_limit_s=30, agent_restart_limit_s=30, back_off_s=15
            )
            project.add_genomes({f"g{n:03d}.json": {"n": n, "seconds": 4.0} for n in range(450)})
            host = project.start()
            assert eventually(lambda: all(pool.hyperv.is_healthy(name) for name in names), 120)
            assert eventually(lambda: project.archived() > 20, 60)
            met = {}
            for name, (_words, fault) in zip(names, FAULTS.items(), strict=False):
                met[name] = time.time()
                fault(pool.hyperv, name)
            code, out = project.wait_for_end(host, within_s=900)
            pool.hyperv.close()
        assert code == 0, out
        project.assert_counted_once()
        _print(project, dict(zip(names, FAULTS, strict=False)), met)
        needless = [event for event in pool.hyperv.events if event.well]
        lost = project.summary()["lost"]
        print(f"\n450 genomes, {lost} lost, {len(needless)} machines restarted while they were well")
        return 1 if needless or lost else 0


def _print(project: FarmProject, fault_of: dict[str, str], met: dict[str, float]) -> None:
    ledger = Ledger(project.root / "state", read_only=True)
    history = [(entry.at, entry.fact) for entry in ledger.entries()]
    ledger.close()
    print("| fault | noticed after | plays again after | by |\n|---|---|---|---|")
    for name, words in fault_of.items():
        mine = [
            (at - met[name], fact) for at, fact in history if getattr(fact, "worker", "") == name and at > met[name]
        ]
        actions = [(at, fact.action) for at, fact in mine if isinstance(fact, RecoveryStarted)]
        back = [at for at, fact in mine if isinstance(fact, WorkerRecovered)]
        assert not any(isinstance(fact, WorkerQuarantined) for _at, fact in mine), name
        climbed = ", ".join(str(action) for _at, action in actions)
        print(f"| {words} | {actions[0][0]:.0f} s | {back[-1]:.0f} s | {climbed} |")


if __name__ == "__main__":
    sys.exit(main())
