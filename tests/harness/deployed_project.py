"""A project whose evaluator is deployed to agents that the test starts itself, each with a state folder of its own.

The fitness depends on the edition of the evaluator, which two of its files say, so that a mix-up of files, versions or
generations shows.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.settings import EvaluatorTable
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore
from tests.harness.games.game import fitness_of
from tests.harness.watched_project import WatchedProject

FUNCTION = "edition:play"
_PLAY = """
import json
import time
from pathlib import Path

import game
from lib import part

EDITION = {edition}


def play(genome, trial):
    data = Path(genome).read_bytes()
    time.sleep(json.loads(data).get("seconds", 0))
    assert EDITION == part.EDITION, "files of two versions"
    return {{"fitness": game.fitness_of(data, trial.seed) + 256 * EDITION}}
"""


class DeployedProject(WatchedProject):
    """A project with editions of an evaluator."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.versions_of: dict[int, str] = {}  #: edition -> version of its evaluator
        self._takers: dict[str, subprocess.Popen[bytes]] = {}
        self._edition = 0  #: of the genomes that are checked

    # ------------------------------------------------------------------------------------------------------- evaluator

    def set_up(self, *names: str, evaluator: str = f'python = "{FUNCTION}"', **settings: Any) -> None:
        """Configures workers behind shares, with the first edition of the evaluator in the project."""
        self.configure_shares(*names, evaluator=evaluator, **settings)
        self.edit(1)

    def edit(self, edition: int, folder: Path | None = None) -> str:
        """Writes an edition of the evaluator into the project, or another folder; returns its version."""
        folder = folder or self.root
        (folder / "lib").mkdir(parents=True, exist_ok=True)
        (folder / "edition.py").write_text(_PLAY.format(edition=edition))
        (folder / "lib" / "part.py").write_text(f"EDITION = {edition}\n")
        if not (folder / "game.py").exists():
            (folder / "game.py").write_bytes((self.root / "game.py").read_bytes())
        self.versions_of[edition] = EvaluatorFiles(EvaluatorTable(python=FUNCTION), folder).version()
        return self.versions_of[edition]

    def fitness(self, genome: bytes, seed: int) -> float:
        return fitness_of(genome, seed) + 256 * self._edition

    def assert_counted_once_by(self, edition: int, generation: int = 1) -> None:
        """Every genome of a generation is counted once, and each by this edition of the evaluator."""
        assert self.versions(generation) == {self.versions_of[edition]}
        completed = [row for row in self.attempts(generation) if row["outcome"] == "completed"]
        assert {row["evaluator"] for row in completed} == {self.versions_of[edition]}
        self._edition = edition
        self.assert_counted_once(generation=generation)

    # --------------------------------------------------------------------------------------------------------- deploy

    def deploy(self, *args: str, wait_s: float = 30) -> tuple[int, str]:
        """Runs `pipeline deploy`. Returns exit code and output."""
        return self.run("deploy", "--wait", str(wait_s), *args)

    def deployed(self) -> list[str]:
        """The versions that were deployed, as far as they are kept."""
        return [each.evaluator for each in DeploymentStore(ProjectPaths(self.root)).read().known]

    # --------------------------------------------------------------------------------------------------------- agents

    def state_of(self, name: str) -> Path:
        """The state folder of an agent."""
        return self.root.parent / "states" / name

    def start_taker(self, name: str, *options: str, takes: bool = True) -> "subprocess.Popen[bytes]":
        """Starts the agent of a worker, or once more; without options it has no evaluator of its own."""
        self.stop_taker(name)
        words = [
            "--share",
            str(self.share(name)),
            "--state",
            str(self.state_of(name)),
            "--beat",
            "0.3",
            "--poll",
            "0.3",
        ]
        with self.log_of(name).open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-P", "-m", "inbox_agent", *words, *(["--accept-evaluators"] * takes), *options],
                cwd=self.root.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._takers[name] = agent
        self.adopt(agent)
        return agent

    def stop_taker(self, name: str) -> None:
        """Ends the agent of a worker."""
        if agent := self._takers.pop(name, None):
            agent.terminate()
            agent.wait(30)

    def kill_taker(self, name: str) -> None:
        """`kill -9` of the agent of a worker."""
        agent = self._takers.pop(name)
        agent.kill()
        agent.wait()

    def stop_takers(self) -> None:
        """Ends all agents of workers."""
        for name in list(self._takers):
            self.stop_taker(name)

    def log_of(self, name: str) -> Path:
        """What the agents of a worker have logged."""
        return self.root.parent / f"{name}.log"

    def heartbeat(self, name: str) -> dict[str, Any]:
        """The heartbeat of a worker's agent; empty if there is none."""
        return self._heartbeat(name)

    def deployments_in(self, name: str) -> list[str]:
        """The names of deployments in a share."""
        return sorted(found for found in os.listdir(self.share(name) / "inbox") if ".deploy." in found)


def rows(output: str) -> dict[str, tuple[str, str]]:
    """Worker -> evaluator and state, of the table that `pipeline deploy` prints."""
    _, _, table = output.partition("\nworker ")
    found = [re.split(r" {2,}", line.strip(), maxsplit=2) for line in table.splitlines()[1:]]
    return {row[0]: (row[1], row[2]) for row in found if len(row) == 3}
