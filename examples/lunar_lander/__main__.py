"""The demo: evolves a lander's policy on a farm, kills a worker on the way and shows that nothing is lost.

It decides what is evaluated and what is shown. Its exit code is 1 unless the evolved policy does clearly better than
the one that the search began with, in games that neither has seen.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from pipeline import Evaluator, Fitness, OpenFarm, Progress, StoppedEarly, open_farm

from .evolution import Search, first_search, next_search
from .policy import PARAMS, encode

FOLDER = Path(__file__).parent
EVALUATOR = Evaluator(python="evaluator:play", folder=FOLDER, time_limit_s=60.0)
SETTINGS = {"max_steps": 400}
TRIALS = 3
HELD_OUT_TRIALS = 50
RISE_MIN = 100.0  # of held-out fitness; most runs gain more than 300


def main() -> int:
    """Evolves, compares, and says where to look."""
    args = arguments()
    root = fresh_folder(args.out)
    open_here = partial(
        open_farm, root, evaluator=EVALUATOR, workers=args.workers, seed=args.seed, settings=SETTINGS
    )
    try:
        with open_here(trials_per_genome=TRIALS) as farm:
            search = evolve(farm, np.random.default_rng(args.seed), args.generations, args.population)
        with open_here(trials_per_genome=HELD_OUT_TRIALS) as farm:
            rise = compare(farm, search)
            held_out = farm.results
    except StoppedEarly as diagnosis:
        print(diagnosis, file=sys.stderr)
        return 1
    ...


def evolve(farm: OpenFarm, rng: np.random.Generator, generations: int, population: int) -> Search:
    """Plays so many generations, one of them with a misfortune; returns where the search has got to."""
    search = first_search(PARAMS)
    misfortune = Misfortune(farm, generation=1 + generations // 2)
    print("generation     best     mean  seconds")
    for generation in range(1, generations + 1):
        began = time.monotonic()
        genomes = {f"g-{n:03d}.npz": params for n, params in enumerate(search.population(rng, population), 1)}
        scores = farm.evaluate({name: encode(params) for name, params in genomes.items()}, on_progress=misfortune)
        fitness = {name: value_of(scores, name) for name in genomes}
        ...
