"""The evaluator that runs a command for every evaluation and reads its result from `result.json`."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inbox_agent.evaluation.answer import LINE_CHARS_MAX, parse_json, read_answer, with_ignored_keys
from inbox_agent.evaluation.environment import with_modules_of
from inbox_agent.evaluation.memory import MemoryLimit
from inbox_agent.evaluation.options import EvaluatorOptions
from inbox_agent.evaluation.output_reader import OutputReader
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
)
from inbox_agent.evaluation.scratch import InvalidAnswer, Scratch
from inbox_agent.evaluation.stall import ProgressWatch
from inbox_agent.protocol.layout import Outcome, clean
from inbox_agent.system.process_tree import ProcessTree, find_program, interpreter, wait_for_exit

SETTINGS = "settings.json"
_PYTHON = re.compile(r"pythonw?[\d.]*(\.exe)?", re.IGNORECASE)
_RESULT_POLL_S = 0.1  #: how often the result file is looked for, if it ends the game
_PLACEHOLDER = re.compile(r"\{(genome|result|seed|trial|settings|scratch|worker)\}")


@dataclass(frozen=True, slots=True)
class _RunningCommand:
    """A running evaluation."""

    job: EvaluationJob
    process: "subprocess.Popen[bytes]"
    output: OutputReader
    memory: MemoryLimit
    progress: ProgressWatch
    started: float

    @property
    def deadline(self) -> float:
        return self.started + self.job.time_limit_s


class CommandEvaluator:
    """Runs a command for every evaluation; it answers through `result.json` in the scratch folder.

    An argument that names a file in `folder` becomes its absolute path; in the others, `{genome}` `{result}` `{seed}`
    `{trial}` `{settings}` `{scratch}` `{worker}` are replaced; `python` is the interpreter that runs the agent.
    """

    def __init__(
        self, argv: Sequence[str], folder: Path, scratch: Path, tree: ProcessTree, options: EvaluatorOptions
    ) -> None:
        self.reads_files_at_each_game = True
        self.loads = 0  #: games that were started: each reads the files
        self._argv, self._folder, self._tree = list(argv), Path(os.path.abspath(folder)), tree
        self._options = options
        self._settings = any("{settings}" in argument for argument in argv)
        self._scratch = Scratch(scratch, *([SETTINGS] if self._settings else []))
        # Unbuffered, so that a Python program's progress is not delayed and its log not lost when it is killed.
        self._environment = {"PYTHONUNBUFFERED": "1", **with_modules_of(self._folder, options.environment)}
        self._game: _RunningCommand | None = None
        self._start_error: EvaluationResult | None = None

    @property
    def progress(self) -> str:
        return self._game.output.progress if self._game else ""

    @property
    def is_unused(self) -> bool:
        return True  # every game has a process of its own

    def load(self, timeout_s: float = 0.0) -> bool:
        """Always true. Raises CannotLoad: there is no such program, or no script for `python`."""
        try:
            program = find_program(self._program(), self._environment)
        except OSError as error:
            raise CannotLoad(describe_start_error(self._argv[0], error)) from error
        script = _python_script(self._argv[1:]) if _PYTHON.fullmatch(Path(program).name) else ""
        if script and not os.path.exists(os.path.join(self._folder, script)):
            raise CannotLoad(f"{script}: no such file in {self._folder}")
        return True

    def unload(self) -> None:
        """Nothing to do: every game has a process of its own."""

    def prepare(self, suffix: str) -> Path:
        return self._scratch.prepare_or_replace(suffix)

    def start(self, job: EvaluationJob) -> None:
        assert self._game is None and self._start_error is None, "one evaluation at a time"
        started = time.monotonic()
        self.loads += 1
        try:
            argv = self._command(job)
            process = self._tree.spawn(
                argv,
                cwd=self._scratch.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except (OSError, ValueError) as error:
            seconds = time.monotonic() - started
            reason = describe_start_error(self._argv[0], error)
            self._start_error = EvaluationResult(outcome=outcome_of_start(error), reason=reason, seconds=seconds)
            return
        assert process.stdout is not None
        memory = MemoryLimit(process.pid, self._options.memory_limit_mb)
        output = OutputReader(process.stdout)
        progress = ProgressWatch(lambda: output.progress, self._options.stall_limit_s)
        self._game = _RunningCommand(job, process, output, memory, progress, started)

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        if self._start_error is not None:
            finished, self._start_error = self._start_error, None
            return finished
        game = self._game
        assert game is not None, "nothing was started"
        until = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            pause_s = min(until - now, game.deadline - now, game.memory.until_due_s(), game.progress.until_due_s())
            if wait_for_exit(game.process, min(pause_s, _RESULT_POLL_S) if self._options.result_is_final else pause_s):
                return self._exited(game)
            if self._options.result_is_final and self._has_answer():
                return self._answered(game)
            if (used_mb := game.memory.exceeded_mb()) is not None:
                assert self._options.memory_limit_mb is not None
                return self._killed(game, Outcome.FAILED, memory_limit_reason(self._options.memory_limit_mb, used_mb))
            if time.monotonic() >= game.deadline:
                return self._killed(game, Outcome.TIMED_OUT, time_limit_reason(game.job.time_limit_s))
            if reason := game.progress.stall_reason():
                return self._killed(game, Outcome.TIMED_OUT, reason)
            if time.monotonic() >= until:
                return None

    def stop(self) -> None:
        self._start_error = None
        if self._game is not None:
            self._end(self._game)

    def close(self) -> None:
        self.stop()

    def _command(self, job: EvaluationJob) -> list[str]:
        settings = self._scratch.folder / SETTINGS
        if self._settings:
            settings.write_text(json.dumps(dict(job.settings)), encoding="utf-8")
        values = {
            "genome": str(job.genome),
            "result": str(self._scratch.result),
            "seed": str(job.seed),
            "trial": str(job.trial),
            "settings": str(settings),
            "scratch": str(self._scratch.folder),
            "worker": str(self._options.worker),
        }
        # Filled in only where no path was put: the path of a project may have braces of its own.
        return [
            self._path_of(given) or _PLACEHOLDER.sub(lambda match: values[match[1]], given)
            for given in (self._program(), *self._argv[1:])
        ]

    def _program(self) -> str:
        if self._argv[0] == "python" or (self._argv[0] == "python3" and shutil.which("python3") is None):
            return interpreter()
        return self._path_of(self._argv[0]) or self._argv[0]

    def _path_of(self, argument: str) -> str | None:
        """The path of the file that an argument names; None if it names none."""
        path = os.path.join(self._folder, argument)
        return os.path.normpath(path) if os.path.isfile(path) else None

    def _end(self, game: _RunningCommand) -> bytes:
        self._game = None
        self._tree.kill(game.process)
        game.output.wait(LAST_OUTPUT_S)  # short: with the tree dead the pipe has no writer
        return game.output.take_log()

    def _exited(self, game: _RunningCommand) -> EvaluationResult:
        seconds = time.monotonic() - game.started
        log = self._end(game)  # kills its children, which may still write, before the answer is read
        returncode = game.process.returncode
        if returncode != 0 and not (self._options.result_is_final and self._has_answer()):
            reason = ": ".join(filter(None, (describe_exit(returncode), self._last_words(log))))
            return self._result(Outcome.FAILED, reason + self._unused_answer(), seconds, log)
        return self._judge(seconds, log)

    def _answered(self, game: _RunningCommand) -> EvaluationResult:
        """Ends a game that has written its result, which is final."""
        seconds = time.monotonic() - game.started
        return self._judge(seconds, self._end(game))

    def _killed(self, game: _RunningCommand, outcome: Outcome, reason: str) -> EvaluationResult:
        log = self._end(game)
        return self._result(outcome, reason + self._unused_answer(), time.monotonic() - game.started, log)

    def _judge(self, seconds: float, log: bytes) -> EvaluationResult:
        what = self._scratch.result.name
        try:
            answer = parse_json(self._scratch.answer(), what)
            fitness, metrics = read_answer(answer, what)
        except InvalidAnswer as error:
            return self._result(Outcome.FAILED, str(error), seconds, log)
        log = with_ignored_keys(log, answer, what)
        return replace(self._result(Outcome.COMPLETED, "", seconds, log), fitness=fitness, metrics=metrics)

    def _result(self, outcome: Outcome, reason: str, seconds: float, log: bytes) -> EvaluationResult:
        artifacts = self._scratch.artifacts()
        return EvaluationResult(outcome=outcome, reason=reason, seconds=seconds, log=log, artifacts=artifacts)

    def _read_answer(self) -> tuple[float, dict[str, float]]:
        what = self._scratch.result.name
        return read_answer(parse_json(self._scratch.answer(), what), what)

    def _last_words(self, log: bytes) -> str:
        """The last line of the output. A program looks for a file that is not in `folder` in its scratch folder, and
        names a path there; the user wrote another one.
        """
        line = _last_line(log)
        for argument in self._argv[1:]:
            is_file = argument[:1] not in ("", "-") and "{" not in argument and Path(argument).suffix
            if is_file and argument in line and not os.path.exists(os.path.join(self._folder, argument)):
                line = line.replace(str(self._scratch.folder / argument), argument)
                return f"{line}; {argument} was looked for in {self._folder}, the folder of the evaluator"
        return line

    def _has_answer(self) -> bool:
        """Whether the result file is complete: a valid answer, which a part of one is not."""
        try:
            self._read_answer()
        except InvalidAnswer:
            return False
        return True

    def _unused_answer(self) -> str:
        """Names the result of a game that failed after it had written one."""
        try:
            fitness, _metrics = self._read_answer()
        except InvalidAnswer:
            return ""
        written = f"; {self._scratch.result.name} was written before, with fitness {fitness:g}"
        return f"{written}, which `result_is_final = true` would count"


def _python_script(arguments: Sequence[str]) -> str:
    """The script in the arguments of a Python interpreter; empty for a module, for code and for a placeholder."""
    words = iter(arguments)
    for word in words:
        if word in ("-W", "-X"):
            next(words, None)
        elif word == "-" or (word[:1] == "-" and not word.startswith("--") and {"c", "m"} & set(word)):
            return ""
        elif not word.startswith("-"):
            return "" if "{" in word else word
    return ""


def _last_line(log: bytes) -> str:
    lines = log.rstrip().rsplit(b"\n", 1)
    return clean(lines[-1].decode("utf-8", "replace"), LINE_CHARS_MAX)
