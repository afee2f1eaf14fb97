"""A project whose workers join while it is played: agents that announce themselves on a common disk."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.inspection.project_reader import ProjectReader
from tests.harness.edited_project import EditedProject
from tests.harness.farm_project import running_attempt
from tests.harness.waiting import PATIENCE


class PilotProject(EditedProject):
    """A project whose workers join it, each an agent that announces itself in `workers/`."""

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    def start_pilot(self, name: str) -> "subprocess.Popen[bytes]":
        """Starts a pilot, as a batch job does."""
        words = ("--join", str(self.workers), "--name", name, "--beat", "1", "--python", "game:play")
        pilot = subprocess.Popen(
            [sys.executable, "-P", "-m", "inbox_agent", *words, "--folder", str(self.root)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.adopt(pilot)
        return pilot

    def playing(self, worker: str) -> str:
        return running_attempt(self.workers / worker)

    def facts(self, *kinds: type) -> list[object]:
        """The facts of these kinds."""
        with ProjectReader(self.root) as reader:
            return [one.fact for one in reader.history(1) if isinstance(one.fact, kinds)]

    def holds(self, worker: str) -> int:
        with ProjectReader(self.root) as reader:
            known = reader.farm(1).workers.get(worker)
            return len(known.wanted) if known is not None else 0

    def pipeline(self, *words: str) -> str:
        """The output of a command that must succeed."""
        code, text = self.run(*words)
        assert code == 0, text
        return text


@contextmanager
def pilot_project(root: Path) -> Iterator[PilotProject]:
    """A project without a worker, whose folder of descriptions is empty; its processes end with the block."""
    project = PilotProject(root)
    project.configure(workers=0, silence_limit_s=12.0 * PATIENCE)  # on a busy computer a pilot starts and beats late
    project.workers.mkdir(mode=0o755)
    try:
        yield project
    finally:
        project.close()
