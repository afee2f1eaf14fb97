"""`python -m tests.programs.chaos [--seed N] [--runs M]`: real hosts, agents and games, killed and stopped at random.

Faults come at any time, so the effect of a seed depends on the speed of the machine as well. The checks are independent
of the code under test: fitness computed from bytes and seeds, `pipeline verify`, no process left.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from tests.harness.farm_project import FarmProject
from tests.harness.waiting import eventually

HOST_ENDS_WITHIN_S = 180.0


def has_exited(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@dataclass
class FaultInjector:
    """One generation whose processes are killed and stopped at random."""

    project: FarmProject
    random: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    stopped: list[psutil.Process] = field(default_factory=list)

    def play(self, *, faults: int, pause_s: float) -> str:
        """Runs the generation with this number of faults; returns the output of the last host."""
        host = self.project.start()
        verbs = [self.kill_agent, self.kill_agent, self.stop_agent, self.kill_game, self.stop_host, self.kill_host]
        while faults and host.poll() is None:
            if eventually(partial(has_exited, host), self.random.expovariate(1 / pause_s)):
                break
            verb = self.random.choice(verbs)
            if verb(host):
                self.counts[verb.__name__] += 1
                faults -= 1
            if host.poll() is not None:
                host.communicate()
                host = self.project.start()
        for process in self.stopped:
            _try(process.resume)
        code, out = self.project.wait_for_end(host, HOST_ENDS_WITHIN_S)
        assert code in (0, 1), out
        return out

    def kill_host(self, host: "subprocess.Popen[bytes]") -> bool:
        """`kill -9` of the host, and sometimes of all its children at the same moment."""
        if self.random.random() < 0.3:
            for process in self.project.processes():
                _try(process.kill)
        host.kill()
        host.wait()
        return True

    def stop_host(self, host: "subprocess.Popen[bytes]") -> bool:
        """The host is suspended for a while, as if its machine slept."""
        host.send_signal(signal.SIGSTOP)
        eventually(lambda: False, self.random.uniform(0.1, 2.0))
        host.send_signal(signal.SIGCONT)
        return True

    def kill_agent(self, host: "subprocess.Popen[bytes]") -> bool:
        """`kill -9` of an agent."""
        agent = self._an_agent()
        return agent is not None and _try(agent.kill)

    def stop_agent(self, host: "subprocess.Popen[bytes]") -> bool:
        """An agent is suspended with its game; it is resumed at the end, if it still lives."""
        agent = self._an_agent()
        if agent is None or agent in self.stopped:
            return False
        self.stopped.append(agent)
        return _try(agent.suspend)

    def kill_game(self, host: "subprocess.Popen[bytes]") -> bool:
        """`kill -9` of the children of an agent."""
        agent = self._an_agent()
        if agent is None:
            return False
        hit = [_try(child.kill) for child in _children(agent)]
        return any(hit)

    def _an_agent(self) -> psutil.Process | None:
        shares = self.project.root / "state" / "shares"
        names = sorted(path.name for path in shares.iterdir()) if shares.is_dir() else []
        return self.project.agent_of(self.random.choice(names)) if names else None


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


def one_run(seed: int, root: Path) -> tuple[FaultInjector, Counter[str]]:
    """One generation of a seed; raises AssertionError if a check fails. Returns the outcomes of its attempts."""
    dice = random.Random(seed)
    project = FarmProject(root)
    # A genome that is hit repeatedly counts as poison or as failed; with high limits few do.
    project.configure(
        workers=dice.randint(1, 3),
        trials=dice.randint(1, 3),
        time_limit_s=3.0,
        silence_limit_s=3.0,
        grace_s=2.0,
        claim_limit_s=5.0,
        attempts_max=8,
        failures_max=8,
        losses_max=10,
        losses_per_trial_max=30,
    )
    orders = ["play"] * 30 + dice.choice([[], ["raise"], ["die", "exit"], ["hang"]])
    project.add_genomes(
        {f"g{n:03d}.json": {"n": n, "do": do, "seconds": dice.choice([0, 0.2, 0.6])} for n, do in enumerate(orders)}
    )
    chaos = FaultInjector(project, dice)
    try:
        chaos.play(faults=dice.randint(4, 16), pause_s=dice.choice([0.2, 0.6]))
        failed = {name: row for name, row in project.results().items() if row["status"] == "failed"}
        for name, row in failed.items():
            number = int(name[1:4])
            assert orders[number] != "play" or "poison" in row["reason"], (name, row["reason"])
        project.assert_counted_once(failed=frozenset(failed))
        code, out = project.run("verify")
        assert code == 0, out
    finally:
        project.close()
    return chaos, Counter({key: n for key, n in project.summary()["attempts"].items() if n})


def main() -> int:
    """Runs the generations; exit code 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    blows: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    broken = 0
    for seed in range(args.seed, args.seed + args.runs):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            try:
                chaos, outcomes = one_run(seed, Path(folder) / "farm")
            except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
                broken += 1
                print(f"seed {seed}: {error}", flush=True)
                continue
        blows += chaos.counts
        ends += outcomes
    print(f"{args.runs} generations, {broken} broken")
    print("blows: " + ", ".join(f"{verb.replace('_', ' ')} {count}" for verb, count in blows.most_common()))
    print("attempts: " + ", ".join(f"{name} {count}" for name, count in ends.most_common()))
    return 1 if broken else 0


if __name__ == "__main__":
    assert os.name == "posix", "it stops processes with signals"
    sys.exit(main())
