"""`python -m tests.programs.soak --hours H`: `pipeline watch` under everything that happens to it, from a seed.

Generations are dropped in odd ways; processes are killed and suspended, the disk is full, the share goes away; the
evaluator is edited and deployed; results are removed by `keep` and `pipeline prune`. Every fitness is computed a second
time, and `pipeline verify` must find nothing. Samples of memory, descriptors, threads, disk, processor time and rate
are written as they come, and drawn at the end. Exit code 1 if a genome is not counted exactly once, or something is not
flat.
Ctrl-C and SIGTERM end it early; what was sampled is judged and drawn.
"""

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.harness.samba import free_port
from tests.harness.waiting import eventually
from tests.programs.soak import flatness
from tests.programs.soak.faults import Operator
from tests.programs.soak.feeder import Feeder
from tests.programs.soak.picture import drawn
from tests.programs.soak.project import SoakProject, is_own_disk, soak_project
from tests.programs.soak.sampler import Sampler

DISK_MIB, DISK_MIB_PER_HOUR = 192, 40
#: When the watch is killed and when it is stopped for maintenance, as parts of the run. One of its lives lasts for half
#: of the run, so that a leak shows.
KILLS_AT, MAINTENANCES_AT = (0.1, 0.35), (0.15, 0.4, 0.9)
SHORT_S = 120.0  #: a run that is shorter has only the first of each


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    seconds: float
    seed: int
    pause_s: float  #: between two drops, on average
    fault_every_s: float  #: on average
    sample_every_s: float
    generations_per_evaluator: int


class Soak:
    """One run in a project."""

    def __init__(self, project: SoakProject, plan: Plan, out: Path) -> None:
        self._project, self._plan, self._out = project, plan, out
        self._dice, self._began = random.Random(plan.seed), time.monotonic()
        self._stopped = threading.Event()
        self.feeder = Feeder(project, random.Random(plan.seed + 1), plan.pause_s, plan.generations_per_evaluator)
        self.operator = Operator(project, self.feeder, self._dice, self._note)
        self.problems: list[str] = []

    def stop(self) -> None:
        """Ends the faults soon; what was dropped is played to its end."""
        self._stopped.set()

    def run(self) -> None:
        """Plays until the time is up, and until everything is counted."""
        self._project.start_watch()
        feeding = threading.Thread(target=self.feeder.run)
        feeding.start()
        with self._sampling() as self.sampler:
            try:
                self._play()
            except AssertionError as error:
                self.problems.append(str(error))
            finally:
                self.feeder.stopped.set()
                self._settle(feeding)
        if self.feeder.problem:
            self.problems.append(self.feeder.problem)
        else:
            self._check_all()

    def _play(self) -> None:
        """Faults, and the work of an operator at its times, until the time is up."""
        ends_at, plan = self._began + self._plan.seconds, self._plan
        works = [("kill", KILLS_AT), ("maintain", MAINTENANCES_AT)]
        most = 1 if plan.seconds < SHORT_S else None
        calendar = sorted((self._began + plan.seconds * part, work) for work, parts in works for part in parts[:most])
        verifications = 0
        while not self._stopped.is_set() and not self.feeder.problem and time.monotonic() < ends_at:
            self._stopped.wait(min(self._dice.expovariate(1 / plan.fault_every_s), ends_at - time.monotonic()))
            if calendar and time.monotonic() >= calendar[0][0]:
                _at, work = calendar.pop(0)
                if work == "kill":
                    self.operator.kill_watch()
                else:
                    verifications += 1
                    self.operator.maintain(everything=verifications % 2 == 0)
            elif time.monotonic() < ends_at:
                self.operator.inject()
            assert self._project.is_watched, f"the watch has ended by itself: {self._project.output[-500:]}"

    def _settle(self, feeding: threading.Thread) -> None:
        """Waits until everything is counted, without faults."""
        while feeding.is_alive() and self._project.is_watched:
            feeding.join(1.0)
        if feeding.is_alive():
            self.feeder.problem = f"the watch has ended with generations {sorted(self.feeder.open)} open"
            self.feeder.given_up.set()
            feeding.join()

    def _check_all(self) -> None:
        """The last word: everything once more, after everything."""
        try:
            self.operator.maintain(everything=True)
            self._project.stop_watch()
            for generation, dropped in self.feeder.finished.items():
                self.feeder.assert_counted(generation, dropped)
            assert eventually(lambda: not self._project.processes(), 30), self._project.processes()
            if self._plan.seconds >= SHORT_S:
                idle = self._project.workers - self.feeder.played.keys()
                assert not idle, f"workers that have played nothing: {', '.join(sorted(idle))}"
            assert "Traceback" not in self._project.output, "the watch has printed a traceback"
        except AssertionError as error:
            self.problems.append(str(error))

    @contextmanager
    def _sampling(self) -> Iterator[Sampler]:
        """Samples in the background, with a page whose metrics have the number of settled trials."""
        port = free_port()
        with (self._out / "serve.txt").open("ab") as log:
            page = self._project.start("serve", "--port", str(port), stdout=log.fileno())
        address = f"http://127.0.0.1:{port}/metrics"
        path = self._out / "samples.csv"
        sampler = Sampler(self._project, psutil.Process(page.pid), address, path, self._plan.sample_every_s)
        thread = threading.Thread(target=sampler.run)
        thread.start()
        try:
            yield sampler
        finally:
            sampler.stopped.set()
            thread.join()
            if page.poll() is not None:
                self.problems.append(f"pipeline serve has ended with exit code {page.returncode}")
            if sampler.problem:
                self.problems.append(sampler.problem)
            page.terminate()
            page.wait()

    def _note(self, text: str) -> None:
        """Adds a line with the time to the list of what happened."""
        with (self._out / "faults.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic() - self._began:.1f} {text}\n")


