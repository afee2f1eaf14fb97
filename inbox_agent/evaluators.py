"""Makes the evaluator of an `[evaluator]` table."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.environment import game_environment
from inbox_agent.evaluation.options import EvaluatorOptions
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.process_tree import ProcessTree


class WorkerPlace(msgspec.Struct, frozen=True):
    """Which of the workers on this computer an agent is, counted from 0, and how many there are."""

    number: int = 0
    count: int = 1


ONLY_WORKER = WorkerPlace()


def make_evaluator(
    table: EvaluatorTable,
    folder: Path,
    scratch: Path,
    tree: ProcessTree,
    place: WorkerPlace = ONLY_WORKER,
    *,
    inherited: Mapping[str, str] = os.environ,
) -> CommandEvaluator | FunctionEvaluator:
    """The evaluator that plays the files in `folder`, in the scratch folder.

    Args:
        inherited: the environment variables that the table chooses from; by default those of this process.
    """
    options = EvaluatorOptions(
        environment=game_environment(
            inherited,
            table.environment.allow,
            table.environment.set,
            threads=max(1, (os.cpu_count() or 1) // place.count),
            windows=sys.platform == "win32",
        ),
        worker=place.number,
        memory_limit_mb=table.memory_limit_mb,
        stall_limit_s=table.stall_limit_s,
        games_per_process=table.games_per_process,
        result_is_final=table.result_is_final,
        load_limit_s=table.load_limit_s,
    )
    if table.python is not None:
        return FunctionEvaluator(table.python, folder, scratch, tree, options)
    assert table.command is not None, "checked with the arguments"
    return CommandEvaluator(table.command, folder, scratch, tree, options)
