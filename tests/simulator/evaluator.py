"""The simulated evaluator: executes the behaviour that a genome contains, in virtual time.

The fitness is computed from the genome's bytes, the seed and the evaluator's version: every mix-up gives another one.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from inbox_agent.evaluation.protocol import CannotLoad, EvaluationJob, EvaluationResult
from inbox_agent.protocol.layout import Outcome
from tests.simulator.world import Options

if TYPE_CHECKING:
    from tests.simulator.machine import SimulatedMachine

#: The version of the evaluator that machines have at first, and the one of a machine whose files were edited.
VERSION, EDITED_VERSION = "v1", "v2"
LOAD_S, SLOW_LOAD_S = (0.0, 1.5), (20.0, 60.0)


def version_of(options: Options, generation: int) -> str:
    """The version of the evaluator that a generation must be played with."""
    if not options.deploy:
        return VERSION
    return "deployed-1" if options.reuse else f"deployed-{generation}"  # results of another version are not reused


def generation_of(attempt: str) -> int:
    """The generation in an attempt's id."""
    return int(attempt.partition("-")[0].removeprefix("g"))


def fitness_of(genome: bytes, seed: int, version: str = VERSION) -> float:
    """The only correct fitness of a game; an evaluator of another version gives another one."""
    digest = hashlib.sha256(genome + b"/" + str(seed).encode() + b"/" + version.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**40


def behaviour_of(genome: bytes) -> dict[str, Any]:
    """The behaviour that a genome contains; a truncated one is played too, with the fitness of its bytes."""
    try:
        return dict(orjson.loads(genome))
    except ValueError:
        return {"do": "play", "seconds": 1.0}


class SimulatedEvaluator:
    """Executes the genome's behaviour in virtual time. Implements the `GenomeEvaluator` protocol.

    It is loaded like a function, which reads its files in a process that is kept, or reads them at every game, like a
    command. Games of a ruined process fail.
    """

    progress = ""

    def __init__(self, machine: "SimulatedMachine") -> None:
        self._machine = machine
        self._job: EvaluationJob | None = None
        self._done_at = self._begun_at = 0.0
        self.reads_files_at_each_game = machine.world.options.commands
        self.loads = 0
        self.is_unused = True
        self._version = ""  #: of the files that were read; empty: nothing is loaded
        self._load_ends_at: float | None = None
        self._version_read_first = ""
        self._is_ruined = False

    def load(self, timeout_s: float) -> bool:
        machine, world = self._machine, self._machine.world
        if self._version:
            return True
        if self._load_ends_at is None:
            self.loads += 1
            self._version_read_first = machine.evaluator_version
            slow = world.draw_fault("slow load", world.options.slow_load)
            load_s = world.rng.uniform(*(SLOW_LOAD_S if slow else LOAD_S))
            self._load_ends_at = world.now + load_s
            if world.draw_fault("edit while loading", 0.1 if world.options.evaluator_edit else 0.0):
                world.schedule(world.rng.uniform(0, load_s), lambda: machine.edit_for(world.rng.choice([0.1, 1, 20])))
        if world.now < self._load_ends_at:
            return False
        self._load_ends_at = None
        if machine.evaluator_is_broken:
            raise CannotLoad("No module named 'game'")
        # It may have read its files at any moment of the load.
        self._version = world.rng.choice([self._version_read_first, machine.evaluator_version])
        self.is_unused, self._is_ruined = True, False
        return True

    def unload(self) -> None:
        assert self._job is None, "a game is running"
        self._version, self._load_ends_at = "", None
        self.is_unused = True

    def prepare(self, suffix: str) -> Path:
        return Path(f"/scratch/{self._machine.name}/genome{suffix}")

    def start(self, job: EvaluationJob) -> None:
        world = self._machine.world
        self._job = job
        self.is_unused = False
        if not self._version:
            world.report_violation(f"{self._machine.name} plays {job.attempt} before its evaluator is loaded")
        if world.options.commands:
            self.loads += 1
            self._version_read_first = self._machine.evaluator_version
        elif self._version != version_of(world.options, generation_of(job.attempt)) and not world.options.second_farm:
            world.report_violation(f"{self._machine.name} plays {job.attempt} with evaluator {self._version}")
        behaviour = behaviour_of(self._machine.files.fetched[job.genome])
        self._begun_at = world.now
        self._done_at = world.now + min(
            behaviour["seconds"] * self._machine.slowness * world.rng.uniform(0.5, 1.5), job.time_limit_s
        )
        self._machine.note_playing(job.attempt)
        if behaviour["do"] == "poison":
            world.schedule(min(0.2, 0.8 * (self._done_at - world.now)), partial(self._machine.crash_by, job.attempt))

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        world = self._machine.world
        if self._job is None or world.now < self._done_at:
            return None
        job, self._job = self._job, None
        self._machine.note_played(job.attempt)
        data = self._machine.files.fetched[job.genome]
        behaviour = behaviour_of(data)
        if world.options.commands:  # it may have read its files at any moment of the game
            self._version = world.rng.choice([self._version_read_first, self._machine.evaluator_version])
        version = self._version
        if self._is_ruined or behaviour["do"] == "fail":
            self._version = ""  # the next game runs in a new process
            return EvaluationResult(
                outcome=Outcome.FAILED, seconds=1.0, metrics={}, artifacts=[], reason="it failed", log=b"no"
            )
        if behaviour["do"] == "hang":
            self._version = ""
            return EvaluationResult(outcome=Outcome.TIMED_OUT, seconds=job.time_limit_s, metrics={}, artifacts=[])
        self._is_ruined = not world.options.commands and world.draw_fault("ruined process", world.options.ruin)
        fitness = fitness_of(data, job.seed, version)
        return EvaluationResult(
            outcome=Outcome.COMPLETED,
            fitness=fitness,
            seconds=self._done_at - self._begun_at,
            metrics={"n": 1.0},
            artifacts=[],
        )

    def next_at(self) -> float | None:
        """The time at which the running game or load ends."""
        return self._done_at if self._job is not None else self._load_ends_at

    def delay_end(self, reverted_s: float) -> None:
        """Moves the end of the game or the load by the time for which it was frozen."""
        self._done_at += reverted_s
        self._begun_at += reverted_s
        if self._load_ends_at is not None:
            self._load_ends_at += reverted_s

    def stop(self) -> None:
        if self._job is not None:
            self._machine.note_played(self._job.attempt)
            self._job, self._version = None, ""

    def close(self) -> None:
        self.stop()
