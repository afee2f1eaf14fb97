"""A Linux host, Samba shares and Windows agents: with kills on both sides, and with games in windows.

The agents and their games are processes of Windows CPython under Wine (docs/how-to/windows.md). The test acts as the
logon task: it restarts an agent that ended.
"""

import contextlib
import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from game_window import Desktop, open_desktop, virtual_display
from tests.harness.evaluator_harness import has_ended
from tests.harness.farm_project import FarmProject, games, running_attempt
from tests.harness.gui_games import FUNCTION, assert_played, write_gui_project
from tests.harness.samba import PASSWORD, Samba, exchange, worker_table
from tests.harness.waiting import eventually
from tests.harness.wine import WindowsPython, path_there
from tests.programs.system_programs import require

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]
VMS = ("vm-0", "vm-1")
KILLS = ["agent"] * 11 + ["evaluator"] * 6 + ["host"] * 5
KILLS_OF_GAMES = ["game", "agent", "host"] * 3
#: How an attempt ends whose game was shown when this was killed.
OUTCOMES = {"game": {"failed"}, "agent": {"interrupted", "lost"}, "host": {"completed"}}
DIALOG = "Catch has a problem"


class WindowsMachines:
    """Windows agents, one for each share; this object is their only supervisor."""

    def __init__(
        self,
        python: WindowsPython,
        server: Samba,
        farm: FarmProject,
        names: Sequence[str] = VMS,
        function: str = "game:play",
        **environment: str,
    ) -> None:
        self._python, self._server, self._farm = python, server, farm
        self._names, self._function, self._environment = names, function, environment
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    def tend(self) -> None:
        """Restarts agents that ended, as the logon task does."""
        for name in self._names:
            if name not in self.agents or self.agents[name].poll() is not None:
                self.kill(name)
                self.agents[name] = self._start(name)

    def kill(self, name: str) -> None:
        """Kills an agent; Windows has to end its game."""
        if (agent := self.agents.get(name)) is not None:
            agent.kill()
            agent.communicate()

    def state(self, name: str) -> Path:
        return self._farm.root / f"machine-{name}"

    def evaluator_of(self, name: str) -> psutil.Process | None:
        """The process of a machine's evaluator."""
        return self._process_of(name, "worker_process")

    def game_of(self, name: str) -> psutil.Process | None:
        """The process of the game in a window that a machine plays."""
        return self._process_of(name, "catch.py")

    def _process_of(self, name: str, program: str) -> psutil.Process | None:
        """A process of this program whose working directory is in the agent's scratch folder."""
        for process in psutil.process_iter():
            try:
                if program in " ".join(process.cmdline()) and process.cwd().startswith(str(self.state(name))):
                    return process
            except psutil.Error:
                continue
        return None

    def playing(self, name: str) -> str:
        """The attempt that a machine runs: claimed and without a result; empty if there is none."""
        return running_attempt(self._server.shares[name])

    def genome_of(self, name: str, attempt: str) -> str:
        """The genome of an attempt on a machine; empty if that is over."""
        with contextlib.suppress(FileNotFoundError):
            start = self._server.shares[name] / "inbox" / f"{attempt}.start.json"
            return str(json.loads(start.read_bytes())["genome_name"])
        return ""

    def close(self) -> None:
        for name in self._names:
            self.kill(name)
        assert eventually(lambda: not any(map(self.evaluator_of, self._names)), 20), "games outlived their agents"

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        share = self._server.shares[name]
        return subprocess.Popen(
            self._python.argv(
                *("-m", "inbox_agent", "--share", path_there(share), "--state", path_there(self.state(name))),
                *("--beat", "1", "--python", self._function, "--folder", path_there(self._farm.root)),
            ),
            env=self._python.environment(**self._environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def display(windows: WindowsPython) -> Iterator[str]:
    """The screen of the machine. Wine's desktop is drawn where its first program was started, so it starts anew."""
    require("Xvfb")
    with virtual_display() as display:
        assert display is not None
        windows.end()
        yield display
        windows.end()


@pytest.fixture
def server() -> Iterator[Samba]:
    with exchange(*VMS) as server:
        yield server


@pytest.fixture
def machines(
    windows: WindowsPython, project: FarmProject, server: Samba, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WindowsMachines]:
    monkeypatch.setenv("FARM_SECRET", PASSWORD)
    machines = WindowsMachines(windows, server, project)
    yield machines
    machines.close()


def test_generation_survives_kills_of_windows_agents_and_host(
    project: FarmProject, server: Samba, machines: WindowsMachines
) -> None:
    """More than twenty kills, each of a running attempt, cost attempts and nothing else."""
    workers = "\n".join(worker_table(name, server.port) for name in VMS)
    project.configure(workers=0, silence_limit_s=20.0, losses_max=10, extra=workers)
    project.add_genomes(games(90, 0.6))
    dice, hit = random.Random(7), set()
    targets = dice.sample(KILLS, len(KILLS))
    host = project.start()

    while targets:
        machines.tend()
        at_work = {name: attempt for name in VMS if (attempt := machines.playing(name)) and attempt[:10] not in hit}
        if not at_work:
            assert host.poll() is None, host.communicate()[0].decode()
            assert not eventually(lambda: False, 0.02)
            continue
        name, attempt = dice.choice(sorted(at_work.items()))
        evaluator = machines.evaluator_of(name)
        if evaluator is None or machines.playing(name) != attempt:
            continue
        hit.add(attempt[:10])  # each genome is hit once: after three hits it would count as poison
        match targets.pop():
            case "host":
                host.kill()
                host.communicate()
                host = project.start()
            case "agent":
                machines.kill(name)
                assert eventually(partial(has_ended, evaluator.pid), 10), "its game outlived it"
            case "evaluator":
                evaluator.kill()

    def ended() -> bool:
        machines.tend()
        return host.poll() is not None

    project.wait_until(ended, within_s=200)
    out, _ = host.communicate()
    assert host.returncode == 0, out.decode()
    assert len(hit) == len(KILLS) >= 20
    machines.close()
    project.assert_counted_once()
    ended_as = project.summary()["attempts"]
    print(f"{len(hit)} kills: {ended_as}")
    assert ended_as["interrupted"] + ended_as["lost"] + ended_as["failed"] >= 15, ended_as


@pytest.fixture
def desktop(display: str) -> Iterator[Desktop]:
    desktop = open_desktop(display)
    yield desktop
    desktop.close()


class GameKills:
    """Kills of what plays a game while its window is shown. Each hits another genome."""

    def __init__(self, project: FarmProject, machine: WindowsMachines, name: str, desktop: Desktop) -> None:
        self._project, self._machine, self._name, self._desktop = project, machine, name, desktop
        self.host = project.start()
        dice = random.Random(7)
        targets = dice.sample(KILLS_OF_GAMES, len(KILLS_OF_GAMES))
        self._left = [(target, f"Catch: ball {dice.choice((1, 2))} ") for target in targets]  # and when
        self.hit: dict[str, tuple[str, str]] = {}  # what was killed, and in which attempt, by genome

    def go_on(self) -> bool:
        """Kills what is next if the window of its game is shown. Whether the host has ended by itself."""
        self._machine.tend()
        titles = self.titles()
        attempt = self._machine.playing(self._name)
        genome = self._machine.genome_of(self._name, attempt)
        if genome == "dialog.json" and genome not in self.hit and DIALOG in titles:
            self._kill("agent", genome, attempt)
        # A second failed attempt would settle a genome as failed. A host that starts before there is any fitness
        # withdraws what is played, because it may be of the wrong evaluator, so the first game is played to its end.
        if "g00.json" < genome < "g99.json" and genome not in self.hit and self._left:
            target, shown = self._left[-1]
            if any(title.startswith(shown) for title in titles) and self._kill(target, genome, attempt):
                self._left.pop()
        return self.host.poll() is not None

    def titles(self) -> list[str]:
        """What is open on the desktop."""
        return [window.title for window in self._desktop.windows()]

    def _kill(self, target: str, genome: str, attempt: str) -> bool:
        """Whether the attempt still ran."""
        game = self._machine.game_of(self._name)
        if game is None or self._machine.playing(self._name) != attempt:
            return False
        self.hit[genome] = target, attempt
        match target:
            case "game":
                game.kill()
            case "agent":
                self._machine.kill(self._name)
                assert eventually(partial(has_ended, game.pid), 10), "its game outlived it"
                assert eventually(lambda: not self.titles(), 10), self.titles()
            case "host":
                self.host.kill()
                self.host.communicate()
                self.host = self._project.start()
        return True


@pytest.mark.timeout(600)  # a busy machine needs twice the usual two and a half minutes
def test_games_in_windows_survive_kills_of_game_agent_and_host(
    project: FarmProject,
    server: Samba,
    windows: WindowsPython,
    display: str,
    desktop: Desktop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least twenty games beside a crash, a hang, a dialog and a stall, each named. Ten kills of running attempts,
    one behind the dialog, cost attempts and nothing else, and no window stays open."""
    monkeypatch.setenv("FARM_SECRET", PASSWORD)
    name, count = VMS[0], 20
    table = worker_table(name, server.port)
    write_gui_project(project, count, failures_max=2, workers=0, silence_limit_s=30.0, losses_max=10, extra=table)
    machine = WindowsMachines(windows, server, project, [name], FUNCTION, DISPLAY=display)
    kills = GameKills(project, machine, name, desktop)

    project.wait_until(kills.go_on, within_s=500, every_s=0.05)
    out, _ = kills.host.communicate()
    assert kills.host.returncode == 1, out.decode()
    assert kills.titles() == []
    machine.close()
    assert sorted(target for target, _ in kills.hit.values()) == sorted([*KILLS_OF_GAMES, "agent"])
    assert_played(project, count, killed=[attempt for _, attempt in kills.hit.values()])
    outcomes = {row["attempt"]: row["outcome"] for row in project.attempts()}
    print(f"{len(kills.hit)} kills: {project.summary()['attempts']}")
    for genome, (target, attempt) in kills.hit.items():
        assert outcomes[attempt] in OUTCOMES[target], (genome, target, outcomes[attempt])
    assert eventually(lambda: not project.processes(), 10), project.processes()
