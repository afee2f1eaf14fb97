"""The host: takes genomes in, farms them out to workers, counts every one exactly once or says why not.

For programs: `open_farm` and what it takes and gives, `PipelineError` and its subclasses (`pipeline.errors`).
"""

from typing import TYPE_CHECKING, Any

from pipeline.errors import (
    BundleError,
    ConfigError,
    FarmClosed,
    GenomeError,
    HostError,
    InputError,
    LedgerError,
    MissingExtraError,
    PipelineError,
    ProjectBusyError,
    SecretError,
    StalledError,
    TakeOverError,
    VmError,
    needs_extra,
)

if TYPE_CHECKING:
    from pipeline.api import Evaluator, OpenFarm, open_farm
    from pipeline.host.genome_fitness import Fitness
    from pipeline.views.progress import Progress
    from pipeline.views.table import Table

__all__ = [
    "BundleError",
    "ConfigError",
    "Evaluator",
    "FarmClosed",
    "Fitness",
    "GenomeError",
    "HostError",
    "InputError",
    "LedgerError",
    "MissingExtraError",
    "OpenFarm",
    "PipelineError",
    "Progress",
    "ProjectBusyError",
    "SecretError",
    "StalledError",
    "Table",
    "TakeOverError",
    "VmError",
    "open_farm",
]

if not TYPE_CHECKING:  # a type checker would accept any name of this module

    def __getattr__(name: str) -> Any:
        """Loads the API on first use: the agent's installation, which has this package too, lacks its libraries."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with needs_extra("host"):
            from pipeline import api
            from pipeline.views.progress import Progress

        return Progress if name == "Progress" else getattr(api, name)