def report(soak: Soak, project: SoakProject, plan: Plan, out: Path) -> int:
    """Prints the figures and draws the picture; returns the exit code."""
    samples, feeder = soak.sampler.samples, soak.feeder
    genomes = [value for dropped in feeder.finished.values() for value in dropped.fitness.values()]
    failed = sum(value is None for value in genomes)
    minutes = (samples[-1].seconds if samples else 0.0) / 60
    print(f"{minutes:.1f} minutes, seed {plan.seed}; left out: {', '.join(_left_out(project)) or 'nothing'}")
    print(f"{len(feeder.finished)} generations, {len(genomes)} genomes, of which {failed} were meant to fail")
    print("dropped: " + ", ".join(f"{name} {count}" for name, count in feeder.ways.most_common()))
    print("games: " + ", ".join(f"{name} {count}" for name, count in sorted(feeder.played.items())))
    print(f"versions of the evaluator: {project.edition}")
    print("faults: " + ", ".join(f"{name} {count}" for name, count in soak.operator.counts.most_common()))
    if len(samples) >= 2:
        (out / "soak.svg").write_text(drawn(samples, "make soak"), encoding="utf-8")
        if flatness.can_be_judged(samples):
            for column in flatness.CONSTANTS:
                middle, last = flatness.medians(samples, column)
                print(f"{column}: {middle:g} in the middle third, {last:g} in the last one")
            _middle, last_third = flatness.thirds(samples)
            print(f"kept for good: {flatness.kept_kib_per_trial(samples):.2f} KiB for each trial")
            life = flatness.longest_life(samples)
            print(f"longest life of a watch: {(life[-1].seconds - life[0].seconds) / 60:.1f} minutes")
            print(f"rate: {flatness.rate_per_min(last_third):.1f} trials per minute")
        else:
            print("too short to say what is flat")
    problems = soak.problems + flatness.rises(samples)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(f"see {out}" if problems else "each genome was counted once, and nothing rises")
    return 1 if problems else 0


def _left_out(project: SoakProject) -> list[str]:
    has_share = project.server is not None
    faults = {"a full disk": is_own_disk(project), "a share that goes away": has_share, "deployments": has_share}
    return [name for name, is_there in faults.items() if not is_there]


def main() -> int:
    """Runs the soak."""
    parser = argparse.ArgumentParser("python -m tests.programs.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause-s", type=float, default=4.0, help="between two drops, on average")
    parser.add_argument("--fault-every-s", type=float, default=25.0, help="on average")
    parser.add_argument("--sample-every-s", type=float, default=10.0)
    parser.add_argument("--generations-per-evaluator", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="where samples and picture go")
    args = parser.parse_args()
    plan = Plan(
        args.hours * 3600,
        args.seed,
        args.pause_s,
        args.fault_every_s,
        args.sample_every_s,
        args.generations_per_evaluator,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "faults.txt").unlink(missing_ok=True)
    disk_mib = DISK_MIB + round(DISK_MIB_PER_HOUR * args.hours)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, soak_project(Path(folder), disk_mib) as project:
        soak = Soak(project, plan, args.out)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: soak.stop())
        soak.run()
        code = report(soak, project, plan, args.out)
        (args.out / "watch.txt").write_text(project.output, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
