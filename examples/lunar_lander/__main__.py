"""The demo: evolves a lander's policy on a farm, kills a worker on the way and shows that nothing is lost.

It decides what is evaluated and what is shown. Exit code 1 unless the evolved policy does clearly better than the one
that the search began with, in games that neither has seen.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from pipeline import Evaluator, Fitness, OpenFarm, Progress, StoppedEarly, open_farm

from .evolution import Search, first_search, next_search
from .policy import PARAMS, encode

TRIALS = 3
HELD_OUT_TRIALS = 50
SETTINGS = {"max_steps": 400}
EVALUATOR = Evaluator(python="evaluator:play", folder=Path(__file__).parent, time_limit_s=60.0)
RISE_MIN = 100.0  # held-out fitness; the evolved policy mostly gains 300


class Misfortune:
    """Kills one worker, once, in the middle of a generation: made to be called with the farm's progress."""

    def __init__(self, farm: OpenFarm, generation: int) -> None:
        """It waits for this generation, and on for one that lasts long enough to be caught in its middle."""
        self._farm, self._generation = farm, generation
        self.struck = 0  #: the generation it happened in
        self.lost = 0  #: attempts that this generation has lost so far

    def __call__(self, progress: Progress) -> None:
        """Strikes a worker that plays, if a third of the trials is settled and some are still open."""
        self.lost = progress.lost
        if self.struck or progress.generation < self._generation:
            return
        if not progress.trials / 3 <= progress.settled < progress.trials:
            return
        pids = {worker.name: worker.pid for worker in self._farm.workers}
        for row in progress.workers:
            if row.genome and (pid := pids[row.name]):
                psutil.Process(pid).kill()
                print(f"{'':10}killed worker {row.name}, pid {pid}, while it played {row.genome}", flush=True)
                self.struck = progress.generation
                return


def main() -> int:
    """Evolves, compares, and says where to look."""
    args = arguments()
    root = fresh_folder(args.out)
    began = time.monotonic()
    with open_farm(
        root, evaluator=EVALUATOR, workers=args.workers, trials_per_genome=TRIALS, seed=args.seed, settings=SETTINGS
    ) as farm:
        search, struck = evolve(farm, args.generations, args.population, np.random.default_rng(args.seed))
    # The next generation number gives other seeds: nobody has been selected for these games.
    policies = {"first.npz": encode(first_search(PARAMS).mean), "evolved.npz": encode(search.mean)}
    with open_farm(
        root, evaluator=EVALUATOR, workers=args.workers, trials_per_genome=HELD_OUT_TRIALS, seed=args.seed,
        settings=SETTINGS,
    ) as farm:  # fmt: skip
        first, evolved = (fitness(score) for score in farm.evaluate(policies).values())
    ...
