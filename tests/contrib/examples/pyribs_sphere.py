"""After the example of pyribs' README, CMA-ME on the sphere; one emitter, fewer iterations."""

from typing import Any

from ribs.archives import GridArchive
from ribs.emitters import EvolutionStrategyEmitter
from ribs.schedulers import Scheduler

from tests.contrib.objectives import evaluate
from tests.contrib.recipes import Recipe

ITERATIONS = 5


def run(recipe: Recipe | None) -> Any:
    archive = GridArchive(solution_dim=10, dims=[20, 20], ranges=[(-1, 1), (-1, 1)], seed=1)
    emitters = [EvolutionStrategyEmitter(archive, x0=[0.0] * 10, sigma0=0.1, batch_size=30, seed=2)]
    scheduler = Scheduler(archive, emitters)
    for _ in range(ITERATIONS):
        if recipe is not None:
            recipe(scheduler=scheduler, evaluate=evaluate)
            continue
        objectives, measures = zip(*map(evaluate, scheduler.ask()), strict=True)
        scheduler.tell(objectives, measures)
    return archive.data(["solution", "objective", "measures"], return_type="tuple")
