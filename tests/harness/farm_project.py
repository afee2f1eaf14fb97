"""A farm in a folder for end-to-end tests: real hosts and agents, and checks of their results.

The fitness of every genome is computed independently, from the file and the seed rule, so that a wrong count or a
mix-up shows.
"""

import contextlib
import csv
import inspect
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil

from pipeline.core.model import trial_seed
from tests.harness.games.game import fitness_of
from tests.harness.waiting import PATIENCE, PATIENCE_S, eventually

#: Windows: a process group that can be interrupted separately.
PROCESS_GROUP_FLAGS: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
GAMES = Path(inspect.getfile(fitness_of)).parent
#: The tests' game as the `[evaluator]` table names it: a function, or a program.
CALLABLE = 'python = "game:play"'
COMMAND = 'command = ["python", "game.py", "{genome}", "{seed}", "{result}"]'
Commands = Mapping[str, Any]


def games(count: int, seconds: float = 0.0) -> dict[str, Commands]:
    """Numbered genomes; the evaluation of each takes this time."""
    return {f"g{n:03d}.json": {"n": n, "seconds": seconds} for n in range(count)}


def running_attempt(share: Path) -> str:
    """The attempt that runs on a share: claimed and without a result; empty if there is none."""
    outbox = share / "outbox"
    names = os.listdir(outbox) if outbox.is_dir() else []
    claimed = {name.removesuffix(".started.json") for name in names if name.endswith(".started.json")}
    done = {name.removesuffix(".result.json") for name in names if name.endswith(".result.json")}
    return min(claimed - done, default="")


class FarmProject:
    """A project folder with an evaluator and genomes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hosts: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------------------------------------------------ set-up

    def configure(
        self,
        *,
        workers: int = 2,
        trials: int = 1,
        time_limit_s: float = 30.0,
        attempts_max: int = 3,
        failures_max: int = 2,
        evaluator: str = CALLABLE,
        extra: str = "",
        **limits: Any,
    ) -> None:
        """Writes pipeline.toml and the game; `evaluator` says what is played, other keyword arguments are settings of
        `[limits]`."""
        patience = {
            "silence_limit_s": 6.0 * PATIENCE,
            "back_off_s": 1.0,
            "agent_restart_limit_s": 6.0 * PATIENCE,
            **limits,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in patience.items())
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "pipeline.toml").write_text(
            f"""
