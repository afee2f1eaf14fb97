"""The host: takes genomes in, farms them out to workers, counts every one exactly once or says why not.

For programs: `open_farm`, `open_executor`, what they take and give, and `PipelineError` with its subclasses.
"""

from typing import TYPE_CHECKING, Any

from pipeline.errors import (
    BundleError,
    ConfigError,
    ConflictError,
    EvaluationFailed,
    FarmClosed,
    GenomeError,
    HostError,
    InputError,
    LedgerError,
    MissingExtraError,
    NotFoundError,
    PipelineError,
    ProjectBusyError,
    QueueFullError,
    RemoteError,
    SecretError,
    StalledError,
    TakeOverError,
    VmError,
    needs_extra,
)

if TYPE_CHECKING:
    from pipeline.api import Evaluator, OpenFarm, open_farm
    from pipeline.calls.executor import FarmExecutor, open_executor
    from pipeline.calls.joblib_backend import register_joblib
    from pipeline.calls.player import current_trial
    from pipeline.host.genome_fitness import Fitness
    from pipeline.views.generation_summary import GenerationSummary
    from pipeline.views.progress import Progress
    from pipeline.views.table import Table

__all__ = [
    "BundleError",
    "ConfigError",
    "ConflictError",
    "EvaluationFailed",
    "Evaluator",
    "FarmClosed",
    "FarmExecutor",
    "Fitness",
    "GenerationSummary",
    "GenomeError",
    "HostError",
    "InputError",
    "LedgerError",
    "MissingExtraError",
    "NotFoundError",
    "OpenFarm",
    "PipelineError",
    "Progress",
    "ProjectBusyError",
    "QueueFullError",
    "RemoteError",
    "SecretError",
    "StalledError",
    "Table",
    "TakeOverError",
    "VmError",
    "current_trial",
    "open_executor",
    "open_farm",
    "register_joblib",
]

if not TYPE_CHECKING:  # a type checker would accept any name of this module

    def __getattr__(name: str) -> Any:
        """Loads the API on first use: the agent's installation, which has this package too, lacks its libraries."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with needs_extra("host"):
            from pipeline.calls import player

            if name not in vars(player):  # which a worker imports, and nothing else
                from pipeline import api
                from pipeline.calls import executor
                from pipeline.calls.joblib_backend import register_joblib
                from pipeline.views.progress import Progress

                others = {"Progress": Progress, "register_joblib": register_joblib}
                return {**vars(api), **vars(executor), **others}[name]
        return getattr(player, name)
