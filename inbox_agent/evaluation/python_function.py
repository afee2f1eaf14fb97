"""The evaluator that calls a Python function in a worker process, kept from one evaluation to the next.

Owns: when the worker process is started, replaced and killed, and when its replies count. After a game that failed in
any way, left threads or processes running, or made the process grow, the next game gets a new process.
Not here: what counts as an answer (protocol), how the worker process serves a request (worker_process).
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from inbox_agent.evaluation import worker_process
from inbox_agent.evaluation.answer import LINE_CHARS_MAX, parse_json, read_answer, with_ignored_keys
from inbox_agent.evaluation.environment import with_modules_of
from inbox_agent.evaluation.memory import GrowthLimit, MemoryLimit
from inbox_agent.evaluation.options import EvaluatorOptions
from inbox_agent.evaluation.output_reader import OutputReader, WorkerReply, new_marker
from inbox_agent.evaluation.protocol import (
    LAST_OUTPUT_S,
    CannotLoad,
    EvaluationJob,
    EvaluationResult,
    describe_exit,
    describe_start_error,
    memory_limit_reason,
    outcome_of_start,
    time_limit_reason,
    was_killed,
)
from inbox_agent.evaluation.scratch import InvalidAnswer, Scratch
from inbox_agent.evaluation.stall import ProgressWatch
from inbox_agent.evaluation.worker_process import describe_children
from inbox_agent.protocol.layout import LOG_BYTES_MAX, REASON_CHARS_MAX, Outcome, clean
from inbox_agent.system.process_tree import ProcessTree, interpreter, wait_for_exit

_POLL_S = 0.25  # how soon a dead child is noticed while another process keeps its output open


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    output: OutputReader
    started: float
    growth: GrowthLimit
    ready: bool = False
    import_log: bytes = b""  #: output of the import, for the log of its first game
    games: int = 0  #: that were started in it
    processes: int = 1  #: in its tree when the function had been imported


@dataclass(slots=True)
class _RunningCall:
    job: EvaluationJob
    number: int
    memory: MemoryLimit
    progress: ProgressWatch | None = None  #: once the request was sent
    started: float | None = None  #: when the request was sent; None while the child still imports
    log: bytes = b""  #: output before it


class FunctionEvaluator:
    """Calls `module:function` of `folder` as `function(genome_path, trial)` for every evaluation."""

    def __init__(self, target: str, folder: Path, scratch: Path, tree: ProcessTree, options: EvaluatorOptions) -> None:
        self.reads_files_at_each_game = False
        self.loads = 0  #: processes that were started
        self._target, self._folder, self._tree = target, Path(os.path.abspath(folder)), tree
        self._options = options
        self._scratch = Scratch(scratch)
        # The child adds the folder to its path after its own imports; its children get PYTHONPATH.
        self._python_path = with_modules_of(self._folder, options.environment)["PYTHONPATH"]
        self._child: _Worker | None = None
        self._game: _RunningCall | None = None
        self._start_error: tuple[Outcome, str] | None = None
        self._count = 0

    @property
    def progress(self) -> str:
        return self._child.output.progress if self._game and self._child else ""

    @property
    def is_unused(self) -> bool:
        return self._child is None or self._child.games == 0

    def load(self, timeout_s: float = 0.0) -> bool:
        """Starts the worker process, if there is none, and waits for its import."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                child = self._ensure_child()
            except OSError as error:
                raise CannotLoad(describe_start_error(interpreter(), error)) from error
            if child.ready:
                return True
            now = time.monotonic()
            reply = self._next_reply(child, max(0.0, min(until - now, _POLL_S)))
            if reply is not None:
                self._take_first_reply(child, reply)
            elif child.output.ended or wait_for_exit(child.process, 0):
                log = self._kill_child()
                code = child.process.returncode
                raise CannotLoad(f"evaluator process died: {describe_exit(code)}", log, was_killed=was_killed(code))
            elif now >= child.started + self._options.load_limit_s:
                raise CannotLoad(self._load_limit_reason, self._kill_child())
            elif now >= until:
                return False

    def unload(self) -> None:
        assert self._game is None, "a game is running"
        self._kill_child()

    def _take_first_reply(self, child: _Worker, reply: WorkerReply) -> None:
        try:
            message = parse_json(reply.body, "the evaluator process's reply")
        except InvalidAnswer as error:
            message, reason = None, str(error)
        match message:
            case {"ready": True}:
                self._note_ready(child, reply.log)
                return
            case {"broken": str(text)}:
                reason = text
            case _:
                reason = "the evaluator process's reply makes no sense"
        self._kill_child()
        raise CannotLoad(reason, reply.log)

    @property
    def _load_limit_reason(self) -> str:
        return f"importing {self._target} took longer than load_limit_s = {self._options.load_limit_s:g}"

    def prepare(self, suffix: str) -> Path:
        try:
            path = self._scratch.prepare(suffix)
        except OSError:  # Windows: the last evaluation left a file open in the worker process
            self._kill_child()
            path = self._scratch.prepare_or_replace(suffix)
        return path

    def start(self, job: EvaluationJob) -> None:
        assert self._game is None, "one evaluation at a time"
        self._count += 1
        try:
            child = self._ensure_child()
        except OSError as error:
            self._game = _RunningCall(job, self._count, MemoryLimit(os.getpid(), None))
            self._start_error = outcome_of_start(error), describe_start_error(interpreter(), error)
            return
        self._game = _RunningCall(job, self._count, MemoryLimit(child.process.pid, self._options.memory_limit_mb))
        child.output.forget_progress()
        if child.ready:
            self._ask(child, self._game)

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        assert self._game is not None, "nothing was started"
        if self._start_error is not None:
            return self._finish(*self._start_error, b"")
        game, child = self._game, self._child
        assert child is not None
        until = time.monotonic() + timeout_s
        while True:
            # A reply that has arrived counts, however late it is read here.
            now = time.monotonic()
            pause_s = min(until - now, self._deadline - now, game.memory.until_due_s(), _POLL_S)
            stall_reason = game.progress.stall_reason() if game.progress is not None else ""
            reply = self._next_reply(child, max(0.0, pause_s))
            if reply is not None:
                finished = self._handle_reply(child, game, reply)
                if finished is None:
                    continue  # it is ready, and has its request now
            elif child.output.ended or wait_for_exit(child.process, 0):
                finished = self._died(child)
            elif time.monotonic() >= self._deadline:
                finished = self._timed_out(game)
            elif stall_reason:
                finished = self._finish(Outcome.TIMED_OUT, stall_reason, self._kill_child())
            elif (used_mb := game.memory.exceeded_mb()) is not None:
                finished = self._exceeded_memory(used_mb)
            elif time.monotonic() >= until:
                return None
            else:
                continue
            if finished is not None:
                return finished

    def stop(self) -> None:
        if self._game is not None:
            self._game = self._start_error = None
            self._kill_child()

    def close(self) -> None:
        self._game = self._start_error = None
        self._kill_child()

    # -------------------------------------------------------------------------------------------- worker process

    def _ensure_child(self) -> _Worker:
        if self._child is not None and not wait_for_exit(self._child.process, 0):
            return self._child
        self._kill_child()
        self.loads += 1
        process = self._tree.spawn(
            # -P: do not import from the current folder, which is the scratch folder.
            [interpreter(), "-P", worker_process.__file__, self._target],
            cwd=self._scratch.folder,
            env=self._options.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None and process.stdout is not None
        marker = new_marker()
        growth = GrowthLimit(process.pid, self._options.memory_limit_mb)
        self._child = _Worker(process, OutputReader(process.stdout, marker), time.monotonic(), growth)
        self._write(
            self._child,
            {
                "agent": os.getpid(),
                "marker": marker.decode(),
                "target": self._target,
                "folder": str(self._folder),
                "python_path": self._python_path,
                "worker": self._options.worker,
            },
        )
        return self._child

    @staticmethod
    def _next_reply(child: _Worker, timeout_s: float) -> WorkerReply | None:
        """The next reply; of a process that has ended also the one that is still being read."""
        reply = child.output.wait(timeout_s)
        if reply is None and not child.output.ended and wait_for_exit(child.process, 0):
            reply = child.output.wait(LAST_OUTPUT_S)
        return reply

    def _note_ready(self, child: _Worker, log: bytes) -> None:
        child.ready, child.import_log, child.processes = True, log, self._tree.count(child.process)

    def _renew_child(self) -> None:
        """Replaces the process; the new one imports the function while the result is published."""
        self._kill_child()
        with contextlib.suppress(OSError):  # the next `start` tries again and reports it
            self._ensure_child()

    def _kill_child(self) -> bytes:
        child, self._child = self._child, None
        if child is None:
            return b""
        self._tree.kill(child.process)
        if child.process.stdin is not None:
            with contextlib.suppress(OSError):
                child.process.stdin.close()
        while child.output.wait(LAST_OUTPUT_S) is not None:
            pass  # drop remaining replies
        return child.output.take_log()

    def _write(self, child: _Worker, message: Mapping[str, Any]) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(OSError):  # it has died: `wait` reports how
            child.process.stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
            child.process.stdin.flush()

    # ------------------------------------------------------------------------------------------------ evaluation

    @property
    def _deadline(self) -> float:
        assert self._game is not None and self._child is not None
        if self._game.started is None:
            return self._child.started + self._options.load_limit_s
        return self._game.started + self._game.job.time_limit_s

    def _ask(self, child: _Worker, game: _RunningCall) -> None:
        # Only sent to a ready child: it reads at once, so a full pipe never blocks the agent.
        game.started = time.monotonic()
        game.progress = ProgressWatch(lambda: child.output.progress, self._options.stall_limit_s)
        game.log, child.import_log = child.import_log, b""
        child.games += 1
        job = game.job
        self._write(
            child,
            {
                "number": game.number,
                "scratch": str(self._scratch.folder),
                "genome": str(job.genome),
                "trial": job.trial,
                "seed": job.seed,
                "time_limit_s": job.time_limit_s,
                "settings": dict(job.settings),
            },
        )

    def _handle_reply(self, child: _Worker, game: _RunningCall, reply: WorkerReply) -> EvaluationResult | None:
        """The result in a reply; None if the reply does not end the running evaluation."""
        try:
            message = parse_json(reply.body, "the evaluator process's reply")
        except InvalidAnswer as error:
            return self._failed(str(error), reply.log, reply.at)
        match message:
            case {"number": game.number, "answer": answer, "left": list(left)}:
                return self._judge(answer, reply, left)
            case {"number": game.number, "error": str(reason)}:
                return self._failed(reason, reply.log, reply.at)
            case {"ready": True} if not child.ready:
                self._note_ready(child, reply.log)
                self._ask(child, game)
                return None
            case {"broken": str(reason)}:
                self._kill_child()
                return self._failed(reason, reply.log)
        return self._failed("the evaluator process's reply makes no sense", reply.log, reply.at)

    def _judge(self, answer: object, reply: WorkerReply, left: list[object]) -> EvaluationResult:
        what = "the returned value"
        try:
            fitness, metrics = read_answer(answer, what)
        except InvalidAnswer as error:
            return self._failed(str(error), reply.log, reply.at)
        child = self._child
        assert child is not None
        if (processes := self._tree.count(child.process) - child.processes) > 0:
            left = [*left, describe_children(processes)]
        if left or child.games == self._options.games_per_process or child.growth.has_grown():
            self._renew_child()
        log = with_ignored_keys(reply.log + _describe_left(left), answer, what)
        finished = self._finish(Outcome.COMPLETED, "", log, reply.at)
        return replace(finished, fitness=fitness, metrics=metrics)

    def _died(self, child: _Worker) -> EvaluationResult:
        log = self._kill_child()
        returncode = child.process.returncode
        how = describe_exit(returncode) if returncode is not None else "unknown cause"
        return self._failed(f"evaluator process died: {how}", log)

    def _exceeded_memory(self, used_mb: float) -> EvaluationResult:
        assert self._options.memory_limit_mb is not None
        return self._failed(memory_limit_reason(self._options.memory_limit_mb, used_mb), self._kill_child())

    def _timed_out(self, game: _RunningCall) -> EvaluationResult:
        log = self._kill_child()
        if game.started is None:
            return self._failed(self._load_limit_reason, log)
        return self._finish(Outcome.TIMED_OUT, time_limit_reason(game.job.time_limit_s), log)

    def _failed(self, reason: str, log: bytes, at: float | None = None) -> EvaluationResult:
        if self._child is not None:
            self._renew_child()  # whatever this game has left behind must not reach the next one
        return self._finish(Outcome.FAILED, clean(reason, REASON_CHARS_MAX), log, at)

    def _finish(self, outcome: Outcome, reason: str, log: bytes, at: float | None = None) -> EvaluationResult:
        game, self._game, self._start_error = self._game, None, None
        assert game is not None
        seconds = 0.0 if game.started is None else (at or time.monotonic()) - game.started
        self._tree.reap()  # reap ended orphans of the evaluation; the child may live for days
        return EvaluationResult(
            outcome=outcome,
            reason=reason,
            seconds=seconds,
            log=(game.log + log)[-LOG_BYTES_MAX:],
            artifacts=self._scratch.artifacts(),
        )


def _describe_left(left: list[object]) -> bytes:
    """A line for the log of a game that left something running; the empty string if it left nothing."""
    if not left:
        return b""
    what = clean(", ".join(map(str, left)), LINE_CHARS_MAX)
    return f"\nstill running when the game returned: {what}; the next game gets a new process\n".encode()
