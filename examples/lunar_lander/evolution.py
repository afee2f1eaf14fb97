"""Evolution by the noisy cross-entropy method. Pure: no I/O, and the random generator is an argument.

Each population is drawn from a Gaussian fitted to the elite of the one before, widened by noise that fades:
I. Szita, A. Lőrincz, "Learning Tetris Using the Noisy Cross-Entropy Method", Neural Computation 18(12), 2006.
The elite is weighted by rank as in N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Params = NDArray[np.float64]

ELITE_SHARE = 0.25
NOISE_SIGMA = 0.3  # after the first generation, whose own sigma is 1
NOISE_DECAY = 0.8  # per generation


@dataclass(frozen=True, slots=True)
class Search:
    """The distribution of the next population: a Gaussian with independent parameters."""

    mean: Params
    sigma: Params

    def population(self, rng: np.random.Generator, size: int) -> list[Params]:
        """Draws genomes."""
        return list(rng.normal(self.mean, self.sigma, (size, self.mean.size)))


def first_search(params: int) -> Search:
    """The search before the first generation: the standard normal distribution."""
    return Search(np.zeros(params), np.ones(params))


def next_search(scored: Sequence[tuple[Params, float]], generation: int) -> Search:
    """The search after this generation, counted from 1, was scored; a higher fitness is better."""
    ranked = sorted(scored, key=lambda pair: pair[1], reverse=True)
    elite = np.array([params for params, _ in ranked[: max(2, round(ELITE_SHARE * len(ranked)))]])
    weights = np.log(len(elite) + 0.5) - np.log(np.arange(1, len(elite) + 1))
    weights /= weights.sum()
    mean = weights @ elite
    noise = NOISE_SIGMA * NOISE_DECAY ** (generation - 1)
    return Search(mean, np.sqrt(weights @ (elite - mean) ** 2 + noise**2))
