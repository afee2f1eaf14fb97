"""Plays one genome on this computer, outside of any share: `inbox-agent doctor`, `pipeline check`, `pipeline try`."""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.protocol import EvaluationJob, EvaluationResult, GenomeEvaluator
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.evaluators import make_evaluator
from inbox_agent.protocol.layout import Setting, safe_suffix
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import PROCESSES_FILE, ProcessTree

_WAIT_S = 0.5


@contextmanager
def temporary_evaluator(
    table: EvaluatorTable, folder: Path, *, secrets: Collection[str] = (), state: Path | None = None
) -> Iterator[CommandEvaluator | FunctionEvaluator]:
    """The evaluator of a table, as an agent makes it, in a temporary folder instead of the agent's own.

    Args:
        secrets: as of `make_evaluator`.
        state: where the temporary folder is made, and the file of its processes; None: where the system has such.
    """
    with tempfile.TemporaryDirectory(prefix="inbox-agent-", dir=state, ignore_cleanup_errors=True) as place:
        tree = ProcessTree((state or Path(place)) / PROCESSES_FILE)
        evaluator = make_evaluator(table, folder, Path(place, "scratch"), tree, secrets=secrets)
        try:
            yield evaluator
        finally:
            evaluator.close()
            tree.close()


def play_genome(
    evaluator: GenomeEvaluator,
    genome: Path,
    *,
    trial: int,
    seed: int,
    time_limit_s: float,
    settings: Mapping[str, Setting],
) -> EvaluationResult:
    """Evaluates a genome once and waits for the end. Raises OSError: the genome cannot be copied."""
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
