"""The host: takes genomes in, farms them out to workers, counts every one exactly once or says why not.

For programs: `open_farm`, `Evaluator`, `Fitness`, `Progress`, `StoppedEarly`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Evaluator, Fitness, OpenFarm, StoppedEarly, open_farm
    from pipeline.screens.progress import Progress

__all__ = ["Evaluator", "Fitness", "OpenFarm", "Progress", "StoppedEarly", "open_farm"]


def __getattr__(name: str) -> Any:
    """Loads the API on first use: `pipeline --help` and the pure core do not need the `host` extra."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline import api
    from pipeline.screens.progress import Progress

    return Progress if name == "Progress" else getattr(api, name)
