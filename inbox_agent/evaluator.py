"""What an evaluator is, what it says in the end, and the one that runs a command for every game.

It decides what counts as an answer and how an evaluation that gives none is told in one line. It knows nothing of
shares; how processes are killed is the leash's business.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from inbox_agent.output import Output
from inbox_agent.protocol.layout import REASON_CHARS_MAX, Outcome, Setting, clean, finite, finite_metrics
from inbox_agent.scratch import Scratch, Unanswered
from inbox_agent.system.interpreter import interpreter
from inbox_agent.system.process_tree import Leash, find_program, wait_for_exit

LAST_OUTPUT_S = 1.0  # after the tree is dead: for how long the rest of its output may take to be read
SETTINGS = "settings.json"
_PYTHON = re.compile(r"pythonw?[\d.]*(\.exe)?", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{(genome|result|seed|trial|settings|scratch)\}")
_LINE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One evaluation to be run. Not to be confused with Windows' job objects."""

    attempt: str
    genome: Path
    trial: int
    seed: int
    time_limit_s: float
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of an evaluation."""

    outcome: Outcome  #: completed, failed or timed_out
    fitness: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""  #: one line; empty if completed
    seconds: float
    log: bytes = b""  #: the end of what the evaluator wrote
    artifacts: list[Path] = field(default_factory=list)  #: in the scratch folder, until the next `prepare`


class Evaluator(Protocol):
    """Plays one genome at a time."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are equal on all workers that play the same thing."""

    @property
    def progress(self) -> str:
        """The latest progress text of the running evaluation; the empty string when there is none."""

    def prepare(self, suffix: str) -> Path:
        """Cleans the scratch folder; returns where the genome's copy must be put. Raises OSError."""

    def start(self, job: Job) -> None:
        """Begins and returns at once; if that fails, `wait` says so."""

    def wait(self, timeout_s: float) -> Finished | None:
        """Waits at most `timeout_s` for the end of the evaluation; its time limit ends it here.

        Must be called soon and often: a warm evaluator that was still starting is only asked to play in here.
        """

    def stop(self) -> None:
        """Kills the running evaluation with all that it started, and forgets it. Idempotent."""

    def close(self) -> None:
        """Ends everything, what is kept for the next evaluation too."""


# -------------------------------------------------------------------------------------------- for both evaluators


def parse(data: bytes, what: str) -> object:
    """An evaluator's JSON; `what` names it in the message. Raises Unanswered."""
    try:
        # The lenient reader: it lets NaN pass, so that `finite` can name the field that has it.
        return json.loads(data.decode())
    except RecursionError:
        raise Unanswered(f"{what} is nested too deep") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise Unanswered(clean(f"{what} is not valid JSON: {error}", _LINE_CHARS_MAX)) from None


def believe(answer: object, what: str) -> tuple[float, dict[str, float]]:
    """Fitness and metrics of an answer.

    Raises:
        Unanswered: anything else than an object with a finite `fitness` and, if any, finite `metrics`.
    """
    if not isinstance(answer, dict):
        raise Unanswered(f"{what} must be an object, not {type(answer).__name__}")
    if "fitness" not in answer:
        raise Unanswered(f"{what} has no `fitness`")
    try:
        return finite(answer["fitness"], "fitness"), finite_metrics(answer.get("metrics", {}))
    except ValueError as error:
        raise Unanswered(clean(f"{what}: {error}", _LINE_CHARS_MAX)) from None


def how_it_ended(returncode: int) -> str:
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


