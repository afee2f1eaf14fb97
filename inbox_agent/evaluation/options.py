"""What both kinds of evaluators are told beside what they run."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorOptions:
    """Environment and limits of games."""

    environment: Mapping[str, str]
    worker: int = 0  #: which of the workers on this computer it is, counted from 0
    memory_limit_mb: int | None = None  #: of a game with all its processes
    stall_limit_s: float | None = None  #: without a new progress text, until a game is killed
    games_per_process: int | None = None
    load_limit_s: float = 300.0  #: for the import of a function
    result_is_final: bool = False  #: a command's game ends as soon as its result file is complete
