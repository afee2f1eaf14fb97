"""Bugs that are planted in the shipped source, to show that the simulator can see: each breaks one rule.

`python -m tests.simulator.planted` applies them one by one to a copy of the source, asks for fault-free histories,
which must keep the promise, and then for the first seed that breaks it. A bug that already breaks without a fault
proves nothing and does not count.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 1000
FAULT_FREE = 5
ITSELF = "the program itself: "


@dataclass(frozen=True)
class Bug:
    """One rule broken: in a file, a text that occurs once, and what stands there instead."""

    name: str
    rule: str
    file: str
    old: str
    new: str

    @property
    def in_shell(self) -> bool:
        """Whether it lies where things are done, not where they are decided."""
        return not self.file.startswith("pipeline/core/") and not self.file.endswith("next_step.py")


@dataclass(frozen=True)
class Found:
    """What the simulator made of a bug."""

    fault_free: bool  #: without faults the patched code keeps the promise
    seed: int | None  #: the first that broke it
    breach: str = ""


RECORD = "            self._record(minutes)\n"
ACTING = """\
        touched = minutes.touched | self._owed | (self.farm.workers.keys() if view.sweep else set())
        self._owed = set()
        self._act_on(touched)
"""

RECORDING = "        self._append(minutes.facts, minutes.view.wall)\n"
ARCHIVING = """\
        try:
            for fact in minutes.facts:
                self._archive(fact, minutes.judged)
        except OSError as error:
            raise HostTrouble(f"a result cannot be archived: {error}; free some space and run again") from error
        self._append(minutes.facts, minutes.view.wall)
"""

BUGS = [
    Bug(
        "act before record",
        "what is done stands in the ledger first",
        "pipeline/loop.py",
        RECORD + ACTING,
        textwrap.indent(ACTING, "    ") + RECORD,
    ),
    Bug(
        "record before archive",
        "a result is archived before it is counted",
        "pipeline/loop.py",
        ARCHIVING,
        RECORDING + ARCHIVING.removesuffix(RECORDING),
    ),
    Bug(
        "failed archive ignored",
        "a result that cannot be archived stops the host",
        "pipeline/loop.py",
        """\
            raise HostTrouble(f"a result cannot be archived: {error}; free some space and run again") from error
""",
        """\
            log.warning("%s", error)
""",
    ),
    Bug(
        "failed commit ignored",
        "a host that cannot record ends",
        "pipeline/loop.py",
        "            raise HostTrouble(str(error)) from error\n",
        '            log.warning("%s", error)\n',
    ),
    Bug(
        "last words after trouble",
        "a host whose farm is ahead of its ledger records nothing more",
        "pipeline/loop.py",
        "        self.is_ahead = True\n        yield\n",
        "        yield\n",
    ),
    Bug(
        "anybody's result archived",
        "what is archived is what was judged",
        "pipeline/loop.py",
        "                self._archive(fact, minutes.judged)\n",
        "                self._archive(\n"
        "                    fact, {s.attempt: (look.worker, s) for look in minutes.view.looks for s in look.results}\n"
        "                )\n",
    ),
    Bug(
        "restarted again and again",
        "a rung is ordered once, whatever its outcome",
        "pipeline/loop.py",
        "            watched.rung_ordered = watched.machine_started = True\n",
        "            watched.machine_started = True\n",
    ),
    Bug(
        "unknown read as empty",
        "law 5: unknown is not empty",
        "pipeline/core/watch.py",
        "        if look.unknown:\n",
        "        if False:\n",
    ),
    Bug(
        "restart forgets what is uncertain",
        "law 3: after a host restart the next listing decides",
        "pipeline/core/watch.py",
        "            self.workers[name].uncertain = set(worker.wanted)\n",
        "            pass\n",
    ),
    Bug(
        "events without a poll",
        "a doorbell is a hint, the poll is the truth",
        "pipeline/edges/shares.py",
        "        return self._look_at_outbox(order, look)\n",
        "        return look\n",
    ),
    Bug(
        "claim is not flushed",
        "the claim is durable before the game begins",
        "inbox_agent/agent.py",
        "layout.encode(claim), durable=True)",
        "layout.encode(claim))",
    ),
    Bug(
        "digest not checked",
        "law 3: record but wrong digest is not there yet",
        "inbox_agent/agent.py",
        "        if digest != start.genome_sha256:\n",
        "        if False:\n",
    ),
    Bug(
        "one listing is enough (agent)",
        "law 4: gone is absent from a listing and from an open by name, and again later",
        "inbox_agent/look.py",
        "        present = listed | self._not_surely_gone(held - listed)\n",
        "        present = listed\n",
    ),
    Bug(
        "newcomer does not watch",
        "law 7: on a foreign disk a new agent watches for three beats",
        "inbox_agent/agent.py",
        '                raise SecondAgent(f"another agent (run {beat[0]}) beats on this share")\n',
        "                pass\n",
    ),
    Bug(
        "a claim forgotten at the start",
        "law 7: what was claimed and not finished is interrupted, never played again",
        "inbox_agent/look.py",
        "        outbox = self._look_at_outbox(listed | mine)\n",
        "        outbox = self._look_at_outbox(listed | mine)\n"
        "        outbox = {a: kinds for a, kinds in outbox.items() if a in mine or kinds != {Kind.STARTED}}\n",
    ),
    Bug(
        "undelivered although claimed",
        "the claim before the start signal",
        "inbox_agent/next_step.py",
        " and (_is_ours(seen, attempt) or attempt in seen.hopeless):\n",
        " and _is_ours(seen, attempt) and attempt not in seen.hopeless:\n",
    ),
    Bug(
        "half a claim is a whole one",
        "no genome pays for a claim whose answer was lost",
        "inbox_agent/next_step.py",
        "        half_claimed = attempt in seen.half_claimed  # no",
        "        half_claimed = False  # no",
    ),
    Bug(
        "ids used again",
        "law 3: no two ledgers and no two attempts ever have the same id",
        "pipeline/core/dispatcher.py",
        """\
    number = len(trial.attempts) + 1
    nonce = minutes.view.nonce + base36(len(minutes.facts), 4)  # unlike any other of this tick
