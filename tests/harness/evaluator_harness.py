"""A harness for evaluators: runs lines of Python as an evaluation."""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from inbox_agent.evaluation.environment import game_environment
from inbox_agent.evaluation.options import EvaluatorOptions
from inbox_agent.evaluation.protocol import EvaluationJob, EvaluationResult, GenomeEvaluator
from inbox_agent.system.process_tree import ProcessTree
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S, eventually

SCRIPTED = ROOT / "tests" / "harness" / "scripted"
COMMAND = ["python", "scripted.py", "{genome}", "{result}", "{seed}", "{trial}", "{settings}", "{scratch}", "{worker}"]
FUNCTION = "scripted:play"


@dataclass
class EvaluatorHarness:
    """Starts evaluations and waits for their end in short steps, as the agent does."""

    evaluator: GenomeEvaluator
    scratch: Path

    def start(self, game: str, **values: Any) -> None:
        """Starts an evaluation; its lines are the genome."""
        genome = self.evaluator.prepare(".py")
        genome.write_text(textwrap.dedent(game), "utf-8")
        job: dict[str, Any] = {"trial": 1, "seed": 7, "time_limit_s": PATIENCE_S, "settings": {}, **values}
        self.evaluator.start(EvaluationJob(attempt="g0001-0001-t1-a1-abcdefghijkl", genome=genome, **job))

    def finish(self) -> EvaluationResult:
        """Waits for the end of the evaluation that was started."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if (finished := self.evaluator.wait(0.5)) is not None:
                return finished
        raise AssertionError("the evaluation never ended")

    def play(self, game: str, **values: Any) -> EvaluationResult:
        """Runs one evaluation from start to end."""
        self.start(game, **values)
        return self.finish()

    def until(self, condition: Callable[[], object]) -> bool:
        """Waits, as the agent does, until a condition holds for the running evaluation."""
        return eventually(lambda: condition() or self.evaluator.wait(0)) and bool(condition())

    def pid_in(self, note: str) -> int | None:
        """The process id that a game wrote to a file in its scratch folder; None while there is no file."""
        try:
            return int((self.scratch / note).read_text())
        except (FileNotFoundError, ValueError):
            return None


MakeHarness = Callable[..., EvaluatorHarness]


@contextmanager
def harness_factory(kind: Callable[..., GenomeEvaluator], scratch: Path, tree: ProcessTree) -> Iterator[MakeHarness]:
    """A function that makes evaluators of one kind, each for a target and a folder. They are closed at the end."""
    with ExitStack() as stack:

        def make(target: object, folder: Path = SCRIPTED) -> EvaluatorHarness:
            evaluator = kind(target, folder, scratch, tree, evaluator_options())
            stack.callback(evaluator.close)
            return EvaluatorHarness(evaluator, scratch)

        yield make


def evaluator_options(**changes: Any) -> EvaluatorOptions:
    """The options of an evaluator whose games inherit the environment of the test."""
    environment = game_environment(os.environ, ["*"], {}, threads=1, windows=sys.platform == "win32")
    return EvaluatorOptions(**{"environment": environment, **changes})


def is_gone(pid: int | None) -> bool:
    """Whether the process does not exist, not even as a zombie."""
    return pid is not None and not psutil.pid_exists(pid)


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie that its new parent has not reaped yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
