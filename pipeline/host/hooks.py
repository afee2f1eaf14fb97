"""User hooks: a program run when a generation ends, a worker is quarantined or out, or the farm is stuck or silent.

Owns: which events run it. It gets one JSON object on standard input and, on its command line, only the event's name; no
shell is used. A hook that fails or hangs is logged as a warning and has no other effect.
Threads: hooks run one after another on a thread of their own.
"""

import logging
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from inbox_agent.system.process_tree import interpreter
from pipeline.config import HooksTable
from pipeline.core.facts import Fact, RunFinished, WorkerOut, WorkerQuarantined
from pipeline.core.farm import Farm
from pipeline.views.fact_text import counted, describe
from pipeline.views.results import summary

log = logging.getLogger(__name__)


class Hooks:
    """Runs the hook on its own thread, one event after another."""

    def __init__(self, table: HooksTable, root: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is that of the hook, by default the one of this process."""
        self._table, self._root, self._environment = table, root, environment
        self._events: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        if table.command:
            self._thread.start()

    def notify(self, facts: Sequence[Fact], farm: Farm) -> None:
        """Queues the events among the facts of a tick."""
        if not self._table.command:
            return
        for fact in facts:
            match fact:
                case RunFinished():
                    self._put("finished", farm, f"generation {farm.generation} is finished")
                case WorkerQuarantined():
                    self._put("quarantined", farm, describe(fact, farm), worker=fact.worker)
                case WorkerOut():
                    self._put("out", farm, describe(fact, farm), worker=fact.worker)

    def notify_stuck(self, farm: Farm, diagnosis: str) -> None:
        """Queues the event that the farm cannot go on."""
        if self._table.command:
            self._put("stuck", farm, diagnosis)

    def notify_silent(self, farm: Farm, silent_s: float) -> None:
        """Queues the event that no result has come for so long."""
        if self._table.command:
            trials = counted(farm.open_trials, "trial")
            text = f"generation {farm.generation}: no result for {silent_s:.0f} s; {trials} open"
            self._put("silent", farm, text, silent_s=round(silent_s, 3))

    def close(self) -> None:
        """Waits for queued events, at most for the time limit of one hook run and a second."""
        if self._table.command:
            self._events.put(None)
            self._thread.join(self._table.timeout_s + 1)

    def _put(self, event: str, farm: Farm, text: str, **more: Any) -> None:
        message = {"event": event, "project": str(self._root), "text": text, **more, "summary": summary(farm)}
        self._events.put((event, orjson.dumps(message)))

    def _run(self) -> None:
        while (queued := self._events.get()) is not None:
            event, data = queued
            program, *arguments = self._table.command
            # As in [evaluator] command: `python` is the interpreter with this program and the user's packages.
            command = [interpreter() if program == "python" else program]
            command += [part.replace("{event}", event) for part in arguments]
            try:
                done = subprocess.run(
                    command,
                    input=data,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd=self._root,
                    env=self._environment,
                    timeout=self._table.timeout_s,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                log.warning("the hook for %s: %s", event, error)
                continue
            if done.returncode:
                words = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
                log.warning("the hook for %s ended with %s: %s", event, done.returncode, words)
