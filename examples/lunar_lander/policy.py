"""The policy: a genome's 17 parameters say which engine of the lander fires, given what it observes.

Engines are scored by weighted sums, with the symmetry of the game: the right engine sees the mirror image of
what the left engine sees, and the main engine only what a mirror leaves as it is. Genomes are `.npz` files.
"""

import io
import zipfile
import zlib
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

Params = NDArray[np.floating[Any]]

PARAMS = 17  # 8 weights and a bias of the side engines, 7 weights and a bias of the main engine
#: Of an observation: x, y, their velocities, angle, angular velocity, left and right leg on the ground.
MIRROR = np.diag([-1.0, 1, -1, 1, -1, -1, 1, 1])[:, [0, 1, 2, 3, 4, 5, 7, 6]]
#: Of an observation and its absolute values: y, its velocity, both legs; |x|, its speed, tilt, spin.
UNMIRRORED = np.eye(16)[[1, 3, 6, 8, 10, 12, 13]]
UNMIRRORED[2, 7] = 1.0  # the other leg


class Policy:
    """Scores each action for an observation; doing nothing scores zero."""

    def __init__(self, params: Params) -> None:
        """Raises ValueError if these are not the parameters of a policy."""
        side, side_bias, main, main_bias = np.split(validated(params), [8, 9, 16])
        self._weights = np.zeros((4, 16))
        self._weights[1, :8] = side
        self._weights[2] = main @ UNMIRRORED
        self._weights[3, :8] = side @ MIRROR
        self._bias = np.concatenate([[0.0], side_bias, main_bias, side_bias])

    def act(self, observation: NDArray[np.float32]) -> int:
        """The action that scores highest: 0 nothing, 1 left engine, 2 main engine, 3 right engine."""
        scores = self._weights @ np.concatenate([observation, np.abs(observation)]) + self._bias
        return int(np.argmax(scores))


def validated(params: Params) -> Params:
    """The same parameters. Raises ValueError, in one line, if they are not those of a policy."""
    if params.dtype.kind != "f" or params.shape != (PARAMS,):
        raise ValueError(f"a policy has {PARAMS} float parameters, not {params.dtype} {params.shape}")
    if not np.isfinite(params).all():
        raise ValueError(f"parameter {int(np.argmin(np.isfinite(params)))} of the policy is not finite")
    return params


def encode(params: Params) -> bytes:
    """The genome: equal parameters, equal bytes."""
    file = io.BytesIO()
    np.savez(file, params=validated(params))
    return file.getvalue()


def load(path: str | PathLike[str]) -> Params:
    """The parameters in a genome. Raises ValueError, in one line, if they are not those of a policy."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            params = arrays["params"]
    except (LookupError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError("not a genome of a lander, which is an .npz file with an array `params`") from error
    return validated(params)
