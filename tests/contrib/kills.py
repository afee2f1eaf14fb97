"""Agents and evaluator processes of a farm's local workers are killed while it plays."""

import random
import threading
from types import TracebackType
from typing import Self

import psutil

from pipeline import PipelineError
from pipeline.calls.executor import FarmExecutor

#: Between two kills something must be completed: a new process imports the library first, which may take a second.
_COMPLETED_BETWEEN = 2
_KILLS_MAX = 5  #: of one run, which would spend its time with imports otherwise

#: A call that is hit repeatedly fails, as it should; with high limits none is.
HIGH_LIMITS = """
[generation]
attempts_max = 30
failures_max = 30

[limits]
losses_max = 10
losses_per_trial_max = 30
"""


class Kills:
    """Kills a random one, once a second, from the first results on until the block ends."""

    def __init__(self, executor: FarmExecutor, *, every_s: float = 1.0, seed: int = 1) -> None:
        self.count = 0
        self._farm, self._every_s, self._random = executor.farm, every_s, random.Random(seed)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kills", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        completed, pause_s = 0, 0.02
        while self.count < _KILLS_MAX and not self._is_over.wait(pause_s):
            pause_s = 0.02
            try:
                if (now := self._farm.progress().completed) >= completed + _COMPLETED_BETWEEN and self._kill():
                    self.count += 1
                    completed, pause_s = now, self._every_s
            except (psutil.Error, PipelineError):  # it has ended meanwhile, and so has the farm
                continue

    def _kill(self) -> bool:
        agents = [psutil.Process(worker.pid) for worker in self._farm.workers if worker.pid]
        if not agents:
            return False
        agent = self._random.choice(agents)
        self._random.choice([agent, *agent.children(recursive=True)]).kill()
        return True
