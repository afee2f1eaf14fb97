"""A project that `pipeline watch` plays, and what it prints."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.harness.edited_project import EditedProject
from tests.harness.waiting import PATIENCE_S


class WatchedProject(EditedProject):
    """A project with a watch, whose output goes to a file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._log = root.parent / "watch.txt"

    def watch(self, *options: str) -> "subprocess.Popen[bytes]":
        """Starts `pipeline watch`; what it prints is added to `output`."""
        with self._log.open("ab") as log:
            return self.start("watch", *options, stdout=log.fileno())

    @property
    def output(self) -> str:
        """What every watch has printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    def lines(self, words: str) -> list[str]:
        """The printed lines with these words."""
        return [line for line in self.output.splitlines() if words in line]

    def stop(self, watch: "subprocess.Popen[bytes]") -> int:
        """SIGTERM, or what Windows has of it; returns the exit code."""
        if sys.platform == "win32":
            watch.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            watch.send_signal(signal.SIGTERM)
        return watch.wait(PATIENCE_S)

    def folder(self, generation: int) -> Path:
        """The folder of a generation, which need not exist."""
        return self.root / "genomes" / f"gen-{generation:04d}"

    def move_in(self, generation: int, name: str, text: str) -> None:
        """A file that is written elsewhere and renamed into the folder."""
        aside = self.root.parent / f"{generation}-{name}"
        aside.write_text(text)
        os.rename(aside, self.folder(generation) / name)

    def is_finished(self, generation: int, genomes: int) -> bool:
        """Whether a generation is finished with so many genomes, by its summary."""
        path = self.root / "results" / f"gen-{generation:04d}" / "summary.json"
        if not path.exists():
            return False
        summary = self.summary(generation)
        return bool(summary["finished"]) and summary["submitted"] == genomes

    def wait_until_finished(self, generation: int, genomes: int) -> None:
        """Waits until a generation is finished with so many genomes."""
        self.wait_until(lambda: self.is_finished(generation, genomes), every_s=0.05)

    def began(self) -> list[int]:
        """The generations in the order in which they ended, with repetitions."""
        return [int(line.split()[1].rstrip(":")) for line in self.lines(" open, ") if line.startswith("generation ")]