""",
        """\
    number = 1
    nonce = "0" * 12
""",
    ),
    Bug(
        "silence does not run on",
        "law 5: unknown is not life either",
        "pipeline/core/watch.py",
        "        return self.silence_s(name) > self._limits.silence_limit_s\n",
        "        return self.workers[name].readable and self.silence_s(name) > 10 * self._limits.silence_limit_s\n",
    ),
    Bug(
        "suspends count as silence",
        "law 5: clocks advance by at most a quarter of the silence limit per tick",
        "pipeline/core/watch.py",
        "min(max(view.now - self._now, 0.0), self._limits.silence_limit_s / 4)",
        "max(view.now - self._now, 0.0)",
    ),
    Bug(
        "echoes not checked",
        "law 6: what a result says about itself must fit",
        "pipeline/core/verdicts.py",
        "    return echo_problem(seen.record, minutes.farm.echo(attempt))\n",
        '    return ""\n',
    ),
    Bug(
        "an answer is taken in twice",
        "law 6: collected before, not yet cleaned up",
        "pipeline/core/verdicts.py",
        "    if attempt.answered or seen.attempt in farm.noted:\n",
        "    if False:\n",
    ),
    Bug(
        "neighbour charged",
        "law 5: the genome pays that was being played",
        "pipeline/core/verdicts.py",
        "        elif attempt.id in watched.claims:\n",
        "        else:\n            minutes.end(attempt, Outcome.LOST, 'silent')\n            minutes.charge(attempt)\n"
        "            continue\n        if attempt.id in watched.claims:\n",
    ),
    Bug(
        "failed once is failed",
        "a trial settles after attempts_max, and not before",
        "pipeline/core/minutes.py",
        "        if trial.blamed >= self.limits.attempts_max:\n",
        "        if trial.blamed >= 1:\n",
    ),
    Bug(
        "poison at first sight",
        "a genome is poison after attempts_max charges, and not before",
        "pipeline/core/minutes.py",
        "        return len(genome.charges) >= self.limits.attempts_max and len(on_workers) >= enough\n",
        "        return len(genome.charges) >= 1\n",
    ),
    Bug(
        "sibling not withdrawn",
        "law 6: a late completed result withdraws the attempt that followed it",
        "pipeline/core/minutes.py",
        "        if sibling is not None:\n",
        "        if False:\n",
    ),
    Bug(
        "poison never recognised",
        "a genome that takes workers down is settled, and they are forgiven",
        "pipeline/core/minutes.py",
        "        return len(genome.charges) >= self.limits.attempts_max and len(on_workers) >= enough\n",
        "        return False\n",
    ),
    Bug(
        "failures without an end",
        "a trial settles after attempts_max",
        "pipeline/core/minutes.py",
        "        if trial.blamed >= self.limits.attempts_max:\n",
        "        if trial.blamed >= 100 * self.limits.attempts_max:\n",
    ),
    Bug(
        "quarantine for ever",
        "a quarantined worker gets its probation",
        "pipeline/core/recovery.py",
        "    if minutes.watch.time - watched.quarantined_at > worker.back_off_s:\n",
        "    if False:\n",
    ),
    Bug(
        "somebody else's share",
        "law 7: hands off the share of another farm or worker",
        "pipeline/core/ownership.py",
        "    minutes.state(WorkerOut(worker=worker.name, reason=reason))\n",
        "    del reason\n",
    ),
]


def hunt(bug: Bug, seeds_max: int = SEEDS_MAX) -> Found:
    """Plants one bug in a copy of the source and lets the simulator look for it."""
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        for part in ("pipeline", "inbox_agent", "hyperv_ops", "tests/simulator"):
            shutil.copytree(ROOT / part, Path(place) / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("tests/__init__.py", "tests/memory_files.py"):
            shutil.copy(ROOT / part, Path(place) / part)
        plant(bug, Path(place))
        command = [sys.executable, "-m", "tests.simulator.planted", "--hunt", str(seeds_max)]
        environment = {**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{bug.name}: {done.stderr[-2000:]}")
        return Found(**json.loads(done.stdout))


def plant(bug: Bug, root: Path) -> None:
    """Changes the source below `root`. Raises ValueError if the place has moved."""
    path = root / bug.file
    source = path.read_text(encoding="utf-8")
    if source.count(bug.old) != 1:
        raise ValueError(f"{bug.name}: its place in {bug.file} occurs {source.count(bug.old)} times")
    path.write_text(source.replace(bug.old, bug.new), encoding="utf-8")


def _hunt_here(seeds_max: int) -> Found:
    from tests.simulator.history import play
    from tests.simulator.world import World, calm_options

    def breach(seed: int, *, calm: bool) -> str:
        options = calm_options(World(seed).options) if calm else None
        try:
            return "; ".join(play(seed, options).breaches[:1])
        except Exception as error:  # an assertion of the program: no run of it would come to its end
            return f"{ITSELF}{type(error).__name__}: {error}"

    for seed in range(1, FAULT_FREE + 1):
        if found := breach(seed, calm=True):
            return Found(fault_free=False, seed=None, breach=found)
    for seed in range(1, seeds_max + 1):
        if found := breach(seed, calm=False):
            return Found(fault_free=True, seed=seed, breach=found[:200])
    return Found(fault_free=True, seed=None)


def hunt_all(bugs: Sequence[Bug], seeds_max: int) -> list[Found]:
    """Every bug, as many at once as there are processors."""
    with ThreadPool(os.cpu_count()) as pool:
        return pool.map(lambda bug: hunt(bug, seeds_max), bugs)


def main() -> int:
    """Prints the table; exit code 1 if a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.planted", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how far to look for each")
    parser.add_argument("--only", action="append", help="a bug's name; may be repeated")
    parser.add_argument("--hunt", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hunt is not None:
        import logging

        logging.disable(logging.CRITICAL)
        print(json.dumps(vars(_hunt_here(args.hunt))))
        return 0
    bugs = [bug for bug in BUGS if args.only is None or bug.name in args.only]
    found = hunt_all(bugs, args.seeds)
    print("| planted bug | rule it breaks | where | found by seed |\n|---|---|---|---|")
    for bug, result in zip(bugs, found, strict=True):
        seed = f"{result.seed or 'not found'}" if result.fault_free else "breaks without a fault"
        by_itself = ", by the program itself" if result.breach.startswith(ITSELF) else ""
        print(f"| {bug.name} | {bug.rule} | `{bug.file}` | {seed}{by_itself} |")
        print(f"    {result.breach}", file=sys.stderr)
    seen = sum(result.seed is not None for result in found)
    shell = sum(bug.in_shell and result.seed is not None for bug, result in zip(bugs, found, strict=True))
    print(f"\n{seen} of {len(bugs)} found, {shell} of them in the shell")
    return 0 if seen == len(bugs) else 1


if __name__ == "__main__":
    sys.exit(main())
