"""Writes a project whose generations have every outcome, to show in displays: `python -m tests.programs.faulty_run
DIR`.

The rules are the shipped ones (tests.harness.core); agents, machines and evaluations are simulated from one seed,
so the ledger is the same every time. Some names are hostile, as the owner of a share could make them, unless the run is
`plain`.
"""

import random
import sys
from pathlib import Path

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    EvaluatorAccepted,
    Fact,
    GenomeAdded,
    HostStarted,
    RecoveryAction,
    RunOpened,
    RunSettings,
)
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from pipeline.core.observed import Observed
from pipeline.host.outputs import Outputs
from pipeline.storage.ledger import Ledger
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness

HOSTILE = (
    "<img src=x onerror=alert(1)>.json",
    "=1+1|cmd.json",
    "\x1b[31mred\x07.json",
    "\u202egnp.exe.json",
    "a&amp;b\"'.json",
)
WORKERS = ("local-0", "local-1", "vm-1", "vm-2", "vm-3")
PLAIN_WORKERS = ("vm-01", "vm-02", "vm-03", "vm-04", "vm-05")
OTHER_VERSION = "fedcba9876543210"  #: of the evaluator, beside `tests.harness.core.VERSION`
BEGAN_AT = 1_795_000_000.0


class FaultyRun:
    """Simulates generation after generation."""

    def __init__(self, genomes: int, trials: int, seed: int, *, plain: bool = False) -> None:
        self._plain, self._workers = plain, PLAIN_WORKERS if plain else WORKERS
        self._genomes, self._trials, self._dice = genomes, trials, random.Random(seed)
        limits = Limits(back_off_s=20.0, take_back_after_s=4.0)
        settings = RunSettings(
            trials_per_genome=trials, seed=7, settings={"difficulty": "hard"}, evaluator="play.py", time_limit_s=60.0
        )
        self.table = CoreHarness(
            *self._workers, genomes=0, trials=trials, machines=True, limits=limits, settings=settings
        )
        self.generation = 0
        self.facts: list[tuple[int, float, Fact]] = []
        self._until: dict[str, float] = {}  #: attempt -> when its evaluation ends
        self._seconds: dict[str, float] = {}
        self._silent_until: dict[str, float] = {}
        for name in self._workers:
            self.table.machines[name] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))

    def play(self, *, share: float = 1.0, until_busy: bool = False) -> None:
        """Simulates the next generation, or the first `share` of it and then, if asked, until no worker is idle."""
        table = self.table
        self.generation += 1
        settings = table.settings
        if self.generation > 1:
            started = HostStarted(pid=self.generation, workers=len(self._workers))
            table.record(started, RunOpened(generation=self.generation, run=1, settings=settings))
            table.observed = Observed(table.farm, table.limits, table.now)
        for number in range(1, self._genomes + 1):
            name = self._genome_name(number)
            digest = f"{self.generation * 100_000 + number:064x}"
            table.record(GenomeAdded(genome=number, name=name, suffix=".json", size_bytes=512 + number, sha256=digest))
        wanted = self._genomes * self._trials * share
        while not table.farm.finished and (
            table.farm.settled.total() < wanted or (until_busy and self._is_any_worker_idle())
        ):
            self._step()
        self._keep()

    def _is_any_worker_idle(self) -> bool:
        table = self.table
        return any(row.state == "idle" for row in measure_progress(table.farm, table.observed, table.now).workers)

    def _genome_name(self, number: int) -> str:
        if self._plain:
            return f"bot-{number:03d}.json"
        hostile = HOSTILE[number - 2] if 2 <= number < 2 + len(HOSTILE) else ""
        return hostile or f"bot-{self.generation:02d}-{number:03d}.json"

    def _step(self) -> None:
        table = self.table
        for name in self._workers:
            share = table.shares[name]
            share.sends_heartbeats = table.now >= self._silent_until.get(name, 0.0)
            if share.sends_heartbeats:
                self._act(name)
            if self._dice.random() < 0.002:
                self._silent_until[name] = table.now + self._dice.choice((40.0, 70.0, 130.0))
        table.publish_fails = self._dice.random() < 0.01
        table.tick(1.0)

    def _act(self, name: str) -> None:
        """One second of an agent: it claims, evaluates and reports."""
        table, share = self.table, self.table.shares[name]
        playing = share.claims - share.results.keys()
        waiting = share.starts - share.claims - share.results.keys()
        if not playing and waiting & table.farm.workers[name].wanted.keys():
            attempt = table.claim(name)
            seconds = self._dice.uniform(3.0, 9.0) * (1.6 if name == self._workers[4] else 1.0)
            timed_out = table.farm.attempts[attempt].trial.genome.number == 11
            self._until[attempt] = table.now + (60.0 if timed_out else seconds)
            self._seconds[attempt] = seconds
            if table.farm.attempts[attempt].trial.genome.number in (7, 9):  # over before a scan sees its claim
                self._until[attempt], self._seconds[attempt] = table.now, 0.4
                playing = playing | {attempt}
        for attempt in sorted(playing):
            if table.now >= self._until.get(attempt, 0.0):
                self._answer(name, attempt)

    def _answer(self, name: str, attempt: str) -> None:
        trial = self.table.farm.attempts[attempt].trial
        number = trial.genome.number
        seconds = self._seconds[attempt]
        match self._outcome(number):
            case Outcome.COMPLETED:
                fitness = (
                    10.0 * self.generation
                    + 4 * self._dice.gauss(0, 1)
                    + (number % 7)
                    - (3.0 if name == self._workers[3] else 0)
                )
                metrics = {"level": float(number % 5), "score": round(fitness * 10, 1)}
                self.table.publish_result(attempt, fitness=round(fitness, 3), metrics=metrics, seconds=seconds)
            case Outcome.CORRUPT:
                seen = CollectedResult(attempt=attempt, record=None, problem="result.json: not JSON at byte 7")
                self.table.shares[name].results[attempt] = seen
            case Outcome.FAILED:
                what = "bad opcode 0x3f" if self._plain else "<b>bad</b> opcode"
                reason = f"exit code 1: ValueError: {what}"
                self.table.publish_result(attempt, Outcome.FAILED, reason=reason, seconds=0.4)
            case Outcome.TIMED_OUT:
                self.table.publish_result(attempt, Outcome.TIMED_OUT, reason="no end within 60 s", seconds=60.0)
            case outcome:
                self.table.publish_result(attempt, outcome, reason="the agent restarted while this attempt was played")

    def _outcome(self, number: int) -> Outcome:
        if number == 9:
            return Outcome.FAILED
        if number == 11:
            return Outcome.TIMED_OUT
        if number == 13 and self.generation == 1:
            return Outcome.INTERRUPTED  # it kills every agent that evaluates it
        luck = self._dice.random()
        return next(
            (outcome for limit, outcome in ((0.02, Outcome.CORRUPT), (0.05, Outcome.INTERRUPTED)) if luck < limit),
            Outcome.COMPLETED,
        )

    def _keep(self) -> None:
        for fact, at in self.table.facts[len(self.facts) :]:
            self.facts.append((self.generation, BEGAN_AT + at, fact))

    def write(self, root: Path, *, later_s: float = 0.0) -> None:
        """Writes a project folder with its ledger and the outputs of its last generation, with all times shifted."""
        root.mkdir(parents=True, exist_ok=True)
        remote = [name for name in self._workers if not name.startswith("local-")]
        tables = "".join(f"[[worker]]\nname = '{name}'\nshare = '/shares/{name}'\n" for name in remote)
        (root / "pipeline.toml").write_text(
            f"[evaluator]\ncommand = ['play']\n[local]\nworkers = {len(self._workers) - len(remote)}\n{tables}"
        )
        ledger = Ledger(root / "state")
        for generation, at, fact in self.facts:
            ledger.append([fact], at + later_s, generation, 1)
        ledger.close()
        Outputs(root / "results" / f"gen-{self.generation:04d}").write(self.table.farm)


