"""The interface of evaluators, and their results.

Not here: how an evaluator runs (command, python_function) and how processes are killed
(inbox_agent.system.process_tree).
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from inbox_agent.protocol.layout import REASON_CHARS_MAX, Outcome, Setting, clean
from inbox_agent.system.process_tree import may_start_later

LAST_OUTPUT_S = 1.0  # how long to read remaining output after the process tree is dead


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationJob:
    """One evaluation to run. Unrelated to Windows' job objects."""

    attempt: str
    genome: Path
    trial: int
    seed: int
    time_limit_s: float
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """The result of an evaluation."""

    outcome: Outcome  #: completed, failed or timed_out; undelivered if the system could not start the game
    fitness: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""  #: one line; empty if completed
    seconds: float
    log: bytes = b""  #: the end of the evaluator's output
    artifacts: list[Path] = field(default_factory=list)  #: in the scratch folder, until the next `prepare`
    evaluator: str | None = None  #: the version that played it; None: unknown


class CannotLoad(Exception):
    """An evaluator cannot be loaded; the text is one line."""

    def __init__(self, reason: str, log: bytes = b"", *, was_killed: bool = False) -> None:
        super().__init__(clean(reason, REASON_CHARS_MAX))
        self.log = log  #: what it wrote before
        self.was_killed = was_killed  #: from outside, e.g. because the system had no memory left


class GenomeEvaluator(Protocol):
    """Evaluates one genome at a time."""

    @property
    def reads_files_at_each_game(self) -> bool:
        """Whether every game reads the files; otherwise `load` does, and they are kept for the games that follow."""

    @property
    def loads(self) -> int:
        """How often the files were read: rises with every game or process that reads them."""

    @property
    def is_unused(self) -> bool:
        """Whether nothing that an earlier game may have changed is used for the next one."""

    def load(self, timeout_s: float) -> bool:
        """Loads what the next evaluation needs, and waits at most `timeout_s` for it; returns whether it is loaded.

        A call for an evaluator that is loaded costs next to nothing. After an error the next call tries again.

        Raises:
            CannotLoad: a program or module is missing, the import failed or took too long.
        """

    def unload(self) -> None:
        """Ends what is loaded; the next `load` reads the files again. Not while an evaluation runs."""

    @property
    def progress(self) -> str:
        """The latest progress text of the running evaluation; the empty string when there is none."""

    def prepare(self, suffix: str) -> Path:
        """Cleans the scratch folder; returns the path for the genome's copy. Raises OSError."""

    def start(self, job: EvaluationJob) -> None:
        """Starts the evaluation and returns at once; if that fails, `wait` reports it. Call it once `load` is true."""

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        """Waits at most `timeout_s` for the end of the evaluation, and enforces its time limit.

        Must be called soon and often: a worker process that is still starting gets its request only in here.
        """

    def stop(self) -> None:
        """Kills the running evaluation with all that it started, and drops it. Idempotent."""

    def close(self) -> None:
        """Ends everything, including processes kept for the next evaluation."""


def describe_start_error(program: str, error: OSError | ValueError) -> str:
    """Why a program could not be started, in one line."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return clean(f"cannot start {program!r}: {reason}", REASON_CHARS_MAX)


def outcome_of_start(error: OSError | ValueError) -> Outcome:
    """The outcome of a game whose program could not be started: not the genome's fault if the system was short of
    memory or processes.
    """
    return Outcome.UNDELIVERED if isinstance(error, OSError) and may_start_later(error) else Outcome.FAILED


def was_killed(returncode: int) -> bool:
    """Whether an exit status shows that another process ended this one. Windows does not tell."""
    return returncode in {-getattr(signal, name) for name in ("SIGKILL", "SIGTERM") if hasattr(signal, name)}


def describe_exit(returncode: int) -> str:
    """An exit status in words."""
    if returncode >= 0:
        # Windows reports a crash as an NTSTATUS, which people look up in hexadecimal.
        return f"exit code {returncode if returncode < 0x10000 else f'0x{returncode:08X}'}"
    try:
        return f"signal {signal.Signals(-returncode).name.removeprefix('SIG')}"
    except ValueError:
        return f"signal {-returncode}"


def time_limit_reason(time_limit_s: float) -> str:
    """Why an evaluation was killed."""
    return f"the time limit of {time_limit_s:g} s passed"


def memory_limit_reason(limit_mb: int, used_mb: float) -> str:
    """Why an evaluation was killed."""
    return f"the game used {used_mb:.0f} MB of memory, more than memory_limit_mb = {limit_mb}"
