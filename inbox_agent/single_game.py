"""Plays one genome on this computer, outside of any share: `inbox-agent doctor`, `pipeline check`, `pipeline try`."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.protocol import CannotLoad, EvaluationJob, EvaluationResult, GenomeEvaluator
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.evaluators import make_evaluator
from inbox_agent.protocol.layout import Outcome, Setting, safe_suffix
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import PROCESSES_FILE, ProcessTree

_WAIT_S = 0.5
_VARIABLE = "TEMP" if sys.platform == "win32" else "TMPDIR"


class NoTemporaryFolder(Exception):
    """This user can write to no folder for temporary files; the message says what to do."""


@contextmanager
def temporary_evaluator(
    table: EvaluatorTable, folder: Path, inherited: Mapping[str, str] = os.environ
) -> Iterator[CommandEvaluator | FunctionEvaluator]:
    """The evaluator of a table, as an agent makes it, in a temporary folder instead of the agent's own.

    Args:
        inherited: as of `make_evaluator`.

    Raises:
        NoTemporaryFolder
    """
    with ExitStack() as closing:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="inbox-agent-", ignore_cleanup_errors=True)
            place = closing.enter_context(temporary)
        except OSError as error:
            fix = f"set {_VARIABLE} to a folder that this user may write"
            raise NoTemporaryFolder(f"{error.strerror}; {fix}") from error
        tree = ProcessTree(Path(place) / PROCESSES_FILE)
        evaluator = make_evaluator(table, folder, Path(place, "scratch"), tree, inherited=inherited)
        try:
            yield evaluator
        finally:
            evaluator.close()
            tree.close()


def load_problem(evaluator: GenomeEvaluator) -> str:
    """Loads an evaluator; returns why it cannot be loaded, in one line, or the empty string."""
    try:
        _load(evaluator)
    except CannotLoad as error:
        return str(error)
    return ""


def _load(evaluator: GenomeEvaluator) -> None:
    while not evaluator.load(_WAIT_S):
        pass


def play_genome(
    evaluator: GenomeEvaluator,
    genome: Path,
    *,
    trial: int,
    seed: int,
    time_limit_s: float,
    settings: Mapping[str, Setting],
) -> EvaluationResult:
    """Loads the evaluator, evaluates a genome once and waits for the end. Raises OSError: it cannot be copied."""
    try:
        _load(evaluator)
    except CannotLoad as error:
        return EvaluationResult(
            outcome=Outcome.FAILED, reason=f"the evaluator cannot be loaded: {error}", seconds=0.0, log=error.log
        )
    copy = evaluator.prepare(safe_suffix(genome.name))
    shutil.copyfile(genome, copy)
    evaluator.start(
        EvaluationJob(
            attempt="by-hand", genome=copy, trial=trial, seed=seed, time_limit_s=time_limit_s, settings=settings
        )
    )
    while (finished := evaluator.wait(_WAIT_S)) is None:
        pass
    return finished
