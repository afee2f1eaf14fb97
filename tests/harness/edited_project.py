"""A farm whose game is edited, breaks and is put back, on local workers and on agents that have a copy of it.

Games that last until the test lets them end replace every wait for the right moment.
"""

import json
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pipeline.core.facts import AttemptClaimed, Fact, HostStarted
from pipeline.paths import LEDGER_FILE, ProjectPaths
from pipeline.storage.ledger import Ledger
from tests.harness.farm_project import CALLABLE, GAMES, Commands, FarmProject, games, running_attempt
from tests.harness.games import game

_EDITION, _EDITED = f"\nEDITION = {game.EDITION}\n", "\nEDITION = 2\n"


class EditedProject(FarmProject):
    """A project whose game may be edited."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._gate = root.parent / "gate"  #: outside of the project, so that it is no file of the evaluator
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._earlier_runs: dict[str, object] = {}  #: worker -> run id of the agent that its agent replaced

    # ------------------------------------------------------------------------------------------------------- genomes

    def gated(self, count: int, after: int = 0) -> dict[str, Commands]:
        """Numbered genomes; the game of each lasts until `open_gate`."""
        numbered = list(games(after + count).items())[after:]
        return {name: {**orders, "until": str(self._gate)} for name, orders in numbered}

    def open_gate(self) -> None:
        """Lets all gated games end, also those that begin later."""
        self._gate.touch()

    def close_gate(self) -> None:
        """Makes the games of gated genomes wait again."""
        self._gate.unlink()

    def start_until_counted(self, count: int) -> "subprocess.Popen[bytes]":
        """Starts a run and waits until so many results are counted; the games that follow must be gated."""
        host = self.start()
        self.wait_until(lambda: self.archived() >= count)
        return host

    def kill(self, host: "subprocess.Popen[bytes]") -> None:
        """`kill -9` of a host; its local agents end with it."""
        host.kill()
        host.communicate()

    # ---------------------------------------------------------------------------------------------------------- game

    def edit_game(self, folder: Path | None = None) -> None:
        """Changes the game's code: from now on it returns another edition."""
        self._replace(folder, _EDITION, _EDITED)

    def put_back(self, folder: Path | None = None) -> None:
        """Undoes `edit_game`."""
        self._replace(folder, _EDITED, _EDITION)

    def _replace(self, folder: Path | None, before: str, after: str) -> None:
        path = (folder or self.root) / "game.py"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def editions(self, generation: int = 1) -> dict[str, int]:
        """The edition of the game that each counted genome was played by."""
        return {name: int(float(row["edition"])) for name, row in self.results(generation).items() if row["fitness"]}

    def versions(self, generation: int = 1) -> set[str]:
        """The column `evaluator` of the counted genomes."""
        return {row["evaluator"] for row in self.results(generation).values() if row["fitness"]}

    def is_claimed(self, count: int) -> bool:
        """Whether the host has seen that so many games have begun."""
        return sum(isinstance(fact, AttemptClaimed) for fact in self._facts()) >= count

    def hosts_started(self) -> int:
        """How many hosts have opened the generation."""
        return sum(isinstance(fact, HostStarted) for fact in self._facts())

    def _facts(self) -> list[Fact]:
        state = ProjectPaths(self.root).state
        if not (state / LEDGER_FILE).exists():
            return []
        with closing(Ledger(state, read_only=True)) as ledger:
            return [entry.fact for entry in ledger.entries()]

    def outcomes(self, genome: str, generation: int = 1) -> list[str]:
        """How the attempts at a genome ended."""
        return [row["outcome"] for row in self.attempts(generation) if row["genome"] == genome]

    # -------------------------------------------------------------------------------------------------------- shares

    def configure_shares(self, *names: str, generation: str = "", **settings: Any) -> None:
        """Configures workers behind shares, and no local one; the agents are started by `start_worker`."""
        tables = "".join(f"[[worker]]\nname = '{name}'\nshare = '{self.share(name)}'\n" for name in names)
        self.configure(workers=0, extra=tables, **settings)
        if generation:
            path = self.root / "pipeline.toml"
            path.write_text(path.read_text().replace("[generation]\n", f"[generation]\n{generation}\n"))
        for name in names:
            self.share(name).mkdir(parents=True, exist_ok=True)

    def share(self, name: str) -> Path:
        """The share of a worker."""
        return self.root.parent / "shares" / name

    def game_folder(self, name: str) -> Path:
        """Where the agent of a worker has its game: a copy, as in a machine of its own."""
        folder = self.root.parent / "machines" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "game.py").write_bytes((GAMES / "game.py").read_bytes())
        return folder

    def start_worker(self, name: str, evaluator: str = CALLABLE) -> None:
        """Starts the agent of a worker behind a share, by hand, or starts it once more."""
        self.stop_worker(name)
        self._earlier_runs[name] = self._heartbeat(name).get("run_id")
        config = self.root.parent / f"{name}.toml"
        config.write_text(f"[evaluator]\n{evaluator}\n")
        self._agents[name] = self.start_agent(self.share(name), config=config, folder=self.game_folder(name))

    def stop_worker(self, name: str) -> None:
        """Ends the agent of a worker behind a share."""
        if agent := self._agents.pop(name, None):
            agent.terminate()
            agent.wait(30)

    def stop_workers(self) -> None:
        """Ends all agents that were started by hand."""
        for name in list(self._agents):
            self.stop_worker(name)

    def is_idle(self, name: str) -> bool:
        """Whether the agent of a worker behind a share has loaded its evaluator and plays nothing."""
        heartbeat = self._heartbeat(name)
        return heartbeat.get("state") == "idle" and heartbeat["run_id"] != self._earlier_runs[name]

    def _heartbeat(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.share(name) / "status" / "agent.json").read_bytes()))
        except OSError:  # it is not there yet, or being replaced
            return {}

    def is_playing(self, name: str) -> bool:
        """Whether a worker behind a share plays a game."""
        return bool(running_attempt(self.share(name)))

    def played_by(self, generation: int = 1) -> Mapping[str, set[str]]:
        """Worker -> the versions of the evaluator with which it completed games."""
        found: dict[str, set[str]] = {}
        for row in self.attempts(generation):
            if row["outcome"] == "completed":
                found.setdefault(row["worker"], set()).add(row["evaluator"])
        return found
