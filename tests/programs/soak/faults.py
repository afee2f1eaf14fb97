"""The faults of the soak, from a seed; and what an operator does now and then: stop, prune, verify, start."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.programs.soak.feeder import Feeder
from tests.programs.soak.project import LOCAL_WORKERS, SoakProject, is_own_disk

COMMAND_ENDS_WITHIN_S = 1800.0  #: `verify` of a day's ledger


@dataclass
class Operator:
    """Injects one fault at a time, and looks after the watch."""

    project: SoakProject
    feeder: Feeder
    dice: random.Random
    log: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)

    def inject(self) -> None:
        """One fault; it is over when this returns, but for what recovers by itself."""
        kinds: dict[Callable[[], bool], int] = {
            self.kill_agent: 4,
            self.kill_game: 3,
            self.suspend_agent: 2,
            self.suspend_watch: 2,
            self.break_configuration: 1,
        }
        if is_own_disk(self.project):
            kinds[self.fill_disk] = 1
        if self.project.server is not None:
            kinds |= {self.kill_server: 2, self.freeze_server: 2, self.drop_connections: 1, self.kill_smb_agent: 1}
        verb = self.dice.choices(list(kinds), list(kinds.values()))[0]
        self.log(f"{verb.__name__} begins")
        if verb():
            self._note(verb.__name__)

    def _note(self, name: str) -> None:
        self.counts[name.replace("_", " ")] += 1
        self.log(name.replace("_", " "))

    # ----------------------------------------------------------------------------------------------------- of the watch

    def kill_watch(self) -> None:
        """`kill -9`, and a new watch."""
        watch = self.project.watch_process
        assert watch is not None
        with self.feeder.watch_in_use:
            watch.kill()
            watch.wait()
            self._note("kill_watch")
            time.sleep(self.dice.uniform(0.0, 2.0))
            self.project.start_watch()

    def maintain(self, *, everything: bool) -> None:
        """Stops the watch as an operator does, prunes, verifies and starts the watch again.

        Raises:
            AssertionError: a command ended with another exit code.
        """
        with self.feeder.watch_in_use:
            self.project.stop_watch()
            keep = self.dice.choice(["results", "summary", "summary"])
            self._run("prune", "--older-than", "0d", "--keep", keep)
            if everything:
                self._run("verify")
            elif self.feeder.finished:
                self._run("verify", "--gen", str(list(self.feeder.finished)[-1]))
            self._note("prune_and_verify")
            self.project.start_watch()

    def _run(self, *args: str) -> None:
        code, out = self.project.run(*args, within_s=COMMAND_ENDS_WITHIN_S)
        assert code == 0, f"pipeline {' '.join(args)} ended with exit code {code}: {out[-2000:]}"

    def suspend_watch(self) -> bool:
        """As if the computer slept for a moment."""
        watch = self.project.watch_process
        assert watch is not None
        watch.send_signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.2, 8.0))
        watch.send_signal(signal.SIGCONT)
        return True

    def break_configuration(self) -> bool:
        """`pipeline.toml` is saved half-edited, and corrected after some seconds."""
        path = self.project.root / "pipeline.toml"
        text = path.read_text()
        with self.feeder.disk_in_use:
            path.write_text(text + "\n[generation\n")
        time.sleep(self.dice.uniform(1.0, 6.0))
        with self.feeder.disk_in_use:
            path.write_text(text)
        return True

    def fill_disk(self) -> bool:
        """The host's disk is full to the last byte for some seconds."""
        hog = self.project.root.parent / "hog"
        with self.feeder.disk_in_use:
            try:
                _fill(hog)
                time.sleep(self.dice.uniform(1.0, 8.0))
            finally:
                hog.unlink()
        return True

    # --------------------------------------------------------------------------------------------------- of the workers

    def kill_agent(self) -> bool:
        agent = self._an_agent()
        return agent is not None and _try(agent.kill)

    def kill_game(self) -> bool:
        agent = self._an_agent()
        children = [] if agent is None else _children(agent)
        return sum(_try(child.kill) for child in children) > 0

    def suspend_agent(self) -> bool:
        """For so long that its worker counts as silent, or shorter."""
        agent = self._an_agent()
        if agent is None or not _try(agent.suspend):
            return False
        time.sleep(self.dice.uniform(1.0, 12.0))
        _try(agent.resume)
        return True

    def _an_agent(self) -> psutil.Process | None:
        return self.project.agent_of(f"local-{self.dice.randrange(LOCAL_WORKERS)}")

    # ----------------------------------------------------------------------------------------------------- of the share

    def kill_server(self) -> bool:
        """The share goes away, and comes back."""
        server = self.project.server
        assert server is not None
        server.kill()
        time.sleep(self.dice.uniform(1.0, 15.0))
        server.start()
        return True

    def freeze_server(self) -> bool:
        """No request is answered for a while."""
        server = self.project.server
        assert server is not None
        server.freeze()
        time.sleep(self.dice.uniform(1.0, 15.0))
        server.thaw()
        return True

    def drop_connections(self) -> bool:
        assert self.project.server is not None
        self.project.server.drop_connections()
        return True

    def kill_smb_agent(self) -> bool:
        """The agent behind the share is killed, and started again after a while."""
        self.project.smb_agent.kill()
        self.project.smb_agent.wait()
        time.sleep(self.dice.uniform(0.5, 10.0))
        self.project.start_smb_agent()
        return True


def _fill(path: Path) -> None:
    """Writes until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while file.write(bytes(size)):
                    continue
            except OSError:
                continue


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.Error:
        return []


def _try(verb: Callable[[], object]) -> bool:
    """Whether the process still existed."""
    try:
        verb()
    except psutil.Error:
        return False
    return True
