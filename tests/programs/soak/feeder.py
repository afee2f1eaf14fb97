"""Drops generations into the watched folder in odd ways, and checks what came of each."""

import json
import os
import random
import shutil
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.model import trial_seed
from tests.harness.waiting import eventually
from tests.programs.soak.project import SoakProject

SETTLES_WITHIN_S = 900.0  #: longer than the longest pause of a watch after failures
TABLES_WITHIN_S = 60.0  #: after the summary
DEPLOYED_WITHIN_S = 120.0
OPEN_MAX = 3  #: generations at once
GENERATIONS_PER_EVALUATOR = 8
FOLDERS_KEPT = 20  #: of finished generations below `genomes/`, as a user tidies up
_SEED = 11  # of pipeline.toml


@dataclass
class Dropped:
    """A generation that was put there, and what is known about it."""

    fitness: dict[str, float | None]  #: genome -> what must be counted; None: it must fail
    edition: int
    dropped_at: float
    late: dict[str, bytes] = field(default_factory=dict)  #: files that come later
    late_at: float = 0.0
    finished_at: float = 0.0  #: when the summary was seen that says so


@dataclass
class Feeder:
    """Feeds the farm from a thread of its own; each generation that is finished is checked at once."""

    project: SoakProject
    dice: random.Random
    pause_s: float  #: between two drops, on average
    generations_per_evaluator: int = GENERATIONS_PER_EVALUATOR
    disk_in_use: threading.Lock = field(default_factory=threading.Lock)  #: held while files are written
    #: held while the watch is ended and started again, and while an evaluator is deployed
    watch_in_use: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)  #: nothing more will be counted
    open: dict[int, Dropped] = field(default_factory=dict)
    finished: dict[int, Dropped] = field(default_factory=dict)
    ways: Counter[str] = field(default_factory=Counter)
    played: Counter[str] = field(default_factory=Counter)  #: completed games of each worker
    problem: str = ""  #: why the soak has failed
    _numbers: list[int] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------------- the thread

    def run(self) -> None:
        """Feeds until `stopped` is set, then waits until everything is counted."""
        try:
            self._feed()
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def _feed(self) -> None:
        since_change = 0
        while not self.stopped.is_set():
            with self.disk_in_use:
                for _ in range(self.dice.choice([1, 1, 2])):
                    self._drop(self._next_number())
                    since_change += 1
            self._wait(self.dice.expovariate(1 / self.pause_s))
            while len(self.open) >= OPEN_MAX and not self.stopped.is_set():
                self._wait(0.5)
            if since_change >= self.generations_per_evaluator:
                self._drain()
                self._change_evaluator()
                since_change = 0
        self._drain()

    def _drain(self) -> None:
        while self.open and not self.given_up.is_set():
            self._wait(0.5)

    def _change_evaluator(self) -> None:
        """Edits the game and deploys it; now and then the command is killed first, as by an impatient user."""
        with self.disk_in_use:
            self.project.edit_evaluator()
        if self.project.server is None:
            return
        with self.watch_in_use:
            if self.dice.random() < 0.3:
                killed = self.project.start("deploy")
                time.sleep(self.dice.uniform(0.0, 2.0))
                killed.kill()
                killed.communicate()
                self.ways["deploy that was killed"] += 1
            assert eventually(self.project.deploy, DEPLOYED_WITHIN_S), "the evaluator cannot be deployed"
            self.ways["deploy"] += 1

    def _wait(self, pause_s: float) -> None:
        deadline = time.monotonic() + pause_s
        while True:
            self._drop_late_files()
            self._check()
            if time.monotonic() >= deadline:
                return
            time.sleep(min(0.5, pause_s))

    def _next_number(self) -> int:
        """The numbers do not rise steadily."""
        if not self._numbers:
            first = len(self.open) + len(self.finished) + 1
            self._numbers = list(range(first, first + 4))
            self.dice.shuffle(self._numbers)
        return self._numbers.pop()

    # ---------------------------------------------------------------------------------------------------------- genomes

    def _genomes(self, generation: int) -> dict[str, bytes]:
        """Short pauses, a few real games, and now and then one that fails in each of the ways."""
        genomes: dict[str, Any] = {}
        for number in range(self.dice.randint(5, 9)):
            gains = [round(self.dice.uniform(5, 25), 3), round(self.dice.uniform(0, 4), 3)]
            genomes[f"g{number}.json"] = {
                "generation": generation,
                "gains": gains,
                "steps": 20_000 if number == 0 else 200,
                "seconds": round(self.dice.uniform(0.1, 1.2), 2),
            }
        if self.dice.random() < 0.25:
            genomes["g4.json"]["do"] = self.dice.choice(["raise", "die", "hang"])
        return {name: json.dumps(orders).encode() for name, orders in genomes.items()}

    def _expected(self, generation: int, data: bytes) -> float | None:
        if "do" in json.loads(data):
            return None
        return statistics.mean([self.project.fitness(data, trial_seed(_SEED, generation, 1))])

    # ------------------------------------------------------------------------------------------------------------- ways

    def _drop(self, generation: int) -> None:
        genomes = self._genomes(generation)
        self.open[generation] = dropped = Dropped(
            {name: self._expected(generation, data) for name, data in genomes.items()},
            self.project.edition,
            time.monotonic(),
        )
        ways: list[Callable[[int, dict[str, bytes]], None]] = [
            self._copy,
            self._copy_slowly,
            self._move_files,
            self._move_folder,
            self._beside_strange_files,
        ]
        if self.dice.random() < 0.2:
            name = f"g{len(genomes) - 1}.json"
            dropped.late, dropped.late_at = {name: genomes.pop(name)}, time.monotonic() + self.dice.uniform(0.5, 12)
            self.ways["late file"] += 1
        way = self.dice.choice(ways)
        self.ways[way.__name__.strip("_").replace("_", " ")] += 1
        way(generation, genomes)

    def _copy(self, generation: int, genomes: dict[str, bytes]) -> None:
        folder = self.project.folder(generation)
        folder.mkdir(parents=True)
        for name, data in genomes.items():
            (folder / name).write_bytes(data)

    def _copy_slowly(self, generation: int, genomes: dict[str, bytes]) -> None:
        """The files grow together, in steps shorter than the second after which a file counts as complete."""
        folder, steps = self.project.folder(generation), 8
        folder.mkdir(parents=True)
        for step in range(steps):
            for name, data in genomes.items():
                size = -(-len(data) // steps)
                with (folder / name).open("ab") as file:
                    file.write(data[step * size : (step + 1) * size])
            time.sleep(self.dice.uniform(0.05, 0.4))

    def _move_files(self, generation: int, genomes: dict[str, bytes]) -> None:
        self.project.folder(generation).mkdir(parents=True)
        for name, data in genomes.items():
            self.project.move_in(generation, name, data.decode())

    def _move_folder(self, generation: int, genomes: dict[str, bytes]) -> None:
        aside = self.project.root / "genomes" / f".aside-{generation}"
        aside.mkdir(parents=True)
        for name, data in genomes.items():
            (aside / name).write_bytes(data)
        os.rename(aside, self.project.folder(generation))

    def _beside_strange_files(self, generation: int, genomes: dict[str, bytes]) -> None:
        """What can be no genome is there first, and goes before the generation ends or after."""
        folder = self.project.folder(generation)
        (folder / "folder").mkdir(parents=True)
        (folder / "empty.json").touch()
        (folder / ".hidden").write_text("not a genome")
        (folder / "g0.json.part").write_text("not complete")
        for name, data in genomes.items():
            (folder / name).write_bytes(data)
        time.sleep(self.dice.uniform(0, 1.5))
        (folder / "folder").rmdir()
        (folder / "empty.json").unlink()

    def _drop_late_files(self) -> None:
        for generation, dropped in self.open.items():
            if dropped.late and time.monotonic() >= dropped.late_at:
                with self.disk_in_use:
                    for name, data in dropped.late.items():
                        self.project.move_in(generation, name, data.decode())
                dropped.late, dropped.dropped_at = {}, time.monotonic()

    # ----------------------------------------------------------------------------------------------------------- checks

    def _check(self) -> None:
        """Checks the generations that are finished; raises AssertionError if one is not what it must be."""
        for generation, dropped in list(self.open.items()):
            if dropped.late:
                continue
            if self._is_finished(generation, len(dropped.fitness)):
                if not self._has_tables(generation, dropped):
                    continue
                self.finished[generation] = self.open.pop(generation)
                attempts = self.project.attempts(generation)
                self.played.update(row["worker"] for row in attempts if row["outcome"] == "completed")
                self._tidy_up()
            elif time.monotonic() - dropped.dropped_at > SETTLES_WITHIN_S:
                raise AssertionError(f"generation {generation} is not finished after {SETTLES_WITHIN_S:.0f} s")

    def _has_tables(self, generation: int, dropped: Dropped) -> bool:
        """Whether the tables are right. They may be written some time after the summary, e.g. if the disk was full."""
        dropped.finished_at = dropped.finished_at or time.monotonic()
        try:
            self.assert_counted(generation, dropped)
        except (AssertionError, OSError, ValueError, KeyError):
            if time.monotonic() - dropped.finished_at > TABLES_WITHIN_S:
                raise
            return False
        return True

    def _is_finished(self, generation: int, genomes: int) -> bool:
        with suppress(OSError, ValueError):  # the disk is full, or the file is being replaced
            return self.project.is_finished(generation, genomes)
        return False

    def assert_counted(self, generation: int, dropped: Dropped) -> None:
        """Each genome once, with the fitness that follows from its bytes and the evaluator of its time."""
        rows = self.project._table("results.csv", generation)
        names = [row["genome"] for row in rows]
        assert sorted(names) == sorted(dropped.fitness), f"generation {generation} has the genomes {names}"
        for row in rows:
            expected = dropped.fitness[row["genome"]]
            got = float(row["fitness"]) if row["fitness"] else None
            assert got == expected, f"generation {generation}: {row}, and the fitness must be {expected}"
            if got is not None:
                edition = int(float(row["edition"]))
                assert edition == dropped.edition, f"generation {generation}: {row}, not of edition {dropped.edition}"
        summary = self.project.summary(generation)
        assert (summary["lost"], summary["duplicated"], summary["open"]) == (0, 0, 0), summary

    def _tidy_up(self) -> None:
        """Removes the oldest folder of a finished generation."""
        if len(self.finished) > FOLDERS_KEPT:
            oldest = list(self.finished)[-FOLDERS_KEPT - 1]
            shutil.rmtree(self.project.folder(oldest), ignore_errors=True)
