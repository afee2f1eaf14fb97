"""After Optuna's tutorial, Ask-and-Tell Interface, Batch Optimization."""

from typing import Any

import optuna

from tests.contrib.objectives import plane_on_parabola
from tests.contrib.recipes import Recipe

BATCHES, BATCH_SIZE = 10, 10


def run(recipe: Recipe | None) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3))
    for _ in range(BATCHES):
        trials = [study.ask() for _ in range(BATCH_SIZE)]
        x_batch = [trial.suggest_float("x", -10, 10) for trial in trials]
        y_batch = [trial.suggest_float("y", -10, 10) for trial in trials]
        trial_numbers = [trial.number for trial in trials]
        if recipe is not None:
            names = {"x_batch": x_batch, "y_batch": y_batch, "trial_numbers": trial_numbers}
            recipe(study=study, objective=plane_on_parabola, **names)
            continue
        for number, value in zip(trial_numbers, map(plane_on_parabola, x_batch, y_batch), strict=True):
            study.tell(number, value)
    return [(trial.params, trial.value) for trial in study.trials]
