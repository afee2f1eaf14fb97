"""The demo: evolves a lander's policy on a farm, kills a worker on the way and shows that nothing is lost.

It decides what is evaluated and what is shown. The exit code is 0 only if the evolved policy does clearly
better than the one that the search began with, in games that neither has seen.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import psutil

from pipeline import Evaluator, Fitness, OpenFarm, Progress, StalledError, open_farm

from .evolution import Search, first_search, next_search
from .policy import PARAMS, encode

EVALUATOR = Evaluator(python="evaluator:play", folder=Path(__file__).parent, time_limit_s=60.0)
SETTINGS = {"max_steps": 400}
OUT = Path("lander-demo")  # `make clean` removes it and its numbered siblings
TRIALS = 3
HELD_OUT_TRIALS = 50
RISE_MIN = 100.0  # of held-out fitness; doing nothing crashes at about -130, most runs gain about 300


def main() -> int:
    """Evolves, compares, and prints where the results are."""
    args = arguments()
    root, began = fresh_folder(args.out), time.monotonic()
    print(where(root, args.out), flush=True)
    farm_here = partial(
        open_farm,
        root,
        evaluator=EVALUATOR,
        workers=args.workers,
        seed=args.seed,
        settings=SETTINGS,
    )
    try:
        with farm_here(trials_per_genome=TRIALS) as farm:
            search, killed_in = evolve(farm, np.random.default_rng(args.seed), args.generations, args.population)
        # A generation's seeds follow from its number, so the next generation's games did not select any genome.
        with farm_here(trials_per_genome=HELD_OUT_TRIALS) as farm:
            rise = compare(farm, search)
            held_out = farm.results.name
    except StalledError as diagnosis:
        print(diagnosis, file=sys.stderr)
        return 1
    print(f"{time.monotonic() - began:.0f} s in all; look at")
    if killed_in:
        print(f"  {root}/results/gen-{killed_in:04d}/attempts.csv   every attempt, the killed worker's too")
    else:
        print("  (no worker was killed: every generation was over before its middle could be seen)")
    print(f"  {root}/results/{held_out}/results.csv    held-out fitness, steps, share of landings")
    print(f"  {root}/genomes/{held_out}/evolved.npz    the evolved policy")
    return 0 if rise >= RISE_MIN else 1


def evolve(farm: OpenFarm, rng: np.random.Generator, generations: int, population: int) -> tuple[Search, int]:
    """The search after the last generation, and the generation in which a worker was killed (0: in none)."""
    search = first_search(PARAMS)
    killer = WorkerKiller(farm, generation=1 + generations // 2)
    print("generation     best     mean  seconds")
    for generation in range(1, generations + 1):
        began = time.monotonic()
        genomes = search.population(rng, population)
        names = [f"g-{number:03d}.npz" for number in range(1, population + 1)]
        scores = farm.evaluate(dict(zip(names, map(encode, genomes), strict=True)), on_progress=killer)
        fitness = [value(scores, name) for name in names]
        seconds = time.monotonic() - began
        print(f"{generation:10} {max(fitness):+8.1f} {np.mean(fitness):+8.1f} {seconds:8.1f}", flush=True)
        if killer.killed_in == generation:
            print(f"  nothing is lost: {len(fitness)} of {population} genomes have their fitness;", end=" ")
            print(f"attempts lost with the worker and played again: {killer.lost}", flush=True)
        search = next_search(list(zip(genomes, fitness, strict=True)), generation)
    return search, killer.killed_in


class WorkerKiller:
    """Kills one worker, once, in the middle of a generation. The farm calls it with its progress."""

    def __init__(self, farm: OpenFarm, generation: int) -> None:
        """It kills in `generation`, or in the first later one that is seen half done."""
        self._farm, self._generation = farm, generation
        self.killed_in = 0  #: the generation of the kill; 0: none yet
        self.lost = 0  #: attempts lost in the current generation

    def __call__(self, progress: Progress) -> None:
        """Kills a worker if the generation is half done."""
        self.lost = progress.lost
        in_the_middle = progress.trials / 3 <= progress.settled < progress.trials
        if self.killed_in or progress.generation < self._generation or not in_the_middle:
            return
        pids = {worker.name: worker.pid for worker in self._farm.workers}
        for worker in progress.workers:
            if worker.genome and (pid := pids[worker.name]):
                psutil.Process(pid).kill()
                self.killed_in = progress.generation
                print(f"  killed {worker.name} (pid {pid}) while it played {worker.genome}", flush=True)
                return


def compare(farm: OpenFarm, search: Search) -> float:
    """The difference in fitness, in held-out games, between the evolved policy and the first one."""
    policies = {"start.npz": first_search(PARAMS).mean, "evolved.npz": search.mean}
    scores = farm.evaluate({name: encode(params) for name, params in policies.items()})
    start, evolved = (value(scores, name) for name in policies)
    rise = evolved - start
    print(f"{HELD_OUT_TRIALS} held-out games: {start:+.1f} at the start, {evolved:+.1f} evolved;", end=" ")
    print(f"a rise of {rise:.1f} (at least {RISE_MIN:.0f} is required)")
    return rise


def value(scores: Mapping[str, Fitness], name: str) -> float:
    """A genome's fitness. Without one the demo ends with an error."""
    fitness = scores[name].value
    if fitness is None:
        sys.exit(f"{name} has no fitness: {scores[name].reason}")
    return fitness


def fresh_folder(wanted: Path) -> Path:
    """The wanted folder, numbered if an earlier run has left one of that name."""
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(folder for folder in chain([wanted], numbered) if not folder.exists())


def where(root: Path, wanted: Path) -> str:
    """Says which folder this run writes, and why it is not the wanted one."""
    if root == wanted:
        return f"this run writes to {root}/"
    removed = "`make clean` removes them all" if wanted == OUT else "remove what you no longer need"
    return f"this run writes to {root}/, because {wanted}/ is of an earlier one; {removed}"


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser("python -m examples.lunar_lander", description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--population", type=int, default=48, help="genomes per generation")
    parser.add_argument("--workers", type=int, default=2, help="processes that play")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same fitnesses")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    args = parser.parse_args()
    if args.generations < 1 or args.population < 8 or args.workers < 1 or args.seed < 0:
        parser.error("at least 1 generation, a population of 8, 1 worker and a seed of 0 are needed")
    return args


if __name__ == "__main__":
    sys.exit(main())
