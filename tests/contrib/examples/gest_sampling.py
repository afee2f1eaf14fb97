"""Generators of libEnsemble and Optimas by the gest-api standard, on the six-hump camel of libEnsemble's tutorials."""

from typing import Any

from gest_api.vocs import VOCS
from libensemble.gen_classes import UniformSample
from optimas.generators import RandomSamplingGenerator

from tests.contrib.objectives import six_hump_camel
from tests.contrib.recipes import Recipe

BATCHES = 8


def run(recipe: Recipe | None) -> Any:
    vocs = VOCS(variables={"x": [-3.0, 3.0], "y": [-2.0, 2.0]}, objectives={"f": "MINIMIZE"})
    generators = [UniformSample(vocs), RandomSamplingGenerator(vocs, seed=2)]
    for generator in generators * BATCHES:
        if recipe is not None:
            recipe(generator=generator, objective=six_hump_camel)
            continue
        points = generator.suggest(8)
        generator.ingest([{**point, **six_hump_camel(point)} for point in points])
    return [generator.suggest(1) for generator in generators]