[generation]
trials_per_genome = {trials}
attempts_max = {attempts_max}
failures_max = {failures_max}
seed = 11
[evaluator]
{evaluator}
time_limit_s = {time_limit_s}
[local]
workers = {workers}
[limits]
{lines}
{extra}
"""
        )
        for game in GAMES.glob("*.py"):
            (self.root / game.name).write_bytes(game.read_bytes())

    def add_genomes(self, genomes: Mapping[str, Commands], generation: int = 1) -> None:
        """Puts genomes into a generation's folder."""
        folder = self.root / "genomes" / f"gen-{generation:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, orders in genomes.items():
            (folder / name).write_text(json.dumps(orders))

    # ----------------------------------------------------------------------------------------------------- the host

    def start(
        self,
        *args: str,
        before: Sequence[str] = (),
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.STDOUT,
    ) -> "subprocess.Popen[bytes]":
        """Starts a `pipeline` command and returns at once. `before` is a program that starts it, with its arguments."""
        host = subprocess.Popen(
            [*before, sys.executable, "-m", "pipeline", *(args or ("run", "--gen", "1")), "--root", str(self.root)],
            cwd=self.root,
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=PROCESS_GROUP_FLAGS,
        )
        self._hosts.append(host)
        return host

    def interrupt(self, host: "subprocess.Popen[bytes]") -> None:
        """Ctrl-C; Windows lets a process send only Ctrl-Break to another group of processes."""
        if sys.platform == "win32":
            host.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            host.send_signal(signal.SIGINT)

    def run(self, *args: str, within_s: float = 2 * PATIENCE_S) -> tuple[int, str]:
        """Runs a `pipeline` command to its end. Returns exit code and output."""
        return self.wait_for_end(self.start(*args), within_s)

    def wait_for_end(self, host: "subprocess.Popen[bytes]", within_s: float = 2 * PATIENCE_S) -> tuple[int, str]:
        """Waits for the end of a started command. Returns exit code and output."""
        try:
            out, _ = host.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            host.kill()
            out, _ = host.communicate()
            raise AssertionError(f"no end within {within_s} s:\n{out.decode()}") from None
        return host.returncode, out.decode().replace(os.linesep, "\n")

    def start_agent(
        self,
        share: Path,
        *,
        config: Path | None = None,
        folder: Path | None = None,
        accept_evaluators: bool = False,
        stderr: int = subprocess.DEVNULL,
    ) -> "subprocess.Popen[bytes]":
        """Starts an agent that is not a local worker, as in a VM. `config` has its `[evaluator]` table; one that
        accepts evaluators has none of its own.
        """
        own = ("--python", "game:play") if config is None else ("--config", str(config))
        played = ["--accept-evaluators"] if accept_evaluators else [*own, "--folder", str(folder or self.root)]
        agent = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "inbox_agent", "--share", str(share)),
                *("--state", str(share.parent / f"agent-{share.name}"), "--beat", "1"),
                *played,
            ],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
        self._hosts.append(agent)
        return agent

    def adopt(self, process: "subprocess.Popen[bytes]") -> None:
        """Lets `close` end another process, too."""
        self._hosts.append(process)

    def close(self) -> None:
        """Kills the processes that a failed test left."""
        for host in self._hosts:
            if host.poll() is None:
                host.kill()
            if host.stdout is not None:
                host.stdout.close()
            host.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it may end by itself, as its agent has ended
                process.kill()

    # --------------------------------------------------------------------------------------------------- processes

    def processes(self) -> list[psutil.Process]:
        """Every live process of this farm: hosts, agents, evaluators and their children."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = str(self.root) in " ".join(process.cmdline()) or process.cwd().startswith(str(self.root))
                if mine and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(process)
            except (psutil.Error, OSError):  # the process is ending: Wine raises a plain OSError then
                continue
        return found

    def agent_of(self, worker: str) -> psutil.Process | None:
        """The agent on a worker's share."""
        share = str(self.root / "state" / "shares" / worker)
        for process in self.processes():
            try:
                if "inbox_agent" in process.cmdline() and share in process.cmdline():
                    return process
            except (psutil.Error, OSError):
                continue
        return None

    def playing(self, worker: str) -> str:
        """The attempt that a worker runs: claimed and without a result; empty if there is none."""
        return running_attempt(self.root / "state" / "shares" / worker)

    def wait_until(self, condition: Callable[[], object], within_s: float = PATIENCE_S, every_s: float = 0.005) -> None:
        """Waits until a condition holds."""
        assert eventually(condition, within_s, every_s), f"did not come true within {within_s} s"

    # ----------------------------------------------------------------------------------------------------- outcomes

    def fitness(self, genome: bytes, seed: int) -> float:
        """The fitness of a trial, computed without the code under test."""
        return fitness_of(genome, seed)

    def archived(self, generation: int = 1, *, by: str = "") -> int:
        """The number of accepted results so far; only those of workers whose names begin so."""
        return sum(record["worker"].startswith(by) for record in self._archive(generation).values())

    def _archive(self, generation: int) -> dict[str, dict[str, Any]]:
        """The archived results by attempt; of several lines the last one."""
        path, found = self.root / f"results/gen-{generation:04d}/results.jsonl", {}
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # cut off by a kill, or in the making
                    entry = json.loads(line)
                    found[entry["attempt"]] = dict(entry["record"])
        return found

    def results(self, generation: int = 1) -> dict[str, dict[str, str]]:
        """The rows of results.csv, by genome."""
        return {row["genome"]: row for row in self._table("results.csv", generation)}

    def attempts(self, generation: int = 1) -> list[dict[str, str]]:
        """The rows of attempts.csv."""
        return self._table("attempts.csv", generation)

    def summary(self, generation: int = 1) -> dict[str, Any]:
        """The content of summary.json."""
        text = (self.root / "results" / f"gen-{generation:04d}" / "summary.json").read_text()
        return dict(json.loads(text))

    def _table(self, name: str, generation: int) -> list[dict[str, str]]:
        with open(self.root / "results" / f"gen-{generation:04d}" / name, newline="", encoding="utf-8-sig") as table:
            return list(csv.DictReader(table))

    def assert_counted_once(self, *, failed: frozenset[str] = frozenset(), generation: int = 1) -> None:
        """Checks that every genome of the folder is counted exactly once, with the right fitness, or is reported as
        failed with a reason; that the summary adds up; that the archive has each accepted result; that no process is
        left."""
        folder = self.root / "genomes" / f"gen-{generation:04d}"
        rows, summary = self.results(generation), self.summary(generation)
        assert set(rows) == {path.name for path in folder.iterdir()}
        assert {name for name, row in rows.items() if row["status"] == "failed"} == failed
        assert (summary["lost"], summary["duplicated"], summary["open"]) == (0, 0, 0)
        assert summary["submitted"] == summary["completed"] + summary["failed"] == len(rows)
        outcomes = {key: n for key, n in summary["attempts"].items() if key not in ("issued", "open")}
        assert summary["attempts"]["issued"] == sum(outcomes.values())
        for name, row in rows.items():
            if name in failed:
                assert row["fitness"] == "" and row["reason"]
            else:
                data = (folder / name).read_bytes()
                seeds = [trial_seed(11, generation, n) for n in range(1, int(row["trials"]) + 1)]
                fitness = statistics.mean(Fraction(repr(self.fitness(data, seed))) for seed in seeds)
                assert float(row["fitness"]) == float(fitness), name
        self._assert_archive(generation)
        assert eventually(lambda: not self.processes(), 10), self.processes()

    def _assert_archive(self, generation: int) -> None:
        archived = self._archive(generation)
        for row in self.attempts(generation):
            if row["outcome"] == "completed":
                record = archived[row["attempt"]]
                assert (record["attempt"], record["fitness"]) == (row["attempt"], float(row["fitness"]))
