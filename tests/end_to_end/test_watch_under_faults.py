"""Twenty generations that are dropped in odd ways, while the watch and its agents are killed thirty times."""

import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.harness.farm_project import Commands
from tests.harness.waiting import PATIENCE, eventually
from tests.harness.watched_project import WatchedProject

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

GENERATIONS, GENOMES, FAULTS = 20, 4, 30


@pytest.fixture
def project(tmp_path: Path) -> Iterator[WatchedProject]:
    """A project whose genomes survive many lost attempts."""
    project = WatchedProject(tmp_path / "farm")
    project.configure(
        workers=2,
        attempts_max=40,
        failures_max=40,
        losses_max=50,
        losses_per_trial_max=100,
        silence_limit_s=3.0 * PATIENCE,
        claim_limit_s=5.0 * PATIENCE,
        grace_s=2.0,
        back_off_s=0.2,
    )
    yield project
    project.close()


@dataclass
class Dropper:
    """Puts the generations into `genomes/`, each in another way."""

    project: WatchedProject
    dice: random.Random
    pause: threading.Event = field(default_factory=threading.Event)

    def genomes(self, generation: int) -> dict[str, Commands]:
        return {f"g{n}.json": {"n": 100 * generation + n, "seconds": 0.05} for n in range(GENOMES)}

    def drop(self) -> None:
        """Two at once, late files, slow copies, moves; the numbers do not rise."""
        numbers = list(range(1, GENERATIONS + 1))
        self.dice.shuffle(numbers)
        ways = [self.copy, self.copy_slowly, self.move_files, self.move_folder, self.late]
        while numbers:
            dropped, numbers = numbers[:2], numbers[2:]
            for generation in dropped:
                ways[generation % len(ways)](generation)
            self.pause.wait(self.dice.uniform(0.2, 1.2))

    def copy(self, generation: int) -> None:
        self.project.add_genomes(self.genomes(generation), generation)

    def copy_slowly(self, generation: int) -> None:
        """Each file grows in several steps."""
        folder = self.project.folder(generation)
        folder.mkdir(parents=True)
        for name, orders in self.genomes(generation).items():
            with (folder / name).open("w") as file:
                for letter in json.dumps(orders):
                    file.write(letter)
                    file.flush()
                    self.pause.wait(0.005)

    def move_files(self, generation: int) -> None:
        self.project.folder(generation).mkdir(parents=True)
        for name, orders in self.genomes(generation).items():
            self.project.move_in(generation, name, json.dumps(orders))

    def move_folder(self, generation: int) -> None:
        aside = self.project.root / "genomes" / f".aside-{generation}"
        aside.mkdir(parents=True)
        for name, orders in self.genomes(generation).items():
            (aside / name).write_text(json.dumps(orders))
        os.rename(aside, self.project.folder(generation))

    def late(self, generation: int) -> None:
        """One file comes when the generation may be finished already, beside one that can be no genome."""
        genomes = self.genomes(generation)
        last = {"g3.json": genomes.pop("g3.json")}
        self.project.add_genomes(genomes, generation)
        (self.project.folder(generation) / "empty.json").touch()
        self.pause.wait(self.dice.uniform(0.0, 3.0))
        (self.project.folder(generation) / "empty.json").unlink()
        self.project.add_genomes(last, generation)


@dataclass
class Faults:
    """Kills and suspends the watch and its agents."""

    project: WatchedProject
    dice: random.Random
    watch: "subprocess.Popen[bytes]"
    done: int = 0

    def inject(self) -> None:
        """One fault, after a pause; starts another watch if this one has ended."""
        eventually(lambda: False, self.dice.uniform(0.1, 1.0))
        verb = self.dice.choice([self.kill_watch, self.kill_watch, self.stop_watch, self.suspend, self.kill_agent])
        self.done += verb()
        if self.watch.poll() is not None:
            self.watch = self.project.watch()

    def kill_watch(self) -> bool:
        self.watch.kill()
        self.watch.wait()
        return True

    def stop_watch(self) -> bool:
        """SIGTERM: before the watch has begun it ends the process, later it is the exit code 0."""
        return self.project.stop(self.watch) in (0, -signal.SIGTERM)

    def suspend(self) -> bool:
        self.watch.send_signal(signal.SIGSTOP)
        eventually(lambda: False, self.dice.uniform(0.1, 1.0))
        self.watch.send_signal(signal.SIGCONT)
        return True

    def kill_agent(self) -> bool:
        agent = self.project.agent_of(self.dice.choice(["local-0", "local-1"]))
        try:
            if agent is not None:
                agent.kill()
        except psutil.Error:
            return False
        return agent is not None


@pytest.mark.parametrize("seed", [23])
def test_every_genome_is_counted_once(project: WatchedProject, seed: int) -> None:
    """With the fitness that follows from its bytes and its seed, whatever was killed and however it arrived."""
    dropper = Dropper(project, random.Random(seed))
    dropping = threading.Thread(target=dropper.drop)
    dropping.start()
    faults = Faults(project, random.Random(seed), project.watch())
    while faults.done < FAULTS:
        faults.inject()
    dropping.join()
    for generation in range(1, GENERATIONS + 1):
        finished = partial(project.is_finished, generation, GENOMES)
        eventually(lambda: finished() or faults.watch.poll() is not None, 60 * PATIENCE, 0.1)  # noqa: B023
        assert finished(), project.output
    assert project.stop(faults.watch) == 0

    for generation in range(1, GENERATIONS + 1):
        project.assert_counted_once(generation=generation)
        assert project.summary(generation)["completed"] == GENOMES
    code, out = project.run("verify")
    assert code == 0, out
    assert "Traceback" not in project.output