def faulty_project(
    root: Path,
    *,
    generations: int = 4,
    genomes: int = 24,
    trials: int = 3,
    seed: int = 5,
    share: float = 1.0,
    plain: bool = False,
    until_busy: bool = False,
) -> FaultyRun:
    """A project with this number of generations; the last one is incomplete if `share` is below 1."""
    run = FaultyRun(genomes, trials, seed, plain=plain)
    for _ in range(generations - 1):
        run.play()
    run.play(share=share, until_busy=until_busy)
    run.write(root)
    return run


def mixed_project(root: Path) -> None:
    """A project whose generation was continued with another evaluator, which one of the two workers does not have."""
    core = CoreHarness("vm-1", "vm-2", genomes=3, depth=1)
    core.run_until_ready()
    core.publish_result(core.claim("vm-1"), fitness=2.5, seconds=3.0)
    core.tick()
    withdrawn = [attempt for worker in core.farm.workers.values() for attempt in worker.wanted.values()]
    for attempt in withdrawn:
        core.record(AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, reason="accepted", by_host=True))
    core.record(EvaluatorAccepted(version=OTHER_VERSION))
    core.shares["vm-1"].evaluator = OTHER_VERSION
    core.run(8)
    assert core.state("vm-2") is WorkerState.UNFIT
    core.play_all()

    root.mkdir(parents=True, exist_ok=True)
    tables = "".join(f"[[worker]]\nname = '{name}'\nshare = '/shares/{name}'\n" for name in core.farm.workers)
    (root / "pipeline.toml").write_text(f"[local]\nworkers = 0\n{tables}")
    ledger = Ledger(root / "state")
    for fact, at in core.facts:
        ledger.append([fact], BEGAN_AT + at, 1, 1)
    ledger.close()
    Outputs(root / "results" / "gen-0001").write(core.farm)


if __name__ == "__main__":
    faulty_project(Path(sys.argv[1]), share=float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
