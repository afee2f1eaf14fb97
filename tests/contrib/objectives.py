"""Objective functions of the examples, apart from their libraries: each new worker process imports this module."""

from typing import Any

import numpy as np

from tests.contrib.trajectory import recorded

OFFSET, WIDTH = 0.1, 0.01  #: of adaptive's peak
INPUTS, WANTED = (4, -2, 3.5, 5, -11, -4.7), 44  #: of PyGAD's equation


@recorded
def square(x: Any) -> float:
    return float(sum((x - 0.5) ** 2))


@recorded
def plane_on_parabola(x: float, y: float) -> float:
    return x**2 + y


@recorded
def fitness(solution: Any) -> float:
    return float(1.0 / (np.abs(np.sum(solution * INPUTS) - WANTED) + 0.000001))


@recorded
def evaluate(solution: Any) -> tuple[float, Any]:
    return float(-np.sum(np.square(solution))), solution[:2]


@recorded
def six_hump_camel(point: dict[str, float]) -> dict[str, float]:
    x, y = point["x"], point["y"]
    return {"f": (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2}


@recorded
def peak(x: float) -> float:
    return x + WIDTH**2 / (WIDTH**2 + (x - OFFSET) ** 2)
