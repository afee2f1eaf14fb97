"""One check's share, its agents and its waiting: every wait has a deadline.

Owns: what a check may do, and the text of what was seen when it fails.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import psutil

from inbox_agent.conformance.agent_process import AgentProcess, running
from inbox_agent.conformance.host_side import HostSide, RequestedGame
from inbox_agent.conformance.outcome import CheckFailed
from inbox_agent.protocol.layout import INBOX, AgentRecord, Kind, Outcome, ResultRecord

T = TypeVar("T")
GAME = Path(__file__).with_name("game.py")
#: How long nothing may happen until it counts as never: twice what the protocol allows for noticing a change.
QUIET_S = 2.0
#: Windows refuses to replace a file that is open: a reader that looks all the time would stop the heartbeat.
POLL_S = 0.1 if sys.platform == "win32" else 0.01


class Cancelled(Exception):
    """The whole run was cancelled."""


class Scenario:
    """A share in a folder, and agents on it. Closing it ends them and the games."""

    def __init__(
        self, folder: Path, command: Sequence[str], *, patience_s: float, cancelled: threading.Event | None = None
    ) -> None:
        self.host = HostSide(folder)
        self._folder, self._command = folder, command
        self.patience_s = patience_s  #: the longest wait for one thing
        self._cancelled = cancelled or threading.Event()
        self._agents: list[AgentProcess] = []
        self._may_end: list[AgentProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for game in self.host.games:
            game.finish()
        for agent in [*self._agents, *self._may_end]:
            agent.close()
        for game in self.host.games:
            for process in _processes(game):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    # -------------------------------------------------------------------------------------------------------- agents

    def start_agent(self, state: str = "state") -> AgentProcess:
        """Starts an agent. One that starts after another with the same state is its successor on one machine."""
        own = self._folder / state
        own.mkdir(exist_ok=True)
        values = {"share": str(self.host.share), "state": str(own), "python": sys.executable, "game": str(GAME)}
        number = len(self._agents) + len(self._may_end)
        agent = AgentProcess(self._command, values, self._folder / f"agent-{number}.log")
        self._agents.append(agent)
        return agent

    def start_owned_agent(self) -> AgentProcess:
        """Publishes a `host.json`, starts an agent, and waits until it can play."""
        self.host.publish_owner()
        agent = self.start_agent()
        self.wait_for_farm()
        return agent

    def kill(self, agent: AgentProcess) -> None:
        """Kills an agent, as a crash of it would."""
        self.allow_end(agent)
        agent.kill()

    def allow_end(self, agent: AgentProcess) -> None:
        """From now on it is no failure if that agent ends."""
        self._agents.remove(agent)
        self._may_end.append(agent)

    def wait_for_end(self, agent: AgentProcess, expected: str) -> None:
        """Waits until an agent has ended."""
        if agent in self._agents:
            self.allow_end(agent)
        self.wait_for(expected, lambda: agent.ended)

    # ------------------------------------------------------------------------------------------------------- waiting

    def wait_for(self, expected: str, probe: Callable[[], T | None]) -> T:
        """The first result of `probe` that is true. Raises CheckFailed: none was in time, or an agent ended."""
        deadline, pause = time.monotonic() + self.patience_s, threading.Event()
        while not (found := probe()):
            if self._cancelled.is_set():
                raise Cancelled
            for agent in self._agents:
                if agent.ended:
                    raise CheckFailed(expected, f"the agent ended with {agent.epitaph}")
            if time.monotonic() > deadline:
                raise CheckFailed(expected, f"not within {self.patience_s:g} s; {self.description()}")
            pause.wait(POLL_S)
        return found

    def require(self, condition: object, expected: str, seen: str = "") -> None:
        """Raises CheckFailed unless the condition is true."""
        if not condition:
            raise CheckFailed(expected, seen or self.description())

    def require_quiet(self, expected: str, condition: Callable[[], object], seconds: float = QUIET_S) -> None:
        """Requires that a condition holds for a while; only for what nothing in the share shows the end of."""
        until, pause = time.monotonic() + seconds, threading.Event()
        while time.monotonic() < until:
            self.require(condition(), expected)
            pause.wait(POLL_S)

    def wait_for_farm(self, *, epoch: int = 1) -> AgentRecord:
        """Waits for a heartbeat of the farm by an agent that has loaded its evaluator."""

        def beat() -> AgentRecord | None:
            found = self.host.heartbeat()
            return found if found and found.farm and found.epoch == epoch and found.evaluator else None

        return self.wait_for(f"a heartbeat of the farm in epoch {epoch} with an evaluator", beat)

    def wait_for_beats(self, count: int) -> list[AgentRecord]:
        """Waits for further heartbeats; all of them have one run id, and their counters rise."""
        beats: list[AgentRecord] = []

        def beat() -> bool:
            found = self.host.heartbeat()
            if found and found not in beats:
                beats.append(found)
            return len(beats) > count

        self.wait_for(f"{count} further heartbeats", beat)
        counters = [beat.counter for beat in beats]
        self.require(counters == sorted(set(counters)), "a counter that rises with each beat", str(counters))
        self.require(len({(beat.run_id, beat.boot_id) for beat in beats}) == 1, "one run id and one boot id")
        return beats

    def wait_for_play(self, game: RequestedGame) -> None:
        """Waits until a game has begun."""
        self.wait_for(f"game {_number(game)} being played", game.reports)

    def wait_for_result(self, game: RequestedGame, outcome: Outcome = Outcome.COMPLETED) -> ResultRecord:
        """Waits for a result with this outcome."""
        result = self.wait_for(f"a result of game {_number(game)}", lambda: self.host.result(game))
        seen = f"{result.outcome}, reason {result.reason!r}"
        self.require(result.outcome is outcome, f"the outcome {outcome} of game {_number(game)}", seen)
        return result

    def play(self, game: RequestedGame, outcome: Outcome = Outcome.COMPLETED) -> ResultRecord:
        """Publishes a game and waits for its result."""
        self.host.publish(game)
        return self.wait_for_result(game, outcome)

    def wait_until_clean(self, game: RequestedGame) -> None:
        """Waits until the agent has removed everything of a game."""
        self.wait_for(f"nothing of game {_number(game)} in outbox/", lambda: not self.host.kinds(game))

    def wait_until_over(self, game: RequestedGame) -> None:
        """Waits until no process of a game runs."""
        self.wait_for(f"no process of game {_number(game)}", lambda: not _processes(game))

    def require_over(self, game: RequestedGame) -> None:
        """Requires that no process of a game runs any more."""
        left = " ".join(str(process.pid) for process in _processes(game))
        self.require(not left, f"no process of game {_number(game)}", f"{left} running")

    def description(self) -> str:
        """What the share shows, in one line."""
        numbers = {game.attempt: f"game {_number(game)}" for game in self.host.games}
        outbox = [
            f"{numbers.get(attempt, attempt)}: {' '.join(sorted(kind.name.lower() for kind in kinds))}"
            for attempt, kinds in sorted(self.host.outbox().items())
        ]
        waiting = sum(name.endswith(Kind.START.value) for name in self.host.files.names(INBOX))
        beat = self.host.heartbeat()
        last = f"{beat.state}, counter {beat.counter}, epoch {beat.epoch}, {beat.problem!r}" if beat else "none"
        return f"{waiting} start signals; outbox/: {', '.join(outbox) or 'empty'}; heartbeat: {last}"


def _processes(game: RequestedGame) -> list[psutil.Process]:
    return running((pid for report in game.reports() for pid in report["pids"]), GAME)


def _number(game: RequestedGame) -> str:
    return str(game.start.publication)
