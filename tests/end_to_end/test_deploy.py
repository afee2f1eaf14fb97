"""A deploy in mid-run reaches workers over local paths and Samba, with kills on both sides; no fitness is mixed."""

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.harness.deployed_project import FUNCTION, DeployedProject, rows
from tests.harness.farm_project import games
from tests.harness.samba import PASSWORD, Samba, exchange, worker_table
from tests.harness.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

LOCAL, REMOTE = ("disk-1", "disk-2"), ("smb-1", "smb-2")
GENERATIONS, GENOMES = 5, 10


class MixedProject(DeployedProject):
    """A project with workers behind local paths and behind SMB shares."""

    def __init__(self, root: Path, server: Samba) -> None:
        super().__init__(root)
        self._server = server

    def share(self, name: str) -> Path:
        return self._server.shares[name] if name in REMOTE else super().share(name)

    def set_up_all(self) -> None:
        """Configures the workers, with an evaluator that survives many lost attempts, and starts their agents."""
        tables = [f"[[worker]]\nname = '{name}'\nshare = '{self.share(name)}'" for name in LOCAL]
        tables += [worker_table(name, self._server.port) for name in REMOTE]
        self.configure(
            workers=0,
            evaluator=f'python = "{FUNCTION}"',
            extra="\n".join(tables),
            attempts_max=40,
            failures_max=40,
            losses_max=50,
            losses_per_trial_max=100,
            silence_limit_s=4.0 * PATIENCE,
            claim_limit_s=5.0 * PATIENCE,
            grace_s=2.0,
            back_off_s=0.2,
        )
        for name in (*LOCAL, *REMOTE):
            self.share(name).mkdir(parents=True, exist_ok=True)
            self.start_taker(name)


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MixedProject]:
    """A farm of four workers."""
    monkeypatch.setenv("FARM_SECRET", PASSWORD)
    with exchange(*REMOTE) as server:
        farm = MixedProject(tmp_path / "farm", server)
        yield farm
        farm.stop_takers()
        farm.close()


@dataclass
class Faults:
    """Kills the watch, agents, and commands that deploy."""

    farm: MixedProject
    dice: random.Random
    watch: "subprocess.Popen[bytes] | None" = None
    done: list[str] = field(default_factory=list)

    def pause(self, longest_s: float) -> None:
        eventually(lambda: False, self.dice.uniform(0.0, longest_s))

    def kill_watch(self) -> None:
        if self.watch is not None:
            self.watch.kill()
            self.watch.wait()
            self.watch = None
            self.done.append("watch")

    def keep_watching(self) -> None:
        """Starts a watch if none runs."""
        if self.watch is None or self.watch.poll() is not None:
            self.watch = self.farm.watch()

    def kill_agent(self) -> None:
        name = self.dice.choice([*LOCAL, *REMOTE])
        self.farm.kill_taker(name)
        self.pause(0.3)
        self.farm.start_taker(name)
        self.done.append("agent")

    def kill_deploy(self) -> None:
        """A command that deploys is killed; it is given again afterwards."""
        deploy = self.farm.start("deploy", "--wait", "5")
        self.pause(1.5)
        deploy.kill()
        deploy.communicate()
        self.done.append("deploy")

    def inject(self) -> None:
        """One fault, after a pause."""
        self.pause(0.5)
        self.dice.choice([self.kill_watch, self.kill_agent, self.kill_agent])()
        self.keep_watching()


@pytest.mark.parametrize("seed", [7])
def test_each_generation_is_played_by_what_was_deployed_before_it(farm: MixedProject, seed: int) -> None:
    """Every genome is counted once, with the fitness of the one edition that its generation was begun with."""
    farm.set_up_all()
    faults = Faults(farm, random.Random(seed))
    for generation in range(1, GENERATIONS + 1):
        if generation > 1:  # in the middle of the one before
            farm.wait_until(lambda before=generation - 1: farm.archived(before) >= 2, 60 * PATIENCE)  # type: ignore[misc]
        farm.edit(generation)
        if faults.dice.random() < 0.5:
            faults.kill_watch()  # the command brings it to the workers itself
        faults.kill_deploy()
        code, out = farm.deploy(wait_s=3)
        assert code in (0, 1), out
        farm.add_genomes(games(GENOMES, 0.25), generation)
        faults.keep_watching()
        for _ in range(2):
            faults.inject()
    for generation in range(1, GENERATIONS + 1):
        farm.wait_until_finished(generation, GENOMES)
    assert faults.watch is not None
    assert farm.stop(faults.watch) == 0

    assert {"watch", "agent", "deploy"} == {*faults.done}
    for generation in range(1, GENERATIONS + 1):
        farm.assert_counted_once_by(generation, generation=generation)
    assert set().union(*(farm.played_by(generation) for generation in range(1, GENERATIONS + 1))) == {*LOCAL, *REMOTE}
    code, out = farm.deploy()
    assert code == 0, out
    assert {evaluator for evaluator, _state in rows(out).values()} == {farm.versions_of[GENERATIONS]}
    assert set(rows(out)) == {*LOCAL, *REMOTE}
    code, out = farm.run("verify")
    assert code == 0, out
    assert "Traceback" not in farm.output
