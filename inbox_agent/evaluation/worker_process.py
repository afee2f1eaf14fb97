"""The process that a Python evaluator lives in: imports it once, then answers one request after the other.

It decides what a function's answer looks like in the stream; whether that answer counts is `protocol`'s to say. It
starts with what it is told on its standard input, ends when that ends, and imports as little as it can.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

PR_SET_PDEATHSIG, SIGKILL = 1, 9
_BYTES_MAX = 64 * 1024  # share_layout.RECORD_BYTES_MAX, which would cost too much to import; a test compares them

_TEXT_CHARS_MAX = 1000  # of an error; share_layout cuts it again

Function = Callable[[Path, Any], Any]


def main() -> None:
    """Serves until standard input ends. The arguments are only for people who look at the process list."""
    requests, replies = _take_streams()
    hello = json.loads(requests.readline() or "{}")
    if not hello:
        os._exit(0)  # the agent was gone before it said anything
    _stay_with(hello["agent"])
    _prepare_output()
    # The agent's code must be found wherever the agent was started, but never before the evaluator's own modules;
    # those come last here: a file of the user named like a module of the standard library must not end up in this one.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from inbox_agent.evaluation.trial import EvaluatorTrial

    sys.path.insert(0, hello["folder"])
    os.environ["PYTHONPATH"] = hello["python_path"]  # for what the evaluator starts
    sys.argv = [hello["target"]]
    _RequestLoop(hello, requests, replies, EvaluatorTrial).serve()
    os._exit(0)  # threads that the evaluator left behind must not keep the process alive


class _RequestLoop:
    def __init__(self, hello: dict[str, Any], requests: IO[str], replies: int, trial: Callable[..., Any]) -> None:
        self._marker, self._folder, self._target = hello["marker"].encode(), hello["folder"], hello["target"]
        self._scratch = Path(hello["scratch"])
        self._requests, self._replies, self._trial = requests, replies, trial
        self._pid = os.getpid()

    def serve(self) -> None:
        function = self._import()
        if function is None:
            return
        self._send({"ready": True})
        genome = Path()
        for line in self._requests:
            request = json.loads(line)
            if request["genome"] != str(genome):  # mostly the same file: making a Path costs more than asking
                genome = Path(request["genome"])
            os.chdir(self._scratch)  # the last game may have gone elsewhere
            trial = self._trial(
                number=request["trial"],
                seed=request["seed"],
                settings=request["settings"],
                time_limit_s=request["time_limit_s"],
                scratch=self._scratch,
            )
            answer = self._play(function, genome, trial)
            if os.getpid() != self._pid:
                os._exit(0)  # the game forked, and this is not the process that was asked
            with contextlib.suppress(OSError):  # it has removed the folder
                os.chdir(self._scratch)  # Windows cannot clean up a folder that somebody is in
            self._send({"number": request["number"], **answer})

    def _import(self) -> Function | None:
        module, _, name = self._target.partition(":")
        try:
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            if not callable(found):
                raise TypeError(f"{self._target} is not callable")
            return found
        except BaseException as error:  # whatever a module does at import is told, not obeyed
            self._print_traceback(error)
            self._send({"broken": f"cannot import {self._target}: {self._describe(error)}"})
            return None

    def _play(self, function: Function, genome: Path, trial: Any) -> dict[str, Any]:
        try:
            found = function(genome, trial)
        except BaseException as error:  # also sys.exit and KeyboardInterrupt: the process lives on
            self._print_traceback(error)
            return {"error": self._describe(error)}
        return {"answer": found if isinstance(found, dict) else {"fitness": found}}

    def _send(self, message: dict[str, Any]) -> None:
        try:
            text = _encode(message)
            if len(text) > _BYTES_MAX:
                raise ValueError(f"it has {len(text)} bytes, allowed are {_BYTES_MAX}")
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"the answer cannot be used: {error}"
            text = json.dumps({"number": message.get("number"), "error": problem[:_TEXT_CHARS_MAX]})
        # What was printed before the answer belongs to it, so it must be in the stream before the answer.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced or closed by the evaluator
                stream.flush()
        data = self._marker + text.encode() + b"\n"
        while data:
            data = data[os.write(self._replies, data) :]

    def _describe(self, error: BaseException) -> str:
        """`ZeroDivisionError: division by zero (game.py, line 12)`."""
        try:
            text = f"{type(error).__name__}: {error!s:.{_TEXT_CHARS_MAX}}".rstrip(": ")
            if isinstance(error, SyntaxError):
                return text  # it says where
            where = self._place(error.__traceback__)
        except BaseException:  # an exception of the evaluator whose text cannot be had
            return type(error).__name__
        return f"{text} ({where[0]}, line {where[1]})" if where else text

    def _place(self, traceback: TracebackType | None) -> tuple[str, int] | None:
        """The innermost line in the evaluator's folder; the innermost of all if there is none."""
        frames = list(_frames(traceback))
        own = [frame for frame in frames if frame[0].startswith(self._folder + os.sep)]
        for file, line in reversed(own or frames):
            return os.path.basename(file), line
        return None

    def _print_traceback(self, error: BaseException) -> None:
        import traceback  # slow to import, and rarely needed

        with contextlib.suppress(BaseException):  # stderr replaced by the evaluator, or an exception without a text
            rest = error.__traceback__.tb_next if error.__traceback__ else None  # without this file's frame
            traceback.print_exception(type(error), error, rest)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    """File and line of each call, outermost first; neither this module nor the import machinery."""
    while traceback is not None:
        frame = traceback.tb_frame
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in (__name__, "importlib"):
            yield frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def _plain(value: Any) -> Any:
    """Numbers of numpy and its like."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a number")


_encode = json.JSONEncoder(default=_plain).encode  # `dumps` would make a new encoder every time


def _take_streams() -> tuple[IO[str], int]:
    """Moves requests and replies to descriptors of their own: no game reads the former or loses the latter."""
    requests, replies = os.dup(0), os.dup(1)  # not inherited by what the game starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return open(requests, encoding="utf-8"), replies


def _prepare_output() -> None:
    """Lines leave at once, Python's and C's: progress is seen in time, and a killed game leaves its log."""
    import ctypes

    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):  # whatever the environment says: an embeddable Python reads none
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.platform == "win32":
            runtime = ctypes.CDLL("ucrtbase")
            runtime.__acrt_iob_func.restype = ctypes.c_void_p
            stdout, mode = ctypes.c_void_p(runtime.__acrt_iob_func(1)), 4  # _IONBF: it has no line mode
        else:
            runtime = ctypes.CDLL(None)
            stdout, mode = ctypes.c_void_p.in_dll(runtime, "stdout"), 1  # _IOLBF
        runtime.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t]
        runtime.setvbuf(stdout, None, mode, 0 if mode == 4 else 4096)


def _stay_with(agent: int) -> None:
    """Linux: this process dies with the agent, also in the middle of a game."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != agent:  # it died before the kernel was told
            os._exit(0)


if __name__ == "__main__":
    main()