def fingerprint_of(kind: str, *parts: str) -> str:
    """16 hex digits for what is played, independent of where it is installed."""
    return hashlib.sha256("\0".join((kind, *parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def environment(folder: Path | None = None) -> dict[str, str]:
    """The agent's environment, in which Python prints any character and finds the modules in `folder`."""
    found = {"PYTHONIOENCODING": "utf-8:backslashreplace", **os.environ}
    if folder is not None:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return found


# ---------------------------------------------------------------------------------------------- one command a game


@dataclass(frozen=True, slots=True)
class _Game:
    """A running evaluation."""

    job: Job
    process: "subprocess.Popen[bytes]"
    output: Output
    started: float

    @property
    def deadline(self) -> float:
        return self.started + self.job.time_limit_s


class CommandEvaluator:
    """Runs a command for every game; it answers through `result.json` in the scratch folder.

    `{genome}` `{result}` `{seed}` `{trial}` `{settings}` `{scratch}` in its arguments are filled in; an argument that
    names a file in `folder` becomes its absolute path; `python` is the interpreter that runs the agent.
    """

    def __init__(self, argv: Sequence[str], folder: Path, scratch: Path, leash: Leash) -> None:
        self.fingerprint = fingerprint_of("command", *argv)
        self._argv, self._folder, self._leash = list(argv), Path(os.path.abspath(folder)), leash
        self._settings = any("{settings}" in argument for argument in argv)
        self._scratch = Scratch(scratch, *([SETTINGS] if self._settings else []))
        # Unbuffered: a Python program's progress must not wait in its buffer, nor its log die there.
        self._environment = {"PYTHONUNBUFFERED": "1", **environment(self._folder)}
        self._game: _Game | None = None
        self._stillborn: Finished | None = None

    @property
    def progress(self) -> str:
        return self._game.output.progress if self._game else ""

    def problem(self) -> str:
        """What keeps the command from being started, in one line; the empty string if nothing is seen."""
        try:
            program = find_program(self._program(), self._environment)
        except OSError as error:
            return f"cannot start {self._argv[0]!r}: {_why(error)}"
        script = self._argv[1] if len(self._argv) > 1 else ""
        missing = script[:1] not in ("", "-", "{") and not os.path.exists(os.path.join(self._folder, script))
        return f"{script}: no such file in {self._folder}" if missing and _PYTHON.fullmatch(Path(program).name) else ""

    def prepare(self, suffix: str) -> Path:
        return self._scratch.prepare(suffix)

    def start(self, job: Job) -> None:
        assert self._game is None and self._stillborn is None, "one evaluation at a time"
        started = time.monotonic()
        try:
            argv = self._command(job)
            process = self._leash.spawn(
                argv,
                cwd=self._scratch.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except (OSError, ValueError) as error:
            seconds = time.monotonic() - started
            reason = clean(f"cannot start {self._argv[0]!r}: {_why(error)}", REASON_CHARS_MAX)
            self._stillborn = Finished(outcome=Outcome.FAILED, reason=reason, seconds=seconds)
            return
        assert process.stdout is not None
        self._game = _Game(job, process, Output(process.stdout), started)

    def wait(self, timeout_s: float) -> Finished | None:
        if self._stillborn is not None:
            finished, self._stillborn = self._stillborn, None
            return finished
        game = self._game
        assert game is not None, "nothing was started"
        if wait_for_exit(game.process, min(timeout_s, game.deadline - time.monotonic())):
            seconds = time.monotonic() - game.started
            log = self._end(game)  # its children may still write: they die before the answer is read
            return self._judge(game.process.returncode, seconds, log)
        if time.monotonic() < game.deadline:
            return None
        log = self._end(game)
        return Finished(
            outcome=Outcome.TIMED_OUT,
            reason=time_limit_reason(game.job.time_limit_s),
            seconds=time.monotonic() - game.started,
            log=log,
            artifacts=self._scratch.artifacts(),
        )

    def stop(self) -> None:
        self._stillborn = None
        if self._game is not None:
            self._end(self._game)

    def close(self) -> None:
        self.stop()

    def _command(self, job: Job) -> list[str]:
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
        }
        arguments = [self._program(), *map(self._locate, self._argv[1:])]
        return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in arguments]

    def _program(self) -> str:
        if self._argv[0] == "python" or (self._argv[0] == "python3" and shutil.which("python3") is None):
            return interpreter()
        return self._locate(self._argv[0])

    def _locate(self, argument: str) -> str:
        path = os.path.join(self._folder, argument)
        return os.path.normpath(path) if os.path.isfile(path) else argument

    def _end(self, game: _Game) -> bytes:
        self._game = None
        self._leash.kill(game.process)
        game.output.wait(LAST_OUTPUT_S)  # with the tree dead the pipe has no writer, so this is short
        return game.output.take_log()

    def _judge(self, returncode: int, seconds: float, log: bytes) -> Finished:
        artifacts = self._scratch.artifacts()
        try:
            if returncode != 0:
                raise Unanswered(": ".join(filter(None, (how_it_ended(returncode), _last_line(log)))))
            what = self._scratch.result.name
            fitness, metrics = believe(parse(self._scratch.answer(), what), what)
        except Unanswered as error:
            return Finished(outcome=Outcome.FAILED, reason=str(error), seconds=seconds, log=log, artifacts=artifacts)
        return Finished(
            outcome=Outcome.COMPLETED,
            fitness=fitness,
            metrics=metrics,
            seconds=seconds,
            log=log,
            artifacts=artifacts,
        )


def _last_line(log: bytes) -> str:
    lines = log.rstrip().rsplit(b"\n", 1)
    return clean(lines[-1].decode("utf-8", "replace"), _LINE_CHARS_MAX)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
